// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.trees" and "cuda.svm": the CPU's flat tables and lists, packed for many threads.

#include <array>

#include <fmt/format.h>

#include "ops/ml/ml_rows.h"
#include "ops/ml/ml_step.h"
#include "ops/ml/svm.h"
#include "ops/ml/svm_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

bool is_read(DType dtype) { return ml_type(dtype).has_value(); }

Verdict supports(const PlanRequest& request) {
  if (Verdict verdict = ml_verdict(request, is_read, ml_score_type); !verdict.yes) return verdict;
  const ir::Node& node = *request.region.nodes.front();
  const std::string_view module = node.op.starts_with("SVM") ? "svm" : "trees";
  if (module == "svm") {
    const SvmShape shape = (node.op == "SVMClassifier" ? svm_of_classifier(node.attrs) : svm_of_regressor(node.attrs)).shape;
    const auto count = [](std::size_t n) { return static_cast<std::int64_t>(n); };
    if (!svm_layout({count(shape.features), count(shape.count), count(shape.classes), shape.probable()}))
      return Verdict::decline("more vectors or classes than the kernels have room for");
  }
  return regions::need_device(request.device).has_builtin_module(module) ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

/// Tables and lists, which `is_packed` names, go where the device reads them; what the host decides by stays in the step.
template <class IsPacked>
ir::Attrs& move_to_weights(StepPlan& step, const std::string& name, IsPacked is_packed) {
  step.kernel = name;
  WeightRequest& weights = step.weights.emplace_back(WeightRequest{name + ".pack", {}, {}});
  ir::Attrs rest;
  for (const auto& [key, attribute] : step.params) (is_packed(key, attribute) ? weights.params : rest).set(key, attribute);
  step.params = std::move(rest);
  return weights.params;
}

std::vector<StepPlan> plan_trees(const PlanRequest& request) {
  StepPlan step = trees_step(request);
  ir::Attrs& tables = move_to_weights(step, "cuda.trees", [](const std::string& key, const ir::Attribute& attribute) {
    return std::holds_alternative<Tensor>(attribute.value) || key == "labels";
  });
  tables.set("targets", step.params.get_int("targets", 0));
  tables.set("wide", request.inputs[0].dtype == DType::kFloat64 ? 1 : 0);
  step.params.set("classifies", tables.has("labels") ? 1 : 0);
  step.variant = fmt::format("{} trees of {} nodes", tables.get_tensor("roots").size(), tables.get_tensor("splits").size());
  return {step};
}

std::vector<StepPlan> plan_svm(const PlanRequest& request) {
  StepPlan step = svm_step(request);
  const ir::Attrs& lists = move_to_weights(step, "cuda.svm", [](const std::string& key, const ir::Attribute& attribute) {
    return std::holds_alternative<std::vector<float>>(attribute.value) || std::holds_alternative<std::vector<std::int64_t>>(attribute.value) ||
           key == "features" || key == "count";
  });
  step.variant = fmt::format("{} vectors of {} features", lists.get_int("count", 0), lists.get_int("features", 0));
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_ml_cuda() {
  static const std::array<Candidate, 5> list{{{"cuda.svm", "ai.onnx.ml::SVMClassifier", supports, plan_svm, row_major},
                                              {"cuda.svm", "ai.onnx.ml::SVMRegressor", supports, plan_svm, row_major},
                                              {"cuda.trees", "ai.onnx.ml::TreeEnsemble", supports, plan_trees, row_major},
                                              {"cuda.trees", "ai.onnx.ml::TreeEnsembleClassifier", supports, plan_trees, row_major},
                                              {"cuda.trees", "ai.onnx.ml::TreeEnsembleRegressor", supports, plan_trees, row_major}}};
  return list;
}

}  // namespace lathe::ops
