// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Candidates for conv_block, one per algorithm family of src/backend/cpu/conv.h. All read and write channels-last activations, slices of
// wider buffers included; one reads a network's row-major image directly.

#include <algorithm>
#include <array>
#include <optional>

#include "backend/cpu/features.h"
#include "regions/conv_block/conv_block.h"
#include "regions/conv_block/conv_params.h"

namespace lathe::ops {
namespace {

using regions::ConvBlock;

enum class Family { kTiles, kPlanar, kDepthwise, kWinograd };

Family family_of(const cpu::ConvPlan& plan) {
  switch (plan.algorithm) {
    case cpu::ConvAlgorithm::kDepthwise: return Family::kDepthwise;
    case cpu::ConvAlgorithm::kWinograd2:
    case cpu::ConvAlgorithm::kWinograd4: return Family::kWinograd;
    case cpu::ConvAlgorithm::kTiles: break;
  }
  return Family::kTiles;
}

const plan::TensorDesc* desc_of(const PlanRequest& request, const ir::Value* value) {
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (request.region.inputs[i] == value) return &request.inputs[i];
  return nullptr;
}

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

cpu::ConvProblem problem_of(const PlanRequest& request, const ConvBlock& block, bool planar) {
  const plan::TensorDesc& x = *desc_of(request, block.x);
  cpu::ConvProblem problem = regions::conv_problem(block.conv->attrs, x.dims, block.weight->constant.dims());
  problem.src = x.dtype;
  problem.dst = request.outputs[0].dtype;
  problem.src_nchw = planar;
  return problem;
}

Verdict supports(const PlanRequest& request, bool planar) {
  const ConvBlock block = regions::match_conv_block(request.region);
  const plan::TensorDesc& x = *desc_of(request, block.x);
  if (x.dims.size() < 3 || x.dims.size() > 4) return Verdict::decline("only 1-D and 2-D convolutions have a kernel");
  if (!is_stored(x.dtype) || !is_stored(request.outputs[0].dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
  if (planar) {
    if (x.dims[1] > 4) return Verdict::decline("more than 4 channels: better channels-last");
    if (!x.is_dense_row_major()) return Verdict::decline("the input is not dense row-major");
  }
  const std::string why = cpu::conv_unsupported(problem_of(request, block, planar));
  return why.empty() ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plans(const PlanRequest& request, Family family) {
  const ConvBlock block = regions::match_conv_block(request.region);
  const cpu::CpuFeatures features{request.cpu_features & cpu::cpu_features().mask};
  cpu::ConvProblem problem = problem_of(request, block, family == Family::kPlanar);
  // Products in bf16 where the precision plan stores bf16 at either end and the machine multiplies it faster.
  const bool narrow = problem.src == DType::kBFloat16 || problem.dst == DType::kBFloat16;
  std::vector<DType> products;
  if (narrow && cpu::includes(features.isa(), cpu::Isa::kAvx512Bf16)) products.push_back(DType::kBFloat16);
  if (products.empty() || problem.src == DType::kFloat32) products.push_back(DType::kFloat32);
  const Dims& weight_dims = block.weight->constant.dims();

  std::vector<StepPlan> result;
  for (const DType product : products) {
    problem.weights = product;
    if (!cpu::conv_unsupported(problem).empty()) continue;
    for (const cpu::ConvPlan& plan : cpu::conv_plans(problem, features, request.threads, request.exact)) {
      if (family_of(plan) != (family == Family::kPlanar ? Family::kTiles : family)) continue;
      StepPlan step;
      step.kernel = "cpu.conv";
      step.variant = cpu::describe(plan) + (product == DType::kBFloat16 ? " bf16" : "");
      step.fast_class = plan.fast();
      for (const auto& [name, attribute] : block.conv->attrs) step.params.set(name, attribute);
      step.params.set("weight_dims", weight_dims);
      step.params.set("weight_type", static_cast<std::int64_t>(product));
      step.params.set("planar", static_cast<std::int64_t>(family == Family::kPlanar));
      step.params.set("hint", std::vector<std::int64_t>{problem.n, problem.h, problem.w});
      regions::write_plan(plan, step.params);
      regions::write_tail(block.tail, step.params);
      step.inputs = {block.x};
      if (block.tail.residual) step.inputs.push_back(const_cast<ir::Value*>(block.tail.residual));
      step.outputs = {request.region.outputs.at(0)};
      WeightRequest weights;
      weights.pack = "cpu.conv.pack";
      weights.params.set("weight_type", static_cast<std::int64_t>(product));
      weights.params.set("groups", problem.groups);
      weights.params.set("planar", static_cast<std::int64_t>(family == Family::kPlanar));
      weights.params.set("algorithm", static_cast<std::int64_t>(plan.algorithm));
      weights.params.set("panel", static_cast<std::int64_t>(plan.panel));
      weights.params.set("chunk", static_cast<std::int64_t>(plan.chunk));
      weights.sources = {block.weight};
      step.weights.push_back(std::move(weights));
      if (block.bias) step.weights.push_back({"cpu.bias.pack", {}, {block.bias}});
      step.flops = problem.flops();
      const double in = static_cast<double>(dtype_bytes(problem.src, problem.n * problem.h * problem.w * problem.cin));
      const double out = static_cast<double>(dtype_bytes(problem.dst, problem.n * problem.oh() * problem.ow() * problem.cout));
      step.bytes = in + out * (block.tail.residual ? 2 : 1) + static_cast<double>(cpu::conv_weight_bytes(problem, plan));
      result.push_back(std::move(step));
    }
  }
  return result;
}

Verdict supports_tiles(const PlanRequest& request) { return supports(request, false); }
std::vector<StepPlan> plan_tiles(const PlanRequest& request) { return plans(request, Family::kTiles); }
Verdict supports_planar(const PlanRequest& request) { return supports(request, true); }
std::vector<StepPlan> plan_planar(const PlanRequest& request) { return plans(request, Family::kPlanar); }

Verdict supports_depthwise(const PlanRequest& request) {
  const Verdict verdict = supports(request, false);
  if (!verdict.yes) return verdict;
  const Dims& weight = regions::match_conv_block(request.region).weight->constant.dims();
  return weight[1] == 1 ? Verdict::accept() : Verdict::decline("not a depthwise convolution");
}
std::vector<StepPlan> plan_depthwise(const PlanRequest& request) { return plans(request, Family::kDepthwise); }

Verdict supports_winograd(const PlanRequest& request) {
  if (request.exact) return Verdict::decline("error class fast: only exact ones are asked for");
  const Verdict verdict = supports(request, false);
  if (!verdict.yes) return verdict;
  const ConvBlock block = regions::match_conv_block(request.region);
  const cpu::ConvProblem p = problem_of(request, block, false);
  if (p.kh != 3 || p.kw != 3 || p.stride_h != 1 || p.stride_w != 1 || p.dilation_h != 1 || p.dilation_w != 1 || p.groups != 1)
    return Verdict::decline("only 3x3, stride 1, one group");
  return Verdict::accept();
}
std::vector<StepPlan> plan_winograd(const PlanRequest& request) { return plans(request, Family::kWinograd); }

Layout channels_last(const Region&, bool, std::size_t) { return Layout::kChannelsLast; }
Layout planar_input(const Region& region, bool is_output, std::size_t index) {
  if (!is_output && region.inputs[index] == regions::match_conv_block(region).x) return Layout::kRowMajor;
  return Layout::kChannelsLast;
}

}  // namespace

std::span<const Candidate> candidates_conv_block() {
  static const std::array<Candidate, 4> list{{
      {"cpu.conv.direct", "conv_block", supports_tiles, plan_tiles, channels_last},
      {"cpu.conv.depthwise", "conv_block", supports_depthwise, plan_depthwise, channels_last},
      {"cpu.conv.winograd", "conv_block", supports_winograd, plan_winograd, channels_last},
      {"cpu.conv.row_major_image", "conv_block", supports_planar, plan_planar, planar_input},
  }};
  return list;
}

}  // namespace lathe::ops
