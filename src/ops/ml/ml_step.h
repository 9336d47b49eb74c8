// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates of ai.onnx.ml for CPUs and GPUs have in common.

#include "ops/candidate.h"

namespace lathe::ops {

/// Why no kernel could run it; `reads` and `writes` say of an element type whether features and scores may have it.
Verdict ml_verdict(const PlanRequest& request, bool (*reads)(DType), bool (*writes)(DType));
/// The steps, models and all in their parameters. Kernels are the caller's to name.
StepPlan trees_step(const PlanRequest& request);
StepPlan svm_step(const PlanRequest& request);

}  // namespace lathe::ops
