// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// AVX-512 (F, BW, DQ, VL) kernels; bf16 by fp32 arithmetic.
#if defined(__x86_64__)
#include "backend/cpu/simd_avx512.h"

#define LATHE_TILE_ROWS 14
#define LATHE_TILE_UNITS 2
#include "backend/cpu/kernels_body.h"

namespace lathe::cpu {
extern const KernelTable kAvx512Kernels;
constinit const KernelTable kAvx512Kernels = make_table(Isa::kAvx512);
}  // namespace lathe::cpu
#endif  // __x86_64__
