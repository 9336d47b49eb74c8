// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.pool": channels-last pooling of one or two spatial axes (any number for the global ones). Other ranks, types and the indices
// output are left to the region language or the defining reference.

#include <array>

#include "ops/candidate.h"
#include "ops/window.h"
#include "regions/pool/pool.h"

namespace lathe::ops {
namespace {

using regions::PoolMode;

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const PoolMode mode = *regions::pool_mode(node);
  const plan::TensorDesc& x = request.inputs[0];
  if (node.output()->dtype() != DType::kFloat32) return Verdict::decline("the element type is not float32");
  if (!is_stored(x.dtype) || !is_stored(request.outputs[0].dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
  const bool global = mode == PoolMode::kGlobalMax || mode == PoolMode::kGlobalAverage;
  if (x.dims.size() < 3 || (!global && x.dims.size() > 4)) return Verdict::decline("only one or two spatial axes have a kernel");
  if (!x.is_channels_last()) return Verdict::decline("the input is not channels-last");
  if (!global) {
    try {
      const auto kernel = node.attrs.get_ints("kernel_shape");
      read_window(node.attrs, kernel, x.dims.size() - 2);
    } catch (const Error& error) {
      return Verdict::decline(error.message());
    }
  }
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  StepPlan step;
  step.kernel = "cpu.pool";
  const PoolMode mode = *regions::pool_mode(node);
  const bool global = mode == PoolMode::kGlobalMax || mode == PoolMode::kGlobalAverage;
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

std::span<const Candidate> candidates_pool() {
  static const std::array<Candidate, 1> list{{{"cpu.pool", "pool", supports, plan, channels_last}}};
  return list;
}

}  // namespace lathe::ops
