// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// AVX-512 kernels whose bf16 products use vdpbf16ps.
#if defined(__x86_64__)
#include "backend/cpu/simd_avx512.h"

#define LATHE_TILE_ROWS 14
#define LATHE_TILE_UNITS 2
#include "backend/cpu/kernels_body.h"

namespace lathe::cpu {
extern const KernelTable kAvx512Bf16Kernels;
constinit const KernelTable kAvx512Bf16Kernels = make_table(Isa::kAvx512Bf16);
}  // namespace lathe::cpu
#endif  // __x86_64__
