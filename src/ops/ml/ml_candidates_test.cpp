// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.trees and cpu.svm from plan to run against the defining loops: bit by bit, since they sum in the same order.

#include <fmt/format.h>

#include "ops/evaluate.h"
#include "regions/candidate_test_util.h"
#include "regions/match.h"

namespace lathe::ops {
std::span<const Candidate> candidates_ml();
}

namespace lathe::regions {
namespace {

using namespace testing;

struct Random {
  std::uint64_t state;
  std::int64_t below(std::int64_t n) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<std::int64_t>(state >> 33) % n;
  }
  double number() { return static_cast<double>(below(2001) - 1000) / 250; }
};

struct Forest {
  std::int64_t trees = 1, depth = 3, features = 4, targets = 1;
  std::vector<std::string> modes{"BRANCH_LEQ"};
  bool missing = false, whole = false;
};

/// The lists of a random TreeEnsembleClassifier (prefix "class") or -Regressor ("target").
ir::Attrs forest(const Forest& f, const std::string& prefix, Random& random) {
  std::vector<std::int64_t> trees, ids, features, yes, no, missing, vote_trees, vote_nodes, vote_ids;
  std::vector<std::string> modes;
  std::vector<float> splits, weights;
  for (std::int64_t tree = 0; tree < f.trees; ++tree) {
    const std::size_t first = ids.size();
    const std::function<std::int64_t(std::int64_t)> grow = [&](std::int64_t level) {
      const std::size_t at = ids.size();
      const auto id = static_cast<std::int64_t>(at - first);
      const bool leaf = level == f.depth || (level > 0 && random.below(5) == 0);
      trees.push_back(tree);
      ids.push_back(id);
      features.push_back(leaf ? 0 : random.below(f.features));
      modes.push_back(leaf ? "LEAF" : f.modes[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(f.modes.size())))]);
      splits.push_back(leaf ? 0 : static_cast<float>(f.whole ? random.below(5) - 2 : random.number()));
      missing.push_back(f.missing && !leaf ? random.below(2) : 0);
      yes.push_back(0);
      no.push_back(0);
      if (leaf) {
        for (std::int64_t vote = random.below(f.targets + 1); vote >= 0; --vote) {
          vote_trees.push_back(tree);
          vote_nodes.push_back(id);
          vote_ids.push_back(random.below(f.targets));
          weights.push_back(static_cast<float>(random.number()));
        }
        return id;
      }
      const std::int64_t down = grow(level + 1);
      yes[at] = down;
      const std::int64_t other = grow(level + 1);
      no[at] = other;
      return id;
    };
    grow(0);
  }
  ir::Attrs attrs;
  attrs.set("nodes_treeids", trees);
  attrs.set("nodes_nodeids", ids);
  attrs.set("nodes_featureids", features);
  attrs.set("nodes_modes", modes);
  attrs.set("nodes_values", splits);
  attrs.set("nodes_truenodeids", yes);
  attrs.set("nodes_falsenodeids", no);
  attrs.set("nodes_missing_value_tracks_true", missing);
  attrs.set(prefix + "_treeids", vote_trees);
  attrs.set(prefix + "_nodeids", vote_nodes);
  attrs.set(prefix + "_ids", vote_ids);
  attrs.set(prefix + "_weights", weights);
  return attrs;
}

Tensor features_of(DType dtype, Dims dims, Random& random) {
  Tensor x(dtype, std::move(dims));
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t draw = random.below(20);
    if (is_float(dtype)) x.set_from_double(i, draw == 0 ? std::nan("") : draw < 6 ? static_cast<double>(draw - 3) : random.number());
    else x.set_from_int64(i, random.below(7) - 3);
  }
  return x;
}

/// The node alone in a graph, run both ways at these rows.
void expect_equal(const std::string& op, ir::Attrs attrs, const Tensor& x, std::int64_t targets, std::int64_t extra, bool labels_used = true) {
  ir::Graph graph;
  const bool classifies = op.ends_with("Classifier");
  ir::Shape shape;
  ir::Bindings rows{{"n", x.dims()[0]}};
  if (x.rank() == 2) shape = {ir::Dim::symbol("n"), ir::Dim(x.dims()[1])};
  else shape = {ir::Dim(x.dims()[0])};
  ir::Value* in = graph.add_input("x", ir::Type::tensor(x.dtype(), shape));
  std::vector<std::string> names{"z"};
  if (classifies) names = {labels_used ? "y" : "", "z"};
  ir::Node* node = graph.add_node("ai.onnx.ml", op, {in}, names, std::move(attrs));
  const ir::Dim count = x.rank() == 2 ? ir::Dim::symbol("n") : ir::Dim(1);
  for (ir::Value* out : node->outputs) {
    if (!out) continue;
    if (out->name == "y") out->type = ir::Type::tensor(DType::kInt64, {count});
    else out->type = ir::Type::tensor(op == "TreeEnsemble" ? x.dtype() : DType::kFloat32, {count, ir::Dim(targets)});
    graph.add_output(out);
  }
  const auto region = make_region("ai.onnx.ml::" + op, {node});
  RunOptions options;
  options.extra = extra;
  options.threads = 3;
  options.bindings = {{"n", 5}};
  options.run_bindings = rows;
  options.given["x"] = x;
  CandidateRunner runner(region, find_candidate(ops::candidates_ml(), op.starts_with("SVM") ? "cpu.svm" : "cpu.trees"), options);
  ASSERT_TRUE(runner.verdict().yes) << runner.verdict().reason;
  const auto results = runner.run();
  ASSERT_EQ(results.size(), 1u);
  const auto expected = ops::evaluate_node(*node, std::span(&x, 1));
  for (std::size_t o = 0; o < node->outputs.size(); ++o) {
    if (!node->outputs[o]) continue;
    const Dense& got = results[0].outputs.at(node->outputs[o]->name);
    ASSERT_EQ(static_cast<std::int64_t>(got.values.size()), expected[o].size());
    for (std::int64_t i = 0; i < expected[o].size(); ++i) {
      const double want = expected[o].as_double(i), value = got.values[static_cast<std::size_t>(i)];
      ASSERT_TRUE(value == want || (std::isnan(value) && std::isnan(want))) << node->outputs[o]->name << "[" << i << "]: " << value << ", not " << want;
    }
  }
}

TEST(Trees, AreTheDefiningLoop) {
  const std::vector<std::string> leq{"BRANCH_LEQ"}, all{"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
  Random random{7};
  int number = 0;
  for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64})
    for (const auto& modes : {leq, all})
      for (const std::int64_t rows : {1, 7, 8, 133, 600})
        for (const std::int64_t targets : {1, 3}) {
          SCOPED_TRACE(fmt::format("{} {} modes {} rows {} targets", dtype_name(dtype), modes.size(), rows, targets));
          Forest f{1 + number % 21, 1 + number % 7, 5, targets, modes, number % 2 == 0, modes.size() > 1};
          const Tensor x = features_of(dtype, {rows, 5}, random);
          const std::int64_t extra = dtype == DType::kFloat32 ? number % 3 : 0;
          ir::Attrs regressor = forest(f, "target", random);
          regressor.set("n_targets", targets);
          regressor.set("aggregate_function", std::vector<std::string>{"SUM", "AVERAGE", "MIN", "MAX"}[static_cast<std::size_t>(number % 4)]);
          if (number % 3 == 0) regressor.set("base_values", std::vector<float>(static_cast<std::size_t>(targets), 0.375f));
          if (number % 5 == 0) regressor.set("post_transform", "SOFTMAX");
          expect_equal("TreeEnsembleRegressor", regressor, x, targets, extra);
          ir::Attrs classifier = forest(f, "class", random);
          std::vector<std::int64_t> labels{40, 10, 30};
          labels.resize(static_cast<std::size_t>(targets));
          classifier.set("classlabels_int64s", labels);
          if (number % 4 == 1) classifier.set("post_transform", "LOGISTIC");
          expect_equal("TreeEnsembleClassifier", classifier, x, targets, extra, number % 3 != 1);
          if (targets == 1) {  // one score for two classes
            classifier.set("classlabels_int64s", std::vector<std::int64_t>{5, 4});
            expect_equal("TreeEnsembleClassifier", classifier, x, 2, extra);
          }
          ++number;
        }
  const Tensor row = features_of(DType::kFloat32, {5}, random);
  ir::Attrs regressor = forest({30, 5, 5, 2, all, true}, "target", random);
  regressor.set("n_targets", 2);
  expect_equal("TreeEnsembleRegressor", regressor, row, 2, 0);
}

TEST(Trees, OfVersion5) {
  Random random{9};
  for (const DType dtype : {DType::kFloat32, DType::kFloat64})
    for (int with_members = 0; with_members < 2; ++with_members) {
      std::vector<std::int64_t> features, yes, no, yes_leaf, no_leaf, missing, targets;
      std::vector<double> splits, weights, members;
      std::vector<std::uint8_t> modes;
      const std::int64_t inner = 15;
      for (std::int64_t i = 0; i < inner; ++i) {  // one complete tree of depth 4
        features.push_back(random.below(3));
        modes.push_back(static_cast<std::uint8_t>(random.below(with_members ? 7 : 6)));
        if (modes.back() == 6) members.insert(members.end(), {static_cast<double>(random.below(4) - 2), 1, std::nan("")});
        splits.push_back(static_cast<double>(random.below(5) - 2));
        missing.push_back(random.below(2));
        const bool last = 2 * i + 1 >= inner;
        yes.push_back(last ? 2 * i + 1 - inner : 2 * i + 1);
        no.push_back(last ? 2 * i + 2 - inner : 2 * i + 2);
        yes_leaf.push_back(last);
        no_leaf.push_back(last);
      }
      for (int leaf = 0; leaf < 16; ++leaf) {
        targets.push_back(random.below(2));
        weights.push_back(random.number());
      }
      const auto numbers = [&](const std::vector<double>& v) {
        Tensor t(dtype, {static_cast<std::int64_t>(v.size())});
        for (std::size_t i = 0; i < v.size(); ++i) t.set_from_double(static_cast<std::int64_t>(i), v[i]);
        return t;
      };
      ir::Attrs attrs;
      attrs.set("nodes_featureids", features);
      attrs.set("nodes_modes", Tensor::from<std::uint8_t>(DType::kUint8, {inner}, modes));
      attrs.set("nodes_splits", numbers(splits));
      attrs.set("nodes_truenodeids", yes);
      attrs.set("nodes_falsenodeids", no);
      attrs.set("nodes_trueleafs", yes_leaf);
      attrs.set("nodes_falseleafs", no_leaf);
      attrs.set("nodes_missing_value_tracks_true", missing);
      attrs.set("leaf_targetids", targets);
      attrs.set("leaf_weights", numbers(weights));
      attrs.set("tree_roots", std::vector<std::int64_t>{0, 1, 2});
      attrs.set("n_targets", 2);
      if (!members.empty()) attrs.set("membership_values", numbers(members));
      expect_equal("TreeEnsemble", attrs, features_of(dtype, {77, 3}, random), 2, 0);
    }
}

TEST(SupportVectors, AreTheDefiningLoop) {
  Random random{11};
  const auto floats = [&](std::size_t count) {
    std::vector<float> v(count);
    for (float& f : v) f = static_cast<float>(random.number());
    return v;
  };
  int number = 0;
  for (const char* kind : {"LINEAR", "POLY", "RBF", "SIGMOID"})
    for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64})
      for (const std::int64_t rows : {1, 30}) {
        SCOPED_TRACE(fmt::format("{} {} {} rows", kind, dtype_name(dtype), rows));
        ++number;
        const Tensor x = features_of(dtype, {rows, 5}, random);
        const std::int64_t extra = dtype == DType::kFloat32 ? number % 3 : 0;
        ir::Attrs common;
        common.set("kernel_type", kind);
        common.set("kernel_params", std::vector<float>{0.05f, 0.5f, 2.0f});
        if (number % 2) common.set("post_transform", "LOGISTIC");
        ir::Attrs regressor = common;
        regressor.set("coefficients", floats(7));
        regressor.set("support_vectors", floats(35));
        regressor.set("rho", floats(1));
        regressor.set("n_supports", 7);
        regressor.set("one_class", number % 3 == 0);
        expect_equal("SVMRegressor", regressor, x, 1, extra);
        for (const std::size_t classes : {std::size_t{2}, std::size_t{4}})
          for (const bool probable : {false, true}) {
            ir::Attrs classifier = common;
            const std::size_t pairs = classes * (classes - 1) / 2;
            std::vector<std::int64_t> per_class, labels;
            std::size_t count = 0;
            for (std::size_t c = 0; c < classes; ++c) {
              per_class.push_back(1 + random.below(4));
              labels.push_back(random.below(100));
              count += static_cast<std::size_t>(per_class.back());
            }
            classifier.set("vectors_per_class", per_class);
            classifier.set("classlabels_ints", labels);
            classifier.set("coefficients", floats((classes - 1) * count));
            classifier.set("support_vectors", floats(5 * count));
            classifier.set("rho", floats(pairs));
            if (probable) {
              classifier.set("prob_a", floats(pairs));
              classifier.set("prob_b", floats(pairs));
            }
            expect_equal("SVMClassifier", classifier, x, static_cast<std::int64_t>(probable ? classes : std::max<std::size_t>(pairs, 2)), extra,
                         number % 3 != 1);
          }
        ir::Attrs linear = common;
        linear.set("coefficients", floats(15));
        linear.set("rho", floats(1));
        linear.set("classlabels_ints", std::vector<std::int64_t>{3, 2, 1});
        expect_equal("SVMClassifier", linear, x, 3, extra);
      }
}

/// An engine file may say anything.
TEST(Trees, RefuseTablesThatDoNotFit) {
  Random random{3};
  ir::Attrs attrs = forest({2, 3, 4, 2}, "target", random);
  attrs.set("n_targets", 2);
  ir::Graph graph;
  ir::Value* in = graph.add_input("x", ir::Type::tensor(DType::kFloat32, {ir::Dim(3), ir::Dim(4)}));
  ir::Node* node = graph.add_node("ai.onnx.ml", "TreeEnsembleRegressor", {in}, {"z"}, attrs);
  node->outputs[0]->type = ir::Type::tensor(DType::kFloat32, {ir::Dim(3), ir::Dim(2)});
  graph.add_output(node->outputs[0]);
  const auto region = make_region("ai.onnx.ml::TreeEnsembleRegressor", {node});
  const std::vector<plan::TensorDesc> ins{plan::TensorDesc::row_major(DType::kFloat32, {3, 4})}, outs{plan::TensorDesc::row_major(DType::kFloat32, {3, 2})};
  const ops::Candidate& candidate = find_candidate(ops::candidates_ml(), "cpu.trees");
  const ops::PlanRequest request{region, ins, outs, {}, {}, false, 0, 1, {}};
  const ops::StepPlan good = candidate.plan(request).front();
  const std::vector<plan::TensorDesc> bound{plan::TensorDesc(), outs[0]};
  const ir::Bindings none;
  const auto bind = [&](const ir::Attrs& params) { return plan::find_kernel("cpu.trees")->bind({params, ins, bound, {}, {}, none, 1}); };
  EXPECT_NO_THROW(bind(good.params));
  for (const auto& [name, attribute] : good.params) {
    const auto* t = std::get_if<Tensor>(&attribute.value);
    if (!t || t->dtype() != DType::kInt32) continue;
    for (const std::int64_t value : {std::int64_t{-100000}, std::int64_t{100000}, std::int64_t{2147483647}}) {
      if (t->size() == 0 || (name.starts_with("member") && value > 0)) continue;
      Tensor damaged = t->make_aligned();
      damaged.set_from_int64(0, value);
      ir::Attrs params = good.params;
      params.set(name, damaged);
      if (name.starts_with("member")) continue;  // read by nodes of mode BRANCH_MEMBER alone
      EXPECT_THROW(bind(params), Error) << name << " " << value;
    }
    ir::Attrs shorter = good.params;
    shorter.set(name, Tensor(DType::kInt32, {t->size() + 1}));
    if (name != "roots") {
      EXPECT_THROW(bind(shorter), Error) << name;
    }
    ir::Attrs other = good.params;
    other.set(name, Tensor(DType::kFloat32, t->dims()));
    EXPECT_THROW(bind(other), Error) << name;
  }
}

}  // namespace
}  // namespace lathe::regions
