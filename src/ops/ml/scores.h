// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What becomes of a model's raw scores: post_transform, and how one score stands for two classes. The references and the kernels share
// it, so it is inline and needs nothing of the ops.
//
// The format says little here, and models are fitted against ONNX Runtime's reading, which this follows: a single score is left alone
// but for PROBIT; a single score of two classes becomes (1 - s, s) or (-s, s), by whether all weights are positive, and only LOGISTIC
// transforms it further.

#include <cmath>
#include <cstdint>
#include <span>

namespace lathe::ops {

/// The numbers are those of TreeEnsemble's post_transform.
enum class PostTransform : std::uint8_t { kNone = 0, kSoftmax = 1, kLogistic = 2, kSoftmaxZero = 3, kProbit = 4 };

inline double logistic(double x) noexcept {
  const double v = 1 / (1 + std::exp(-std::abs(x)));
  return x < 0 ? 1 - v : v;
}

/// The quantile of the normal distribution by Winitzki's inverse of the error function, as the format's implementations have it.
inline double probit(double p) noexcept {
  constexpr double kPi = 3.14159265358979323846, kA = 0.147;
  const double x = 2 * p - 1, log = std::log((1 - x) * (1 + x));
  if (log == 0) return 0;
  const double half = 2 / (kPi * kA) + 0.5 * log;
  const double magnitude = std::sqrt(-half + std::sqrt(half * half - log / kA));
  return std::sqrt(2.0) * (x < 0 ? -magnitude : magnitude);
}

/// Softmax in which scores of zero, which no vote reached, stay (nearly) zero.
inline void softmax_zero(std::span<double> scores) noexcept {
  double most = -INFINITY, sum = 0;
  for (const double s : scores) most = std::fmax(most, s);
  for (double& s : scores) {
    s = std::abs(s) > 1e-7 ? std::exp(s - most) : s * std::exp(-most);
    sum += s;
  }
  for (double& s : scores) s = sum == 0 ? 0.5 : s / sum;
}

inline void softmax(std::span<double> scores) noexcept {
  double most = -INFINITY, sum = 0;
  for (const double s : scores) most = std::fmax(most, s);
  for (double& s : scores) sum += s = std::exp(s - most);
  for (double& s : scores) s /= sum;
}

inline void transform_scores(PostTransform transform, std::span<double> scores) noexcept {
  if (scores.size() == 1) {
    if (transform == PostTransform::kProbit) scores[0] = probit(scores[0]);
    return;
  }
  switch (transform) {
    case PostTransform::kNone: return;
    case PostTransform::kSoftmax: return softmax(scores);
    case PostTransform::kSoftmaxZero: return softmax_zero(scores);
    case PostTransform::kLogistic:
      for (double& s : scores) s = logistic(s);
      return;
    case PostTransform::kProbit:
      for (double& s : scores) s = probit(s);
      return;
  }
}

/// The scores of two classes of which `score` is the second's.
inline void two_classes(PostTransform transform, double score, bool as_probability, std::span<double> out) noexcept {
  if (transform == PostTransform::kLogistic) {
    out[0] = logistic(-score);
    out[1] = logistic(score);
    return;
  }
  out[0] = as_probability || transform == PostTransform::kProbit ? 1 - score : -score;
  out[1] = score;
  if (transform == PostTransform::kProbit) transform_scores(transform, out);
}

}  // namespace lathe::ops
