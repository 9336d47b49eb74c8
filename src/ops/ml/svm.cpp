// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// SVMRegressor and SVMClassifier: kernels of X with the support vectors, summed by coefficients; of classes every pair votes, and pairwise
// probabilities become one distribution by the second method of Wu, Lin and Weng (2004).
#include <algorithm>
#include <cmath>

#include "ops/ml/ml_defs.h"
#include "ops/ml/ml_util.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

enum class KernelKind { kLinear, kPoly, kRbf, kSigmoid };

struct Svm {
  KernelKind kind = KernelKind::kLinear;
  double gamma = 0, coef0 = 0, degree = 0;
  std::vector<float> coefficients, vectors, rho;
  std::size_t count = 0;     ///< support vectors; 0: a linear model
  std::size_t features = 0;  ///< that X must have
  PostTransform transform = PostTransform::kNone;
};

/// Everything but the numbers of vectors and features.
Svm svm_of(const Attrs& attrs) {
  Svm svm;
  const std::string kind = attrs.get_string("kernel_type", "LINEAR");
  if (kind == "LINEAR") svm.kind = KernelKind::kLinear;
  else if (kind == "POLY") svm.kind = KernelKind::kPoly;
  else if (kind == "RBF") svm.kind = KernelKind::kRbf;
  else if (kind == "SIGMOID") svm.kind = KernelKind::kSigmoid;
  else reject("kernel_type '" + kind + "' is none of LINEAR, POLY, RBF, SIGMOID");
  const auto params = attrs.get_floats("kernel_params");
  if (!params.empty()) {
    check_length("kernel_params", params.size(), 3, "gamma, coef0 and degree");
    svm.gamma = params[0];
    svm.coef0 = params[1];
    svm.degree = params[2];
  }
  svm.coefficients = attrs.get_floats("coefficients");
  svm.vectors = attrs.get_floats("support_vectors");
  svm.rho = attrs.get_floats("rho");
  svm.transform = post_transform_of(attrs);
  if (svm.coefficients.empty()) reject("lacks coefficients");
  return svm;
}

void divide_vectors(Svm& svm, std::size_t count) {
  svm.count = count;
  if (svm.vectors.empty() || svm.vectors.size() % count != 0) {
    reject("support_vectors has " + std::to_string(svm.vectors.size()) + " entries; expected as many for each of " + std::to_string(count) + " vectors");
  }
  svm.features = svm.vectors.size() / count;
}

void check_rho(const Svm& svm, std::size_t least) {
  if (svm.rho.size() < least) reject("rho has " + std::to_string(svm.rho.size()) + " entries; expected " + std::to_string(least));
}

double kernel(const Svm& svm, const double* x, const float* vector, KernelKind kind) {
  double sum = 0;
  if (kind == KernelKind::kRbf) {
    for (std::size_t k = 0; k < svm.features; ++k) sum += (x[k] - vector[k]) * (x[k] - vector[k]);
    return std::exp(-svm.gamma * sum);
  }
  for (std::size_t k = 0; k < svm.features; ++k) sum += x[k] * vector[k];
  if (kind == KernelKind::kLinear) return sum;
  sum = sum * svm.gamma + svm.coef0;
  return kind == KernelKind::kPoly ? std::pow(sum, svm.degree) : std::tanh(sum);
}

void check_width(const Svm& svm, std::int64_t width) {
  if (static_cast<std::int64_t>(svm.features) == width) return;
  reject("X has " + std::to_string(width) + " features, the model is for " + std::to_string(svm.features));
}

// Regression ------------------------------------------------------------------------------------------------------

Svm regressor_of(const Attrs& attrs) {
  Svm svm = svm_of(attrs);
  const std::int64_t supports = attrs.get_int("n_supports", 0);
  if (supports < 0) reject("n_supports is " + std::to_string(supports));
  check_rho(svm, 1);
  if (supports > 0) {
    check_length("coefficients", svm.coefficients.size(), static_cast<std::size_t>(supports), "n_supports");
    divide_vectors(svm, static_cast<std::size_t>(supports));
  } else {
    svm.features = svm.coefficients.size();
  }
  return svm;
}

void regressor_infer(InferContext& ctx) {
  const Svm svm = regressor_of(ctx.attrs());
  const RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant(); rows.known && width) check_width(svm, *width);
  ctx.set(0, DType::kFloat32, {rows.count, Dim(1)});
}

void regressor_reference(RefContext& ctx) {
  const Svm svm = regressor_of(ctx.attrs());
  const Rows rows = rows_of(ctx.input(0));
  check_width(svm, rows.width);
  const auto x = feature_values(ctx.input(0));
  const bool one_class = ctx.attrs().get_int("one_class", 0) != 0;
  std::vector<double> scores;
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const double* own = x.data() + row * rows.width;
    double sum = svm.rho[0];
    if (svm.count == 0) sum += kernel(svm, own, svm.coefficients.data(), KernelKind::kLinear);
    for (std::size_t v = 0; v < svm.count; ++v) sum += svm.coefficients[v] * kernel(svm, own, svm.vectors.data() + v * svm.features, svm.kind);
    // A regression has one score, which is not transformed (scores.h).
    scores.push_back(!one_class ? sum : static_cast<float>(sum) > 0 ? 1 : -1);
  }
  ctx.set_output(0, from_doubles(DType::kFloat32, {rows.count, 1}, scores));
}

// Classification --------------------------------------------------------------------------------------------------

struct SvmModel {
  Svm svm;
  Labels labels;
  std::vector<std::int64_t> per_class;
  std::vector<float> prob_a, prob_b;
  bool all_positive = false;

  std::size_t classes() const { return labels.count(); }
  std::size_t pairs() const { return classes() * (classes() - 1) / 2; }
  bool probable() const { return svm.count > 0 && !prob_a.empty(); }
  /// Scores of a row: of the classes, or of their pairs.
  std::size_t width() const { return svm.count == 0 || probable() ? classes() : std::max<std::size_t>(pairs(), 2); }
};

SvmModel classifier_of(const Attrs& attrs) {
  SvmModel model{svm_of(attrs), class_labels(attrs, "classlabels_ints", "classlabels_strings"), attrs.get_ints("vectors_per_class"), attrs.get_floats("prob_a"),
                 attrs.get_floats("prob_b")};
  Svm& svm = model.svm;
  const std::size_t classes = model.classes();
  if (classes > 65535) reject(std::to_string(classes) + " classes; at most 65535 are supported");
  std::int64_t vectors = 0;
  for (const auto n : model.per_class)
    if (n < 0 || __builtin_add_overflow(vectors, n, &vectors)) reject("vectors_per_class has the entry " + std::to_string(n));
  check_length("prob_b", model.prob_b.size(), model.prob_a.size(), "as prob_a");
  model.all_positive = std::all_of(svm.coefficients.begin(), svm.coefficients.end(), [](float c) { return c >= 0; });
  if (vectors == 0) {
    check_rho(svm, 1);
    if (svm.coefficients.size() % classes != 0) {
      reject("coefficients has " + std::to_string(svm.coefficients.size()) + " entries; expected as many for each of " + std::to_string(classes) + " classes");
    }
    svm.features = svm.coefficients.size() / classes;
    return model;
  }
  if (classes < 2) reject("has support vectors for a single class");
  check_length("vectors_per_class", model.per_class.size(), classes, "one for each class");
  divide_vectors(svm, static_cast<std::size_t>(vectors));
  check_length("coefficients", svm.coefficients.size(), (classes - 1) * svm.count, "one for each support vector and each other class");
  check_rho(svm, model.pairs());
  if (!model.prob_a.empty() && model.prob_a.size() < model.pairs()) {
    reject("prob_a has " + std::to_string(model.prob_a.size()) + " entries; expected " + std::to_string(model.pairs()) + ", one for each pair of classes");
  }
  return model;
}

/// A decision for each pair of classes (i, j), i < j; `votes` counts those that a class won.
std::vector<double> decisions(const SvmModel& model, const double* x, std::vector<int>& votes) {
  const Svm& svm = model.svm;
  std::vector<double> kernels(svm.count), scores;
  for (std::size_t v = 0; v < svm.count; ++v) kernels[v] = kernel(svm, x, svm.vectors.data() + v * svm.features, svm.kind);
  std::vector<std::size_t> start(model.classes() + 1, 0);
  for (std::size_t c = 0; c < model.classes(); ++c) start[c + 1] = start[c] + static_cast<std::size_t>(model.per_class[c]);
  for (std::size_t i = 0; i < model.classes(); ++i)
    for (std::size_t j = i + 1; j < model.classes(); ++j) {
      double sum = svm.rho[scores.size()];
      for (std::size_t v = start[i]; v < start[i + 1]; ++v) sum += svm.coefficients[(j - 1) * svm.count + v] * kernels[v];
      for (std::size_t v = start[j]; v < start[j + 1]; ++v) sum += svm.coefficients[i * svm.count + v] * kernels[v];
      ++votes[sum > 0 ? i : j];
      scores.push_back(sum);
    }
  return scores;
}

/// The distribution p that minimises the sum over pairs of (r_ji p_i - r_ij p_j)^2, by its fixed-point iteration.
std::vector<double> couple(const std::vector<double>& r, std::size_t n) {
  std::vector<double> q(n * n, 0), qp(n), p(n, 1.0 / static_cast<double>(n));
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) {
      if (i == j) continue;
      q[i * n + i] += r[j * n + i] * r[j * n + i];
      q[i * n + j] = -r[j * n + i] * r[i * n + j];
    }
  for (int trip = 0; trip < 100; ++trip) {
    double pqp = 0, error = 0;
    for (std::size_t i = 0; i < n; ++i) {
      qp[i] = 0;
      for (std::size_t j = 0; j < n; ++j) qp[i] += q[i * n + j] * p[j];
      pqp += p[i] * qp[i];
    }
    for (std::size_t i = 0; i < n; ++i) error = std::max(error, std::abs(qp[i] - pqp));
    if (error < 0.005 / static_cast<double>(n)) break;
    for (std::size_t i = 0; i < n; ++i) {
      const double step = (pqp - qp[i]) / q[i * n + i], whole = 1 + step;
      p[i] += step;
      pqp = (pqp + step * (step * q[i * n + i] + 2 * qp[i])) / whole / whole;
      for (std::size_t j = 0; j < n; ++j) {
        qp[j] = (qp[j] + step * q[i * n + j]) / whole;
        p[j] /= whole;
      }
    }
  }
  return p;
}

std::vector<double> probabilities(const SvmModel& model, const std::vector<double>& scores) {
  const std::size_t n = model.classes();
  std::vector<double> r(n * n, 0);
  std::size_t pair = 0;
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = i + 1; j < n; ++j, ++pair) {
      const double p = 1 - logistic(scores[pair] * model.prob_a[pair] + model.prob_b[pair]);
      r[i * n + j] = std::clamp(p, 1e-7, 1 - 1e-7);
      r[j * n + i] = 1 - r[i * n + j];
    }
  return couple(r, n);
}

void classifier_infer(InferContext& ctx) {
  const SvmModel model = classifier_of(ctx.attrs());
  const RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant(); rows.known && width) check_width(model.svm, *width);
  ctx.set(0, model.labels.dtype(), {rows.count});
  ctx.set(1, DType::kFloat32, {rows.count, Dim(static_cast<std::int64_t>(model.width()))});
}

void classifier_reference(RefContext& ctx) {
  const SvmModel model = classifier_of(ctx.attrs());
  const Svm& svm = model.svm;
  const Rows rows = rows_of(ctx.input(0));
  check_width(svm, rows.width);
  const auto x = feature_values(ctx.input(0));
  const std::size_t classes = model.classes(), width = model.width();
  std::vector<std::int64_t> chosen;
  std::vector<double> out(static_cast<std::size_t>(rows.count) * width);
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const double* own = x.data() + row * rows.width;
    std::vector<double> scores;
    std::int64_t best = 0;
    double most = 0;
    if (svm.count == 0) {
      for (std::size_t c = 0; c < classes; ++c)
        scores.push_back(svm.rho[0] + kernel(svm, own, svm.coefficients.data() + c * svm.features, KernelKind::kLinear));
      best = std::max_element(scores.begin(), scores.end()) - scores.begin();
      most = scores[static_cast<std::size_t>(best)];
    } else {
      std::vector<int> votes(classes, 0);
      scores = decisions(model, own, votes);
      best = std::max_element(votes.begin(), votes.end()) - votes.begin();
      if (model.probable()) scores = probabilities(model, scores);
    }
    // A linear model of two classes whose best score is high enough takes the second, as the format's implementations have it.
    if (classes == 2 && svm.count == 0 && (model.all_positive ? most >= 0.5 : most > 0)) best = 1;
    chosen.push_back(classes == 1 ? (most > 0 ? kPositive : kNegative) : best);
    const auto to = std::span(out).subspan(static_cast<std::size_t>(row) * width, width);
    if (scores.size() == 1 && width == 2) {
      two_classes(svm.transform, scores[0], svm.transform != PostTransform::kNone, to);
    } else {
      std::copy(scores.begin(), scores.end(), to.begin());
      transform_scores(svm.transform, to);
    }
  }
  ctx.set_output(0, label_tensor(model.labels, chosen));
  ctx.set_output(1, from_doubles(DType::kFloat32, {rows.count, static_cast<std::int64_t>(width)}, out));
}

bool classifier_expand(ExpandContext& ctx) { return expand_text_labels(ctx, "classlabels_ints", "classlabels_strings"); }

}  // namespace

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
