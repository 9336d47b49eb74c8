// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See rnn.h. Steps are counted in the direction's own order: step s reads time s, or the s-th from the end of each sequence.
#include "backend/cpu/rnn.h"

#include <algorithm>
#include <cstring>

#include "backend/cpu/gemm.h"
#include "backend/cpu/tile_grid.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

// The recurrent product of a GRU whose reset gate comes first is cut: [z r] before, h after.
bool cuts_recurrent(const RnnProblem& p) { return p.kind == RnnKind::kGru && !p.linear_before_reset; }

GemmProblem input_product(const RnnProblem& p, std::int64_t steps) {
  GemmProblem g;
  g.n = rnn_gates(p.kind) * p.hidden;
  g.k = p.in;
  g.packed_b = true;
  g.trans_b = true;
  g.a = p.x;
  g.c_inner = p.batch * g.n;
  g.ldc = g.n;
  g.lda = p.x_batch;
  if (p.x_step == p.batch * p.x_batch || p.batch == 1) {  // all rows in one go
    g.m = steps * p.batch;
    if (p.batch == 1) g.lda = p.x_step;
  } else {
    g.m = p.batch;
    g.batch_inner = steps;
    g.a_inner = p.x_step;
  }
  if (g.lda <= 0) g.lda = std::max<std::int64_t>(p.in, 1);
  return g;
}

GemmProblem recurrent_product(const RnnProblem& p, std::int64_t columns) {
  GemmProblem g;
  g.m = p.batch;
  g.n = columns;
  g.k = p.hidden;
  g.packed_b = true;
  g.trans_b = true;
  return g;
}

std::int64_t aligned(std::size_t bytes) { return round_up(static_cast<std::int64_t>(bytes), 64); }
std::int64_t input_bytes(const RnnProblem& p) { return aligned(gemm_packed_b_bytes(input_product(p, 1))); }
std::int64_t recurrent_part(const RnnProblem& p, std::int64_t columns) { return aligned(gemm_packed_b_bytes(recurrent_product(p, columns))); }
std::int64_t recurrent_bytes(const RnnProblem& p) {
  return cuts_recurrent(p) ? recurrent_part(p, 2 * p.hidden) + recurrent_part(p, p.hidden) : recurrent_part(p, rnn_gates(p.kind) * p.hidden);
}

// Steps whose input is projected at a time: enough rows for a good product, few enough to stay in cache.
std::int64_t block_steps(const RnnProblem& p) {
  if (p.ragged) return p.steps;  // sequences of different length stand at different times
  return std::clamp<std::int64_t>(256 / std::max<std::int64_t>(p.batch, 1), 1, p.steps);
}

// Scratch of one direction. Rows end with a vector's slack: the epilogue loads whole vectors.
struct Scratch {
  float *projected, *gates, *rows, *extra, *h, *c;
  char* gemm;
  std::int64_t bytes;
};
Scratch scratch_of(const RnnProblem& p, int threads, char* base) {
  Scratch s{};
  std::int64_t at = 0;
  const auto take = [&](std::int64_t floats) {
    float* here = base ? reinterpret_cast<float*>(base + at) : nullptr;
    at += round_up((floats + 16) * 4, 64);
    return here;
  };
  const std::int64_t wide = rnn_gates(p.kind) * p.hidden;
  s.projected = take(block_steps(p) * p.batch * wide);
  s.gates = take(p.batch * wide);
  s.rows = take(p.ragged ? p.batch * wide : 0);
  s.extra = take(p.batch * p.hidden);
  s.h = take(p.batch * p.hidden);
  s.c = take(p.batch * p.hidden);
  s.gemm = base ? base + at : nullptr;
  std::size_t gemm = gemm_scratch_bytes(input_product(p, block_steps(p)), threads);
  gemm = std::max(gemm, gemm_scratch_bytes(input_product(p, 1), threads));
  gemm = std::max(gemm, gemm_scratch_bytes(recurrent_product(p, wide), threads));
  if (cuts_recurrent(p)) {
    gemm = std::max(gemm, gemm_scratch_bytes(recurrent_product(p, 2 * p.hidden), threads));
    gemm = std::max(gemm, gemm_scratch_bytes(recurrent_product(p, p.hidden), threads));
  }
  s.bytes = at + aligned(gemm);
  return s;
}

struct Direction {
  const RnnProblem& p;
  const RnnArgs& args;
  ThreadPool& pool;
  const KernelTable& kernels;
  int index;
  bool reverse;
  Scratch s;
  const char *w, *r;
  const float* bias;

  std::int64_t length(std::int64_t b) const { return args.lengths ? std::clamp<std::int64_t>(args.lengths[b], 0, p.steps) : p.steps; }

  void product(GemmProblem g, const float* a, const char* packed, float* out, std::int64_t ldc, const float* residual, std::int64_t residual_stride,
               const float* added, const Epilogue& epilogue) const {
    GemmArgs args_now;
    args_now.a = a;
    args_now.b = packed;
    args_now.c = out;
    args_now.bias = added;
    args_now.residual = residual;
    args_now.residual_stride = residual_stride;
    args_now.scratch = s.gemm;
    g.ldc = ldc;
    run_gemm(g, epilogue, args_now, pool);
  }
  // dst = act(acc [+ residual]) over batch x hidden * parts; strides in floats.
  void activate(const Epilogue& op, const float* acc, std::int64_t acc_stride, float* dst, std::int64_t dst_stride, std::int64_t cols,
                const float* residual = nullptr, std::int64_t residual_stride = 0) const {
    EpilogueArgs e{};
    e.acc = acc;
    e.acc_stride = acc_stride;
    e.rows = p.batch;
    e.cols = cols;
    e.residual = reinterpret_cast<const char*>(residual);
    e.residual_stride = residual_stride * 4;
    e.dst = reinterpret_cast<char*>(dst);
    e.dst_stride = dst_stride * 4;
    e.residual_type = e.dst_type = DType::kFloat32;
    e.op = op;
    kernels.epilogue(e);
  }
  void copy(const void* src, DType from, std::int64_t src_stride, void* dst, DType to, std::int64_t dst_stride) const {
    kernels.copy({static_cast<const char*>(src), src_stride * element_bytes(from), static_cast<char*>(dst), dst_stride * element_bytes(to), p.batch, p.hidden,
                  from, to});
  }

  // New state from the projected input `x` (rows of all gates): h is in s.h afterwards. `rows` selects whose state changes.
  void lstm(const float* x, std::int64_t s_step) const {
    const std::int64_t hidden = p.hidden, wide = 4 * hidden;
    product(recurrent_product(p, wide), s.h, r, s.gates, wide, x, wide, nullptr, {});
    const auto& act = p.activations[static_cast<std::size_t>(index)];
    // In place: a vector is loaded before it is stored, and slack lanes are not stored.
    activate(act[0], s.gates, wide, s.gates, wide, 3 * hidden);
    activate(act[1], s.gates + 3 * hidden, wide, s.gates + 3 * hidden, wide, hidden);
    for (std::int64_t b = 0; b < p.batch; ++b) {
      if (s_step >= length(b)) continue;
      const float *i = s.gates + b * wide, *f = i + 2 * hidden, *g = i + 3 * hidden;
      float* c = s.c + b * hidden;
      for (std::int64_t j = 0; j < hidden; ++j) c[j] = f[j] * c[j] + i[j] * g[j];
    }
    activate(act[2], s.c, hidden, s.extra, hidden, hidden);
    for (std::int64_t b = 0; b < p.batch; ++b) {
      if (s_step >= length(b)) continue;
      const float *o = s.gates + b * wide + hidden, *c = s.extra + b * hidden;
      float* h = s.h + b * hidden;
      for (std::int64_t j = 0; j < hidden; ++j) h[j] = o[j] * c[j];
    }
  }
  void gru(const float* x, std::int64_t s_step) const {
    const std::int64_t hidden = p.hidden, wide = 3 * hidden;
    const auto& act = p.activations[static_cast<std::size_t>(index)];
    if (p.linear_before_reset) {
      // The bias of the recurrent product has zeros for z and r: theirs are in the input's.
      product(recurrent_product(p, wide), s.h, r, s.gates, wide, nullptr, 0, nullptr, {});
      activate(act[0], s.gates, wide, s.gates, wide, 2 * hidden, x, wide);
      const float* hidden_bias = bias + wide;
      for (std::int64_t b = 0; b < p.batch; ++b) {
        const float *reset = s.gates + b * wide + hidden, *linear = s.gates + b * wide + 2 * hidden, *in = x + b * wide + 2 * hidden;
        float* out = s.extra + b * hidden;
        for (std::int64_t j = 0; j < hidden; ++j) out[j] = in[j] + reset[j] * (linear[j] + hidden_bias[j]);
      }
      activate(act[1], s.extra, hidden, s.extra, hidden, hidden);
    } else {
      product(recurrent_product(p, 2 * hidden), s.h, r, s.gates, wide, x, wide, nullptr, act[0]);
      for (std::int64_t b = 0; b < p.batch; ++b) {
        const float *reset = s.gates + b * wide + hidden, *h = s.h + b * hidden;
        float* out = s.c + b * hidden;  // a GRU has no cell: its place holds the reset state
        for (std::int64_t j = 0; j < hidden; ++j) out[j] = reset[j] * h[j];
      }
      product(recurrent_product(p, hidden), s.c, r + recurrent_part(p, 2 * hidden), s.extra, hidden, x + 2 * hidden, wide, nullptr, act[1]);
    }
    for (std::int64_t b = 0; b < p.batch; ++b) {
      if (s_step >= length(b)) continue;
      const float *z = s.gates + b * wide, *n = s.extra + b * hidden;
      float* h = s.h + b * hidden;
      for (std::int64_t j = 0; j < hidden; ++j) h[j] = (1 - z[j]) * n[j] + z[j] * h[j];
    }
  }
  void plain(const float* x, std::int64_t s_step) const {
    product(recurrent_product(p, p.hidden), s.h, r, s.extra, p.hidden, x, p.hidden, nullptr, p.activations[static_cast<std::size_t>(index)][0]);
    for (std::int64_t b = 0; b < p.batch; ++b)
      if (s_step < length(b)) std::memcpy(s.h + b * p.hidden, s.extra + b * p.hidden, static_cast<std::size_t>(p.hidden) * 4);
  }

  void start_state(const void* from, float* to) const {
    if (!from) {
      std::memset(to, 0, static_cast<std::size_t>(p.batch * p.hidden) * 4);
    } else {
      copy(static_cast<const char*>(from) + index * p.state_direction * element_bytes(p.state), p.state, p.state_batch, to, DType::kFloat32, p.hidden);
    }
  }

  // y rows of one step: each sequence at its own time; zeros past a sequence's end.
  void write_y(std::int64_t step) const {
    if (!args.y) return;
    char* y = static_cast<char*>(args.y) + index * p.y_direction * element_bytes(p.y);
    if (!p.ragged) {
      const std::int64_t time = reverse ? p.steps - 1 - step : step;
      copy(s.h, DType::kFloat32, p.hidden, y + time * p.y_step * element_bytes(p.y), p.y, p.y_batch);
      return;
    }
    for (std::int64_t b = 0; b < p.batch; ++b) {
      const bool inside = step < length(b);
      const std::int64_t time = reverse && inside ? length(b) - 1 - step : step;
      char* row = y + (time * p.y_step + b * p.y_batch) * element_bytes(p.y);
      if (inside) {
        kernels.copy({reinterpret_cast<const char*>(s.h + b * p.hidden), 0, row, 0, 1, p.hidden, DType::kFloat32, p.y});
      } else {
        std::memset(row, 0, static_cast<std::size_t>(p.hidden * element_bytes(p.y)));
      }
    }
  }

  void run() const {
    const std::int64_t wide = rnn_gates(p.kind) * p.hidden, block = block_steps(p);
    start_state(args.initial_h, s.h);
    if (p.kind == RnnKind::kLstm) start_state(args.initial_c, s.c);
    for (std::int64_t first = 0; first < p.steps; first += block) {
      const std::int64_t count = std::min(block, p.steps - first);
      const std::int64_t time0 = reverse && !p.ragged ? p.steps - first - count : first;
      GemmProblem g = input_product(p, count);
      GemmArgs in;
      in.a = static_cast<const char*>(args.x) + time0 * p.x_step * element_bytes(p.x);
      in.b = w;
      in.c = s.projected;
      in.bias = bias;
      in.scratch = s.gemm;
      run_gemm(g, {}, in, pool);
      for (std::int64_t i = 0; i < count; ++i) {
        const std::int64_t step = first + i;
        const float* x = s.projected + (reverse && !p.ragged ? count - 1 - i : i) * p.batch * wide;
        if (p.ragged) {
          for (std::int64_t b = 0; b < p.batch; ++b) {
            const std::int64_t time = step >= length(b) ? 0 : reverse ? length(b) - 1 - step : step;  // past the end: any, it is not used
            std::memcpy(s.rows + b * wide, s.projected + (time * p.batch + b) * wide, static_cast<std::size_t>(wide) * 4);
          }
          x = s.rows;
        }
        switch (p.kind) {
          case RnnKind::kLstm: lstm(x, step); break;
          case RnnKind::kGru: gru(x, step); break;
          case RnnKind::kPlain: plain(x, step); break;
        }
        write_y(step);
      }
    }
    const auto last = [&](void* to, const float* from) {
      if (to) copy(from, DType::kFloat32, p.hidden, static_cast<char*>(to) + index * p.last_direction * element_bytes(p.state), p.state, p.last_batch);
    };
    last(args.last_h, s.h);
    if (p.kind == RnnKind::kLstm) last(args.last_c, s.c);
  }
};

}  // namespace

std::size_t rnn_input_weight_bytes(const RnnProblem& p) { return static_cast<std::size_t>(input_bytes(p) * p.directions); }
std::size_t rnn_recurrent_weight_bytes(const RnnProblem& p) { return static_cast<std::size_t>(recurrent_bytes(p) * p.directions); }
std::int64_t rnn_bias_count(const RnnProblem& p) { return (rnn_gates(p.kind) + (p.kind == RnnKind::kGru ? 1 : 0)) * p.hidden; }

void pack_rnn_input(const RnnProblem& p, const float* w, void* packed) {
  GemmProblem g = input_product(p, 1);
  for (int d = 0; d < p.directions; ++d) pack_gemm_b(g, w + d * g.n * p.in, DType::kFloat32, static_cast<char*>(packed) + d * input_bytes(p));
}

void pack_rnn_recurrent(const RnnProblem& p, const float* r, void* packed) {
  const std::int64_t wide = rnn_gates(p.kind) * p.hidden;
  for (int d = 0; d < p.directions; ++d) {
    char* out = static_cast<char*>(packed) + d * recurrent_bytes(p);
    const float* from = r + d * wide * p.hidden;
    if (cuts_recurrent(p)) {
      pack_gemm_b(recurrent_product(p, 2 * p.hidden), from, DType::kFloat32, out);
      pack_gemm_b(recurrent_product(p, p.hidden), from + 2 * p.hidden * p.hidden, DType::kFloat32, out + recurrent_part(p, 2 * p.hidden));
    } else {
      pack_gemm_b(recurrent_product(p, wide), from, DType::kFloat32, out);
    }
  }
}

void pack_rnn_bias(const RnnProblem& p, const float* b, float* packed) {
  const std::int64_t wide = rnn_gates(p.kind) * p.hidden, count = rnn_bias_count(p);
  std::fill(packed, packed + count * p.directions, 0.0f);
  if (!b) return;
  for (int d = 0; d < p.directions; ++d) {
    const float *input = b + d * 2 * wide, *recurrent = input + wide;
    float* out = packed + d * count;
    for (std::int64_t i = 0; i < wide; ++i) {
      // A GRU that resets after the product adds that product's bias before.
      const bool later = p.kind == RnnKind::kGru && p.linear_before_reset && i >= 2 * p.hidden;
      out[i] = input[i] + (later ? 0.0f : recurrent[i]);
      if (later) out[wide + i - 2 * p.hidden] = recurrent[i];
    }
  }
}

std::size_t rnn_scratch_bytes(const RnnProblem& p, int threads) { return static_cast<std::size_t>(scratch_of(p, threads, nullptr).bytes * p.directions); }

void run_rnn(const RnnProblem& p, const RnnArgs& args, ThreadPool& pool) noexcept {
  if (p.batch <= 0 || p.hidden <= 0) return;
  const std::int64_t each = scratch_of(p, pool.size(), nullptr).bytes;
  const auto direction = [&](std::int64_t d) {
    Direction{p,
              args,
              pool,
              kernel_table(),
              static_cast<int>(d),
              d > 0 || p.first_reverse,
              scratch_of(p, pool.size(), static_cast<char*>(args.scratch) + d * each),
              static_cast<const char*>(args.w) + d * input_bytes(p),
              static_cast<const char*>(args.r) + d * recurrent_bytes(p),
              args.bias + d * rnn_bias_count(p)}
        .run();
  };
  // Two directions on few threads: one each, the products inside run serially. Else one after the other, each on all threads.
  if (p.directions == 2 && pool.size() <= 4) {
    pool.parallel_for(2, [&](std::int64_t d, int) { direction(d); });
  } else {
    for (int d = 0; d < p.directions; ++d) direction(d);
  }
}

}  // namespace lathe::cpu
