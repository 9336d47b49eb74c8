// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LinearRegressor and LinearClassifier: one product with the rows of coefficients.
#include <algorithm>

#include "ops/ml/ml_defs.h"
#include "ops/ml/ml_util.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

struct Linear {
  std::vector<float> coefficients, intercepts;  // [targets, features]; one a target, or none
  std::int64_t targets = 1;
  PostTransform transform = PostTransform::kNone;

  std::size_t features() const { return coefficients.size() / static_cast<std::size_t>(targets); }
};

/// Fails unless the coefficients are `targets` rows.
void check_rows(const Linear& linear) {
  if (linear.targets < 1 || linear.targets > kMostClasses) reject(std::to_string(linear.targets) + " targets; expected 1 to " + std::to_string(kMostClasses));
  const auto targets = static_cast<std::size_t>(linear.targets);
  if (linear.coefficients.empty() || linear.coefficients.size() % targets != 0) {
    reject("coefficients has " + std::to_string(linear.coefficients.size()) + " entries; expected as many for each of " + std::to_string(targets) +
           (targets == 1 ? " target" : " targets"));
  }
  if (!linear.intercepts.empty()) check_length("intercepts", linear.intercepts.size(), targets, "one for each target");
}

void check_width(const Linear& linear, std::int64_t width) {
  if (static_cast<std::int64_t>(linear.features()) == width) return;
  reject("X has " + std::to_string(width) + " features, its coefficients are for " + std::to_string(linear.features()));
}

Linear regressor_of(const Attrs& attrs) {
  Linear linear{attrs.get_floats("coefficients"), attrs.get_floats("intercepts"), attrs.get_int("targets", 1), post_transform_of(attrs)};
  check_rows(linear);
  return linear;
}

struct LinearModel {
  Linear linear;
  Labels labels;
  bool doubled = false;  ///< one row of coefficients that tells two classes
};

LinearModel classifier_of(const Attrs& attrs) {
  LinearModel model;
  Linear& linear = model.linear;
  linear = {attrs.get_floats("coefficients"), attrs.get_floats("intercepts"), 1, post_transform_of(attrs)};
  model.labels = class_labels(attrs, "classlabels_ints", "classlabels_strings");
  const auto classes = static_cast<std::int64_t>(model.labels.count());
  // The format does not say how many rows there are: intercepts tell, or there is one for each label.
  linear.targets = linear.intercepts.empty() ? classes : static_cast<std::int64_t>(linear.intercepts.size());
  model.doubled = linear.targets == 1 && classes == 2;
  if (!model.doubled && linear.targets != classes) {
    reject("has " + std::to_string(linear.intercepts.size()) + " intercepts for " + std::to_string(classes) + " class labels");
  }
  check_rows(linear);
  return model;
}

/// X times the coefficients plus the intercepts, [rows, targets].
std::vector<double> products(const Tensor& x, const Linear& linear) {
  const Rows rows = rows_of(x);
  check_width(linear, rows.width);
  const auto features = feature_values(x);
  std::vector<double> scores;
  scores.reserve(static_cast<std::size_t>(element_count({rows.count, linear.targets})));
  for (std::int64_t row = 0; row < rows.count; ++row)
    for (std::int64_t t = 0; t < linear.targets; ++t) {
      double sum = linear.intercepts.empty() ? 0 : linear.intercepts[static_cast<std::size_t>(t)];
      const float* weights = linear.coefficients.data() + t * rows.width;
      const double* values = features.data() + row * rows.width;
      for (std::int64_t k = 0; k < rows.width; ++k) sum += values[k] * weights[k];
      scores.push_back(sum);
    }
  return scores;
}

void regressor_infer(InferContext& ctx) {
  const Linear linear = regressor_of(ctx.attrs());
  const RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant()) check_width(linear, *width);
  ctx.set(0, DType::kFloat32, {rows.count, Dim(linear.targets)});
}

void regressor_reference(RefContext& ctx) {
  const Linear linear = regressor_of(ctx.attrs());
  auto scores = products(ctx.input(0), linear);
  const auto width = static_cast<std::size_t>(linear.targets);
  for (std::size_t at = 0; at < scores.size(); at += width) transform_scores(linear.transform, std::span(scores).subspan(at, width));
  ctx.set_output(0, from_doubles(DType::kFloat32, {rows_of(ctx.input(0)).count, linear.targets}, scores));
}

void classifier_infer(InferContext& ctx) {
  const LinearModel model = classifier_of(ctx.attrs());
  const RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant()) check_width(model.linear, *width);
  ctx.set(0, model.labels.dtype(), {rows.count});
  ctx.set(1, DType::kFloat32, {rows.count, Dim(static_cast<std::int64_t>(model.labels.count()))});
}

void classifier_reference(RefContext& ctx) {
  const LinearModel model = classifier_of(ctx.attrs());
  const auto raw = products(ctx.input(0), model.linear);
  const std::int64_t rows = rows_of(ctx.input(0)).count;
  const std::size_t targets = static_cast<std::size_t>(model.linear.targets), classes = model.labels.count();
  std::vector<std::int64_t> chosen;
  std::vector<double> scores(static_cast<std::size_t>(rows) * classes);
  for (std::size_t row = 0; row < static_cast<std::size_t>(rows); ++row) {
    const auto own = std::span(raw).subspan(row * targets, targets);
    const auto out = std::span(scores).subspan(row * classes, classes);
    if (targets == 1) {
      const bool positive = static_cast<float>(own[0]) > 0;
      chosen.push_back(model.doubled ? positive : positive ? kPositive : kNegative);
    } else {
      chosen.push_back(std::max_element(own.begin(), own.end()) - own.begin());
    }
    if (model.doubled) {
      two_classes(model.linear.transform, own[0], true, out);
    } else {
      std::copy(own.begin(), own.end(), out.begin());
      transform_scores(model.linear.transform, out);
    }
  }
  ctx.set_output(0, label_tensor(model.labels, chosen));
  ctx.set_output(1, from_doubles(DType::kFloat32, {rows, static_cast<std::int64_t>(classes)}, scores));
}

/// X as [N, C] float32 times the coefficients: a Gemm.
Value* expand_products(ExpandContext& ctx, const Linear& linear) {
  Value* x = ctx.node.input(0);
  if (!x->has_shape() || x->shape().empty() || x->shape().size() > 2) return nullptr;
  if (x->dtype() != DType::kFloat32) {
    Attrs to;
    to.set("to", static_cast<std::int64_t>(DType::kFloat32));
    x = ctx.add("Cast", {x}, std::move(to));
  }
  const auto features = static_cast<std::int64_t>(linear.features());
  if (ctx.node.input(0)->shape().size() == 1) {
    const std::int64_t one_row[] = {1, features};
    x = ctx.add("Reshape", {x, ctx.constant("one_row", Tensor::vector(one_row))});
  }
  Attrs attrs;
  attrs.set("transB", 1);
  std::vector<Value*> inputs{x, ctx.constant("coefficients", Tensor::from<float>(DType::kFloat32, {linear.targets, features}, linear.coefficients))};
  if (!linear.intercepts.empty()) inputs.push_back(ctx.constant("intercepts", Tensor::from<float>(DType::kFloat32, {linear.targets}, linear.intercepts)));
  return ctx.add("Gemm", std::move(inputs), std::move(attrs), "scores");
}

/// The transforms that have operators of their own; nullptr for the others.
Value* expand_transform(ExpandContext& ctx, PostTransform transform, Value* scores) {
  switch (transform) {
    case PostTransform::kNone: return scores;
    case PostTransform::kLogistic: return ctx.add("Sigmoid", {scores});
    case PostTransform::kSoftmax: return ctx.add("Softmax", {scores});
    default: return nullptr;
  }
}

bool expands(PostTransform t) { return t == PostTransform::kNone || t == PostTransform::kLogistic || t == PostTransform::kSoftmax; }

bool regressor_expand(ExpandContext& ctx) {
  const Linear linear = regressor_of(ctx.attrs());
  const PostTransform transform = linear.targets == 1 && linear.transform != PostTransform::kProbit ? PostTransform::kNone : linear.transform;
  if (!expands(transform)) return false;
  Value* scores = expand_products(ctx, linear);
  if (!scores) return false;
  ctx.replace(0, expand_transform(ctx, transform, scores));
  return true;
}

bool classifier_expand(ExpandContext& ctx) {
  const LinearModel model = classifier_of(ctx.attrs());
  if (model.labels.is_text()) return expand_text_labels(ctx, "classlabels_ints", "classlabels_strings");
  if (model.linear.targets == 1 || !expands(model.linear.transform)) return false;
  Value* scores = expand_products(ctx, model.linear);
  if (!scores) return false;
  Attrs best;
  best.set("axis", 1);
  best.set("keepdims", 0);
  Value* labels = ctx.constant("labels", Tensor::vector(model.labels.numbers));
  ctx.replace(0, ctx.add("Gather", {labels, ctx.add("ArgMax", {scores}, std::move(best))}));
  ctx.replace(1, expand_transform(ctx, model.linear.transform, scores));
  return true;
}

}  // namespace

OpDef linear_regressor() {
  return {.domain = kMlDomain,
          .name = "LinearRegressor",
          .versions = {{1, "X:T -> Y:float", "coefficients:floats? intercepts:floats? post_transform:string=NONE targets:int=1", kFeatureTypes}},
          .infer = regressor_infer,
          .reference = regressor_reference,
          .tolerance = {.contraction = true},
          .expand = regressor_expand,
          .doc = "linear models, one a target"};
}

OpDef linear_classifier() {
  return {.domain = kMlDomain,
          .name = "LinearClassifier",
          .versions = {{1, "X:T1 -> Y:T2 Z:float",
                        "classlabels_ints:ints? classlabels_strings:strings? coefficients:floats intercepts:floats? multi_class:int=0 "
                        "post_transform:string=NONE",
                        kClassifierTypes}},
          .infer = classifier_infer,
          .reference = classifier_reference,
          .tolerance = {.contraction = true},
          .expand = classifier_expand,
          .doc = "linear models, one a class: the best class and the scores"};
}

}  // namespace lathe::ops
