// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The candidate that runs conv_block by oneDNN's direct kernels (never its Winograd): class exact, channels-last, slices of wider buffers
// included. Its plans differ in how the output is cut into pieces for the threads.

#include <algorithm>
#include <array>

#include "backend/cpu/features.h"
#include "regions/conv_block/conv_block.h"
#include "regions/conv_block/onednn_conv_params.h"

namespace lathe::ops {
namespace {

namespace onednn = cpu::onednn;
using regions::ConvBlock;

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

onednn::ConvSpec spec_of(const PlanRequest& request, const ConvBlock& block) {
  const plan::TensorDesc& x = regions::input_desc(request, block.x);
  onednn::ConvSpec spec;
  spec.problem = regions::conv_problem(block.conv->attrs, x.dims, block.weight->constant.dims());
  spec.problem.n = 1;
  spec.problem.src = x.dtype;
  spec.problem.dst = request.outputs[0].dtype;
  spec.problem.weights = onednn::product_type(spec.problem.src, spec.problem.dst);
  spec.bias = block.bias != nullptr;
  spec.residual = block.tail.residual != nullptr;
  if (spec.residual) spec.residual_type = regions::input_desc(request, block.tail.residual).dtype;
  if (const auto activation = cpu::find_activation(block.tail.activation)) spec.epilogue.activation = *activation;
  spec.epilogue.alpha = block.tail.alpha;
  spec.epilogue.beta = block.tail.beta;
  spec.epilogue.residual_after = block.tail.residual_after;
  return spec;
}

std::vector<onednn::ConvSplit> splits_of(const PlanRequest& request, const ConvBlock& block, const onednn::ConvSpec& spec) {
  const plan::TensorDesc &x = regions::input_desc(request, block.x), &y = request.outputs[0];
  const bool dense = x.strides.back() == spec.problem.cin && y.strides.back() == spec.problem.cout && spec.problem.src == spec.problem.weights;
  return onednn::conv_splits(spec.problem, x.dims[0], dense, request.threads);
}

Verdict supports(const PlanRequest& request) {
  std::string why;
  if (!onednn::Library::find(&why)) return Verdict::decline(why);
  if ((request.cpu_features & cpu::cpu_features().mask) != cpu::cpu_features().mask)
    return Verdict::decline("oneDNN cannot be held to fewer CPU features than the process has");
  const ConvBlock block = regions::match_conv_block(request.region);
  const plan::TensorDesc& x = regions::input_desc(request, block.x);
  if (x.dims.size() < 3 || x.dims.size() > 4) return Verdict::decline("only 1-D and 2-D convolutions have a kernel");
  for (const plan::TensorDesc* desc : {&x, &request.outputs[0]})
    if (!is_stored(desc->dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
  if (block.tail.residual && !is_stored(regions::input_desc(request, block.tail.residual).dtype))
    return Verdict::decline("the residual's storage type is neither float32 nor bfloat16");
  for (std::size_t axis = 1; axis < x.dims.size(); ++axis)
    if (!block.x->shape()[axis].is_constant()) return Verdict::decline("the image's extents are not fixed, and oneDNN makes its kernels for fixed ones");
  const onednn::ConvSpec spec = spec_of(request, block);
  why = onednn::conv_unsupported(spec);
  if (why.empty()) why = onednn::no_implementation(spec, splits_of(request, block, spec));
  return why.empty() ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plans(const PlanRequest& request) {
  const ConvBlock block = regions::match_conv_block(request.region);
  const plan::TensorDesc& x = regions::input_desc(request, block.x);
  onednn::ConvSpec spec = spec_of(request, block);
  std::vector<StepPlan> result;
  for (const onednn::ConvSplit& split : splits_of(request, block, spec)) {
    spec.split = split;
    StepPlan step;
    std::size_t weight_bytes = 0;
    try {
      const onednn::Conv conv(spec);
      weight_bytes = conv.weight_bytes();
      step.params.set("weight_format", conv.weight_format());
      step.variant = fmt::format("{} {} {}", conv.implementation(), split.channels ? "channels" : "rows", split.count);
    } catch (const Error&) {
      continue;  // supports() has found one that goes
    }
    step.kernel = "cpu.conv.onednn";
    step.burden = regions::kOnednnBurden;
    for (const auto& [name, attribute] : block.conv->attrs) step.params.set(name, attribute);
    step.params.set("weight_dims", block.weight->constant.dims());
    regions::write_spec(spec, step.params);
    regions::write_tail(block.tail, step.params);
    step.inputs = {block.x};
    if (block.tail.residual) step.inputs.push_back(const_cast<ir::Value*>(block.tail.residual));
    step.outputs = {request.region.outputs.at(0)};
    step.weights.push_back({"cpu.conv.onednn.pack", step.params, {block.weight}});
    if (block.bias) step.weights.push_back({"cpu.bias.pack", {}, {block.bias}});
    step.flops = spec.problem.flops() * static_cast<double>(x.dims[0]);
    const double out = static_cast<double>(dtype_bytes(spec.problem.dst, request.outputs[0].elements()));
    step.bytes = static_cast<double>(dtype_bytes(spec.problem.src, x.elements())) + out * (spec.residual ? 2 : 1) + static_cast<double>(weight_bytes);
    result.push_back(std::move(step));
  }
  return result;
}

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }

}  // namespace

std::span<const Candidate> candidates_onednn_conv() {
  static const std::array<Candidate, 1> list{{{"cpu.conv.onednn", "conv_block", supports, plans, channels_last}}};
  return list;
}

}  // namespace lathe::ops
