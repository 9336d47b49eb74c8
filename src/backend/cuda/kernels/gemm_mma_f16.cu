// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Products of float16 operands on mma.sync.
//! limits gemm_mma_f16_128x*: registers 248, shared 1024, spill 0
//! limits gemm_mma_f16_64x128*: registers 248, shared 1024, spill 0
//! limits gemm_mma_f16_64x64*: registers 168, shared 1024, spill 0
//! limits gemm_mma_f16_*: registers 128, shared 1024, spill 0

#include "backend/cuda/kernels/gemm_mma.cuh"
#include "backend/cuda/kernels/gemm_tiles.h"

#define LATHE_VEC_PACKED(...) LATHE_GEMM_MMA(f16, kProductF16, vec_packed, kVectorA, kPackedB, __VA_ARGS__)
#define LATHE_ELEM_PACKED(...) LATHE_GEMM_MMA(f16, kProductF16, elem_packed, kElementA, kPackedB, __VA_ARGS__)
#define LATHE_VEC_NK(...) LATHE_GEMM_MMA(f16, kProductF16, vec_nk, kVectorA, kRowsB, __VA_ARGS__)
#define LATHE_VEC_KN(...) LATHE_GEMM_MMA(f16, kProductF16, vec_kn, kVectorA, kAcrossB, __VA_ARGS__)
#define LATHE_ELEM_ENK(...) LATHE_GEMM_MMA(f16, kProductF16, elem_enk, kElementA, kRowsElementB, __VA_ARGS__)
#define LATHE_ELEM_EKN(...) LATHE_GEMM_MMA(f16, kProductF16, elem_ekn, kElementA, kAcrossElementB, __VA_ARGS__)

LATHE_GEMM_MMA_TILES(LATHE_VEC_PACKED)
LATHE_GEMM_MMA_OTHER_TILES(LATHE_ELEM_PACKED)
LATHE_GEMM_MMA_OTHER_TILES(LATHE_VEC_NK)
LATHE_GEMM_MMA_OTHER_TILES(LATHE_VEC_KN)
LATHE_ELEM_ENK(64, 64, 2, 2, 4, 3)
LATHE_ELEM_EKN(64, 64, 2, 2, 4, 3)
