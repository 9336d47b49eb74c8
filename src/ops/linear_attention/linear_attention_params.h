// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the LinearAttention kernels, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

/// Rows of the state that a thread has in registers; threads of a block; steps brought to shared memory at once, at most; bytes of it that a block may have.
constexpr int kLinearKeys = 16, kLinearThreads = 128, kLinearSteps = 16, kLinearShared = 48 << 10;

/// A tensor of [batch, steps, columns]; distances in elements.
struct LinearRows {
  void* data = nullptr;
  int type = 0;  ///< an ElementType
  long long batch = 0, step = 0, along = 1;
};
/// A state of [batch, heads, keys, columns].
struct LinearState {
  void* data = nullptr;  ///< or null: none
  int type = 0;
  long long batch = 0, head = 0, key = 0, along = 1;
};

struct LinearAttentionParams {
  LinearRows query, key, value, decay, beta;
  LinearRows y;  ///< data may be null
  LinearState past, present;
  int batch = 0, steps = 0;
  int heads = 1, group = 1;  ///< of keys and values; of queries to each
  int key_size = 0, value_size = 0;
  int gated = 0, delta = 0;                  ///< is there a decay, a beta?
  int decay_per_key = 0, beta_per_head = 0;  ///< else one for a head, one for all
  float scale = 1;

  // A block has `columns` columns of a head's state, `lanes` threads (a power of two, at most a warp) each.
  int columns = 1, lanes = 1, slices = 1;
  int chunk = 1;               ///< steps in shared memory at once
  float* in_memory = nullptr;  ///< the states [batch, heads, columns, keys], where they do not fit into registers
};

}  // namespace lathe::cuda
