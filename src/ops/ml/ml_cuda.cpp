// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The list of the kernels of ai.onnx.ml on CUDA devices.

#include <array>

#include "ops/ml/ml_kernels.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

constexpr std::array<KernelType, 2> kKernels{{{"cuda.svm", bind_cuda_svm, ""}, {"cuda.trees", bind_cuda_trees, ""}}};
constexpr std::array<PackFunction, 2> kPacks{{{"cuda.svm.pack", pack_cuda_svm}, {"cuda.trees.pack", pack_cuda_trees}}};

}  // namespace

KernelSet kernels_ml_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
