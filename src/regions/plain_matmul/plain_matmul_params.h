// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the plain kernels of matrix products, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kPlainMatMulThreads = 256, kPlainMatMulSide = 16;  ///< a block's threads are a square
constexpr int kPlainMatMulDepth = 16;                            ///< of the tiles in shared memory
constexpr int kPlainMatMulEach = 4;                              ///< rows, and columns, of a thread where tiles are large; else one
constexpr int kPlainMatMulAxes = 6;

/// y = scale * a b + z_scale * z; strides in elements.
struct PlainMatMulParams {
  const void *a = nullptr, *b = nullptr, *z = nullptr;  ///< z: null where nothing is added
  void* y = nullptr;
  int a_type = 0, b_type = 0, z_type = 0, y_type = 0;
  long long m = 0, n = 0, k = 0;
  long long row_tiles = 0, column_tiles = 0;
  long long a_m = 0, a_k = 0, b_k = 0, b_n = 0, z_m = 0, z_n = 0, y_m = 0, y_n = 0;
  long long extent[kPlainMatMulAxes] = {}, a_step[kPlainMatMulAxes] = {}, b_step[kPlainMatMulAxes] = {}, y_step[kPlainMatMulAxes] = {};  ///< of the batch
  int axes = 0;
  int a_along_k = 0, b_along_k = 0;  ///< neighbouring threads read along the summed axis
  int has_z = 0;
  double scale = 1, z_scale = 1;
};

}  // namespace lathe::cuda
