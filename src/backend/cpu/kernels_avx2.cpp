// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// AVX2 + FMA kernels.
#if defined(__x86_64__)
#include "backend/cpu/simd_avx2.h"

#define LATHE_TILE_ROWS 6
#define LATHE_TILE_UNITS 1
#include "backend/cpu/kernels_body.h"

namespace lathe::cpu {
extern const KernelTable kAvx2Kernels;
constinit const KernelTable kAvx2Kernels = make_table(Isa::kAvx2);
}  // namespace lathe::cpu
#endif  // __x86_64__
