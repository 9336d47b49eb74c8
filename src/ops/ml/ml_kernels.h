// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The kernels of ai.onnx.ml, one file each; ml_cpu.cpp lists them.

#include <memory>

#include "plan/kernel.h"

namespace lathe::plan {

std::unique_ptr<Kernel> bind_trees(const BindRequest& request);  // trees_cpu.cpp
std::unique_ptr<Kernel> bind_svm(const BindRequest& request);    // svm_cpu.cpp

}  // namespace lathe::plan
