// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the tensors of a LinearAttention to what its kernels are told: what candidates, kernels and the tests without a GPU share.

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "backend/cuda/kernels/gemm_params.h"
#include "ops/linear_attention/linear_attention_params.h"
#include "plan/kernel.h"

namespace lathe::ops {

/// Tensors of a step, as of the node; without type where left out.
enum LinearInput : std::size_t { kLinearQuery, kLinearKey, kLinearValue, kLinearPast, kLinearDecay, kLinearBeta, kLinearInputs };
enum LinearOutput : std::size_t { kLinearY, kLinearPresent, kLinearOutputs };

inline std::optional<cuda::ElementType> linear_attention_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kElementFloat32;
    case DType::kFloat16: return cuda::kElementFloat16;
    case DType::kBFloat16: return cuda::kElementBFloat16;
    default: return std::nullopt;
  }
}

/// All but the addresses and how blocks share the work. False, and in `why` the reason, when no kernel can run it. A scale of 0: the usual one.
inline bool linear_attention_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, std::int64_t query_heads,
                                  std::int64_t heads, float scale, cuda::LinearAttentionParams& p, std::string& why) {
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  const auto given = [](const plan::TensorDesc& desc) { return desc.dtype != DType::kUndefined; };
  const auto has = [](const plan::TensorDesc& desc, std::initializer_list<std::int64_t> dims) {
    return std::equal(desc.dims.begin(), desc.dims.end(), dims.begin(), dims.end());
  };
  p = {};
  if (inputs.size() != kLinearInputs || outputs.size() != kLinearOutputs) return refuse("another number of tensors than it takes");
  for (const std::size_t i : {kLinearQuery, kLinearKey, kLinearValue})
    if (!given(inputs[i])) return refuse("no query, key or value");
  for (const auto& list : {inputs, outputs})
    for (const plan::TensorDesc& desc : list) {
      if (!given(desc)) continue;
      if (!linear_attention_type(desc.dtype)) return refuse("no kernel reads this element type");
      if (std::any_of(desc.dims.begin(), desc.dims.end(), [](std::int64_t extent) { return extent < 0 || extent > kMost; }))
        return refuse("larger extents than the kernels count");
    }
  const plan::TensorDesc &query = inputs[kLinearQuery], &key = inputs[kLinearKey], &value = inputs[kLinearValue], &past = inputs[kLinearPast],
                         &decay = inputs[kLinearDecay], &beta = inputs[kLinearBeta], &y = outputs[kLinearY], &present = outputs[kLinearPresent];
  if (heads < 1 || query_heads < 1 || heads > kMost || query_heads > kMost || query_heads % heads != 0) return refuse("heads that do not fit each other");
  if (query.dims.size() != 3 || key.dims.size() != 3 || value.dims.size() != 3 || key.dims[2] % heads != 0 || value.dims[2] % heads != 0)
    return refuse("query, key and value that do not fit each other");
  const std::int64_t batch = query.dims[0], steps = query.dims[1], key_size = key.dims[2] / heads, value_size = value.dims[2] / heads;
  // No product of two extents overflows, each being below 2^31.
  if (!has(key, {batch, steps, heads * key_size}) || !has(value, {batch, steps, heads * value_size}) || !has(query, {batch, steps, query_heads * key_size}))
    return refuse("query, key and value that do not fit each other");
  if (batch * heads > kMost) return refuse("more heads than the kernels count");
  if (given(decay) && !has(decay, {batch, steps, heads}) && !has(decay, {batch, steps, heads * key_size})) return refuse("decays that do not fit");
  if (given(beta) && !has(beta, {batch, steps, heads}) && !has(beta, {batch, steps, 1})) return refuse("betas that do not fit");
  if (given(past) && !has(past, {batch, heads, key_size, value_size})) return refuse("a state that does not fit");
  if (given(y) && !has(y, {batch, steps, query_heads * value_size})) return refuse("a result of other extents");
  if (given(present) && !has(present, {batch, heads, key_size, value_size})) return refuse("a state that does not fit");

  const auto rows = [&](const plan::TensorDesc& desc) {
    cuda::LinearRows r;
    if (given(desc)) r = {nullptr, *linear_attention_type(desc.dtype), desc.strides[0], desc.strides[1], desc.strides[2]};
    return r;
  };
  const auto state = [&](const plan::TensorDesc& desc) {
    cuda::LinearState s;
    if (given(desc)) s = {nullptr, *linear_attention_type(desc.dtype), desc.strides[0], desc.strides[1], desc.strides[2], desc.strides[3]};
    return s;
  };
  p.query = rows(query), p.key = rows(key), p.value = rows(value), p.decay = rows(decay), p.beta = rows(beta), p.y = rows(y);
  p.past = state(past), p.present = state(present);
  p.batch = static_cast<int>(batch), p.steps = static_cast<int>(steps);
  p.heads = static_cast<int>(heads), p.group = static_cast<int>(query_heads / heads);
  p.key_size = static_cast<int>(key_size), p.value_size = static_cast<int>(value_size);
  p.gated = given(decay), p.delta = given(beta);
  p.decay_per_key = given(decay) && decay.dims[2] != heads;
  p.beta_per_head = given(beta) && beta.dims[2] == heads;
  p.scale = scale != 0 ? scale : static_cast<float>(1 / std::sqrt(static_cast<double>(key_size)));
  return true;
}

/// The addresses of a step's tensors.
inline void linear_attention_addresses(const plan::KernelIo& io, cuda::LinearAttentionParams& p) noexcept {
  const auto in = [&](LinearInput i) { return const_cast<void*>(io.inputs[i]); };
  p.query.data = in(kLinearQuery), p.key.data = in(kLinearKey), p.value.data = in(kLinearValue);
  p.past.data = in(kLinearPast), p.decay.data = in(kLinearDecay), p.beta.data = in(kLinearBeta);
  p.y.data = io.outputs[kLinearY], p.present.data = io.outputs[kLinearPresent];
}

enum class LinearKernelKind { kWhole, kPart, kMemory };

inline std::string_view linear_attention_kernel_name(LinearKernelKind kind) noexcept {
  switch (kind) {
    case LinearKernelKind::kWhole: return "linear_attention_whole";
    case LinearKernelKind::kPart: return "linear_attention_part";
    case LinearKernelKind::kMemory: break;
  }
  return "linear_attention_memory";
}

struct LinearLaunch {
  LinearKernelKind kind = LinearKernelKind::kWhole;
  std::uint32_t grid = 0, block = 32, shared = 0;  ///< no block: there is nothing to do
  std::size_t scratch_bytes = 0;
};

/// How the blocks of a GPU share the work that linear_attention_plan() found, in `p` and `into`. False: they cannot.
inline bool linear_attention_launch(cuda::LinearAttentionParams& p, LinearLaunch& into, std::string& why) {
  using namespace cuda;
  constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1, kMostBytes = std::int64_t{1} << 46;
  into = {};
  const std::int64_t items = static_cast<std::int64_t>(p.batch) * p.heads, keys = p.key_size, values = p.value_size;
  if (items == 0 || values == 0) return true;
  // What a step brings to shared memory: its key, the group's queries and decays, each as long as the registers of all lanes, values and a beta.
  p.lanes = static_cast<int>(std::bit_ceil(static_cast<std::uint32_t>(std::min<std::int64_t>((keys + kLinearKeys - 1) / kLinearKeys, 32))));
  p.columns = static_cast<int>(std::min<std::int64_t>(kLinearThreads / p.lanes, std::bit_ceil(static_cast<std::uint32_t>(values))));
  p.columns = std::max(p.columns, 32 / p.lanes);
  const std::int64_t room = static_cast<std::int64_t>(p.lanes) * kLinearKeys;
  const std::int64_t floats = room * (1 + static_cast<std::int64_t>(p.group)) + (p.decay_per_key ? room : 1) + p.columns + 1;
  const std::int64_t chunk = std::min<std::int64_t>({kLinearSteps, std::max(p.steps, 1), kLinearShared / static_cast<std::int64_t>(sizeof(float)) / floats});
  if (keys <= room && chunk > 0) {
    into.kind = keys == room ? LinearKernelKind::kWhole : LinearKernelKind::kPart;
    p.chunk = static_cast<int>(chunk);
    into.shared = static_cast<std::uint32_t>(chunk * floats) * static_cast<std::uint32_t>(sizeof(float));
  } else {
    into.kind = LinearKernelKind::kMemory;
    p.lanes = 32;
    p.columns = kLinearThreads / 32;
    std::int64_t bytes = 0;
    if (__builtin_mul_overflow(items * values, keys * static_cast<std::int64_t>(sizeof(float)), &bytes) || bytes > kMostBytes) {
      why = "larger states than the kernels keep in memory";
      return false;
    }
    into.scratch_bytes = static_cast<std::size_t>(bytes);
  }
  const std::int64_t slices = (values + p.columns - 1) / p.columns;
  if (items > kMost / slices) {
    why = "more heads than the kernels count";
    return false;
  }
  p.slices = static_cast<int>(slices);
  into.grid = static_cast<std::uint32_t>(items * slices);
  into.block = static_cast<std::uint32_t>(p.lanes * p.columns);
  return true;
}

}  // namespace lathe::ops
