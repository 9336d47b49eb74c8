// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The normalisations, one file a kind; norm.cpp lists them.

#include "ops/op_def.h"

namespace lathe::ops {

OpDef batch_normalization();           // batch_norm.cpp
OpDef layer_normalization();           // layer_norm.cpp
OpDef rms_normalization();             // layer_norm.cpp
OpDef instance_normalization();        // group_norm.cpp
OpDef group_normalization();           // group_norm.cpp
OpDef lp_normalization();              // vector_norm.cpp
OpDef mean_variance_normalization();   // vector_norm.cpp
OpDef local_response_normalization();  // vector_norm.cpp

inline constexpr Tolerance kNormTolerance{.relative = 2e-5, .absolute = 2e-5};

}  // namespace lathe::ops
