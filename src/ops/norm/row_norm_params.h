// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters and the list of the kernels that normalise rows on a GPU, shared by host and device code: read by NVRTC too.

#include "backend/cuda/kernels/gemm_params.h"

namespace lathe::cuda {

/// out[r] = (x[r] - mean) / sqrt(variance + epsilon) * scale + bias, or without the mean (rms). Columns are contiguous.
struct RowNormParams {
  const void* x = nullptr;
  void* out = nullptr;
  const float *scale = nullptr, *bias = nullptr;  ///< one number per column; bias may be missing
  long long x_row = 0, out_row = 0;               ///< elements between rows
  int rows = 0, columns = 0;
  int x_type = kElementFloat32, out_type = kElementFloat32;
  int vectors = 0;  ///< x and out may be accessed eight elements at a time
  int rms = 0;
  float epsilon = 0;
};

}  // namespace lathe::cuda

/// X(threads a row, groups of eight columns a thread)
#define LATHE_ROW_NORMS(X) X(32, 1) X(32, 2) X(32, 3) X(32, 4) X(256, 1) X(256, 2) X(256, 4)
