// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the kernels of CumSum and CumProd, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kCumulativeThreads = 256, kCumulativeEach = 8;  ///< elements of a thread, one behind the other
constexpr int kCumulativePiece = kCumulativeThreads * kCumulativeEach, kCumulativeAxes = 6;

constexpr int kCumulativePartBytes = 48, kCumulativeBaseBytes = 16;  ///< what cumulative_product.cu keeps of a piece

/// The first three are ElementType's.
enum CumulativeType : int {
  kCumulativeFloat32,
  kCumulativeFloat16,
  kCumulativeBFloat16,
  kCumulativeFloat64,
  kCumulativeInt32,
  kCumulativeUint32,
  kCumulativeInt64,
  kCumulativeUint64
};

struct CumulativeParams {
  const void* x = nullptr;
  void* y = nullptr;
  void* totals = nullptr;  ///< [rows, pieces] of double, or of 64 bits; of a product of floating-point numbers of parts, and behind them of bases
  int type = 0, y_type = 0;
  int product = 0, exclusive = 0, reverse = 0;
  int axes = 0;  ///< of the rows
  long long extent[kCumulativeAxes] = {}, x_step[kCumulativeAxes] = {}, y_step[kCumulativeAxes] = {};
  long long count = 0, x_along = 1, y_along = 1;  ///< elements of a row
  int pieces = 1, padding = 0;                    ///< of a row, a block for each
};

}  // namespace lathe::cuda
