// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the kernels of Det and Inverse, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

/// Element types: ElementType, and this one.
constexpr int kMatrixFloat64 = 3;
constexpr int kMatrixAxes = 6, kMatrixThreads = 512;
/// Bytes of shared memory that a block has for the search of a pivot, and for search and matrix where it fits.
constexpr int kPivotBytes = 512, kMatrixShared = 48 << 10;

struct MatrixParams {
  const void* x = nullptr;
  void* y = nullptr;
  int type = 0, y_type = 0;
  int n = 0, padding = 0;  ///< rows and columns
  // Matrices: the axes of the batch, outermost first; steps in elements. Of Det's result a matrix is one element.
  long long items = 0;
  int axes = 0, padding_behind = 0;
  long long extent[kMatrixAxes] = {}, x_step[kMatrixAxes] = {}, y_step[kMatrixAxes] = {};
  long long x_row = 0, x_column = 1, y_row = 0, y_column = 1;
  /// What is eliminated, of each block, row by row: the matrix, and of Inverse beside it what becomes the inverse. Null: in shared memory.
  double* scratch = nullptr;
};

}  // namespace lathe::cuda
