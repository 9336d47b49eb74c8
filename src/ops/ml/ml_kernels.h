// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kernels of ai.onnx.ml, one file each; ml_cpu.cpp and ml_cuda.cpp list them.

#include <memory>

#include "plan/kernel.h"

namespace lathe::plan {

std::unique_ptr<Kernel> bind_trees(const BindRequest& request);       // trees_cpu.cpp
std::unique_ptr<Kernel> bind_svm(const BindRequest& request);         // svm_cpu.cpp
std::unique_ptr<Kernel> bind_cuda_trees(const BindRequest& request);  // trees_cuda.cpp
std::unique_ptr<Kernel> bind_cuda_svm(const BindRequest& request);    // svm_cuda.cpp
std::vector<std::byte> pack_cuda_trees(const ir::Attrs& params, std::span<const Tensor> sources);
std::vector<std::byte> pack_cuda_svm(const ir::Attrs& params, std::span<const Tensor> sources);

}  // namespace lathe::plan
