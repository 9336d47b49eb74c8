// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Large products of bfloat16 operands: producing and consuming warp groups, wgmma.
//! only sm_90a
//! limits gemm_pipe_bf16_128x128_*: registers 128, shared 0, spill 64
//! limits gemm_pipe_bf16_*: registers 168, shared 0, spill 64

#include "backend/cuda/kernels/gemm_pipe.cuh"
#include "backend/cuda/kernels/gemm_tiles.h"

#if defined(__CUDA_ARCH_FEAT_SM90_ALL)
#define LATHE_VEC_PACKED(...) LATHE_GEMM_PIPE(bf16, kProductBF16, __VA_ARGS__)
LATHE_GEMM_PIPE_TILES(LATHE_VEC_PACKED)
#endif
