// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the SortedSlices kernels, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kSliceAxes = 6, kSliceThreads = 256;
/// Slices whose places a block sorts in shared memory.
constexpr int kSliceChunk = 1024;

struct SliceParams {
  const void* x = nullptr;
  int type = 0;   ///< TopKType
  int count = 0;  ///< slices
  long long slice_step = 0;
  // A slice: its axes, outermost first; steps in elements. `lines`: how often it walks along the last.
  int axes = 1, padding = 0;
  long long extent[kSliceAxes] = {1}, step[kSliceAxes] = {}, lines = 1;
  // One level: runs of `run` sorted places, two by two into one.
  const int* from = nullptr;
  int* to = nullptr;
  int run = 0, padding_behind = 0;
  long long* order = nullptr;
  unsigned char* begins = nullptr;
  long long order_step = 1, begin_step = 1;
};

}  // namespace lathe::cuda
