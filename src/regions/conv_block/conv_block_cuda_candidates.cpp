// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CUDA candidates for conv_block: the tensor-core products as implicit GEMM, and depthwise convolution. Activations are channels-last, slices of
// wider buffers included; a network's image may have surplus channels of zeros (conv_cuda_params.h).

#include <array>
#include <optional>

#include "backend/cuda/kernels/window_plan.h"
#include "regions/conv_block/conv_block.h"
#include "regions/conv_block/conv_cuda_plans.h"

namespace lathe::ops {
namespace {

using regions::ConvBlock;
using regions::ImageMode;

struct Problem {
  cuda::ConvShape shape;  ///< as ONNX says
  cuda::ConvOperands operands;
  ImageMode image = ImageMode::kAsIs;
  cuda::ConvShape executed() const { return regions::executed_shape(shape, image, operands.src_pixel); }
  cuda::ConvOperands executed_operands() const {
    cuda::ConvOperands o = operands;
    if (image == ImageMode::kPairs) o.src_pixel = 8;
    return o;
  }
};

/// nullopt and the reason, or the problem.
std::optional<Problem> problem_of(const PlanRequest& request, const ConvBlock& block, std::string& why) {
  const plan::TensorDesc &x = regions::input_desc(request, block.x), &y = request.outputs[0];
  if (x.dims.size() < 3 || x.dims.size() > 4) {
    why = "only 1-D and 2-D convolutions have a kernel";
    return std::nullopt;
  }
  const auto src = regions::cuda_element(x.dtype), dst = regions::cuda_element(y.dtype);
  if (!src || !dst) {
    why = regions::kNoCudaElement;
    return std::nullopt;
  }
  Problem p;
  p.shape = regions::cuda_shape(regions::conv_problem(block.conv->attrs, x.dims, block.weight->constant.dims()));
  p.operands.product = regions::product_of(*src, request.tf32);
  p.operands.src = *src;
  p.operands.stored = *dst;
  p.operands.src_pixel = x.strides.back();
  p.operands.dst_pixel = y.strides.back();
  if (block.tail.residual) {
    const plan::TensorDesc& residual = regions::input_desc(request, block.tail.residual);
    if (residual.dtype != y.dtype) {
      why = "the residual is stored in another type than the result";
      return std::nullopt;
    }
    p.operands.residual = true;
    p.operands.residual_pixel = residual.strides.back();
  }
  if (block.x->kind == ir::ValueKind::kInput && p.operands.src_pixel == regions::image_channels(*block.conv, x.dtype))
    p.image = regions::pairs_image(*block.conv, x.dtype) ? ImageMode::kPairs : ImageMode::kWidened;
  return p;
}

void describe_step(StepPlan& step, const PlanRequest& request, const ConvBlock& block, const Problem& p, std::size_t weight_bytes) {
  for (const auto& [name, attribute] : block.conv->attrs) step.params.set(name, attribute);
  step.params.set("weight_dims", block.weight->constant.dims());
  regions::write_tail(block.tail, step.params);
  step.inputs = {block.x};
  if (block.tail.residual) step.inputs.push_back(const_cast<ir::Value*>(block.tail.residual));
  step.outputs = {request.region.outputs.at(0)};
  if (block.bias) step.weights.push_back({"cpu.bias.pack", {}, {block.bias}});
  step.flops = p.shape.flops();
  const plan::TensorDesc &x = regions::input_desc(request, block.x), &y = request.outputs[0];
  const double in = static_cast<double>(dtype_bytes(x.dtype, x.elements())), out = static_cast<double>(dtype_bytes(y.dtype, y.elements()));
  step.bytes = in + out * (block.tail.residual ? 2 : 1) + static_cast<double>(weight_bytes);
}

const cuda::DeviceInfo& info_of(const PlanRequest& request) { return regions::need_device(request.device).info(); }

Verdict supports_gemm(const PlanRequest& request) {
  const ConvBlock block = regions::match_conv_block(request.region);
  std::string why;
  const auto p = problem_of(request, block, why);
  if (!p) return Verdict::decline(why);
  why = cuda::conv_unsupported(p->executed(), p->executed_operands());
  if (!why.empty()) return Verdict::decline(why);
  if (p->shape.groups > 1 && cuda::depthwise_unsupported(p->shape, p->operands).empty()) return Verdict::decline("depthwise has a kernel of its own");
  return regions::conv_plans(cuda::conv_setup(p->executed(), p->executed_operands()), request.device).empty()
             ? Verdict::decline("this build has no kernel for such operands on " + info_of(request).arch_name())
             : Verdict::accept();
}

std::vector<StepPlan> plan_gemm(const PlanRequest& request) {
  const ConvBlock block = regions::match_conv_block(request.region);
  std::string why;
  const Problem p = *problem_of(request, block, why);
  const cuda::GemmSetup setup = cuda::conv_setup(p.executed(), p.executed_operands());
  StepPlan step;
  step.kernel = "cuda.conv";
  step.params.set("product", static_cast<std::int64_t>(p.operands.product));
  step.params.set("image", static_cast<std::int64_t>(p.image));
  WeightRequest weights;
  weights.pack = "cuda.conv.pack";
  weights.params.set("product", static_cast<std::int64_t>(p.operands.product));
  weights.params.set("groups", p.shape.groups);
  weights.params.set("image", static_cast<std::int64_t>(p.image));
  if (p.image == ImageMode::kPairs) weights.params.set("pad_left", p.shape.pad_left % 2);
  if (p.image == ImageMode::kWidened) weights.params.set("channels", p.operands.src_pixel);
  weights.sources = {block.weight};
  step.weights.push_back(std::move(weights));
  describe_step(step, request, block, p, cuda::packed_bytes(setup));
  return regions::conv_steps(step, setup, request.device);
}

Verdict supports_depthwise(const PlanRequest& request) {
  const ConvBlock block = regions::match_conv_block(request.region);
  std::string why;
  const auto p = problem_of(request, block, why);
  if (!p) return Verdict::decline(why);
  why = cuda::depthwise_unsupported(p->shape, p->operands);
  if (!why.empty()) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("depthwise") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan_depthwise(const PlanRequest& request) {
  const ConvBlock block = regions::match_conv_block(request.region);
  std::string why;
  const Problem p = *problem_of(request, block, why);
  StepPlan step;
  step.kernel = "cuda.depthwise";
  step.variant = std::string(cuda::depthwise_launch(p.shape, p.operands).kernel);
  step.weights.push_back({"cuda.depthwise.pack", {}, {block.weight}});
  describe_step(step, request, block, p, static_cast<std::size_t>(p.shape.cout * p.shape.kh * p.shape.kw) * sizeof(float));
  return {step};
}

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }

}  // namespace

std::span<const Candidate> candidates_conv_block_cuda() {
  static const std::array<Candidate, 2> list{{
      {"cuda.depthwise", "conv_block", supports_depthwise, plan_depthwise, channels_last},
      {"cuda.conv", "conv_block", supports_gemm, plan_gemm, channels_last},
  }};
  return list;
}

}  // namespace lathe::ops
