// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Timed runs for `lathe bench`, `lathe profile` and trtexec: statistics, and runs whose copies to and from a GPU stand apart.

#include <memory>
#include <span>
#include <vector>

#include "base/tensor.h"
#include "lathe/lathe.hpp"

namespace lathe::cli {

/// Seconds of runs and what is told of them.
class Timings {
 public:
  explicit Timings(std::vector<double> seconds);
  double at(double share) const;  ///< 0: least, 0.5: median, 1: greatest
  double mean() const;
  double sum() const;

 private:
  std::vector<double> sorted_;
};

class SplitRun {
 public:
  /// Moments of one run, by os::now_seconds(). On the CPU there are no copies, and the work is done when the call returns.
  struct Moments {
    double begin = 0, copied_in = 0, enqueued = 0, computed = 0, copied_out = 0;
  };
  /// `transfers`: on a GPU each run copies inputs and outputs, else only the first copies the inputs. The views must live as long.
  SplitRun(const Engine& engine, std::span<const ConstTensorView> inputs, bool transfers);
  ~SplitRun();
  SplitRun(const SplitRun&) = delete;
  SplitRun& operator=(const SplitRun&) = delete;

  Moments once();  ///< throws Error
  Context& context();
  /// Copies of the last run's outputs.
  std::vector<Tensor> outputs();

 private:
  struct Impl;
  std::unique_ptr<Impl> impl_;
};

}  // namespace lathe::cli
