// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The plans that candidates by cuda.conv offer for a convolution.

#include <vector>

#include "ops/candidate.h"
#include "regions/conv_block/conv_cuda_params.h"

namespace lathe::regions {

/// Of the plans that the model thinks best: so many are timed.
inline constexpr std::size_t kConvPlansTimed = 16;

/// Those with a kernel in this build; none where the device reads operands by 16-byte copies only and these cannot be.
inline std::vector<cuda::GemmPlan> conv_plans(const cuda::GemmSetup& setup, void* device_handle) {
  cuda::Device& device = need_device(device_handle);
  if (device.info().arch() < 80 && setup.a != cuda::kVectorA) return {};
  std::vector<cuda::GemmPlan> plans = cuda::gemm_plans(setup, cuda::limits_of(device.info()), kConvPlansTimed);
  std::erase_if(plans, [&](const cuda::GemmPlan& plan) { return !device.has_builtin_module(cuda::gemm_kernel_name(setup, plan).module); });
  return plans;
}

/// `base` with each of them.
inline std::vector<ops::StepPlan> conv_steps(const ops::StepPlan& base, const cuda::GemmSetup& setup, void* device_handle) {
  std::vector<ops::StepPlan> steps;
  for (const cuda::GemmPlan& plan : conv_plans(setup, device_handle)) {
    ops::StepPlan step = base;
    step.variant = cuda::describe(plan);
    write_gemm_plan(plan, static_cast<std::int64_t>(setup.params.rows) * setup.items, step.params);
    steps.push_back(std::move(step));
  }
  return steps;
}

}  // namespace lathe::regions
