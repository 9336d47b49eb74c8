// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The operators of ai.onnx.ml, one file a family; ml.cpp lists them.

#include <string_view>

#include "ops/ml/scores.h"
#include "ops/op_def.h"

namespace lathe::ops {

// encoders.cpp
OpDef label_encoder();
OpDef category_mapper();
OpDef one_hot_encoder();
// features.cpp
OpDef array_feature_extractor();
OpDef binarizer();
OpDef feature_vectorizer();
OpDef imputer();
OpDef normalizer();
OpDef scaler();
// linear.cpp
OpDef linear_classifier();
OpDef linear_regressor();
// maps.cpp
OpDef cast_map();
OpDef dict_vectorizer();
OpDef zip_map();
// svm.cpp
OpDef svm_classifier();
OpDef svm_regressor();
// tree_ops.cpp
OpDef tree_ensemble();
OpDef tree_ensemble_classifier();
OpDef tree_ensemble_regressor();

/// By the name that all but TreeEnsemble use.
PostTransform post_transform_of(const Attrs& attrs);

inline constexpr std::string_view kFeatureTypes = "T: float double int64 int32";
inline constexpr std::string_view kClassifierTypes = "T1: float double int64 int32; T2: string int64";
inline constexpr Tolerance kScoreTolerance{.relative = 2e-5, .absolute = 2e-6};

}  // namespace lathe::ops
