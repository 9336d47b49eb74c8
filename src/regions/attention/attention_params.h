// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the fused attention kernels, shared by host and device code: read by NVRTC too, so it includes only what that can read.

#include "backend/cuda/kernels/gemm_params.h"

namespace lathe::cuda {

/// One operand: elements between batch items (outer, inner) and between rows; the last axis is contiguous.
struct AttentionStrides {
  long long outer = 0, inner = 0, row = 0;
};

/// out[b][i] = sum_j softmax_j(scale * q[b][i] . k[b][j] + mask[b][i][j]) v[b][j]; q, k, v and out are stored in the kernel's type.
struct AttentionParams {
  const void *q = nullptr, *k = nullptr, *v = nullptr, *mask = nullptr;
  void* out = nullptr;
  AttentionStrides q_at, k_at, v_at, mask_at, out_at;
  int queries = 0, keys = 0;
  int depth = 0, value_depth = 0;  ///< of q and k; of v and out
  FastDivisor batch_inner;         ///< grid.y = outer * inner + inner index
  int mask_column = 0;             ///< elements between the mask's columns
  int mask_type = kElementFloat32;
  int vectors = 0;  ///< q, k and v may be read, out written, by 16 bytes
  int zeroes = 0;   ///< a row without a finite weight becomes zero, not NaN
  float scale = 1;
};

}  // namespace lathe::cuda
