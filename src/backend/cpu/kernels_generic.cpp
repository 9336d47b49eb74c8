// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Portable kernels: the compiler's four-float vectors. On 64-bit Arm they serve tests: its kernels are those of kernels_neon.cpp.
#include "backend/cpu/simd_generic.h"

#if defined(__aarch64__)
#define LATHE_TILE_ROWS 4
#else
#define LATHE_TILE_ROWS 2
#endif
#define LATHE_TILE_UNITS 1
#include "backend/cpu/kernels_body.h"

namespace lathe::cpu {
extern const KernelTable kGenericKernels;
constinit const KernelTable kGenericKernels = make_table(Isa::kGeneric);
}  // namespace lathe::cpu
