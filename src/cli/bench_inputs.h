// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Seeded inputs of the right shapes for `lathe bench` and `lathe profile`.

#include <string>
#include <vector>

#include "base/tensor.h"
#include "lathe/lathe.hpp"

namespace lathe::cli {

class BenchInputs {
 public:
  /// Symbolic extents come from `shapes` (NAME:1x3x640x640), else from what the engine was tuned for.
  BenchInputs(const Engine& engine, const std::vector<std::string>& shapes);
  std::span<const ConstTensorView> views() const noexcept { return views_; }
  std::int64_t batch() const noexcept;  ///< extent of the first input's first axis

 private:
  std::vector<Tensor> tensors_;
  std::vector<ConstTensorView> views_;
};

}  // namespace lathe::cli
