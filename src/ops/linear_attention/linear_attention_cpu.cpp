// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of LinearAttention on the CPU. A task is a head, or a slice of its state's columns where there are too few heads, through all steps.
// Its state is float32, in tiles of columns that are advanced one after the other: what a step does to a tile stays in registers and the nearest cache.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/half.h"
#include "base/thread_pool.h"
#include "ops/linear_attention/linear_attention_plan.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

using cuda::LinearRows;
using cuda::LinearState;

constexpr std::int64_t kColumns = 16;  ///< of a tile

float load(const void* data, std::int64_t at, int type) noexcept {
  if (type == cuda::kElementFloat32) return static_cast<const float*>(data)[at];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[at];
  return type == cuda::kElementFloat16 ? half_to_float(bits) : bfloat16_to_float(bits);
}
void store(void* data, std::int64_t at, int type, float value) noexcept {
  if (type == cuda::kElementFloat32) static_cast<float*>(data)[at] = value;
  else static_cast<std::uint16_t*>(data)[at] = type == cuda::kElementFloat16 ? float_to_half(value) : float_to_bfloat16(value);
}
void load_many(const void* data, std::int64_t at, std::int64_t along, int type, std::int64_t count, float* to) noexcept {
  if (type == cuda::kElementFloat32 && along == 1) {
    std::copy_n(static_cast<const float*>(data) + at, count, to);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) to[i] = load(data, at + i * along, type);
}
void store_many(void* data, std::int64_t at, std::int64_t along, int type, std::int64_t count, const float* from) noexcept {
  if (type == cuda::kElementFloat32 && along == 1) {
    std::copy_n(from, count, static_cast<float*>(data) + at);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) store(data, at + i * along, type, from[i]);
}

/// Elements from `first` on of a step's row, as floats: where they are, or in `buffer`.
const float* row_of(const LinearRows& r, std::int64_t batch, std::int64_t step, std::int64_t first, std::int64_t count, float* buffer) noexcept {
  const std::int64_t at = batch * r.batch + step * r.step + first * r.along;
  if (r.type == cuda::kElementFloat32 && r.along == 1) return static_cast<const float*>(r.data) + at;
  load_many(r.data, at, r.along, r.type, count, buffer);
  return buffer;
}

typedef float Four __attribute__((vector_size(16), may_alias));
constexpr std::int64_t kFours = kColumns / 4;

/// The tile `state` [keys, kColumns] goes on by a step. `written` comes as the value's columns; `sum` is the product with the first query.
template <bool kGated, bool kDelta>
void advance(float* state, std::int64_t keys, const float* key, const float* factor, const float* query, float beta, const float* written,
             float* sum) noexcept {
  Four w[kFours], y[kFours] = {};
  for (std::int64_t c = 0; c < kFours; ++c) w[c] = reinterpret_cast<const Four*>(written)[c];
  if constexpr (kDelta) {
    Four known[kFours] = {};
    for (std::int64_t d = 0; d < keys; ++d) {
      Four* const row = reinterpret_cast<Four*>(state + d * kColumns);
      const float k = key[d], f = kGated ? factor[d] : 1.0F;
      for (std::int64_t c = 0; c < kFours; ++c) {
        if constexpr (kGated) row[c] *= f;
        known[c] += row[c] * k;
      }
    }
    for (std::int64_t c = 0; c < kFours; ++c) w[c] = beta * (w[c] - known[c]);
  }
  for (std::int64_t d = 0; d < keys; ++d) {
    Four* const row = reinterpret_cast<Four*>(state + d * kColumns);
    const float k = key[d], q = query[d], f = kGated && !kDelta ? factor[d] : 1.0F;
    for (std::int64_t c = 0; c < kFours; ++c) {
      Four element = row[c];
      if constexpr (kGated && !kDelta) element *= f;
      element += k * w[c];
      row[c] = element;
      y[c] += q * element;
    }
  }
  for (std::int64_t c = 0; c < kFours; ++c) reinterpret_cast<Four*>(sum)[c] = y[c];
}

void multiply(const float* state, std::int64_t keys, const float* query, float* sum) noexcept {
  Four y[kFours] = {};
  for (std::int64_t d = 0; d < keys; ++d)
    for (std::int64_t c = 0; c < kFours; ++c) y[c] += query[d] * reinterpret_cast<const Four*>(state + d * kColumns)[c];
  for (std::int64_t c = 0; c < kFours; ++c) reinterpret_cast<Four*>(sum)[c] = y[c];
}

class LinearAttentionKernel final : public Kernel {
 public:
  explicit LinearAttentionKernel(const BindRequest& request) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return each_ * threads_; }

  Status run(const KernelIo& io) const noexcept override {
    cuda::LinearAttentionParams p = params_;
    ops::linear_attention_addresses(io, p);
    io.pool->parallel_for(items_ * slices_, [&](std::int64_t task, int worker) {
      auto* const scratch = reinterpret_cast<float*>(static_cast<std::byte*>(io.scratch) + each_ * static_cast<std::size_t>(worker));
      one(p, task / slices_, task % slices_ * tiles_ * kColumns, scratch);
    });
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    std::string why;
    cuda::LinearAttentionParams& p = params_;
    if (!ops::linear_attention_plan(request.inputs, request.outputs, request.params.get_int("q_num_heads", 0), request.params.get_int("kv_num_heads", 0),
                                    request.params.get_float("scale", 0), p, why))
      throw Error(Code::kUnsupported, "a LinearAttention step: " + why);
    threads_ = static_cast<std::size_t>(std::max(request.threads, 1));
    const std::int64_t tiles = (static_cast<std::int64_t>(p.value_size) + kColumns - 1) / kColumns, threads = std::max(request.threads, 1);
    items_ = tiles == 0 ? 0 : static_cast<std::int64_t>(p.batch) * p.heads;
    each_ = 0;
    if (items_ == 0) return;
    // A few tasks for each thread, so that none waits long for the last.
    tiles_ = std::max<std::int64_t>(1, tiles / std::min(tiles, (3 * threads + items_ - 1) / items_));
    slices_ = (tiles + tiles_ - 1) / tiles_;
    // The state's tiles, and a row each of keys, factors and the group's queries.
    const std::int64_t queries = static_cast<std::int64_t>(p.group) * p.key_size;
    std::int64_t floats = 0, bytes = 0;
    if (__builtin_mul_overflow(static_cast<std::int64_t>(p.key_size), tiles_ * kColumns, &floats) || floats > (std::int64_t{1} << 44) - queries ||
        __builtin_mul_overflow(4 * (floats + queries + 2 * static_cast<std::int64_t>(p.key_size)) + 64, threads, &bytes))
      throw Error(Code::kUnsupported, "a LinearAttention step: larger states than the kernel keeps in memory");
    each_ = static_cast<std::size_t>(bytes / threads + 63) / 64 * 64;
  }

  /// A head's columns from `first` on, through all steps.
  void one(const cuda::LinearAttentionParams& p, std::int64_t item, std::int64_t first, float* scratch) const noexcept {
    const std::int64_t batch = item / p.heads, head = item % p.heads, keys = p.key_size;
    const std::int64_t columns = std::min<std::int64_t>(p.value_size - first, tiles_ * kColumns), tiles = (columns + kColumns - 1) / kColumns;
    float* const state = scratch;
    float* const key_buffer = state + tiles_ * kColumns * keys;
    float* const factors = key_buffer + keys;
    float* const query_buffer = factors + keys;
    const auto width = [&](std::int64_t tile) { return std::min(kColumns, columns - tile * kColumns); };
    const auto place = [&](const LinearState& s, std::int64_t key, std::int64_t tile) {
      return batch * s.batch + head * s.head + key * s.key + (first + tile * kColumns) * s.along;
    };
    // Columns behind the last begin as zeros, see zeros as values, and go nowhere.
    std::fill_n(state, tiles * kColumns * keys, 0.0F);
    for (std::int64_t tile = 0; p.past.data && tile < tiles; ++tile)
      for (std::int64_t d = 0; d < keys; ++d)
        load_many(p.past.data, place(p.past, d, tile), p.past.along, p.past.type, width(tile), state + (tile * keys + d) * kColumns);
    const auto step = p.gated ? (p.delta ? advance<true, true> : advance<true, false>) : (p.delta ? advance<false, true> : advance<false, false>);
    for (std::int64_t t = 0; t < p.steps; ++t) {
      const float* const key = row_of(p.key, batch, t, head * keys, keys, key_buffer);
      const float* const queries = row_of(p.query, batch, t, head * p.group * keys, p.group * keys, query_buffer);
      if (p.decay_per_key) {
        const float* const decays = row_of(p.decay, batch, t, head * keys, keys, factors);
        for (std::int64_t d = 0; d < keys; ++d) factors[d] = std::exp(decays[d]);
      } else if (p.gated) {
        std::fill_n(factors, keys, std::exp(load(p.decay.data, batch * p.decay.batch + t * p.decay.step + head * p.decay.along, p.decay.type)));
      }
      const std::int64_t beta_at = batch * p.beta.batch + t * p.beta.step + (p.beta_per_head ? head * p.beta.along : 0);
      const float beta = p.delta ? load(p.beta.data, beta_at, p.beta.type) : 0.0F;
      for (std::int64_t tile = 0; tile < tiles; ++tile) {
        float* const own = state + tile * keys * kColumns;
        alignas(Four) float value[kColumns] = {}, sum[kColumns];
        load_many(p.value.data, batch * p.value.batch + t * p.value.step + (head * p.value_size + first + tile * kColumns) * p.value.along, p.value.along,
                  p.value.type, width(tile), value);
        for (std::int64_t g = 0; g < p.group; ++g) {
          if (g == 0) step(own, keys, key, factors, queries, beta, value, sum);
          else multiply(own, keys, queries + g * keys, sum);
          if (!p.y.data) continue;
          for (float& element : sum) element *= p.scale;
          const std::int64_t column = (head * p.group + g) * p.value_size + first + tile * kColumns;
          store_many(p.y.data, batch * p.y.batch + t * p.y.step + column * p.y.along, p.y.along, p.y.type, width(tile), sum);
        }
      }
    }
    for (std::int64_t tile = 0; p.present.data && tile < tiles; ++tile)
      for (std::int64_t d = 0; d < keys; ++d)
        store_many(p.present.data, place(p.present, d, tile), p.present.along, p.present.type, width(tile), state + (tile * keys + d) * kColumns);
  }

  cuda::LinearAttentionParams params_;
  std::int64_t items_ = 0, slices_ = 1, tiles_ = 1;  ///< tiles: of a slice, at most
  std::size_t threads_ = 1, each_ = 0;
};

std::unique_ptr<Kernel> bind_linear_attention(const BindRequest& request) { return std::make_unique<LinearAttentionKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.linear_attention", bind_linear_attention, ""}}};

}  // namespace

KernelSet kernels_linear_attention() { return {kKernels, {}}; }

}  // namespace lathe::plan
