// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the parameters of the kernels of ai.onnx.ml have in common, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

enum MlType : int {
  kMlFloat32,  // the first three as ElementType counts
  kMlFloat16,
  kMlBFloat16,
  kMlFloat64,
  kMlInt32,
  kMlInt64
};

/// The numbers are those of ops::PostTransform.
enum MlTransform : int { kMlNone, kMlSoftmax, kMlLogistic, kMlSoftmaxZero, kMlProbit };

/// Rows of features, and what is made of each; steps in elements.
struct MlRows {
  const void* x = nullptr;
  long long* labels = nullptr;  ///< or null
  void* scores = nullptr;       ///< or null
  int x_type = kMlFloat32, score_type = kMlFloat32;
  int transform = kMlNone;
  long long count = 0;
  long long x_row = 0, x_column = 1, label_step = 0, score_row = 0, score_column = 1;
};

}  // namespace lathe::cuda
