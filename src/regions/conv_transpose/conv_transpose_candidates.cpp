// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.conv_transpose": channels-last, one or two spatial axes, any stride, dilation, group and pad.

#include <array>

#include "ops/candidate.h"
#include "regions/conv_transpose/conv_transpose.h"
#include "regions/conv_transpose/conv_transpose_params.h"

namespace lathe::ops {
namespace {

using regions::ConvTransposeBlock;

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

cpu::ConvTransposeProblem problem_of(const PlanRequest& request, const ConvTransposeBlock& block) {
  const plan::TensorDesc& x = regions::input_desc(request, block.x);
  cpu::ConvTransposeProblem p = regions::conv_transpose_problem(block.node->attrs, x.dims, block.weight->constant.dims(), request.outputs[0].dims);
  p.src = x.dtype;
  p.dst = request.outputs[0].dtype;
  return p;
}

Verdict supports(const PlanRequest& request) {
  const ConvTransposeBlock block = regions::match_conv_transpose(request.region);
  const plan::TensorDesc& x = regions::input_desc(request, block.x);
  if (block.node->output()->dtype() != DType::kFloat32) return Verdict::decline("the element type is not float32");
  if (!is_stored(x.dtype) || !is_stored(request.outputs[0].dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
  if (block.tail.residual && !is_stored(regions::input_desc(request, block.tail.residual).dtype))
    return Verdict::decline("the residual is neither float32 nor bfloat16");
  if (x.dims.size() < 3 || x.dims.size() > 4) return Verdict::decline("only 1-D and 2-D transposed convolutions have a kernel");
  try {
    const std::string why = cpu::conv_transpose_unsupported(problem_of(request, block));
    return why.empty() ? Verdict::accept() : Verdict::decline(why);
  } catch (const Error& error) {
    return Verdict::decline(error.message());
  }
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ConvTransposeBlock block = regions::match_conv_transpose(request.region);
  const cpu::CpuFeatures features{request.cpu_features & cpu::cpu_features().mask};
  cpu::ConvTransposeProblem p = problem_of(request, block);
  const bool narrow = p.src == DType::kBFloat16 || p.dst == DType::kBFloat16;
  std::vector<DType> products;
  if (narrow && cpu::includes(features.isa(), cpu::Isa::kAvx512Bf16)) products.push_back(DType::kBFloat16);
  if (products.empty() || p.src == DType::kFloat32) products.push_back(DType::kFloat32);

  std::vector<StepPlan> result;
  for (const DType product : products) {
    p.weights = product;
    StepPlan step;
    step.kernel = "cpu.conv_transpose";
    step.variant = product == DType::kBFloat16 ? "phases bf16" : "phases";
    for (const auto& [name, attribute] : block.node->attrs) step.params.set(name, attribute);
    step.params.set("weight_dims", block.weight->constant.dims());
    step.params.set("weight_type", static_cast<std::int64_t>(product));
    regions::write_tail(block.tail, step.params);
    step.inputs = {block.x};
    if (block.tail.residual) step.inputs.push_back(const_cast<ir::Value*>(block.tail.residual));
    step.outputs = {request.region.outputs.at(0)};
    WeightRequest weights;
    weights.pack = "cpu.conv_transpose.pack";
    weights.params.set("weight_type", static_cast<std::int64_t>(product));
    weights.params.set("group", p.groups);
    weights.params.set("strides", std::vector<std::int64_t>{p.stride_h, p.stride_w});
    weights.params.set("dilations", std::vector<std::int64_t>{p.dilation_h, p.dilation_w});
    weights.sources = {block.weight};
    step.weights.push_back(std::move(weights));
    if (block.bias) step.weights.push_back({"cpu.bias.pack", {}, {block.bias}});
    step.flops = 2.0 * static_cast<double>(p.n * p.h * p.w * p.cin) * static_cast<double>(p.cout / p.groups * p.kh * p.kw);
    step.bytes = static_cast<double>(dtype_bytes(p.src, p.n * p.h * p.w * p.cin) + cpu::conv_transpose_weight_bytes(p)) +
                 static_cast<double>(dtype_bytes(p.dst, p.n * p.oh() * p.ow() * p.cout)) * (block.tail.residual ? 2 : 1);
    result.push_back(std::move(step));
  }
  return result;
}

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }

}  // namespace

std::span<const Candidate> candidates_conv_transpose() {
  static const std::array<Candidate, 1> list{{{"cpu.conv_transpose", "conv_transpose", supports, plan, channels_last}}};
  return list;
}

}  // namespace lathe::ops
