// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Features in, scores out: what the kernels of ai.onnx.ml share. The arithmetic is that of scores.h, in its order; where the device would fuse a
// product with a sum the parts are spelled out.

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/ml/ml_params.h"

namespace lathe::cuda {

/// Everything but doubles is a float32 first, as models were fitted.
template <class T>
__device__ inline T load_feature(const MlRows& rows, long long at) {
  switch (rows.x_type) {
    case kMlFloat64: return static_cast<T>(static_cast<const double*>(rows.x)[at]);
    case kMlInt32: return static_cast<float>(static_cast<const int*>(rows.x)[at]);
    case kMlInt64: return static_cast<float>(static_cast<const long long*>(rows.x)[at]);
    default: return load_element(rows.x, at, rows.x_type);
  }
}

__device__ inline void store_score(const MlRows& rows, long long row, int column, double score) {
  const long long at = row * rows.score_row + column * rows.score_column;
  if (rows.score_type == kMlFloat64) static_cast<double*>(rows.scores)[at] = score;
  else store_element(rows.scores, at, rows.score_type, static_cast<float>(score));
}

__device__ inline double logistic(double x) {
  const double v = 1 / (1 + exp(-fabs(x)));
  return x < 0 ? 1 - v : v;
}

__device__ inline double probit(double p) {
  constexpr double kPi = 3.14159265358979323846, kA = 0.147;
  const double x = 2 * p - 1, log_of = log(__dmul_rn(1 - x, 1 + x));
  if (log_of == 0) return 0;
  const double half = __dadd_rn(2 / (kPi * kA), __dmul_rn(0.5, log_of));
  const double magnitude = sqrt(-half + sqrt(__dadd_rn(__dmul_rn(half, half), -(log_of / kA))));
  return sqrt(2.0) * (x < 0 ? -magnitude : magnitude);
}

/// The scores of a row behind post_transform; `score(i)` is asked for more than once.
template <class Score>
__device__ inline void write_scores(const MlRows& rows, long long row, int count, Score score) {
  if (!rows.scores) return;
  if (count == 1) {
    const double only = score(0);
    store_score(rows, row, 0, rows.transform == kMlProbit ? probit(only) : only);
    return;
  }
  if (rows.transform == kMlSoftmax || rows.transform == kMlSoftmaxZero) {
    double most = score(0), sum = 0;
    for (int i = 1; i < count; ++i) most = fmax(most, score(i));
    const bool keeps_zeros = rows.transform == kMlSoftmaxZero;
    const auto power = [&](double s) { return keeps_zeros && !(fabs(s) > 1e-7) ? s * exp(-most) : exp(s - most); };
    for (int i = 0; i < count; ++i) sum = __dadd_rn(sum, power(score(i)));
    for (int i = 0; i < count; ++i) store_score(rows, row, i, keeps_zeros && sum == 0 ? 0.5 : power(score(i)) / sum);
    return;
  }
  for (int i = 0; i < count; ++i) {
    const double s = score(i);
    store_score(rows, row, i, rows.transform == kMlLogistic ? logistic(s) : rows.transform == kMlProbit ? probit(s) : s);
  }
}

/// The scores of two classes of which `score` is the second's.
__device__ inline void write_two_classes(const MlRows& rows, long long row, double score, bool as_probability) {
  if (!rows.scores) return;
  const bool logistic_pair = rows.transform == kMlLogistic, is_probit = rows.transform == kMlProbit;
  const double first = logistic_pair ? logistic(-score) : as_probability || is_probit ? 1 - score : -score;
  const double second = logistic_pair ? logistic(score) : score;
  store_score(rows, row, 0, is_probit ? probit(first) : first);
  store_score(rows, row, 1, is_probit ? probit(second) : second);
}

}  // namespace lathe::cuda
