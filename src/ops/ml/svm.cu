// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Support vector machines: a thread for each vector and a few rows, in double precision and in the order of the features; then one for each row and
// decision, and one for each row that votes and tells. The arithmetic is svm_scores.h's; where the device would fuse a product with a sum the parts
// are spelled out.
//! limits svm_*: registers 80, shared 0, spill 32

#include "ops/ml/ml_device.cuh"
#include "ops/ml/svm_params.h"

namespace lathe::cuda {

__device__ inline double plus_product(double sum, double a, double b) { return __dadd_rn(sum, __dmul_rn(a, b)); }

__device__ inline double svm_response(const SvmParams& p, double sum) {
  switch (p.kind) {
    case kSvmPoly: return pow(plus_product(p.coef0, sum, p.gamma), p.degree);
    case kSvmRbf: return exp(-p.gamma * sum);
    case kSvmSigmoid: return tanh(plus_product(p.coef0, sum, p.gamma));
    default: return sum;
  }
}

__device__ inline void svm_respond(const SvmParams& p) {
  launch_dependents();
  const int across = (p.responses + kSvmThreads - 1) / kSvmThreads, tile = static_cast<int>(blockIdx.x / across);
  const int v = static_cast<int>(blockIdx.x - static_cast<unsigned>(tile) * across) * kSvmThreads + static_cast<int>(threadIdx.x);
  wait_for_previous();
  if (v >= p.responses) return;
  long long from[kSvmRows];
  double sums[kSvmRows];
#pragma unroll
  for (int r = 0; r < kSvmRows; ++r) {
    from[r] = (p.first + min(tile * kSvmRows + r, p.many - 1)) * p.rows.x_row;
    sums[r] = 0;
  }
  const float* vector = p.vectors + v;
  for (int k = 0; k < p.features; ++k, vector += p.responses) {
    const double own = *vector;
#pragma unroll
    for (int r = 0; r < kSvmRows; ++r) {
      const double x = load_feature<double>(p.rows, from[r] + k * p.rows.x_column);
      const double apart = x - own;
      sums[r] = p.kind == kSvmRbf ? plus_product(sums[r], apart, apart) : plus_product(sums[r], x, own);
    }
  }
#pragma unroll
  for (int r = 0; r < kSvmRows; ++r) {
    const int row = tile * kSvmRows + r;
    if (row < p.many) p.kernels[static_cast<long long>(row) * p.responses + v] = svm_response(p, sums[r]);
  }
}

/// What vectors `begin` to `end` add to a decision.
__device__ inline double svm_add(double sum, const float* coefficients, const double* kernels, int begin, int end) {
#pragma unroll 4
  for (int v = begin; v < end; ++v) sum = plus_product(sum, coefficients[v], kernels[v]);
  return sum;
}

__device__ inline void svm_decide(const SvmParams& p) {
  launch_dependents();
  const long long at = static_cast<long long>(blockIdx.x) * kSvmThreads + threadIdx.x;
  const int decision = static_cast<int>(at / p.many), row = static_cast<int>(at - static_cast<long long>(decision) * p.many);
  wait_for_previous();
  if (decision >= p.decisions) return;
  const double* kernels = p.kernels + static_cast<long long>(row) * p.responses;
  if (p.classes == 0) {
    double sum = p.rho[0];
    if (p.count == 0) sum = __dadd_rn(sum, kernels[0]);
    sum = svm_add(sum, p.coefficients, kernels, 0, p.count);
    if (p.rows.scores) store_score(p.rows, p.first + row, 0, !p.one_class ? sum : static_cast<float>(sum) > 0 ? 1 : -1);
    return;
  }
  double sum;
  if (p.count == 0) {
    sum = __dadd_rn(p.rho[0], kernels[decision]);
  } else {
    int i = 0, rest = decision;
    for (; rest >= p.classes - 1 - i; ++i) rest -= p.classes - 1 - i;
    const int j = i + 1 + rest;
    sum = svm_add(p.rho[decision], p.coefficients + static_cast<long long>(j - 1) * p.count, kernels, p.starts[i], p.starts[i + 1]);
    sum = svm_add(sum, p.coefficients + static_cast<long long>(i) * p.count, kernels, p.starts[j], p.starts[j + 1]);
  }
  p.scores[static_cast<long long>(decision) * p.slab + row] = sum;
}

/// A row's numbers in the workspace.
struct SvmColumn {
  double* first;
  long long step;
  __device__ double& operator[](long long i) const { return first[i * step]; }
};

/// ops::couple().
__device__ inline void couple(int n, const SvmColumn& r, const SvmColumn& q, const SvmColumn& qp, const SvmColumn& p) {
  const auto at = [n](int i, int j) { return static_cast<long long>(i) * n + j; };
  for (int i = 0; i < n; ++i) {
    p[i] = 1.0 / n;
    double sum = 0;
    for (int j = 0; j < n; ++j) {
      if (i == j) continue;
      sum = plus_product(sum, r[at(j, i)], r[at(j, i)]);
      q[at(i, j)] = -r[at(j, i)] * r[at(i, j)];
    }
    q[at(i, i)] = sum;
  }
  for (int trip = 0; trip < 100; ++trip) {
    double pqp = 0, error = 0;
    for (int i = 0; i < n; ++i) {
      double sum = 0;
      for (int j = 0; j < n; ++j) sum = plus_product(sum, q[at(i, j)], p[j]);
      qp[i] = sum;
      pqp = plus_product(pqp, p[i], sum);
    }
    for (int i = 0; i < n; ++i) {
      const double wrong = fabs(qp[i] - pqp);
      if (error < wrong) error = wrong;
    }
    if (error < 0.005 / n) break;
    for (int i = 0; i < n; ++i) {
      const double own = q[at(i, i)], step = (pqp - qp[i]) / own, whole = 1 + step;
      p[i] += step;
      pqp = plus_product(pqp, step, __dadd_rn(__dmul_rn(step, own), 2 * qp[i])) / whole / whole;
      for (int j = 0; j < n; ++j) {
        qp[j] = plus_product(qp[j], step, q[at(i, j)]) / whole;
        p[j] /= whole;
      }
    }
  }
}

__device__ inline void svm_finish(const SvmParams& p) {
  launch_dependents();
  const int row = static_cast<int>(blockIdx.x * kSvmThreads + threadIdx.x), n = p.classes;
  wait_for_previous();
  if (row >= p.many) return;
  const auto column = [&](double* part) { return SvmColumn{part + row, p.slab}; };
  const SvmColumn scores = column(p.scores);
  const long long of_all = p.first + row;
  int best = 0;
  if (p.count == 0) {
    for (int c = 1; c < n; ++c)
      if (scores[best] < scores[c]) best = c;
    const double most = scores[best];
    // A linear model of two classes whose best score is high enough takes the second, as the format's implementations have it.
    if (n == 2 && (p.all_positive ? most >= 0.5 : most > 0)) best = 1;
    if (n == 1) best = most > 0;
  } else {
    const SvmColumn votes = column(p.votes);
    for (int c = 0; c < n; ++c) votes[c] = 0;
    for (int i = 0, pair = 0; i < n; ++i)
      for (int j = i + 1; j < n; ++j, ++pair) votes[scores[pair] > 0 ? i : j] += 1;
    for (int c = 1; c < n; ++c)
      if (votes[best] < votes[c]) best = c;
  }
  if (p.rows.labels) p.rows.labels[of_all * p.rows.label_step] = n == 1 ? best : p.label_values[best];
  if (!p.rows.scores) return;
  if (p.probable) {
    const SvmColumn r = column(p.pairwise), shares = column(p.shares);
    for (int i = 0, pair = 0; i < n; ++i)
      for (int j = i + 1; j < n; ++j, ++pair) {
        const double chance = 1 - logistic(plus_product(p.prob_b[pair], scores[pair], p.prob_a[pair])), most = 1 - 1e-7;
        const double bounded = chance < 1e-7 ? 1e-7 : most < chance ? most : chance;
        r[static_cast<long long>(i) * n + j] = bounded;
        r[static_cast<long long>(j) * n + i] = 1 - bounded;
      }
    couple(n, r, column(p.matrix), column(p.products), shares);
    write_scores(p.rows, of_all, n, [&](int i) { return shares[i]; });
  } else if (p.decisions == 1 && p.width == 2) {
    write_two_classes(p.rows, of_all, scores[0], p.rows.transform != kMlNone);
  } else {
    write_scores(p.rows, of_all, p.width, [&](int i) { return scores[i]; });
  }
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(128) svm_respond(const __grid_constant__ lathe::cuda::SvmParams p) { lathe::cuda::svm_respond(p); }
extern "C" __global__ void __launch_bounds__(128) svm_decide(const __grid_constant__ lathe::cuda::SvmParams p) { lathe::cuda::svm_decide(p); }
extern "C" __global__ void __launch_bounds__(128) svm_finish(const __grid_constant__ lathe::cuda::SvmParams p) { lathe::cuda::svm_finish(p); }
