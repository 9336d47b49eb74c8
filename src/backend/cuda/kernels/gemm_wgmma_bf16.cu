// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Products of bfloat16 operands on wgmma.
//! only sm_90a
//! limits gemm_wgmma_bf16_128x64_*: registers 128, shared 1024, spill 8
//! limits gemm_wgmma_bf16_128x128_*: registers 128, shared 1024, spill 8
//! limits gemm_wgmma_bf16_64x64_*: registers 168, shared 1024, spill 0
//! limits gemm_wgmma_bf16_*: registers 240, shared 2048, spill 0

#include "backend/cuda/kernels/gemm_tiles.h"
#include "backend/cuda/kernels/gemm_wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LATHE_VEC_PACKED(...) LATHE_GEMM_WGMMA(bf16, kProductBF16, __VA_ARGS__)
LATHE_GEMM_WGMMA_TILES(LATHE_VEC_PACKED)
#endif
