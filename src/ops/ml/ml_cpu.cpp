// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The list of the kernels of ai.onnx.ml.

#include <array>

#include "ops/ml/ml_kernels.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

constexpr std::array<KernelType, 2> kKernels{{{"cpu.svm", bind_svm, ""}, {"cpu.trees", bind_trees, ""}}};

}  // namespace

KernelSet kernels_ml() { return {kKernels, {}}; }

}  // namespace lathe::plan
