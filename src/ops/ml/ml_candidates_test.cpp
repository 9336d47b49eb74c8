// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.trees and cpu.svm from plan to run against the defining loops: bit by bit, since they sum in the same order.

#include <fmt/format.h>

#include "ops/evaluate.h"
#include "ops/ml/ml_test_models.h"
#include "regions/candidate_test_util.h"
#include "regions/match.h"

namespace lathe::ops {
std::span<const Candidate> candidates_ml();
}

namespace lathe::regions {
namespace {

using namespace testing;
using namespace ops::testing;

/// The node alone in a graph, run both ways at these rows.
void expect_equal(const std::string& op, ir::Attrs attrs, const Tensor& x, std::int64_t targets, std::int64_t extra, bool labels_used = true) {
  const Alone alone(op, std::move(attrs), x.dtype(), x.dims(), targets, labels_used);
  const ir::Node* node = alone.node;
  const ops::Region& region = alone.region;
  const ir::Bindings rows{{"n", x.dims()[0]}};
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
    for (const bool with_members : {false, true}) {
      const ir::Attrs attrs = ensemble(dtype, with_members, random);
      expect_equal("TreeEnsemble", attrs, features_of(dtype, {77, 3}, random), 2, 0);
    }
}

TEST(SupportVectors, AreTheDefiningLoop) {
  Random random{11};
  int number = 0;
  for (const char* kind : {"LINEAR", "POLY", "RBF", "SIGMOID"})
    for (const DType dtype : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64})
      for (const std::int64_t rows : {1, 30}) {
        SCOPED_TRACE(fmt::format("{} {} {} rows", kind, dtype_name(dtype), rows));
        ++number;
        const Tensor x = features_of(dtype, {rows, 5}, random);
        const std::int64_t extra = dtype == DType::kFloat32 ? number % 3 : 0;
        const auto of_kind = [&](ir::Attrs attrs) {
          attrs.set("kernel_type", kind);
          if (number % 2) attrs.set("post_transform", "LOGISTIC");
          return attrs;
        };
        ir::Attrs regressor = of_kind(support_vectors(7, 5, random));
        regressor.set("one_class", number % 3 == 0);
        expect_equal("SVMRegressor", regressor, x, 1, extra);
        for (const std::size_t classes : {std::size_t{2}, std::size_t{4}})
          for (const bool probable : {false, true}) {
            const std::size_t pairs = classes * (classes - 1) / 2;
            expect_equal("SVMClassifier", of_kind(support_vectors_of_classes(classes, 5, probable, random)), x,
                         static_cast<std::int64_t>(probable ? classes : std::max<std::size_t>(pairs, 2)), extra, number % 3 != 1);
          }
        expect_equal("SVMClassifier", of_kind(linear_classes(3, 5, random)), x, 3, extra);
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
