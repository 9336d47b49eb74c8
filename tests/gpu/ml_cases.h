// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of tree ensembles and support vector machines, whose kernels a GPU and through tests/host_cuda the CPU run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/ml/ml_test_models.h"

namespace lathe::ops {
std::span<const Candidate> candidates_ml_cuda();
}

namespace lathe::testing_gpu {

struct MlCase {
  std::string op = {};
  ir::Attrs attrs = {};
  DType type = DType::kFloat32;  ///< of the features as the model has them
  Dims dims = {};
  std::int64_t targets = 1;          ///< or classes, or scores
  DType stored = DType::kUndefined;  ///< of the features; as the model has them
  DType scored = DType::kUndefined;  ///< of the scores
  bool labels = true, scores = true;
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string what = {};
  std::string describe() const {
    return fmt::format("{} {} {} {} x {} -> {}{}{} stored as {}, {} extra {} shift {}", op, what, dtype_name(type), to_string(dims), targets,
                       labels ? "labels " : "", scores ? "scores " : "", attrs.get_string("post_transform", ""), dtype_name(stored), dtype_name(scored), extra,
                       shift);
  }
};

/// A step by the candidate for GPUs, and what its results must be.
struct MlTensors {
  ops::testing::Alone alone;
  GuardedTensor x, labels, scores;
  Tensor wanted_labels, wanted_scores;
  std::string kernel;
  ir::Attrs params;
  std::vector<std::byte> tables;
  std::vector<plan::TensorDesc> other_inputs, other_outputs;  ///< of another number of rows

  explicit MlTensors(const MlCase& c) : alone(c.op, c.attrs, c.type, c.dims, c.targets, c.labels, c.scores) {
    ops::testing::Random random{static_cast<std::uint64_t>(c.dims[0] * 31 + c.targets)};
    const DType stored = c.stored == DType::kUndefined ? c.type : c.stored;
    const Tensor given = ops::testing::features_of(c.type, c.dims, random).cast(stored);  // rounded before either sees it
    const Tensor input = given.cast(c.type);
    const auto made = ops::evaluate_node(*alone.node, std::span(&input, 1));
    const bool classifies = c.op.ends_with("Classifier");
    const bool has_labels = classifies && c.labels, has_scores = !classifies || c.scores;
    x = GuardedTensor(rows_desc(stored, c.dims, c.extra), c.shift);
    x.fill(given);
    const Tensor& all_scores = made[classifies ? 1 : 0];
    const DType scored = c.scored == DType::kUndefined ? all_scores.dtype() : c.scored;
    if (has_labels) {
      wanted_labels = made[0];
      labels = GuardedTensor(rows_desc(DType::kInt64, made[0].dims(), 0), c.shift);
    }
    if (has_scores) {
      wanted_scores = all_scores.cast(scored);
      scores = GuardedTensor(rows_desc(scored, all_scores.dims(), c.extra), c.shift);
    }
    std::vector<plan::TensorDesc> ins{x.desc}, outs;
    for (const ir::Value* out : alone.region.outputs) outs.push_back(out->name == "y" ? labels.desc : scores.desc);
    const ops::PlanRequest request{alone.region, ins, outs, {}, {}, false, 0, 1, {}};
    const ops::Candidate* candidate = nullptr;
    for (const ops::Candidate& each : ops::candidates_ml_cuda())
      if (each.pattern == alone.region.pattern) candidate = &each;
    const ops::StepPlan step = candidate->plan(request).front();
    kernel = step.kernel;
    params = step.params;
    tables = plan::find_pack_function(step.weights.at(0).pack)->pack(step.weights[0].params, {});
    const auto moved = [&](plan::TensorDesc desc, bool is_matrix) {
      if (is_matrix && !desc.dims.empty() && c.dims.size() == 2) desc.dims[0] = c.dims[0] / 2 + 3;
      return desc;
    };
    other_inputs = {moved(x.desc, true)};
    other_outputs = {moved(labels.desc, true), moved(scores.desc, true)};
  }
  std::vector<plan::TensorDesc> outputs() const { return {labels.desc, scores.desc}; }
  /// `exact`: bit by bit; else functions may be of another library.
  void compare(bool exact) {
    if (wanted_labels.defined()) {
      const Tensor got = labels.read();
      for (std::int64_t i = 0; i < got.size(); ++i) ASSERT_EQ(got.as_int64(i), wanted_labels.as_int64(i)) << "label " << i;
      EXPECT_TRUE(labels.is_intact()) << "bytes beside the labels were written";
    }
    if (!wanted_scores.defined()) return;
    const Tensor got = scores.read();
    const DType type = got.dtype();
    const double unit = type == DType::kFloat64 ? 1e-13 : type == DType::kFloat32 ? 5e-7 : type == DType::kFloat16 ? 1e-3 : 8e-3;
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double a = got.as_double(i), b = wanted_scores.as_double(i);
      ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b)) || (!exact && std::abs(a - b) <= unit * (std::abs(b) + 1e-3)))
          << "score " << i << ": " << a << " instead of " << b;
    }
    EXPECT_TRUE(scores.is_intact()) << "bytes beside the scores were written";
  }
};

/// `large`: what a CPU which plays a GPU takes long for, too.
inline std::vector<MlCase> tree_cases(bool large) {
  using namespace ops::testing;
  std::vector<MlCase> cases;
  Random random{21};
  const std::vector<std::string> leq{"BRANCH_LEQ"}, all{"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};
  const std::vector<std::string> aggregates{"SUM", "AVERAGE", "MIN", "MAX"}, transforms{"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  int number = 0;
  const auto pick = [&](const std::vector<std::string>& of) { return of[static_cast<std::size_t>(number) % of.size()]; };
  const auto regressor = [&](const Forest& f, std::string aggregate, std::string transform, bool base) {
    ir::Attrs attrs = forest(f, "target", random);
    attrs.set("n_targets", f.targets);
    attrs.set("aggregate_function", std::move(aggregate));
    attrs.set("post_transform", std::move(transform));
    if (base) attrs.set("base_values", std::vector<float>(static_cast<std::size_t>(f.targets), 0.375F));
    return attrs;
  };
  const auto classifier = [&](const Forest& f, std::int64_t labels, std::string transform) {
    ir::Attrs attrs = forest(f, "class", random);
    std::vector<std::int64_t> numbers;
    for (std::int64_t i = 0; i < labels; ++i) numbers.push_back(100 - 7 * i);
    attrs.set("classlabels_int64s", numbers);
    attrs.set("post_transform", std::move(transform));
    return attrs;
  };
  const std::string kRegressor = "TreeEnsembleRegressor", kClassifier = "TreeEnsembleClassifier";
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64})
    for (const auto& modes : {leq, all})
      for (const std::int64_t rows : {1, 7, 133})
        for (const std::int64_t targets : {1, 3}) {
          const Forest f{1 + number % 21, 1 + number % 7, 5, targets, modes, number % 2 == 0, modes.size() > 1};
          const std::int64_t extra = number % 3;
          const auto shift = static_cast<std::size_t>(number % 2);
          cases.push_back({.op = kRegressor,
                           .attrs = regressor(f, pick(aggregates), pick(transforms), number % 3 == 0),
                           .type = type,
                           .dims = {rows, 5},
                           .targets = targets,
                           .extra = extra,
                           .shift = shift});
          cases.push_back({.op = kClassifier,
                           .attrs = classifier(f, targets, pick(transforms)),
                           .type = type,
                           .dims = {rows, 5},
                           .targets = targets,
                           .labels = number % 4 != 1,
                           .scores = number % 4 != 2,
                           .extra = extra});
          if (targets == 1)  // one score for two classes
            cases.push_back({.op = kClassifier, .attrs = classifier(f, 2, pick(transforms)), .type = type, .dims = {rows, 5}, .targets = 2});
          ++number;
        }
  // Rules of two classes: votes for either alone, of any sign, with each number of base values.
  for (const std::int64_t only : {0, 1})
    for (const bool positive : {false, true})
      for (const std::size_t base : {std::size_t{0}, std::size_t{1}, std::size_t{2}})
        for (const std::string& transform : transforms) {
          ir::Attrs attrs = classifier({3, 3, 4, 1, all}, 2, transform);
          std::vector<std::int64_t> ids = attrs.get_ints("class_ids");
          std::fill(ids.begin(), ids.end(), only);
          attrs.set("class_ids", ids);
          std::vector<float> weights = attrs.get_floats("class_weights");
          for (float& weight : weights) weight = positive ? std::abs(weight) / 8 : weight / 4;
          attrs.set("class_weights", weights);
          if (base > 0) attrs.set("base_values", std::vector<float>(base, 0.125F));
          cases.push_back({.op = kClassifier, .attrs = attrs, .dims = {33, 4}, .targets = 2, .what = fmt::format("class {} alone", only)});
        }
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kFloat16})
    for (const bool with_members : {false, true})
      cases.push_back(
          {.op = "TreeEnsemble", .attrs = ensemble(type, with_members, random), .type = type, .dims = {77, 3}, .targets = 2, .what = "of version 5"});
  // More trees than a block walks at once, leaves that vote for all or for many, more targets than a block has threads.
  cases.push_back({.op = kRegressor, .attrs = regressor({1100, 2, 5, 1, leq}, "SUM", "NONE", true), .dims = {2, 5}, .targets = 1});
  cases.push_back({.op = kRegressor, .attrs = regressor({70, 3, 5, 1, all}, "AVERAGE", "NONE", false), .dims = {8300, 5}, .targets = 1, .extra = 1});
  cases.push_back({.op = kClassifier, .attrs = classifier({9, 3, 5, 10, leq, false, false, true}, 10, "NONE"), .dims = {600, 5}, .targets = 10});
  cases.push_back({.op = kRegressor, .attrs = regressor({9, 3, 5, 7, leq, false, false, true}, "MIN", "SOFTMAX", true), .dims = {1100, 5}, .targets = 7});
  cases.push_back({.op = kRegressor, .attrs = regressor({5, 2, 5, 300, all}, "MAX", "NONE", false), .dims = {3, 5}, .targets = 300, .extra = 2});
  cases.push_back({.op = kClassifier, .attrs = classifier({4, 2, 5, 513, leq, true, false, true}, 513, "SOFTMAX"), .dims = {2, 5}, .targets = 513});
  // Leaves alone; no rows; a row without a matrix.
  cases.push_back({.op = kRegressor, .attrs = regressor({5, 0, 5, 2, leq}, "SUM", "NONE", true), .dims = {4, 5}, .targets = 2, .what = "leaves"});
  cases.push_back({.op = kRegressor, .attrs = regressor({5, 3, 5, 2, leq}, "SUM", "NONE", true), .dims = {0, 5}, .targets = 2});
  cases.push_back({.op = kClassifier, .attrs = classifier({5, 3, 5, 3, leq}, 3, "NONE"), .dims = {0, 5}, .targets = 3});
  cases.push_back({.op = kRegressor, .attrs = regressor({30, 5, 5, 2, all, true}, "SUM", "NONE", false), .dims = {5}, .targets = 2});
  // Other types of memory than the model's.
  for (const DType stored : {DType::kFloat16, DType::kBFloat16})
    for (const DType scored : {stored, DType::kFloat32})
      cases.push_back({.op = kRegressor,
                       .attrs = regressor({12, 4, 5, 3, all}, "SUM", pick(transforms), true),
                       .dims = {40, 5},
                       .targets = 3,
                       .stored = stored,
                       .scored = scored,
                       .extra = 1});
  cases.push_back({.op = kClassifier, .attrs = classifier({12, 4, 5, 3, all}, 3, "NONE"), .dims = {40, 5}, .targets = 3, .scored = DType::kFloat64});
  if (large) {
    cases.push_back({.op = kRegressor, .attrs = regressor({500, 8, 30, 1, leq}, "SUM", "NONE", true), .dims = {30000, 30}, .targets = 1});
    cases.push_back({.op = kClassifier, .attrs = classifier({300, 7, 30, 10, leq, true}, 10, "SOFTMAX"), .dims = {20011, 30}, .targets = 10, .extra = 3});
    cases.push_back(
        {.op = kRegressor, .attrs = regressor({5000, 6, 30, 1, all}, "SUM", "NONE", false), .type = DType::kFloat64, .dims = {3, 30}, .targets = 1});
  }
  return cases;
}

inline std::vector<MlCase> svm_cases(bool large) {
  using namespace ops::testing;
  std::vector<MlCase> cases;
  Random random{23};
  const std::vector<std::string> transforms{"NONE", "SOFTMAX", "LOGISTIC", "SOFTMAX_ZERO", "PROBIT"};
  int number = 0;
  for (const char* kind : {"LINEAR", "POLY", "RBF", "SIGMOID"})
    for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kInt32, DType::kInt64})
      for (const std::int64_t rows : {1, 30}) {
        ++number;
        const auto of_kind = [&](ir::Attrs attrs) {
          attrs.set("kernel_type", kind);
          attrs.set("post_transform", transforms[static_cast<std::size_t>(number) % transforms.size()]);
          return attrs;
        };
        const std::int64_t extra = number % 3;
        const auto shift = static_cast<std::size_t>(number % 2);
        ir::Attrs regressor = of_kind(support_vectors(number % 2 ? 7 : 140, 5, random));
        regressor.set("one_class", number % 3 == 0);
        cases.push_back({.op = "SVMRegressor", .attrs = regressor, .type = type, .dims = {rows, 5}, .extra = extra, .shift = shift, .what = kind});
        for (const std::int64_t classes : {2, 4})
          for (const bool probable : {false, true})
            cases.push_back({.op = "SVMClassifier",
                             .attrs = of_kind(support_vectors_of_classes(static_cast<std::size_t>(classes), 5, probable, random)),
                             .type = type,
                             .dims = {rows, 5},
                             .targets = probable ? classes : std::max<std::int64_t>(classes * (classes - 1) / 2, 2),
                             .labels = number % 3 != 1,
                             .scores = number % 3 != 2,
                             .extra = extra,
                             .shift = shift,
                             .what = fmt::format("{} {} classes{}", kind, classes, probable ? ", chances" : "")});
        for (const std::int64_t classes : {1, 2, 3})
          cases.push_back({.op = "SVMClassifier",
                           .attrs = of_kind(linear_classes(static_cast<std::size_t>(classes), 5, random)),
                           .type = type,
                           .dims = {rows, 5},
                           .targets = classes,
                           .what = "linear"});
      }
  ir::Attrs linear = support_vectors(5, 1, random);
  linear.erase("support_vectors");
  linear.set("n_supports", 0);
  cases.push_back({.op = "SVMRegressor", .attrs = linear, .dims = {9, 5}, .what = "linear"});
  cases.push_back({.op = "SVMRegressor", .attrs = linear, .dims = {5}, .what = "linear"});
  cases.push_back({.op = "SVMRegressor", .attrs = linear, .dims = {0, 5}, .what = "linear"});
  cases.push_back({.op = "SVMClassifier", .attrs = support_vectors_of_classes(3, 5, true, random), .dims = {0, 5}, .targets = 3});
  for (const DType stored : {DType::kFloat16, DType::kBFloat16})
    cases.push_back({.op = "SVMClassifier",
                     .attrs = support_vectors_of_classes(3, 5, false, random),
                     .dims = {20, 5},
                     .targets = 3,
                     .stored = stored,
                     .scored = stored,
                     .extra = 1});
  // Enough for more than one round of rows.
  ir::Attrs many = support_vectors(large ? 40000 : 9000, 2, random);
  many.set("kernel_type", "RBF");
  cases.push_back({.op = "SVMRegressor", .attrs = many, .dims = {large ? 500 : 940, 2}, .what = "of many vectors"});
  if (large) {
    cases.push_back({.op = "SVMClassifier", .attrs = support_vectors_of_classes(40, 60, true, random), .dims = {3000, 60}, .targets = 40});
    ir::Attrs wide = support_vectors(3000, 200, random);
    wide.set("kernel_type", "RBF");
    wide.set("kernel_params", std::vector<float>{0.0005F, 0, 0});
    cases.push_back({.op = "SVMRegressor", .attrs = wide, .dims = {2000, 200}});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
