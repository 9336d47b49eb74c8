// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the scatter kernels, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kScatterAxes = 8, kScatterThreads = 256;

enum ScatterType : int {
  kScatterFloat32,  // the first three as ElementType counts
  kScatterFloat16,
  kScatterBFloat16,
  kScatterFloat64,
  kScatterInt8,
  kScatterInt16,
  kScatterInt32,
  kScatterInt64,
  kScatterUint8,
  kScatterUint16,
  kScatterUint32,
  kScatterUint64,
  kScatterBool,
  kScatterTypes
};
/// As ops::Reduction counts.
enum ScatterReduction : int { kScatterNone, kScatterAdd, kScatterMul, kScatterMax, kScatterMin };

/// Extents and strides of a tensor, whose row-major places are walked. `dense`: they are its offsets.
struct ScatterTensor {
  int axes = 0, dense = 1;
  long long extent[kScatterAxes] = {}, step[kScatterAxes] = {};
};

struct ScatterParams {
  const void *data = nullptr, *indices = nullptr, *updates = nullptr;
  void* out = nullptr;
  ScatterTensor from, to, at, brought;        ///< data, out, indices, updates
  int axis = -1;                              ///< of ScatterElements; -1: ScatterND
  int depth = 0;                              ///< of ScatterND: an index has so many numbers
  int wide = 1;                               ///< indices are int64, else int32
  int data_type = 0, out_type = 0, type = 0;  ///< ScatterType; the last of updates
  int bytes = 4;                              ///< of an element of the result
  int reduction = kScatterNone;
  /// Targets; elements of each; updates. A target is an element of the data (ScatterElements) or a slice of it (ScatterND).
  long long slices = 0, inner = 1, tuples = 0;
  int* owner = nullptr;              ///< without a reduction: the last update of each target, or -1
  int* targets = nullptr;            ///< with one: the target of each update, or -1
  const long long* order = nullptr;  ///< and the updates sorted by target, those of one in their order
};

}  // namespace lathe::cuda
