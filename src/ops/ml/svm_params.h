// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the kernels of support vector machines, shared by host and device code: read by NVRTC too, so it includes nothing of the host's.

#include "ops/ml/ml_params.h"

namespace lathe::cuda {

constexpr int kSvmThreads = 128, kSvmRows = 4;  ///< of a block; rows that a thread multiplies its vector with

/// The numbers are those of ops::SvmKernel.
enum SvmKind : int { kSvmLinear, kSvmPoly, kSvmRbf, kSvmSigmoid };

struct SvmParams {
  MlRows rows;
  const float* vectors = nullptr;       ///< [features, responses]; of a linear model its coefficients
  const float* coefficients = nullptr;  ///< [classes - 1, count], of a regression [count]
  const float* rho = nullptr;
  const float *prob_a = nullptr, *prob_b = nullptr;
  const int* starts = nullptr;  ///< of each class's vectors, and their end
  const long long* label_values = nullptr;
  double gamma = 0, coef0 = 0, degree = 0;
  int kind = kSvmLinear;
  int features = 1, count = 0, classes = 0, responses = 1, decisions = 1, width = 1;
  int probable = 0, one_class = 0, all_positive = 0;
  // The rows of one round, and the workspace: element i of row r is at i * slab + r, but in `kernels` at r * responses + i.
  long long first = 0;
  int many = 0, slab = 0;
  double *kernels = nullptr, *scores = nullptr;
  double *votes = nullptr, *shares = nullptr, *products = nullptr;  ///< [classes]; the last two of probabilities alone
  double *pairwise = nullptr, *matrix = nullptr;                    ///< [classes, classes]
};

}  // namespace lathe::cuda
