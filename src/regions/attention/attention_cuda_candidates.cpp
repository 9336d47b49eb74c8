// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.attention": float16 and bfloat16 heads of up to 128, on tensor cores from sm_80 on.

#include <array>
#include <set>

#include "ops/candidate.h"
#include "regions/attention/attention_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

using regions::AttentionBlock;
using regions::AttentionOperand;

struct Problem {
  AttentionBlock block;
  regions::AttentionShape shape;
  DType stored = DType::kUndefined;
};

std::optional<Problem> problem_of(const PlanRequest& request, std::string& why) {
  Problem p;
  p.block = regions::match_attention(request.region);
  AttentionBlock& b = p.block;
  p.stored = request.outputs[0].dtype;
  if (p.stored != DType::kFloat16 && p.stored != DType::kBFloat16) {
    why = "the result is stored neither in float16 nor in bfloat16";
    return std::nullopt;
  }
  for (const AttentionOperand* operand : {&b.q, &b.k, &b.v})
    if (regions::input_desc(request, operand->value).dtype != p.stored) {
      why = "queries, keys, values and result are stored in different types";
      return std::nullopt;
    }
  if (b.mask.value)
    if (const DType mask = regions::input_desc(request, b.mask.value).dtype; mask != DType::kFloat32 && mask != p.stored) {
      why = "the mask is stored neither in float32 nor in the operands' type";
      return std::nullopt;
    }
  std::set<std::string> symbols;
  for (const ir::Dim* dim : {&b.queries, &b.keys}) dim->collect_symbols(symbols);
  for (const ir::Dim& dim : b.batch) dim.collect_symbols(symbols);
  for (const std::string& symbol : symbols)
    if (symbol.starts_with("?")) {
      why = "an extent is known only when the model runs";
      return std::nullopt;
    }
  while (b.batch.size() < 2) {
    b.batch.insert(b.batch.begin(), ir::Dim(1));
    for (AttentionOperand* operand : {&b.q, &b.k, &b.v, &b.out, &b.mask}) operand->batch.insert(operand->batch.begin(), regions::Place{});
  }
  const auto at = [&](const ir::Dim& dim) { return dim.evaluate(request.symbols).value_or(0); };
  p.shape = {at(b.batch[0]), at(b.batch[1]), at(b.queries), at(b.keys), b.depth, b.value_depth};
  if (p.shape.batch() < 1 || p.shape.queries < 1 || p.shape.keys < 1 || b.depth < 1 || b.value_depth < 1) {
    why = "a tensor is empty";
    return std::nullopt;
  }
  if (p.shape.batch() > 65535) {
    why = "more than 65535 heads in a batch";
    return std::nullopt;
  }
  const std::array<std::int64_t, 2> batch{p.shape.outer, p.shape.inner};
  const auto contiguous = [&](const AttentionOperand& operand, const plan::TensorDesc& desc, std::int64_t rows, std::int64_t columns) {
    const auto reach = regions::attention_reach(operand, desc, batch, rows, columns, why);
    if (!reach) return false;
    if (columns > 1 && reach->column != 1) why = "the elements of a head are not contiguous";
    return why.empty();
  };
  if (!contiguous(b.q, regions::input_desc(request, b.q.value), p.shape.queries, b.depth) ||
      !contiguous(b.k, regions::input_desc(request, b.k.value), p.shape.keys, b.depth) ||
      !contiguous(b.v, regions::input_desc(request, b.v.value), p.shape.keys, b.value_depth) ||
      !contiguous(b.out, request.outputs[0], p.shape.queries, b.value_depth))
    return std::nullopt;
  const cuda::Device& device = regions::need_device(request.device);
  if (device.info().arch() < 80 || !device.has_builtin_module(regions::attention_module(p.stored))) {
    why = "this build has no attention kernel for " + device.info().arch_name();
    return std::nullopt;
  }
  if (regions::best_attention_tile(p.shape, cuda::limits_of(device.info())) < 0) {
    why = "heads of more than 128 elements";
    return std::nullopt;
  }
  return p;
}

Verdict supports(const PlanRequest& request) {
  if (request.region.outputs.size() != 1) return Verdict::decline("an inner value is read outside");
  std::string why;
  return problem_of(request, why) ? Verdict::accept() : Verdict::decline(why);
}

void write_operand(const std::string& name, const AttentionOperand& operand, StepPlan& step) {
  const auto found = std::find(step.inputs.begin(), step.inputs.end(), operand.value);
  std::vector<std::int64_t> at{found - step.inputs.begin()};
  if (name == "out") at[0] = 0;
  else if (found == step.inputs.end()) step.inputs.push_back(operand.value);
  for (const regions::Place& place : {operand.batch[0], operand.batch[1], operand.row, operand.column}) {
    at.push_back(place.axis);
    at.push_back(place.step);
  }
  at.insert(at.end(), operand.offset.begin(), operand.offset.end());
  step.params.set(name, std::move(at));
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  std::string why;
  const Problem p = *problem_of(request, why);
  const AttentionBlock& b = p.block;
  StepPlan step;
  step.kernel = "cuda.attention";
  write_operand("q", b.q, step);
  write_operand("k", b.k, step);
  write_operand("v", b.v, step);
  if (b.mask.value) write_operand("mask", b.mask, step);
  write_operand("out", b.out, step);
  step.params.set("extents", std::vector<std::string>{b.batch[0].to_string(), b.batch[1].to_string(), b.queries.to_string(), b.keys.to_string()});
  step.params.set("depth", b.depth);
  step.params.set("value_depth", b.value_depth);
  step.params.set("scale", b.scale);
  if (b.zeroes) step.params.set("zeroes", std::int64_t{1});
  step.params.set("tuned_queries", p.shape.queries * p.shape.batch());
  step.outputs = {request.region.outputs[0]};
  const double batch = static_cast<double>(p.shape.batch()), queries = static_cast<double>(p.shape.queries), keys = static_cast<double>(p.shape.keys);
  step.flops = 2 * batch * queries * keys * static_cast<double>(b.depth + b.value_depth);
  step.bytes = 2 * batch * (queries + keys) * static_cast<double>(b.depth + b.value_depth);
  std::vector<StepPlan> plans;
  const cuda::GpuLimits limits = cuda::limits_of(regions::need_device(request.device).info());
  const int best = regions::best_attention_tile(p.shape, limits);
  for (int i = 0; i < static_cast<int>(std::size(regions::kAttentionTiles)); ++i) {
    const regions::AttentionTile& tile = regions::kAttentionTiles[i];
    if (!regions::attention_tile_fits(tile, p.shape, limits)) continue;
    StepPlan next = step;
    next.params.set("tile", std::int64_t{i});
    next.variant = fmt::format("{} queries x {} keys, heads of {}", tile.rows(), tile.keys(), tile.depth);
    plans.insert(i == best ? plans.begin() : plans.end(), std::move(next));
  }
  return plans;
}

}  // namespace

std::span<const Candidate> candidates_attention_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.attention", "attention", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
