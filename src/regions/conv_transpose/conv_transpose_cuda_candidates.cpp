// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.conv_transpose": a tensor-core convolution that makes all phases of the result (conv_transpose_phases.h), then their pixels in order.

#include <array>
#include <optional>

#include "ops/candidate.h"
#include "regions/conv_transpose/conv_transpose.h"
#include "regions/conv_transpose/conv_transpose_params.h"
#include "regions/conv_transpose/conv_transpose_phases.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

using regions::ConvTransposeBlock;

constexpr std::size_t kPlansTimed = 8;

struct Problem {
  cpu::ConvTransposeProblem given;
  cuda::ConvShape shape;
  cuda::ConvOperands operands;
  std::vector<cuda::GemmPlan> plans;
};

std::optional<Problem> problem_of(const PlanRequest& request, const ConvTransposeBlock& block, std::string& why) {
  const plan::TensorDesc &x = regions::input_desc(request, block.x), &y = request.outputs[0];
  const ir::Attrs& attrs = block.node->attrs;
  const auto src = regions::cuda_element(x.dtype), dst = regions::cuda_element(y.dtype);
  if (!src || !dst) why = regions::kNoCudaElement;
  else if (x.dims.size() < 3 || x.dims.size() > 4) why = "only 1-D and 2-D transposed convolutions have a kernel";
  else if (attrs.get_int("group", 1) != 1) why = "more than one group";
  else if (block.tail.residual) why = "a residual is added when the pixels are in order";
  else if (attrs.get_string("auto_pad", "NOTSET").starts_with("SAME") || !attrs.get_ints("output_shape").empty()) why = "the pads follow from the extents";
  if (!why.empty()) return std::nullopt;
  Problem p;
  try {
    p.given = regions::conv_transpose_problem(attrs, x.dims, block.weight->constant.dims(), y.dims);
  } catch (const Error& error) {
    why = error.message();
    return std::nullopt;
  }
  p.shape = regions::transpose_phases(p.given).shape;
  p.operands.product = regions::product_of(*src, request.tf32);
  p.operands.src = *src;
  p.operands.stored = *dst;
  p.operands.src_pixel = x.strides.back();
  why = cuda::conv_unsupported(p.shape, p.operands);
  if (!why.empty()) return std::nullopt;
  const cuda::GemmSetup setup = cuda::conv_setup(p.shape, p.operands);
  const cuda::Device& device = regions::need_device(request.device);
  if (device.info().arch() >= 80 || setup.a == cuda::kVectorA) p.plans = cuda::gemm_plans(setup, cuda::limits_of(device.info()), kPlansTimed);
  std::erase_if(p.plans, [&](const cuda::GemmPlan& plan) { return !device.has_builtin_module(cuda::gemm_kernel_name(setup, plan).module); });
  if (p.plans.empty()) {
    why = "this build has no kernel for such operands on " + device.info().arch_name();
    return std::nullopt;
  }
  return p;
}

Verdict supports(const PlanRequest& request) {
  std::string why;
  return problem_of(request, regions::match_conv_transpose(request.region), why) ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ConvTransposeBlock block = regions::match_conv_transpose(request.region);
  std::string why;
  const Problem p = *problem_of(request, block, why);
  const cuda::GemmSetup setup = cuda::conv_setup(p.shape, p.operands);
  StepPlan step;
  step.kernel = "cuda.conv_transpose";
  for (const auto& [name, attribute] : block.node->attrs) step.params.set(name, attribute);
  step.params.set("weight_dims", block.weight->constant.dims());
  step.params.set("product", static_cast<std::int64_t>(p.operands.product));
  regions::write_tail(block.tail, step.params);
  step.inputs = {block.x};
  step.outputs = {request.region.outputs.at(0)};
  WeightRequest weights;
  weights.pack = "cuda.conv_transpose.pack";
  weights.params.set("product", static_cast<std::int64_t>(p.operands.product));
  weights.params.set("strides", std::vector<std::int64_t>{p.given.stride_h, p.given.stride_w});
  weights.params.set("dilations", std::vector<std::int64_t>{p.given.dilation_h, p.given.dilation_w});
  weights.params.set("pads", std::vector<std::int64_t>{p.given.pad_top, p.given.pad_left});
  weights.sources = {block.weight};
  step.weights.push_back(std::move(weights));
  if (block.bias) {
    WeightRequest bias{"cuda.conv_transpose.pack_bias", {}, {block.bias}};
    bias.params.set("phases", p.given.stride_h * p.given.stride_w);
    step.weights.push_back(std::move(bias));
  }
  step.flops = 2.0 * static_cast<double>(p.given.n * p.given.h * p.given.w * p.given.cin) * static_cast<double>(p.given.cout * p.given.kh * p.given.kw);
  const plan::TensorDesc &x = regions::input_desc(request, block.x), &y = request.outputs[0];
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements()) + dtype_bytes(y.dtype, y.elements()) + cuda::packed_bytes(setup));
  std::vector<StepPlan> result;
  for (const cuda::GemmPlan& plan : p.plans) {
    StepPlan next = step;
    next.variant = "phases " + cuda::describe(plan);
    regions::write_gemm_plan(plan, setup.params.rows, next.params);
    result.push_back(std::move(next));
  }
  return result;
}

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }

}  // namespace

std::span<const Candidate> candidates_conv_transpose_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.conv_transpose", "conv_transpose", supports, plan, channels_last}}};
  return list;
}

}  // namespace lathe::ops
