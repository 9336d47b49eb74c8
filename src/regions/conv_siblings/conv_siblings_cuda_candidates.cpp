// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The CUDA candidate for conv_siblings: the kernel cuda.conv of conv_block with the weights of both and two outputs.

#include <array>
#include <optional>

#include "regions/conv_block/conv_block.h"
#include "regions/conv_block/conv_cuda_plans.h"
#include "regions/conv_siblings/conv_siblings.h"

namespace lathe::ops {
namespace {

using regions::ConvSiblings;

struct Problem {
  cuda::ConvShape shape;
  cuda::ConvOperands operands;
  Dims weight;  ///< of both
};

/// The description of the tensor that one of the two makes.
const plan::TensorDesc& output_desc(const PlanRequest& request, const ir::Value* value) {
  for (std::size_t i = 0; i < request.region.outputs.size(); ++i)
    if (request.region.outputs[i] == value) return request.outputs[i];
  throw Error(Code::kInternal, "a convolution beside another whose result nobody reads");
}

/// nullopt and the reason, or the problem.
std::optional<Problem> problem_of(const PlanRequest& request, const ConvSiblings& match, std::string& why) {
  const plan::TensorDesc& x = regions::input_desc(request, match.x);
  if (request.region.outputs.size() != 2 || x.dims.size() < 3 || x.dims.size() > 4) {
    why = "only 1-D and 2-D convolutions have a kernel";
    return std::nullopt;
  }
  const plan::TensorDesc &first = output_desc(request, match.each[0].tail.output), &second = output_desc(request, match.each[1].tail.output);
  const auto src = regions::cuda_element(x.dtype), dst = regions::cuda_element(first.dtype);
  if (!src || !dst) {
    why = regions::kNoCudaElement;
    return std::nullopt;
  }
  if (first.dtype != second.dtype) {
    why = "the results are stored in different types";
    return std::nullopt;
  }
  if (match.x->kind == ir::ValueKind::kInput && x.strides.back() == regions::image_channels(*match.each[0].conv, x.dtype)) {
    why = "the network's own image has surplus channels";
    return std::nullopt;
  }
  Problem p;
  p.weight = match.each[0].weight->constant.dims();
  p.weight[0] += match.each[1].channels();
  p.shape = regions::cuda_shape(regions::conv_problem(match.each[0].conv->attrs, x.dims, p.weight));
  p.operands.product = regions::product_of(*src, request.tf32);
  p.operands.src = *src;
  p.operands.stored = *dst;
  p.operands.src_pixel = x.strides.back();
  p.operands.dst_pixel = first.strides.back();
  p.operands.first_columns = match.each[0].channels();
  p.operands.second_pixel = second.strides.back();
  return p;
}

Verdict supports(const PlanRequest& request) {
  std::string why;
  const auto p = problem_of(request, regions::match_conv_siblings(request.region), why);
  if (!p) return Verdict::decline(why);
  why = cuda::conv_unsupported(p->shape, p->operands);
  if (!why.empty()) return Verdict::decline(why);
  if (regions::conv_plans(cuda::conv_setup(p->shape, p->operands), request.device).empty())
    return Verdict::decline("this build has no kernel for such operands on " + regions::need_device(request.device).info().arch_name());
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ConvSiblings match = regions::match_conv_siblings(request.region);
  std::string why;
  const Problem p = *problem_of(request, match, why);
  const cuda::GemmSetup setup = cuda::conv_setup(p.shape, p.operands);
  StepPlan step;
  step.kernel = "cuda.conv";
  for (const auto& [name, attribute] : match.each[0].conv->attrs) step.params.set(name, attribute);
  step.params.set("product", static_cast<std::int64_t>(p.operands.product));
  step.params.set("weight_dims", p.weight);
  step.params.set("first_channels", p.operands.first_columns);
  regions::write_tail(match.each[0].tail, step.params);
  step.inputs = {match.x};
  for (const regions::Sibling& half : match.each) step.outputs.push_back(const_cast<ir::Value*>(half.tail.output));
  WeightRequest weights{"cuda.conv.pack", {}, {match.each[0].weight, match.each[1].weight}};
  weights.params.set("product", static_cast<std::int64_t>(p.operands.product));
  step.weights.push_back(std::move(weights));
  if (match.each[0].bias || match.each[1].bias) {
    WeightRequest biases{"cuda.conv.biases", {}, {match.each[0].bias, match.each[1].bias}};
    biases.params.set("channels", std::vector<std::int64_t>{match.each[0].channels(), match.each[1].channels()});
    step.weights.push_back(std::move(biases));
  }
  step.flops = p.shape.flops();
  const plan::TensorDesc& x = regions::input_desc(request, match.x);
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements())) + static_cast<double>(cuda::packed_bytes(setup));
  for (const plan::TensorDesc& y : request.outputs) step.bytes += static_cast<double>(dtype_bytes(y.dtype, y.elements()));
  return regions::conv_steps(step, setup, request.device);
}

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }

}  // namespace

std::span<const Candidate> candidates_conv_siblings_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.conv.siblings", "conv_siblings", supports, plan, channels_last}}};
  return list;
}

}  // namespace lathe::ops
