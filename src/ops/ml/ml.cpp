// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The domain ai.onnx.ml: classical models and the steps around them.
#include "ops/ml/ml_defs.h"
#include "ops/ml/ml_util.h"
#include "ops/registry_internal.h"

namespace lathe::ops {

PostTransform post_transform_of(const Attrs& attrs) {
  const std::string name = attrs.get_string("post_transform", "NONE");
  if (name == "NONE") return PostTransform::kNone;
  if (name == "SOFTMAX") return PostTransform::kSoftmax;
  if (name == "LOGISTIC") return PostTransform::kLogistic;
  if (name == "SOFTMAX_ZERO") return PostTransform::kSoftmaxZero;
  if (name == "PROBIT") return PostTransform::kProbit;
  reject("post_transform '" + name + "' is none of NONE, SOFTMAX, LOGISTIC, SOFTMAX_ZERO, PROBIT");
}

std::span<const OpDef> ops_ml() {
  static const std::vector<OpDef> ops{
      array_feature_extractor(),
      binarizer(),
      cast_map(),
      category_mapper(),
      dict_vectorizer(),
      feature_vectorizer(),
      imputer(),
      label_encoder(),
      normalizer(),
      one_hot_encoder(),
      scaler(),
      linear_classifier(),
      linear_regressor(),
      svm_classifier(),
      svm_regressor(),
      tree_ensemble(),
      zip_map(),
      tree_ensemble_classifier(),
      tree_ensemble_regressor(),
  };
  return ops;
}

}  // namespace lathe::ops
