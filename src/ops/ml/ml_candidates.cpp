// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.trees": all trees over blocks of rows; the ensemble goes into the step as flat tables. "cpu.svm": rows against all support vectors.

#include <array>

#include "ops/ml/ml_step.h"
#include "ops/ml/svm.h"
#include "ops/ml/trees.h"

namespace lathe::ops {
namespace {

Trees trees_of(const ir::Node& node) {
  if (node.op == "TreeEnsembleClassifier") return trees_of_classifier(node.attrs);
  return node.op == "TreeEnsemble" ? trees_of_ensemble(node.attrs) : trees_of_regressor(node.attrs);
}

template <class T, class Items, class Get>
Tensor table(DType dtype, const Items& items, Get get) {
  std::vector<T> values;
  values.reserve(items.size());
  for (const auto& item : items) values.push_back(static_cast<T>(get(item)));
  return Tensor::from<T>(dtype, {static_cast<std::int64_t>(values.size())}, values);
}

bool is_score_type(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat64; }

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  for (std::size_t i = 0; i < request.region.outputs.size(); ++i)
    if (node.op == "TreeEnsemble" && request.outputs[i].dtype != request.inputs[0].dtype)
      return Verdict::decline("the values are stored in another type than the input");
  return ml_verdict(request, is_feature_type, is_score_type);
}

/// Of a classifier the labels and the scores, of the others the scores alone.
void set_tensors(StepPlan& step, const ir::Node& node) {
  step.inputs = {node.input(0)};
  const auto used = [&](std::size_t i) {
    ir::Value* output = node.output(i);
    return output && output->uses.empty() && !output->is_graph_output() ? nullptr : output;
  };
  if (node.op.ends_with("Classifier")) step.outputs = {used(0), used(1)};
  else step.outputs = {nullptr, node.output(0)};
}

std::int64_t row_count(const plan::TensorDesc& x) { return x.dims.size() == 1 ? 1 : x.dims[0]; }

}  // namespace

Verdict ml_verdict(const PlanRequest& request, bool (*reads)(DType), bool (*writes)(DType)) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc& x = request.inputs[0];
  if (x.dims.empty() || x.dims.size() > 2) return Verdict::decline("X is no matrix");
  if (!reads(x.dtype)) return Verdict::decline("no kernel reads this element type");
  for (const plan::TensorDesc& stored : request.outputs) {
    if (stored.dtype == DType::kString) return Verdict::decline("the labels are texts");
    if (!writes(stored.dtype) && stored.dtype != DType::kInt64) return Verdict::decline("no kernel writes this element type");
  }
  if (node.op.ends_with("Classifier") && !node.attrs.get_strings("classlabels_strings").empty()) return Verdict::decline("the labels are texts");
  return Verdict::accept();
}

StepPlan trees_step(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const Trees trees = trees_of(node);
  constexpr DType kIndex = DType::kInt32, kNumber = DType::kFloat64;
  StepPlan step;
  ir::Attrs& p = step.params;
  p.set("roots", table<std::int32_t>(kIndex, trees.roots, [](auto r) { return r; }));
  p.set("splits", table<double>(kNumber, trees.nodes, [](const auto& n) { return n.split; }));
  p.set("features", table<std::int32_t>(kIndex, trees.nodes, [](const auto& n) { return n.feature; }));
  p.set("modes", table<std::int32_t>(kIndex, trees.nodes, [](const auto& n) { return static_cast<int>(n.mode) + (n.missing_true ? 8 : 0); }));
  p.set("yes", table<std::int32_t>(kIndex, trees.nodes, [](const auto& n) { return n.yes; }));
  p.set("no", table<std::int32_t>(kIndex, trees.nodes, [](const auto& n) { return n.no; }));
  p.set("member_starts", table<std::int32_t>(kIndex, trees.nodes, [](const auto& n) { return n.members; }));
  p.set("member_counts", table<std::int32_t>(kIndex, trees.nodes, [](const auto& n) { return n.many; }));
  p.set("members", table<double>(kNumber, trees.members, [](double m) { return m; }));
  p.set("leaf_starts", table<std::int32_t>(kIndex, trees.leaves, [](const auto& l) { return l.first; }));
  p.set("leaf_counts", table<std::int32_t>(kIndex, trees.leaves, [](const auto& l) { return l.count; }));
  p.set("vote_targets", table<std::int32_t>(kIndex, trees.votes, [](const auto& v) { return v.target; }));
  p.set("vote_weights", table<double>(kNumber, trees.votes, [](const auto& v) { return v.weight; }));
  p.set("base", table<double>(kNumber, trees.base, [](double b) { return b; }));
  p.set("targets", trees.targets);
  p.set("aggregate", static_cast<std::int64_t>(trees.aggregate));
  p.set("transform", static_cast<std::int64_t>(trees.transform));
  if (node.op == "TreeEnsembleClassifier") {
    p.set("labels", trees.labels.numbers);
    p.set("single", trees.single);
    p.set("all_positive", trees.all_positive ? 1 : 0);
  }
  set_tensors(step, node);
  const plan::TensorDesc& x = request.inputs[0];
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements())) + 16.0 * static_cast<double>(trees.nodes.size());
  step.flops = 8.0 * static_cast<double>(row_count(x)) * static_cast<double>(trees.roots.size());
  return step;
}

StepPlan svm_step(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const bool classifies = node.op == "SVMClassifier";
  const Svm svm = classifies ? svm_of_classifier(node.attrs) : svm_of_regressor(node.attrs);
  StepPlan step;
  ir::Attrs& p = step.params;
  p.set("kind", static_cast<std::int64_t>(svm.shape.kind));
  p.set("gamma", static_cast<float>(svm.shape.gamma));
  p.set("coef0", static_cast<float>(svm.shape.coef0));
  p.set("degree", static_cast<float>(svm.shape.degree));
  p.set("transform", static_cast<std::int64_t>(svm.shape.transform));
  p.set("features", static_cast<std::int64_t>(svm.shape.features));
  p.set("count", static_cast<std::int64_t>(svm.shape.count));
  p.set("coefficients", svm.coefficients);
  p.set("rho", svm.rho);
  if (svm.shape.count > 0) p.set("vectors", svm.vectors);
  if (classifies) {
    p.set("labels", svm.labels.numbers);
    p.set("starts", svm.starts);
    p.set("all_positive", svm.shape.all_positive ? 1 : 0);
    p.set("prob_a", svm.prob_a);
    p.set("prob_b", svm.prob_b);
  } else {
    p.set("one_class", svm.shape.one_class ? 1 : 0);
  }
  set_tensors(step, node);
  const plan::TensorDesc& x = request.inputs[0];
  const std::size_t numbers = svm.vectors.size() + svm.coefficients.size();
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements())) + 8.0 * static_cast<double>(numbers);
  step.flops = 2.0 * static_cast<double>(row_count(x)) * static_cast<double>(numbers);
  return step;
}

namespace {

std::vector<StepPlan> plan_trees(const PlanRequest& request) {
  StepPlan step = trees_step(request);
  step.kernel = "cpu.trees";
  return {step};
}

std::vector<StepPlan> plan_svm(const PlanRequest& request) {
  StepPlan step = svm_step(request);
  step.kernel = "cpu.svm";
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_ml() {
  static const std::array<Candidate, 5> list{{{"cpu.svm", "ai.onnx.ml::SVMClassifier", supports, plan_svm, row_major},
                                              {"cpu.svm", "ai.onnx.ml::SVMRegressor", supports, plan_svm, row_major},
                                              {"cpu.trees", "ai.onnx.ml::TreeEnsemble", supports, plan_trees, row_major},
                                              {"cpu.trees", "ai.onnx.ml::TreeEnsembleClassifier", supports, plan_trees, row_major},
                                              {"cpu.trees", "ai.onnx.ml::TreeEnsembleRegressor", supports, plan_trees, row_major}}};
  return list;
}

}  // namespace lathe::ops
