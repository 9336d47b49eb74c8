// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Support vector machines from the kernels of a row with the support vectors onwards: what the reference and the kernel do alike. Every pair
// of classes votes; pairwise probabilities become one distribution by the second method of Wu, Lin and Weng (2004).

#include <algorithm>

#include "ops/ml/scores.h"

namespace lathe::ops {

enum class SvmKernel : std::uint8_t { kLinear = 0, kPoly = 1, kRbf = 2, kSigmoid = 3 };

struct SvmShape {
  SvmKernel kind = SvmKernel::kLinear;
  double gamma = 0, coef0 = 0, degree = 0;
  PostTransform transform = PostTransform::kNone;
  std::size_t count = 0;     ///< support vectors; 0: a linear model
  std::size_t features = 0;  ///< that X must have
  std::size_t classes = 0;   ///< 0: a regression
  std::span<const float> coefficients, rho, prob_a, prob_b;
  std::span<const std::int64_t> starts;  ///< of each class's support vectors, and their end
  bool all_positive = false;             ///< the coefficients
  bool one_class = false;                ///< a regression that says 1 or -1

  /// How many dot products or distances a row gives: one with each support vector, of a linear model with each class's coefficients.
  std::size_t responses() const { return count > 0 ? count : std::max<std::size_t>(classes, 1); }
  /// What becomes of them.
  SvmKernel response_kind() const { return count > 0 ? kind : SvmKernel::kLinear; }
  std::size_t pairs() const { return classes * (classes - 1) / 2; }
  bool probable() const { return count > 0 && !prob_a.empty(); }
  /// Scores of a row: of the classes, or of their pairs.
  std::size_t width() const { return classes == 0 ? 1 : count == 0 || probable() ? classes : std::max<std::size_t>(pairs(), 2); }
  std::size_t decisions() const { return count > 0 ? pairs() : classes; }
  /// Doubles that finish_svm() works in.
  std::size_t scratch() const { return classes == 0 ? 0 : decisions() + 3 * classes + (probable() ? 2 * classes * classes : 0); }
};

/// Of the product of two vectors, for RBF of their squared distance.
inline double svm_response(const SvmShape& svm, SvmKernel kind, double sum) noexcept {
  switch (kind) {
    case SvmKernel::kLinear: return sum;
    case SvmKernel::kPoly: return std::pow(sum * svm.gamma + svm.coef0, svm.degree);
    case SvmKernel::kRbf: return std::exp(-svm.gamma * sum);
    case SvmKernel::kSigmoid: return std::tanh(sum * svm.gamma + svm.coef0);
  }
  return sum;
}

/// The distribution p that minimises the sum over pairs of (r_ji p_i - r_ij p_j)^2, by its fixed-point iteration. `r` and `q` are n x n.
inline void couple(std::size_t n, const double* r, double* q, double* qp, double* p) noexcept {
  for (std::size_t i = 0; i < n; ++i) {
    p[i] = 1.0 / static_cast<double>(n);
    double sum = 0;
    for (std::size_t j = 0; j < n; ++j) {
      if (i == j) continue;
      sum += r[j * n + i] * r[j * n + i];
      q[i * n + j] = -r[j * n + i] * r[i * n + j];
    }
    q[i * n + i] = sum;
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
}

/// The class, and its scores in `out`. `kernels`: with each support vector, of a linear model the product with each class's coefficients.
/// Of a regression: its result in out[0], and 0.
inline std::int64_t finish_svm(const SvmShape& svm, const double* kernels, double* scratch, std::span<double> out) noexcept {
  const std::size_t classes = svm.classes;
  if (classes == 0) {
    // A regression has one score, which is not transformed (scores.h).
    double sum = svm.rho[0];
    if (svm.count == 0) sum += kernels[0];
    for (std::size_t v = 0; v < svm.count; ++v) sum += svm.coefficients[v] * kernels[v];
    out[0] = !svm.one_class ? sum : static_cast<float>(sum) > 0 ? 1 : -1;
    return 0;
  }
  double *scores = scratch, *votes = scores + svm.decisions(), *qp = votes + classes, *p = qp + classes, *r = p + classes, *q = r + classes * classes;
  std::size_t length = 0;
  std::int64_t best = 0;
  double most = 0;
  if (svm.count == 0) {
    length = classes;
    for (std::size_t c = 0; c < classes; ++c) scores[c] = svm.rho[0] + kernels[c];
    best = std::max_element(scores, scores + classes) - scores;
    most = scores[best];
  } else {
    std::fill_n(votes, classes, 0.0);
    for (std::size_t i = 0; i < classes; ++i)
      for (std::size_t j = i + 1; j < classes; ++j) {
        double sum = svm.rho[length];
        for (auto v = static_cast<std::size_t>(svm.starts[i]); v < static_cast<std::size_t>(svm.starts[i + 1]); ++v)
          sum += svm.coefficients[(j - 1) * svm.count + v] * kernels[v];
        for (auto v = static_cast<std::size_t>(svm.starts[j]); v < static_cast<std::size_t>(svm.starts[j + 1]); ++v)
          sum += svm.coefficients[i * svm.count + v] * kernels[v];
        votes[sum > 0 ? i : j] += 1;
        scores[length++] = sum;
      }
    best = std::max_element(votes, votes + classes) - votes;
  }
  // A linear model of two classes whose best score is high enough takes the second, as the format's implementations have it.
  if (classes == 2 && svm.count == 0 && (svm.all_positive ? most >= 0.5 : most > 0)) best = 1;
  if (classes == 1) best = most > 0;
  if (svm.probable()) {
    std::size_t pair = 0;
    for (std::size_t i = 0; i < classes; ++i)
      for (std::size_t j = i + 1; j < classes; ++j, ++pair) {
        const double chance = 1 - logistic(scores[pair] * svm.prob_a[pair] + svm.prob_b[pair]);
        r[i * classes + j] = std::clamp(chance, 1e-7, 1 - 1e-7);
        r[j * classes + i] = 1 - r[i * classes + j];
      }
    couple(classes, r, q, qp, p);
    std::copy_n(p, classes, out.begin());
  } else if (length == 1 && out.size() == 2) {
    two_classes(svm.transform, scores[0], svm.transform != PostTransform::kNone, out);
    return best;
  } else {
    std::copy_n(scores, length, out.begin());
  }
  transform_scores(svm.transform, out);
  return best;
}

}  // namespace lathe::ops
