// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Times a planned step in place: its real shapes, strides, types and packed weights, on the pool that will run it.

#include <map>
#include <span>
#include <string>
#include <vector>

#include "builder/builder.h"
#include "builder/tuning_cache.h"
#include "ops/candidate.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::builder {

class Tuner {
 public:
  Tuner(const BuildOptions& options, BuildReport& report, ThreadPool& pool);

  /// Median seconds of one run, from the cache or measured; negative when the budget is spent. `descs` belong to the step's
  /// run-time inputs and outputs in the plan's order. Throws what the kernel's bind throws.
  double time(const ops::StepPlan& plan, std::string_view candidate, std::span<const plan::TensorDesc> inputs,
              std::span<const plan::TensorDesc> outputs, const ir::Bindings& symbols);
  bool budget_left() const;
  /// Forget the packed weights kept between variants of one region.
  void next_region() { packed_.clear(); }

 private:
  std::string key(const ops::StepPlan& plan, std::string_view candidate, std::span<const plan::TensorDesc> inputs,
                  std::span<const plan::TensorDesc> outputs) const;
  double measure(const ops::StepPlan& plan, std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs,
                 const ir::Bindings& symbols);
  const BuildOptions& options_;
  BuildReport& report_;
  ThreadPool& pool_;
  TuningCache cache_;
  double started_, machine_seconds_ = 0;
  std::string machine_;
  std::map<std::string, Tensor> packed_;
};

}  // namespace lathe::builder
