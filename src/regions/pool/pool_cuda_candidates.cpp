// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.pool": channels-last pooling of one or two spatial axes (any number for the global ones), source and result of one type.

#include <array>

#include "backend/cuda/kernels/window_plan.h"
#include "ops/candidate.h"
#include "ops/window.h"
#include "regions/cuda_params.h"
#include "regions/pool/pool.h"

namespace lathe::ops {
namespace {

using regions::PoolMode;

bool is_global(PoolMode mode) { return mode == PoolMode::kGlobalMax || mode == PoolMode::kGlobalAverage; }

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc& x = request.inputs[0];
  if (!regions::cuda_element(x.dtype)) return Verdict::decline(std::string(regions::kNoCudaElement));
  if (request.outputs[0].dtype != x.dtype) return Verdict::decline("source and result are stored in different types");
  const bool global = is_global(*regions::pool_mode(node));
  if (x.dims.size() < 3 || (!global && x.dims.size() > 4)) return Verdict::decline("only one or two spatial axes have a kernel");
  if (!x.is_channels_last()) return Verdict::decline("the input is not channels-last");
  if (!global) {
    try {
      read_window(node.attrs, node.attrs.get_ints("kernel_shape"), x.dims.size() - 2);
    } catch (const Error& error) {
      return Verdict::decline(error.message());
    }
  }
  return regions::need_device(request.device).has_builtin_module("pool") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  StepPlan step;
  step.kernel = "cuda.pool";
  const PoolMode mode = *regions::pool_mode(node);
  const bool global = is_global(mode);
  step.variant = global ? "global" : "window";
  if (!global)
    for (const auto& [name, attribute] : node.attrs) step.params.set(name, attribute);
  step.params.set("mode", static_cast<std::int64_t>(mode));
  step.inputs = {node.input(0)};
  step.outputs = {request.region.outputs.at(0)};
  double taps = 1;
  if (!global)
    for (const std::int64_t extent : node.attrs.get_ints("kernel_shape")) taps *= static_cast<double>(extent);
  step.flops = global ? static_cast<double>(x.elements()) : taps * static_cast<double>(y.elements());
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements()) + dtype_bytes(y.dtype, y.elements()));
  return {step};
}

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }

}  // namespace

std::span<const Candidate> candidates_pool_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.pool", "pool", supports, plan, channels_last}}};
  return list;
}

}  // namespace lathe::ops
