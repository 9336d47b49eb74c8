// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NEON kernels: of the 32 registers a tile of 6 x 16 takes 24 for sums, 4 for weights.
#if defined(__aarch64__)
#include "backend/cpu/simd_neon.h"

#define LATHE_TILE_ROWS 6
#define LATHE_TILE_UNITS 1
#include "backend/cpu/kernels_body.h"

namespace lathe::cpu {
extern const KernelTable kNeonKernels;
constinit const KernelTable kNeonKernels = make_table(Isa::kNeon);
}  // namespace lathe::cpu
#endif  // __aarch64__
