// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Recurrent layers (LSTM, GRU, plain) as ONNX defines them: the input projection of many steps is one matrix product, each step one
// small product with the packed recurrent weights. Products and state are fp32; inputs and outputs may be stored in bf16.

#include <array>
#include <cstddef>
#include <cstdint>

#include "backend/cpu/epilogue.h"
#include "lathe/dtype.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::cpu {

enum class RnnKind : std::uint8_t { kLstm, kGru, kPlain };

/// Gates in ONNX's order: i o f c (LSTM), z r h (GRU).
inline std::int64_t rnn_gates(RnnKind kind) noexcept { return kind == RnnKind::kLstm ? 4 : kind == RnnKind::kGru ? 3 : 1; }

struct RnnProblem {
  RnnKind kind = RnnKind::kLstm;
  std::int64_t steps = 1, batch = 1, in = 1, hidden = 1;
  int directions = 1;
  bool first_reverse = false;        ///< direction 0 runs backwards; a second direction always does
  bool linear_before_reset = false;  ///< GRU
  /// Per direction: gates, candidate, output (LSTM f g h; GRU f g; plain f).
  std::array<std::array<Epilogue, 3>, 2> activations{};
  DType x = DType::kFloat32, y = DType::kFloat32, state = DType::kFloat32;  ///< state: initial and last h and c
  // Strides in elements; the innermost axis is contiguous.
  std::int64_t x_step = 0, x_batch = 0;
  std::int64_t y_step = 0, y_direction = 0, y_batch = 0;
  std::int64_t state_direction = 0, state_batch = 0;  ///< of initial h and c
  std::int64_t last_direction = 0, last_batch = 0;    ///< of the last h and c
  bool ragged = false;                                ///< sequence lengths are given
};

struct RnnArgs {
  const void* x = nullptr;
  const void* w = nullptr;  ///< rnn_pack() blobs, directions one after the other
  const void* r = nullptr;
  const float* bias = nullptr;                              ///< [direction][rnn_bias_count]
  const std::int32_t* lengths = nullptr;                    ///< [batch], clamped to [0, steps]
  const void *initial_h = nullptr, *initial_c = nullptr;    ///< nullptr: zeros
  void *y = nullptr, *last_h = nullptr, *last_c = nullptr;  ///< nullptr: not wanted
  void* scratch = nullptr;                                  ///< rnn_scratch_bytes(), 64-byte aligned
};

/// Packed input weights from ONNX's W [directions][gates * hidden][in]. Bytes of all directions.
std::size_t rnn_input_weight_bytes(const RnnProblem& p);
void pack_rnn_input(const RnnProblem& p, const float* w, void* packed);
/// Packed recurrent weights from ONNX's R [directions][gates * hidden][hidden].
std::size_t rnn_recurrent_weight_bytes(const RnnProblem& p);
void pack_rnn_recurrent(const RnnProblem& p, const float* r, void* packed);
/// Per direction: gates * hidden added to the input projection, and for GRU hidden more added to the recurrent product of h.
std::int64_t rnn_bias_count(const RnnProblem& p);
/// From ONNX's B [directions][2 * gates * hidden]; nullptr: zeros.
void pack_rnn_bias(const RnnProblem& p, const float* b, float* packed);

std::size_t rnn_scratch_bytes(const RnnProblem& p, int threads);
void run_rnn(const RnnProblem& p, const RnnArgs& args, ThreadPool& pool) noexcept;

}  // namespace lathe::cpu
