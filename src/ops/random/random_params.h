// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the random kernels, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

enum RandomKind : int { kRandomUniform, kRandomNormal, kRandomBernoulli, kRandomMultinomial, kRandomKinds };

enum RandomType : int {
  kRandomFloat32,  // the first three as ElementType counts
  kRandomFloat16,
  kRandomBFloat16,
  kRandomFloat64,
  kRandomByte,  // whole numbers and truth values, of which only 0 and 1 are written; classes have 32 or 64 bits
  kRandomInt16,
  kRandomInt32,
  kRandomInt64,
  kRandomTypes
};

constexpr int kRandomAxes = 6, kRandomThreads = 256;

struct RandomParams {
  const void* x = nullptr;  ///< probabilities, or log-probabilities
  void* y = nullptr;
  int kind = kRandomUniform;
  int type = kRandomFloat32;  ///< of uniform and normal numbers: each step is rounded to it, whatever the result is stored as
  int x_type = kRandomFloat32, y_type = kRandomFloat32;
  double scale = 1, offset = 0;
  int seeded = 0;
  int padding = 0;  ///< the padding: it is read as well, by drivers that look for addresses
  // Without a seed: a word of 32 bits each, so that no pair of them looks like an address.
  unsigned long long key[2] = {};
  unsigned long long* runs = nullptr;  ///< how many there have been, of all that use the key
  unsigned long long* run = nullptr;   ///< which one this is
  /// With a seed: the results in row-major order, of `type`; of a kind that has an input, uniform numbers in double.
  const void* numbers = nullptr;

  long long count = 0;  ///< elements of the result
  // The result's axes and the input's, outermost first, neighbours joined where both allow it; steps in elements. Of Multinomial: rows and draws, rows and
  // classes.
  int axes = 0, padding_behind = 0;
  long long extent[kRandomAxes] = {}, x_step[kRandomAxes] = {}, y_step[kRandomAxes] = {};
  long long classes = 0, draws = 0;
};

}  // namespace lathe::cuda
