// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the NonZero kernels, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kNonZeroAxes = 8, kNonZeroThreads = 256, kNonZeroBlocks = 4096;

struct NonZeroParams {
  const void* x = nullptr;
  long long* places = nullptr;  ///< [axes, elements]; only the first columns are written
  long long* count = nullptr;
  unsigned* counts = nullptr;         ///< of each block
  int bytes = 1;                      ///< of an element
  unsigned long long mask = 0;        ///< its bits that are not all zero in what is not zero
  long long elements = 0, share = 0;  ///< of all blocks, of one: a multiple of the threads
  int axes = 0, dense = 1;            ///< dense: x's element i is its i-th in row-major order
  long long extent[kNonZeroAxes] = {}, step[kNonZeroAxes] = {};
  long long row_step = 0, column_step = 1;  ///< of places
};

}  // namespace lathe::cuda
