// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.trees": all trees over blocks of rows. The ensemble goes into the step as flat tables (ml_cpu.cpp says what they hold).

#include <array>

#include "ops/candidate.h"
#include "ops/ml/trees.h"
#include "ops/validate.h"

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

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc& x = request.inputs[0];
  if (x.dims.empty() || x.dims.size() > 2) return Verdict::decline("X is no matrix");
  if (!is_feature_type(x.dtype)) return Verdict::decline("no kernel reads this element type");
  for (std::size_t i = 0; i < request.region.outputs.size(); ++i) {
    const DType stored = request.outputs[i].dtype;
    if (stored == DType::kString) return Verdict::decline("the labels are texts");
    if (stored != DType::kFloat32 && stored != DType::kFloat64 && stored != DType::kInt64) return Verdict::decline("no kernel writes this element type");
    if (node.op == "TreeEnsemble" && stored != x.dtype) return Verdict::decline("the values are stored in another type than the input");
  }
  if (node.op == "TreeEnsembleClassifier" && node.attrs.get_strings("classlabels_strings").size() > 0) return Verdict::decline("the labels are texts");
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const Trees trees = trees_of(node);
  constexpr DType kIndex = DType::kInt32, kNumber = DType::kFloat64;
  StepPlan step;
  step.kernel = "cpu.trees";
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
  const bool classifies = node.op == "TreeEnsembleClassifier";
  if (classifies) {
    p.set("labels", trees.labels.numbers);
    p.set("single", trees.single);
    p.set("all_positive", trees.all_positive ? 1 : 0);
  }
  step.inputs = {node.input(0)};
  const auto used = [&](std::size_t i) {
    ir::Value* output = node.output(i);
    return output && output->uses.empty() && !output->is_graph_output() ? nullptr : output;
  };
  if (classifies) step.outputs = {used(0), used(1)};
  else step.outputs = {nullptr, node.output(0)};
  const plan::TensorDesc& x = request.inputs[0];
  const std::int64_t rows = x.dims.size() == 1 ? 1 : x.dims[0];
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements())) + 16.0 * static_cast<double>(trees.nodes.size());
  step.flops = 8.0 * static_cast<double>(rows) * static_cast<double>(trees.roots.size());
  return {step};
}

Layout row_major(const Region&, bool, std::size_t) { return Layout::kRowMajor; }

}  // namespace

std::span<const Candidate> candidates_ml() {
  static const std::array<Candidate, 3> list{{{"cpu.trees", "ai.onnx.ml::TreeEnsemble", supports, plan, row_major},
                                              {"cpu.trees", "ai.onnx.ml::TreeEnsembleClassifier", supports, plan, row_major},
                                              {"cpu.trees", "ai.onnx.ml::TreeEnsembleRegressor", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
