// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A support vector machine read from its attributes, every length checked.

#include <vector>

#include "ops/ml/ml_util.h"
#include "ops/ml/svm_scores.h"

namespace lathe::ops {

struct Svm {
  SvmShape shape;  ///< points into the lists
  std::vector<float> coefficients, vectors, rho, prob_a, prob_b;
  std::vector<std::int64_t> starts;
  Labels labels;  ///< none: a regression

  Svm() = default;
  Svm(Svm&&) = default;  // the lists stay where they are
  Svm& operator=(Svm&&) = default;
};

Svm svm_of_regressor(const Attrs& attrs);
Svm svm_of_classifier(const Attrs& attrs);

}  // namespace lathe::ops
