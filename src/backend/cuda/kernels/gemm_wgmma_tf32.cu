// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Products of TF32 operands on wgmma.
//! only sm_90a
//! limits gemm_wgmma_tf32_128x64_*: registers 128, shared 1024, spill 8
//! limits gemm_wgmma_tf32_128x128_*: registers 128, shared 1024, spill 8
//! limits gemm_wgmma_tf32_64x64_*: registers 168, shared 1024, spill 0
//! limits gemm_wgmma_tf32_*: registers 240, shared 2048, spill 0

#include "backend/cuda/kernels/gemm_tiles.h"
#include "backend/cuda/kernels/gemm_wgmma.cuh"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LATHE_VEC_PACKED(...) LATHE_GEMM_WGMMA(tf32, kProductTF32, __VA_ARGS__)
LATHE_GEMM_WGMMA_TILES(LATHE_VEC_PACKED)
#endif
