// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.nms": a sort, then a block for each image and class.

#include "ops/nms/nms_step.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

bool is_stored(DType dtype) { return regions::cuda_element(dtype).has_value(); }

Verdict supports(const PlanRequest& request) {
  if (const Verdict verdict = nms_verdict(request, is_stored); !verdict.yes) return verdict;
  const auto& device = regions::need_device(request.device);
  return device.has_builtin_module("nms") && device.has_builtin_module("topk") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) { return {nms_step(request, "cuda.nms")}; }

}  // namespace

std::span<const Candidate> candidates_nms_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.nms", "lathe.internal::NonMaxSuppressionPadded", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
