// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// SVMRegressor and SVMClassifier: kernels of each row with the support vectors; what comes of them is in svm_scores.h.
#include "ops/ml/svm.h"

#include <algorithm>
#include <array>
#include <cmath>

#include "ops/ml/ml_defs.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

SvmKernel kind_of(const Attrs& attrs) {
  static constexpr std::array<std::string_view, 4> kKinds{"LINEAR", "POLY", "RBF", "SIGMOID"};
  const std::string name = attrs.get_string("kernel_type", "LINEAR");
  const auto at = std::find(kKinds.begin(), kKinds.end(), name);
  if (at == kKinds.end()) reject("kernel_type '" + name + "' is none of LINEAR, POLY, RBF, SIGMOID");
  return static_cast<SvmKernel>(at - kKinds.begin());
}

/// Everything but the numbers of vectors, features and classes.
Svm svm_of(const Attrs& attrs) {
  Svm svm;
  svm.shape.kind = kind_of(attrs);
  const auto params = attrs.get_floats("kernel_params");
  if (!params.empty()) {
    check_length("kernel_params", params.size(), 3, "gamma, coef0 and degree");
    svm.shape.gamma = params[0];
    svm.shape.coef0 = params[1];
    svm.shape.degree = params[2];
  }
  svm.shape.transform = post_transform_of(attrs);
  svm.coefficients = attrs.get_floats("coefficients");
  svm.vectors = attrs.get_floats("support_vectors");
  svm.rho = attrs.get_floats("rho");
  svm.prob_a = attrs.get_floats("prob_a");
  svm.prob_b = attrs.get_floats("prob_b");
  if (svm.coefficients.empty()) reject("lacks coefficients");
  return svm;
}

void point_at_lists(Svm& svm) {
  svm.shape.coefficients = svm.coefficients;
  svm.shape.rho = svm.rho;
  svm.shape.prob_a = svm.prob_a;
  svm.shape.prob_b = svm.prob_b;
  svm.shape.starts = svm.starts;
}

void divide_vectors(Svm& svm, std::size_t count) {
  svm.shape.count = count;
  if (svm.vectors.empty() || svm.vectors.size() % count != 0) {
    reject("support_vectors has " + std::to_string(svm.vectors.size()) + " entries; expected as many for each of " + std::to_string(count) + " vectors");
  }
  svm.shape.features = svm.vectors.size() / count;
}

void check_rho(const Svm& svm, std::size_t least) {
  if (svm.rho.size() < least) reject("rho has " + std::to_string(svm.rho.size()) + " entries; expected " + std::to_string(least));
}

void check_width(const Svm& svm, std::int64_t width) {
  if (static_cast<std::int64_t>(svm.shape.features) == width) return;
  reject("X has " + std::to_string(width) + " features, the model is for " + std::to_string(svm.shape.features));
}

/// What finish_svm() takes, of one row.
void kernels_of(const Svm& svm, const double* x, std::vector<double>& kernels) {
  const SvmShape& shape = svm.shape;
  const SvmKernel kind = shape.response_kind();
  const float* vectors = shape.count == 0 ? svm.coefficients.data() : svm.vectors.data();
  for (std::size_t v = 0; v < kernels.size(); ++v, vectors += shape.features) {
    double sum = 0;
    for (std::size_t k = 0; k < shape.features; ++k) sum += kind == SvmKernel::kRbf ? (x[k] - vectors[k]) * (x[k] - vectors[k]) : x[k] * vectors[k];
    kernels[v] = svm_response(shape, kind, sum);
  }
}

/// The scores of all rows; the classes in `chosen`.
Tensor run_svm(const Svm& svm, const Tensor& in, std::vector<std::int64_t>& chosen) {
  const SvmShape& shape = svm.shape;
  const Rows rows = rows_of(in);
  check_width(svm, rows.width);
  const auto x = feature_values(in);
  const std::size_t width = shape.width();
  std::vector<double> kernels(shape.responses()), scratch(shape.scratch());
  std::vector<double> out(static_cast<std::size_t>(element_count({rows.count, static_cast<std::int64_t>(width)})));
  for (std::int64_t row = 0; row < rows.count; ++row) {
    kernels_of(svm, x.data() + row * rows.width, kernels);
    const std::int64_t best = finish_svm(shape, kernels.data(), scratch.data(), std::span(out).subspan(static_cast<std::size_t>(row) * width, width));
    chosen.push_back(shape.classes == 1 ? (best ? kPositive : kNegative) : best);
  }
  return from_doubles(DType::kFloat32, {rows.count, static_cast<std::int64_t>(width)}, out);
}

void regressor_infer(InferContext& ctx) {
  const Svm svm = svm_of_regressor(ctx.attrs());
  const RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant()) check_width(svm, *width);
  ctx.set(0, DType::kFloat32, {rows.count, Dim(1)});
}

void regressor_reference(RefContext& ctx) {
  std::vector<std::int64_t> unused;
  ctx.set_output(0, run_svm(svm_of_regressor(ctx.attrs()), ctx.input(0), unused));
}

void classifier_infer(InferContext& ctx) {
  const Svm svm = svm_of_classifier(ctx.attrs());
  const RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant()) check_width(svm, *width);
  ctx.set(0, svm.labels.dtype(), {rows.count});
  ctx.set(1, DType::kFloat32, {rows.count, Dim(static_cast<std::int64_t>(svm.shape.width()))});
}

void classifier_reference(RefContext& ctx) {
  const Svm svm = svm_of_classifier(ctx.attrs());
  std::vector<std::int64_t> chosen;
  Tensor scores = run_svm(svm, ctx.input(0), chosen);
  ctx.set_output(0, label_tensor(svm.labels, chosen));
  ctx.set_output(1, std::move(scores));
}

bool classifier_expand(ExpandContext& ctx) { return expand_text_labels(ctx, "classlabels_ints", "classlabels_strings"); }

}  // namespace

Svm svm_of_regressor(const Attrs& attrs) {
  Svm svm = svm_of(attrs);
  const std::int64_t supports = attrs.get_int("n_supports", 0);
  if (supports < 0) reject("n_supports is " + std::to_string(supports));
  check_rho(svm, 1);
  if (supports > 0) {
    check_length("coefficients", svm.coefficients.size(), static_cast<std::size_t>(supports), "n_supports");
    divide_vectors(svm, static_cast<std::size_t>(supports));
  } else {
    svm.shape.features = svm.coefficients.size();
  }
  svm.shape.one_class = attrs.get_int("one_class", 0) != 0;
  point_at_lists(svm);
  return svm;
}

Svm svm_of_classifier(const Attrs& attrs) {
  Svm svm = svm_of(attrs);
  SvmShape& shape = svm.shape;
  svm.labels = class_labels(attrs, "classlabels_ints", "classlabels_strings");
  const std::size_t classes = shape.classes = svm.labels.count();
  if (classes > 65535) reject(std::to_string(classes) + " classes; at most 65535 are supported");
  const auto per_class = attrs.get_ints("vectors_per_class");
  std::int64_t vectors = 0;
  svm.starts = {0};
  for (const auto n : per_class) {
    if (n < 0 || __builtin_add_overflow(vectors, n, &vectors)) reject("vectors_per_class has the entry " + std::to_string(n));
    svm.starts.push_back(vectors);
  }
  check_length("prob_b", svm.prob_b.size(), svm.prob_a.size(), "as prob_a");
  shape.all_positive = std::all_of(svm.coefficients.begin(), svm.coefficients.end(), [](float c) { return c >= 0; });
  if (vectors == 0) {
    check_rho(svm, 1);
    if (svm.coefficients.size() % classes != 0) {
      reject("coefficients has " + std::to_string(svm.coefficients.size()) + " entries; expected as many for each of " + std::to_string(classes) + " classes");
    }
    shape.features = svm.coefficients.size() / classes;
  } else {
    if (classes < 2) reject("has support vectors for a single class");
    check_length("vectors_per_class", per_class.size(), classes, "one for each class");
    divide_vectors(svm, static_cast<std::size_t>(vectors));
    check_length("coefficients", svm.coefficients.size(), (classes - 1) * shape.count, "one for each support vector and each other class");
    check_rho(svm, shape.pairs());
    if (!svm.prob_a.empty() && svm.prob_a.size() < shape.pairs()) {
      reject("prob_a has " + std::to_string(svm.prob_a.size()) + " entries; expected " + std::to_string(shape.pairs()) + ", one for each pair of classes");
    }
  }
  point_at_lists(svm);
  return svm;
}

OpDef svm_regressor() {
  return {.domain = kMlDomain,
          .name = "SVMRegressor",
          .versions = {{1, "X:T -> Y:float",
                        "coefficients:floats? kernel_params:floats? kernel_type:string=LINEAR n_supports:int=0 one_class:int=0 "
                        "post_transform:string=NONE rho:floats? support_vectors:floats?",
                        kFeatureTypes}},
          .infer = regressor_infer,
          .reference = regressor_reference,
          .tolerance = kScoreTolerance,
          .doc = "support vector regression, and one-class detection"};
}

OpDef svm_classifier() {
  return {.domain = kMlDomain,
          .name = "SVMClassifier",
          .versions = {{1, "X:T1 -> Y:T2 Z:float",
                        "classlabels_ints:ints? classlabels_strings:strings? coefficients:floats? kernel_params:floats? kernel_type:string=LINEAR "
                        "post_transform:string=NONE prob_a:floats? prob_b:floats? rho:floats? support_vectors:floats? vectors_per_class:ints?",
                        kClassifierTypes}},
          .infer = classifier_infer,
          .reference = classifier_reference,
          .tolerance = kScoreTolerance,
          .expand = classifier_expand,
          .doc = "support vector classification: the class that most pairs vote for, and decisions or probabilities"};
}

}  // namespace lathe::ops
