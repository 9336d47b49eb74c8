// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the recurrent layers' kernels, shared by host and device code: read by NVRTC too, so it includes nothing.
//
// Weights as the kernels read them: rows of W and R one behind the other ([direction][gate][unit]), each padded with zeros to a multiple of 8 elements.
// States are numbers (float32; where the layer is one of float64, float64), [direction][batch][units, padded likewise].

namespace lathe::cuda {

/// In the order of the reference's list (src/ops/rnn).
enum RnnActivation : int {
  kRnnSigmoid,
  kRnnTanh,
  kRnnRelu,
  kRnnAffine,
  kRnnLeakyRelu,
  kRnnThresholdedRelu,
  kRnnScaledTanh,
  kRnnHardSigmoid,
  kRnnElu,
  kRnnSoftsign,
  kRnnSoftplus,
  kRnnActivations
};

/// What a launch computes of a step. A GRU whose reset gate stands before the product needs two: r * h must be complete.
enum RnnPart : int { kRnnLstm, kRnnGruLinear, kRnnGruGates, kRnnGruCandidate, kRnnPlain };

struct RnnFunction {
  int kind = kRnnSigmoid;
  float alpha = 0, beta = 0;
  int padding = 0;
  double wide_alpha = 0, wide_beta = 0;  ///< the same for float64: defaults have no end in binary
};

/// A tensor of states of the model, or none; strides in elements.
struct RnnState {
  void* data = nullptr;
  int type = 0, padding = 0;
  long long direction = 0, batch = 0;
};

struct RnnParams {
  int steps = 0, batch = 0, hidden = 1, padded = 8, directions = 1, gates = 1;
  int first_reverse = 0;  ///< direction 0 runs backwards; a second one always does
  int coupled = 0;        ///< LSTM: forget = 1 - input
  RnnFunction functions[2][3];
  float clip = 0;  ///< infinity: none
  int weight_type = 0;
  const void* r = nullptr;
  const void* recurrent_bias = nullptr;  ///< numbers, as all that follow: [direction][unit], linear GRU
  const void* peephole = nullptr;        ///< [direction][input, output, forget][unit], or null
  const void* projected = nullptr;       ///< x W^T + bias: rows of [direction][gate][unit]
  long long projected_step = 0, projected_batch = 0;
  const int* lengths = nullptr;
  const void* h_from = nullptr;
  void *h_to = nullptr, *c = nullptr;
  void *update = nullptr, *gated = nullptr;  ///< GRU in two parts: z, and r * h
  void* y = nullptr;
  int y_type = 0, padding = 0;
  long long y_step = 0, y_direction = 0, y_batch = 0;
  RnnState initial_h, initial_c, last_h, last_c;
  int step = 0;
  int last = 0;  ///< the states go to last_h and last_c too
};

/// projected[row][column] = sum of x[row][k] * w[column][k], + bias[column]; row = first * seconds + second.
struct RnnProjectParams {
  const void* x = nullptr;
  const void* w = nullptr;
  const void* bias = nullptr;  ///< numbers
  void* projected = nullptr;
  long long rows = 0;
  long long x_first = 0, x_second = 0;  ///< elements
  int seconds = 1, columns = 0, depth = 0, padded = 0;
  int x_type = 0, weight_type = 0;
  int vectors = 0;  ///< x may be read by 16 bytes
  int padding = 0;
};

/// Weights that are no constants, brought to the form above: to[row][0..padded) = from[outer][inner][0..columns), and zeros.
struct RnnPackParams {
  const void* from = nullptr;
  void* to = nullptr;
  int from_type = 0, to_type = 0;
  long long rows = 0;
  int inner = 1, columns = 0, padded = 0, padding = 0;
  long long from_outer = 0, from_inner = 0, from_column = 1;
};
/// Biases likewise: sums[d][gate][unit] of both halves (of a linear GRU's last gate the first alone), recurrent[d][unit] of its second.
struct RnnBiasParams {
  const void* from = nullptr;  ///< or null: zeros
  void *sums = nullptr, *recurrent = nullptr;
  int from_type = 0, directions = 1, gates = 1, hidden = 1, linear = 0, padding = 0;
  long long from_direction = 0, from_column = 1;
};

constexpr int kRnnFloat64 = 3;                    ///< behind ElementType's: what a layer is stored in, all of it or nothing
constexpr int kRnnWarps = 4;                      ///< of a block; a warp computes a unit
constexpr int kRnnRows = 8;                       ///< batch rows of a warp, where there are several
constexpr int kRnnDoubleRows = 4;                 ///< the same of float64
constexpr int kRnnTile = 64, kRnnTileDepth = 16;  ///< of rnn_project_tiles

}  // namespace lathe::cuda
