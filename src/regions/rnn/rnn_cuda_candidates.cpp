// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.rnn": recurrent layers as the format has them, peepholes, clips, coupled gates and every activation included; weights packed where they are constants.

#include <algorithm>
#include <array>

#include "ops/candidate.h"
#include "regions/cuda_params.h"
#include "regions/rnn/rnn_product.h"

namespace lathe::ops {
namespace {

using regions::RnnWeight;

constexpr std::size_t kPlansTimed = 4;

struct Problem {
  regions::RnnPlan plan;
  std::array<ir::Value*, regions::kRnnInputs> inputs{};
  std::array<ir::Value*, 3> outputs{};  ///< those that somebody reads
};

std::optional<Problem> problem_of(const PlanRequest& request, std::string& why) {
  const ir::Node& node = *request.region.nodes.front();
  Problem p;
  const auto spec = regions::rnn_spec(node.op, node.attrs, why);
  if (!spec) return std::nullopt;
  p.plan.spec = *spec;
  const bool lstm = node.op == "LSTM";
  const std::array<ir::Value*, 4> weights{node.input(1), node.input(2), node.input(3), lstm ? node.input(7) : nullptr};
  p.inputs = {node.input(0), node.input(4), node.input(5), lstm ? node.input(6) : nullptr};
  for (std::size_t i = 0; i < weights.size(); ++i) {
    const bool is_given = weights[i] && !weights[i]->is_constant();
    // Absent biases are packed zeros.
    p.plan.weights[i] = is_given ? RnnWeight::kGiven : i == 3 && !weights[i] ? RnnWeight::kNone : RnnWeight::kPacked;
    if (is_given) p.inputs[regions::kRnnW + i] = weights[i];
  }
  const auto find = [](const std::vector<ir::Value*>& list, const std::vector<plan::TensorDesc>& descs, const ir::Value* value) {
    const auto found = std::find(list.begin(), list.end(), value);
    return value && found != list.end() ? descs[static_cast<std::size_t>(found - list.begin())] : plan::TensorDesc();
  };
  std::array<plan::TensorDesc, regions::kRnnInputs> ins;
  std::array<plan::TensorDesc, 3> outs;
  for (std::size_t i = 0; i < ins.size(); ++i) ins[i] = find(request.region.inputs, request.inputs, p.inputs[i]);
  for (std::size_t i = 0; i < outs.size(); ++i) {
    outs[i] = find(request.region.outputs, request.outputs, node.output(i));
    if (outs[i].dtype != DType::kUndefined) p.outputs[i] = node.output(i);
  }
  const Dims w = find(request.region.inputs, request.inputs, weights[0]).dims, r = find(request.region.inputs, request.inputs, weights[1]).dims;
  if (w.size() != 3 || r.size() != 3) {
    why = "weights of another rank than 3";
    return std::nullopt;
  }
  if (w[2] < 1 || r[2] < 1) {
    why = "weights without elements";
    return std::nullopt;
  }
  const std::int64_t directions = spec->directions, rows = spec->gates * r[2];
  const auto has_dims = [](const ir::Value* value, const Dims& dims) { return !value || !value->is_constant() || value->constant.dims() == dims; };
  if (!has_dims(weights[0], {directions, rows, w[2]}) || !has_dims(weights[1], {directions, rows, r[2]}) || !has_dims(weights[2], {directions, 2 * rows}) ||
      !has_dims(weights[3], {directions, 3 * r[2]})) {
    why = "weights of shapes that do not fit each other";
    return std::nullopt;
  }
  for (const ir::Value* weight : {weights[0], weights[1]})
    for (const ir::Dim& dim : weight->shape())
      if (!dim.is_constant()) {
        why = "weights of extents that are not fixed";
        return std::nullopt;
      }
  if (!regions::rnn_plan(ins, outs, w[2], r[2], p.plan, why)) return std::nullopt;
  if (!regions::need_device(request.device).has_builtin_module(regions::rnn_module(p.plan.wide()))) {
    why = "this build has no such kernel";
    return std::nullopt;
  }
  return p;
}

struct Products {
  std::optional<cuda::GemmSetup> setup;
  std::vector<cuda::GemmPlan> plans;
};

/// How the projection could be a product on the tensor cores, best guess first.
Products products_of(const PlanRequest& request, const Problem& p, cuda::ProductType product) {
  Products products;
  if (p.plan.wide()) return products;  // none is of float64
  if (p.plan.weights[0] != RnnWeight::kPacked || p.plan.weights[2] != RnnWeight::kPacked) return products;
  const ir::Node& node = *request.region.nodes.front();
  const auto at = std::find(request.region.inputs.begin(), request.region.inputs.end(), node.input(0)) - request.region.inputs.begin();
  std::string why;
  products.setup = regions::rnn_product(p.plan, request.inputs[static_cast<std::size_t>(at)], product, why);
  const cuda::Device& device = regions::need_device(request.device);
  if (!products.setup || (device.info().arch() < 80 && (products.setup->a != cuda::kVectorA || products.setup->b != cuda::kPackedB))) return products;
  products.plans = cuda::gemm_plans(*products.setup, cuda::limits_of(device.info()), kPlansTimed);
  std::erase_if(products.plans, [&](const cuda::GemmPlan& plan) { return !device.has_builtin_module(cuda::gemm_kernel_name(*products.setup, plan).module); });
  return products;
}

Verdict supports(const PlanRequest& request) {
  std::string why;
  return problem_of(request, why) ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  std::string why;
  const Problem p = *problem_of(request, why);
  StepPlan step;
  step.kernel = "cuda.rnn";
  step.variant = "projection by warps and tiles";
  const auto describe = [&](ir::Attrs& params) {
    for (const auto& [name, attribute] : node.attrs) params.set(name, attribute);
    params.set("op", node.op);
    params.set("hidden_size", p.plan.hidden);
  };
  describe(step.params);
  step.params.set("input_size", p.plan.in);
  std::vector<std::int64_t> ways;
  for (const RnnWeight way : p.plan.weights) ways.push_back(static_cast<std::int64_t>(way));
  step.params.set("weights", ways);
  step.inputs.assign(p.inputs.begin(), p.inputs.end());
  step.outputs.assign(p.outputs.begin(), p.outputs.end());
  static constexpr std::string_view kPacks[] = {"cuda.rnn.pack_rows", "cuda.rnn.pack_rows", "cuda.rnn.pack_bias", "cuda.rnn.pack_peephole"};
  for (std::size_t i = 0; i < p.plan.weights.size(); ++i) {
    if (p.plan.weights[i] != RnnWeight::kPacked) continue;
    WeightRequest weights;
    weights.pack = kPacks[i];
    if (i < 2 || p.plan.wide()) weights.params.set("weight_type", static_cast<std::int64_t>(p.plan.weight_type));
    if (i == 2) describe(weights.params);
    weights.sources = {node.input(i == 3 ? 7 : i + 1)};
    step.weights.push_back(std::move(weights));
  }
  const double rows = static_cast<double>(p.plan.steps * p.plan.batch), columns = static_cast<double>(p.plan.project.columns);
  step.flops = 2 * rows * columns * static_cast<double>(p.plan.in + p.plan.hidden);
  // R comes from the second-level cache in each step.
  const auto each = static_cast<double>(p.plan.number_bytes());
  step.bytes = rows * static_cast<double>(p.plan.in) * each + 2 * rows * columns * each + static_cast<double>(p.plan.packed_rows_bytes(p.plan.in)) +
               static_cast<double>(p.plan.packed_rows_bytes(p.plan.hidden)) * static_cast<double>(p.plan.steps);
  // Few rows are a warp a column; where their number is not fixed there may be many.
  const ir::Shape& x = node.input(0)->shape();
  const bool few = p.plan.few_rows() && x[0].is_constant() && x[1].is_constant();
  const auto product = p.plan.wide() ? cuda::kProductF32 : regions::product_of(static_cast<cuda::ElementType>(p.plan.project.x_type), request.tf32);
  const Products products = products_of(request, p, product);
  std::vector<StepPlan> result;
  for (const cuda::GemmPlan& gemm : products.plans) {
    StepPlan next = step;
    next.variant = "projection by " + cuda::describe(gemm);
    next.params.set("product", static_cast<std::int64_t>(product));
    regions::write_gemm_plan(gemm, static_cast<std::int64_t>(products.setup->params.rows) * products.setup->items, next.params);
    next.weights[0].pack = "cuda.rnn.pack_product";
    next.weights[0].params = {};
    next.weights[0].params.set("product", static_cast<std::int64_t>(product));
    result.push_back(std::move(next));
  }
  if (few || result.empty()) result.insert(few ? result.begin() : result.end(), step);
  return result;
}

}  // namespace

std::span<const Candidate> candidates_rnn_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.rnn", "rnn", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
