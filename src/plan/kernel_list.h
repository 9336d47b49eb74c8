// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What a folder with a run half exports: its kernels and its pack functions. CMake generates the list of folders.

#include <span>

#include "plan/kernel.h"

namespace lathe::plan {

struct KernelSet {
  std::span<const KernelType> kernels;
  std::span<const PackFunction> packs;
};

void add_builtin_kernels(void (*add)(const KernelSet&));

}  // namespace lathe::plan
