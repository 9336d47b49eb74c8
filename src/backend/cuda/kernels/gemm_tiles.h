// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The product kernels that exist: one list, read by the device sources (which define them) and by the planner (which chooses).
//
// A kernel's name: gemm_<core>_<type>_<rows>x<columns>_<A>_<B>. core: mma (mma.sync, every architecture from sm_75), wgmma (sm_90a) or pipe
// (sm_90a, 16-bit types: for large problems).
// A: vec (16-byte copies) or elem (any channel count and strides). B: packed, nk (rows of depth), kn (rows of columns); the letter `e` in
// front of nk or kn: element by element.
//
// X(rows, columns, warps along rows, warps along columns, stages, blocks per multiprocessor)
#define LATHE_GEMM_MMA_TILES(X) \
  X(128, 128, 2, 4, 3, 1)       \
  X(128, 64, 2, 2, 3, 2)        \
  X(64, 128, 2, 2, 3, 2)        \
  X(64, 64, 2, 2, 4, 3)         \
  X(64, 32, 2, 2, 4, 4)         \
  X(32, 64, 1, 4, 4, 4)
/// Where A or B is loaded in another way.
#define LATHE_GEMM_MMA_OTHER_TILES(X) \
  X(128, 64, 2, 2, 3, 2)              \
  X(64, 64, 2, 2, 4, 3)
/// X(rows, columns, warp groups, stages, blocks per multiprocessor, wgmmas in flight)
#define LATHE_GEMM_WGMMA_TILES(X) \
  X(64, 64, 1, 4, 3, 0)           \
  X(128, 64, 2, 4, 2, 0)          \
  X(64, 128, 1, 4, 2, 0)          \
  X(128, 128, 2, 3, 2, 0)         \
  X(128, 256, 2, 4, 1, 1)         \
  X(256, 128, 2, 4, 1, 1)
/// X(rows, columns, consuming warp groups, stages, blocks per multiprocessor, even: blocks may share tiles, pairs B)
#define LATHE_GEMM_PIPE_TILES(X) \
  X(128, 256, 2, 4, 1, true)     \
  X(256, 128, 2, 4, 1, true)     \
  X(128, 128, 1, 3, 2, false)    \
  X(256, 64, 2, 5, 1, false)
