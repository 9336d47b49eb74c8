// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TreeEnsemble, TreeEnsembleClassifier, TreeEnsembleRegressor: each row walks each tree to a leaf, whose votes are summed (or averaged, or the
// least or largest of them taken) in the type of the features, tree after tree. The kernel is in trees_cpu.cpp.
#include <algorithm>
#include <cmath>

#include "ops/ml/ml_defs.h"
#include "ops/ml/trees.h"
#include "ops/ml/votes.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

void check_width(const Trees& trees, std::int64_t width) {
  if (width >= trees.features) return;
  reject("a node tests feature " + std::to_string(trees.features - 1) + ", but X has " + std::to_string(width) + " features");
}

template <class T>
struct Scores {
  std::vector<T> sum;
  std::vector<bool> voted;
};

/// One row's leaf of each tree, its votes put together.
template <class T>
Scores<T> vote(const Trees& trees, const double* x) {
  Scores<T> s{std::vector<T>(static_cast<std::size_t>(trees.targets), T(0)), std::vector<bool>(static_cast<std::size_t>(trees.targets), false)};
  for (std::int32_t at : trees.roots) {
    while (at >= 0) {
      const TreeNode& node = trees.nodes[static_cast<std::size_t>(at)];
      at = trees.goes_true(node, x[node.feature]) ? node.yes : node.no;
    }
    const Leaf& leaf = trees.leaves[static_cast<std::size_t>(~at)];
    for (std::int32_t v = leaf.first; v < leaf.first + leaf.count; ++v) {
      const Vote& vote = trees.votes[static_cast<std::size_t>(v)];
      const auto target = static_cast<std::size_t>(vote.target);
      count_vote(trees.aggregate, static_cast<T>(vote.weight), s.voted[target], s.sum[target]);
      s.voted[target] = true;
    }
  }
  if (trees.aggregate == Aggregate::kAverage)
    for (T& sum : s.sum) sum /= static_cast<T>(trees.roots.size());
  return s;
}

/// Features and splits compare in the type of the sums.
template <class T>
Trees rounded(Trees trees) {
  for (TreeNode& node : trees.nodes) node.split = static_cast<T>(node.split);
  for (double& m : trees.members) m = static_cast<T>(m);
  for (double& b : trees.base) b = static_cast<T>(b);
  return trees;
}

Ballot ballot_of(const Trees& trees) { return {trees.transform, trees.base, trees.single, trees.all_positive}; }

template <class T>
void regress(RefContext& ctx, const Trees& given) {
  const Trees trees = rounded<T>(given);
  const Tensor& in = ctx.input(0);
  const Rows rows = rows_of(in);
  check_width(trees, rows.width);
  const auto x = feature_values(in);
  const auto targets = static_cast<std::size_t>(trees.targets);
  std::vector<double> out(static_cast<std::size_t>(element_count({rows.count, trees.targets})));
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const Scores<T> s = vote<T>(trees, x.data() + row * rows.width);
    finish_regression<T>(ballot_of(trees), s.sum, std::span(out).subspan(static_cast<std::size_t>(row) * targets, targets));
  }
  const DType dtype = ctx.node().op == "TreeEnsemble" ? in.dtype() : DType::kFloat32;
  ctx.set_output(0, from_doubles(dtype, {rows.count, trees.targets}, out));
}

template <class T>
void classify(RefContext& ctx, const Trees& given) {
  const Trees trees = rounded<T>(given);
  const Rows rows = rows_of(ctx.input(0));
  check_width(trees, rows.width);
  const auto x = feature_values(ctx.input(0));
  const auto targets = static_cast<std::size_t>(trees.targets);
  std::vector<double> out(static_cast<std::size_t>(element_count({rows.count, trees.targets})));
  std::vector<std::int64_t> chosen;
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const Scores<T> s = vote<T>(trees, x.data() + row * rows.width);
    const std::int64_t best =
        finish_classification<T>(ballot_of(trees), s.sum, s.voted, std::span(out).subspan(static_cast<std::size_t>(row) * targets, targets));
    chosen.push_back(targets > 1 ? best : trees.labels.is_text() ? 0 : best != 0 ? kPositive : kNegative);
  }
  ctx.set_output(0, label_tensor(trees.labels, chosen));
  ctx.set_output(1, from_doubles(DType::kFloat32, {rows.count, trees.targets}, out));
}

RowDims checked_rows(InferContext& ctx, const Trees& trees) {
  RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant()) check_width(trees, *width);
  return rows;
}

void classifier_infer(InferContext& ctx) {
  const Trees trees = trees_of_classifier(ctx.attrs());
  const RowDims rows = checked_rows(ctx, trees);
  ctx.set(0, trees.labels.dtype(), {rows.count});
  ctx.set(1, DType::kFloat32, {rows.count, Dim(trees.targets)});
}

void classifier_reference(RefContext& ctx) {
  const Trees trees = trees_of_classifier(ctx.attrs());
  if (ctx.input(0).dtype() == DType::kFloat64) classify<double>(ctx, trees);
  else classify<float>(ctx, trees);
}

bool classifier_expand(ExpandContext& ctx) { return expand_text_labels(ctx, "classlabels_int64s", "classlabels_strings"); }

void regressor_infer(InferContext& ctx) {
  const Trees trees = trees_of_regressor(ctx.attrs());
  ctx.set(0, DType::kFloat32, {checked_rows(ctx, trees).count, Dim(trees.targets)});
}

void regressor_reference(RefContext& ctx) {
  const Trees trees = trees_of_regressor(ctx.attrs());
  if (ctx.input(0).dtype() == DType::kFloat64) regress<double>(ctx, trees);
  else regress<float>(ctx, trees);
}

void ensemble_infer(InferContext& ctx) {
  const Trees trees = trees_of_ensemble(ctx.attrs());
  ctx.set(0, ctx.dtype(0), {checked_rows(ctx, trees).count, Dim(trees.targets)});
}

void ensemble_reference(RefContext& ctx) {
  const Trees trees = trees_of_ensemble(ctx.attrs());
  if (ctx.input(0).dtype() == DType::kFloat64) regress<double>(ctx, trees);
  else regress<float>(ctx, trees);
}

// The lists that the two older operators share.
constexpr std::string_view kClassifier1 =
    "base_values:floats? class_ids:ints? class_nodeids:ints? class_treeids:ints? class_weights:floats? classlabels_int64s:ints? "
    "classlabels_strings:strings? nodes_falsenodeids:ints? nodes_featureids:ints? nodes_hitrates:floats? nodes_missing_value_tracks_true:ints? "
    "nodes_modes:strings? nodes_nodeids:ints? nodes_treeids:ints? nodes_truenodeids:ints? nodes_values:floats? post_transform:string=NONE";
constexpr std::string_view kClassifier3 =
    "base_values:floats? class_ids:ints? class_nodeids:ints? class_treeids:ints? class_weights:floats? classlabels_int64s:ints? "
    "classlabels_strings:strings? nodes_falsenodeids:ints? nodes_featureids:ints? nodes_hitrates:floats? nodes_missing_value_tracks_true:ints? "
    "nodes_modes:strings? nodes_nodeids:ints? nodes_treeids:ints? nodes_truenodeids:ints? nodes_values:floats? post_transform:string=NONE "
    "base_values_as_tensor:tensor? class_weights_as_tensor:tensor? nodes_hitrates_as_tensor:tensor? nodes_values_as_tensor:tensor?";
constexpr std::string_view kRegressor1 =
    "aggregate_function:string=SUM base_values:floats? n_targets:int? nodes_falsenodeids:ints? nodes_featureids:ints? nodes_hitrates:floats? "
    "nodes_missing_value_tracks_true:ints? nodes_modes:strings? nodes_nodeids:ints? nodes_treeids:ints? nodes_truenodeids:ints? nodes_values:floats? "
    "post_transform:string=NONE target_ids:ints? target_nodeids:ints? target_treeids:ints? target_weights:floats?";
constexpr std::string_view kRegressor3 =
    "aggregate_function:string=SUM base_values:floats? n_targets:int? nodes_falsenodeids:ints? nodes_featureids:ints? nodes_hitrates:floats? "
    "nodes_missing_value_tracks_true:ints? nodes_modes:strings? nodes_nodeids:ints? nodes_treeids:ints? nodes_truenodeids:ints? nodes_values:floats? "
    "post_transform:string=NONE target_ids:ints? target_nodeids:ints? target_treeids:ints? target_weights:floats? "
    "base_values_as_tensor:tensor? nodes_hitrates_as_tensor:tensor? nodes_values_as_tensor:tensor? target_weights_as_tensor:tensor?";

}  // namespace

OpDef tree_ensemble() {
  return {.domain = kMlDomain,
          .name = "TreeEnsemble",
          .versions = {{5, "X:T -> Y:T",
                        "aggregate_function:int=1 leaf_targetids:ints leaf_weights:tensor membership_values:tensor? n_targets:int? "
                        "nodes_falseleafs:ints nodes_falsenodeids:ints nodes_featureids:ints nodes_hitrates:tensor? nodes_missing_value_tracks_true:ints? "
                        "nodes_modes:tensor nodes_splits:tensor nodes_trueleafs:ints nodes_truenodeids:ints post_transform:int=0 tree_roots:ints",
                        "T: float double float16"}},
          .infer = ensemble_infer,
          .reference = ensemble_reference,
          .tolerance = kScoreTolerance,
          .doc = "decision trees: the votes of the leaves that each row comes to"};
}

OpDef tree_ensemble_classifier() {
  constexpr std::string_view kIo = "X:T1 -> Y:T2 Z:float";
  return {.domain = kMlDomain,
          .name = "TreeEnsembleClassifier",
          .versions = {{1, kIo, kClassifier1, kClassifierTypes}, {3, kIo, kClassifier3, kClassifierTypes}, {5, kIo, kClassifier3, kClassifierTypes, true}},
          .infer = classifier_infer,
          .reference = classifier_reference,
          .tolerance = kScoreTolerance,
          .expand = classifier_expand,
          .doc = "decision trees that vote for classes: the best class and the scores"};
}

OpDef tree_ensemble_regressor() {
  constexpr std::string_view kIo = "X:T -> Y:float";
  return {.domain = kMlDomain,
          .name = "TreeEnsembleRegressor",
          .versions = {{1, kIo, kRegressor1, kFeatureTypes}, {3, kIo, kRegressor3, kFeatureTypes}, {5, kIo, kRegressor3, kFeatureTypes, true}},
          .infer = regressor_infer,
          .reference = regressor_reference,
          .tolerance = kScoreTolerance,
          .doc = "decision trees with numbers at their leaves"};
}

}  // namespace lathe::ops
