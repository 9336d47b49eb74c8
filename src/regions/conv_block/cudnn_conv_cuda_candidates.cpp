// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.conv.cudnn": convolutions with bias, activation and residual as one graph of cuDNN's, where it is found. Its plans are the engines that its
// heuristics think best. Only for fixed batches and images: each set of extents is a plan of its own, which the library compiles for a twentieth of
// a second, the first time on a machine for half of one.

#include <array>
#include <optional>

#include "regions/conv_block/conv_block.h"
#include "regions/conv_block/cudnn_conv_params.h"

namespace lathe::ops {
namespace {

namespace cudnn = cuda::cudnn;
using regions::ConvBlock;

constexpr std::size_t kPlansTimed = 4;

/// Channels in front of `value` in the tensor of all `parts`; negative: not known.
std::int64_t channels_before(const std::vector<ir::Value*>& parts, const ir::Value* value) {
  std::int64_t channels = 0;
  for (const ir::Value* part : parts) {
    if (part == value) return channels;
    if (!part || !part->has_shape() || part->shape().size() < 2 || !part->shape()[1].is_constant()) return -1;
    channels += *part->shape()[1].constant();
  }
  return -1;
}

/// Will the value begin at a multiple of 16 bytes wherever it is stored? The caller's memory may begin anywhere, a part of a wider tensor where
/// the parts before it end.
bool begins_whole(const ir::Value* value, int depth = 0) {
  constexpr std::int64_t kPiece = 8;  // elements
  if (!value || value->is_graph_output() || !value->producer || depth > 8) return false;
  const auto whole = [](std::int64_t channels) { return channels >= 0 && channels % kPiece == 0; };
  const ir::Node& node = *value->producer;
  for (const char* view : {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity"})
    if (node.is(view)) return false;
  const auto along_channels = [](const ir::Node& part_of) {
    const std::int64_t axis = part_of.attrs.get_int("axis", 0);
    return axis == 1 || axis == 1 - static_cast<std::int64_t>(part_of.output()->has_shape() ? part_of.output()->shape().size() : 0);
  };
  if (node.is("Split") && !(along_channels(node) && whole(channels_before(node.outputs, value)) && begins_whole(node.input(0), depth + 1))) return false;
  for (const ir::Use& use : value->uses)
    if (use.node && use.node->is("Concat") &&
        !(along_channels(*use.node) && whole(channels_before(use.node->inputs, value)) && begins_whole(use.node->output(), depth + 1)))
      return false;
  return true;
}

struct Problem {
  cudnn::ConvProblem conv;
  cuda::ProductType product = cuda::kProductF16;
  std::vector<cudnn::EngineChoice> engines;
};

/// nullopt and the reason, or the problem with engines that run it.
std::optional<Problem> problem_of(const PlanRequest& request, const ConvBlock& block, std::string& why) {
  const plan::TensorDesc &x = regions::input_desc(request, block.x), &y = request.outputs[0];
  const auto src = regions::cuda_element(x.dtype), dst = regions::cuda_element(y.dtype);
  const auto activation = cpu::find_activation(block.tail.activation);
  const ir::Value* residual = block.tail.residual;
  if (x.dims.size() < 3 || x.dims.size() > 4) why = "only 1-D and 2-D convolutions have a kernel";
  else if (!src || !dst) why = regions::kNoCudaElement;
  else if (!activation) why = "the activation has no kernel";
  else if (*src == cuda::kElementFloat32 && !request.tf32) why = "cuDNN's products of float32 are in TF32";
  else if (residual && regions::input_desc(request, residual).dtype != y.dtype) why = "the residual is stored in another type than the result";
  for (std::size_t axis = 0; why.empty() && axis < x.dims.size(); ++axis)
    if (!block.x->shape()[axis].is_constant()) why = "its extents are not fixed, and cuDNN compiles a plan for each set of them";
  if (why.empty() && (!begins_whole(block.x) || !begins_whole(request.region.outputs[0]) || (residual && !begins_whole(residual))))
    why = "a tensor that may begin at no multiple of 16 bytes";
  if (!why.empty()) return std::nullopt;
  Problem p;
  p.product = regions::product_of(*src, request.tf32);
  cuda::ConvOperands operands;
  operands.src = *src;
  operands.stored = *dst;
  operands.src_pixel = x.strides.back();
  operands.dst_pixel = y.strides.back();
  operands.residual = residual != nullptr;
  if (residual) operands.residual_pixel = regions::input_desc(request, residual).strides.back();
  cuda::EpilogueParams epilogue;
  epilogue.activation = static_cast<int>(*activation);
  epilogue.alpha = block.tail.alpha;
  epilogue.residual_after = block.tail.residual_after;
  const cuda::ConvShape shape = regions::cuda_shape(regions::conv_problem(block.conv->attrs, x.dims, block.weight->constant.dims()));
  for (const bool narrow : {false, true}) {
    if (narrow && (!block.bias || *src == cuda::kElementFloat32)) break;
    p.conv = regions::cudnn_problem(shape, operands, epilogue, block.bias != nullptr, narrow);
    why = cudnn::unsupported(p.conv);
    if (!why.empty()) return std::nullopt;
    p.engines = cudnn::ConvPlan::offered(regions::need_device(request.device), p.conv, kPlansTimed, why);
    if (!p.engines.empty()) return p;
  }
  why = "cuDNN does not run it as one graph: " + why;
  return std::nullopt;
}

Verdict supports(const PlanRequest& request) {
  if (!(request.libraries & ops::kCudnn)) return Verdict::decline("not asked for: --libraries cudnn");
  std::string why;
  if (!cudnn::Library::find(&why)) return Verdict::decline(why);
  if (!request.timed) return Verdict::decline("without timing, a library is not worth its loading");
  return problem_of(request, regions::match_conv_block(request.region), why) ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plans(const PlanRequest& request) {
  const ConvBlock block = regions::match_conv_block(request.region);
  std::string why;
  const Problem p = *problem_of(request, block, why);
  const plan::TensorDesc &x = regions::input_desc(request, block.x), &y = request.outputs[0];
  StepPlan step;
  step.kernel = "cuda.conv.cudnn";
  step.burden = regions::kVendorBurden;
  for (const auto& [name, attribute] : block.conv->attrs) step.params.set(name, attribute);
  step.params.set("weight_dims", block.weight->constant.dims());
  step.params.set("product", static_cast<std::int64_t>(p.product));
  step.params.set("narrow_bias", static_cast<std::int64_t>(p.conv.narrow_bias));
  step.params.set("library", cudnn::Library::get().version_text());
  regions::write_tail(block.tail, step.params);
  step.inputs = {block.x};
  if (block.tail.residual) step.inputs.push_back(const_cast<ir::Value*>(block.tail.residual));
  step.outputs = {request.region.outputs.at(0)};
  ir::Attrs product;
  product.set("product", static_cast<std::int64_t>(p.product));
  step.weights.push_back({"cuda.conv.cudnn.pack", product, {block.weight}});
  if (block.bias && p.conv.narrow_bias) step.weights.push_back({"cuda.conv.cudnn.pack_bias", product, {block.bias}});
  else if (block.bias) step.weights.push_back({"cpu.bias.pack", {}, {block.bias}});
  step.flops = p.conv.shape.flops();
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements() + block.weight->constant.size()) +
                                   dtype_bytes(y.dtype, y.elements()) * (block.tail.residual ? 2 : 1));
  std::vector<StepPlan> result;
  for (const cudnn::EngineChoice& engine : p.engines) {
    StepPlan next = step;
    next.variant = cudnn::describe(engine);
    regions::write_cudnn_engine(engine, next.params);
    result.push_back(std::move(next));
  }
  return result;
}

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }

}  // namespace

std::span<const Candidate> candidates_cudnn_conv_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.conv.cudnn", "conv_block", supports, plans, channels_last}}};
  return list;
}

}  // namespace lathe::ops
