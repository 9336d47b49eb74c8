// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Epilogue (bias, residual, activation, conversion) over sums that lie in scratch, and plain row copies with conversion.

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

template <Activation kAct>
inline V activate(V x, V alpha, V beta) {
  const V zero = set1(0.0f), one = set1(1.0f);
  if constexpr (kAct == Activation::kRelu) return max_v(zero, x);
  if constexpr (kAct == Activation::kLeakyRelu) return select(lt(x, zero), mul(x, alpha), x);
  if constexpr (kAct == Activation::kClip) return min_v(beta, max_v(alpha, x));
  if constexpr (kAct == Activation::kSilu) return silu_v(x);
  if constexpr (kAct == Activation::kHardSwish) {
    return mul(x, min_v(one, max_v(zero, fma(x, set1(1.0f / 6.0f), set1(0.5f)))));
  }
  if constexpr (kAct == Activation::kHardSigmoid) return min_v(one, max_v(zero, fma(alpha, x, beta)));
  if constexpr (kAct == Activation::kSigmoid) return sigmoid_v(x);
  if constexpr (kAct == Activation::kGeluErf) {
    const V half = mul(x, set1(0.5f));
    return fma(half, erf_v(mul(x, set1(0.707106781f))), half);
  }
  if constexpr (kAct == Activation::kGeluTanh) {  // 0.5 x (1 + tanh(u)) = x sigmoid(2u)
    const V u = mul(x, fma(mul(x, x), set1(2.0f * 0.7978845608f * 0.044715f), set1(2.0f * 0.7978845608f)));
    return div(x, add(one, exp2_fast(mul(u, set1(-1.44269504f)))));
  }
  if constexpr (kAct == Activation::kTanh) return tanh_v(x);
  if constexpr (kAct == Activation::kElu) return select(lt(x, zero), mul(alpha, sub(exp_v(x), one)), x);
  if constexpr (kAct == Activation::kMish) {  // tanh(log(1 + e)) = (e^2 + 2e) / (e^2 + 2e + 2); 1 for x > 20
    const V e = exp_v(min_v(set1(20.0f), x));
    const V n = mul(e, add(e, set1(2.0f)));
    return mul(x, div(n, add(n, set1(2.0f))));
  }
  return x;
}

inline V load_as(DType type, const char* p, std::int64_t index, std::int64_t n) {
  if (type == DType::kFloat32) {
    const float* f = reinterpret_cast<const float*>(p) + index;
    return n >= kVec ? load(f) : load_n(f, n);
  }
  const std::uint16_t* h = reinterpret_cast<const std::uint16_t*>(p) + index;
  return n >= kVec ? load(h) : load_n(h, n);
}
inline void store_as(DType type, char* p, std::int64_t index, V v, std::int64_t n) {
  if (type == DType::kFloat32) {
    float* f = reinterpret_cast<float*>(p) + index;
    if (n >= kVec) {
      store(f, v);
    } else {
      store_n(f, v, n);
    }
  } else {
    std::uint16_t* h = reinterpret_cast<std::uint16_t*>(p) + index;
    if (n >= kVec) {
      store(h, v);
    } else {
      store_n(h, v, n);
    }
  }
}

#if !defined(LATHE_NATIVE_BF16)
inline void store_sum(std::uint16_t* p, V v) { store(p, v); }
#endif
inline void store_sum(float* p, V v) { store(p, v); }

// Whole vectors with a bias; a residual of the stored type.
template <Activation kAct, class D, bool kResidual>
void epilogue_plain(const EpilogueArgs& e) {
  const V alpha = set1(e.op.alpha), beta = set1(e.op.beta), scale = set1(e.op.scale), residual_scale = set1(e.op.residual_scale);
  const bool before = kResidual && !e.op.residual_after, after = kResidual && e.op.residual_after;
  for (std::int64_t r = 0; r < e.rows; ++r) {
    const float* acc = e.acc + r * e.acc_stride;
    [[maybe_unused]] const D* residual = reinterpret_cast<const D*>(e.residual + r * e.residual_stride);
    D* dst = reinterpret_cast<D*>(e.dst + r * e.dst_stride);
    for (std::int64_t c = 0; c < e.cols; c += kVec) {
      V v = fma(load(acc + c), scale, load(e.bias + c));
      if (before) v = fma(load(residual + c), residual_scale, v);
      v = activate<kAct>(v, alpha, beta);
      if (after) v = fma(load(residual + c), residual_scale, v);
      store_sum(dst + c, v);
    }
  }
}

template <Activation kAct>
void epilogue_general(const EpilogueArgs& e) {
  const V alpha = set1(e.op.alpha), beta = set1(e.op.beta), scale = set1(e.op.scale), residual_scale = set1(e.op.residual_scale);
  const bool before = e.residual && !e.op.residual_after, after = e.residual && e.op.residual_after, scaled = e.op.scale != 1.0f;
  for (std::int64_t r = 0; r < e.rows; ++r) {
    const float* acc = e.acc + r * e.acc_stride;
    const char* residual = e.residual ? e.residual + r * e.residual_stride : nullptr;
    char* dst = e.dst + r * e.dst_stride;
    for (std::int64_t c = 0; c < e.cols; c += kVec) {
      const std::int64_t n = e.cols - c;
      V v = load(acc + c);  // scratch: whole vectors are always there
      if (scaled) v = mul(v, scale);
      if (e.bias) v = add(v, n >= kVec ? load(e.bias + c) : load_n(e.bias + c, n));
      if (before) v = fma(load_as(e.residual_type, residual, c, n), residual_scale, v);
      v = activate<kAct>(v, alpha, beta);
      if (after) v = fma(load_as(e.residual_type, residual, c, n), residual_scale, v);
      store_as(e.dst_type, dst, c, v, n);
    }
  }
}

template <Activation kAct>
void epilogue_for(const EpilogueArgs& e) {
  const bool plain = e.cols % kVec == 0 && e.bias && (!e.residual || e.residual_type == e.dst_type);
  if (!plain) return epilogue_general<kAct>(e);
  using Half = std::uint16_t;
  if (e.dst_type == DType::kFloat32) return e.residual ? epilogue_plain<kAct, float, true>(e) : epilogue_plain<kAct, float, false>(e);
  return e.residual ? epilogue_plain<kAct, Half, true>(e) : epilogue_plain<kAct, Half, false>(e);
}

void epilogue(const EpilogueArgs& e) {
  switch (e.op.activation) {
    case Activation::kNone: return epilogue_for<Activation::kNone>(e);
    case Activation::kRelu: return epilogue_for<Activation::kRelu>(e);
    case Activation::kLeakyRelu: return epilogue_for<Activation::kLeakyRelu>(e);
    case Activation::kClip: return epilogue_for<Activation::kClip>(e);
    case Activation::kSilu: return epilogue_for<Activation::kSilu>(e);
    case Activation::kHardSwish: return epilogue_for<Activation::kHardSwish>(e);
    case Activation::kHardSigmoid: return epilogue_for<Activation::kHardSigmoid>(e);
    case Activation::kSigmoid: return epilogue_for<Activation::kSigmoid>(e);
    case Activation::kGeluErf: return epilogue_for<Activation::kGeluErf>(e);
    case Activation::kGeluTanh: return epilogue_for<Activation::kGeluTanh>(e);
    case Activation::kTanh: return epilogue_for<Activation::kTanh>(e);
    case Activation::kElu: return epilogue_for<Activation::kElu>(e);
    case Activation::kMish: return epilogue_for<Activation::kMish>(e);
  }
}

template <class S, class D>
void copy_typed(const CopyArgs& a) {
  for (std::int64_t r = 0; r < a.rows; ++r) {
    const S* src = reinterpret_cast<const S*>(a.src + r * a.src_stride);
    D* dst = reinterpret_cast<D*>(a.dst + r * a.dst_stride);
    std::int64_t c = 0;
    for (; c + kVec <= a.cols; c += kVec) store(dst + c, load(src + c));
    if (c < a.cols) store_n(dst + c, load_n(src + c, a.cols - c), a.cols - c);
  }
}

void copy_rows_kernel(const CopyArgs& a) {
  if (a.src_type == DType::kFloat32) {
    return a.dst_type == DType::kFloat32 ? copy_typed<float, float>(a) : copy_typed<float, std::uint16_t>(a);
  }
  if (a.dst_type == DType::kFloat32) return copy_typed<std::uint16_t, float>(a);
  // bf16 to bf16 as bytes: signalling NaN bits stay as they are.
  for (std::int64_t r = 0; r < a.rows; ++r) {
    __builtin_memcpy(a.dst + r * a.dst_stride, a.src + r * a.src_stride, static_cast<std::size_t>(a.cols) * 2);
  }
}

}  // namespace
}  // namespace lathe::cpu
