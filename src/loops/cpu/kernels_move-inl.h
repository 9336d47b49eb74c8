// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Memory to register and back with conversion, memory to memory (rows, blocked transposes), and the reductions of a tile.

#if defined(LATHE_LOOPS_KERNELS_MOVE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef LATHE_LOOPS_KERNELS_MOVE_INL_H
#undef LATHE_LOOPS_KERNELS_MOVE_INL_H
#else
#define LATHE_LOOPS_KERNELS_MOVE_INL_H
#endif

#include <cstring>
#include <limits>

#include "base/half.h"
#include "loops/cpu/kernels_plain-inl.h"
#include "loops/cpu/kernels_real-inl.h"

HWY_BEFORE_NAMESPACE();
namespace lathe::loops::HWY_NAMESPACE {

using cpu::ArgReduceFn;
using cpu::MoveFn;
using cpu::ReduceFn;
using cpu::View;

// ---- conversion between memory and registers ---------------------------------------------------------------------------------

struct Half {
  std::uint16_t bits;
  operator float() const { return half_to_float(bits); }
  static Half from(float x) { return {float_to_half(x)}; }
};
struct BHalf {
  std::uint16_t bits;
  operator float() const { return bfloat16_to_float(bits); }
  static BHalf from(float x) { return {float_to_bfloat16(x)}; }
};

template <class M, class R>
void load_plain(void* dst, const void* src, std::size_t n, std::int64_t stride) {
  R* out = static_cast<R*>(dst);
  const M* in = static_cast<const M*>(src);
  if (stride == 1) {
    if constexpr (std::is_same_v<M, R>) {
      std::memcpy(out, in, n * sizeof(M));
    } else {
#pragma GCC ivdep
      for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<R>(in[i]);
    }
  } else if (stride == 0) {
    std::fill_n(out, n, static_cast<R>(*in));
  } else {
    for (std::size_t i = 0; i < n; ++i) out[i] = static_cast<R>(in[static_cast<std::int64_t>(i) * stride]);
  }
}
struct Truth {
  std::uint8_t byte;
  operator std::int32_t() const { return byte != 0; }
};

/// f16 by the conversion instructions, where the target has them.
inline void load_half(void* dst, const void* src, std::size_t n, std::int64_t stride) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  if (stride == 1) {
    const F32 d;
    const hn::Rebind<hwy::float16_t, F32> dh;
    const std::size_t lanes = hn::Lanes(d);
    float* out = static_cast<float*>(dst);
    const auto* in = static_cast<const hwy::float16_t*>(src);
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) hn::StoreU(hn::PromoteTo(d, hn::LoadU(dh, in + i)), d, out + i);
    load_plain<Half, float>(out + i, in + i, n - i, 1);
    return;
  }
#endif
  load_plain<Half, float>(dst, src, n, stride);
}

inline MoveFn load_of(DType from) {
  switch (from) {
    case DType::kFloat32: return load_plain<float, float>;
    case DType::kFloat64: return load_plain<double, double>;
    case DType::kFloat16: return load_half;
    case DType::kBFloat16: return load_plain<BHalf, float>;
    case DType::kBool: return load_plain<Truth, std::int32_t>;
    case DType::kInt8: return load_plain<std::int8_t, std::int32_t>;
    case DType::kUint8: return load_plain<std::uint8_t, std::int32_t>;
    case DType::kInt16: return load_plain<std::int16_t, std::int32_t>;
    case DType::kUint16: return load_plain<std::uint16_t, std::int32_t>;
    case DType::kInt32: return load_plain<std::int32_t, std::int32_t>;
    case DType::kUint32: return load_plain<std::uint32_t, std::int64_t>;
    case DType::kInt64:
    case DType::kUint64: return load_plain<std::int64_t, std::int64_t>;
    default: return nullptr;
  }
}

template <class M, class R>
M narrowed(R x) {
  if constexpr (std::is_same_v<M, Half> || std::is_same_v<M, BHalf>) return M::from(x);
  else return static_cast<M>(x);
}

template <class M, class R>
void store_plain(void* dst, const void* src, std::size_t n, std::int64_t stride) {
  M* out = static_cast<M*>(dst);
  const R* in = static_cast<const R*>(src);
  if (stride == 1) {
    if constexpr (std::is_same_v<M, R>) {
      std::memcpy(out, in, n * sizeof(M));
    } else {
#pragma GCC ivdep
      for (std::size_t i = 0; i < n; ++i) out[i] = narrowed<M>(in[i]);
    }
  } else {
    for (std::size_t i = 0; i < n; ++i) out[static_cast<std::int64_t>(i) * stride] = narrowed<M>(in[i]);
  }
}

template <class M, class R>
void store_fill_plain(void* dst, const void* src, std::size_t n, std::int64_t stride) {
  M* out = static_cast<M*>(dst);
  const M value = narrowed<M>(*static_cast<const R*>(src));
  if (stride == 1) {
    std::fill_n(out, n, value);
  } else {
    for (std::size_t i = 0; i < n; ++i) out[static_cast<std::int64_t>(i) * stride] = value;
  }
}

inline void store_half(void* dst, const void* src, std::size_t n, std::int64_t stride) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  if (stride == 1) {
    const F32 d;
    const hn::Rebind<hwy::float16_t, F32> dh;
    const std::size_t lanes = hn::Lanes(d);
    auto* out = static_cast<hwy::float16_t*>(dst);
    const float* in = static_cast<const float*>(src);
    std::size_t i = 0;
    for (; i + lanes <= n; i += lanes) hn::StoreU(hn::DemoteTo(dh, hn::LoadU(d, in + i)), dh, out + i);
    store_plain<Half, float>(out + i, in + i, n - i, 1);
    return;
  }
#endif
  store_plain<Half, float>(dst, src, n, stride);
}

#define LATHE_STORE_CASES(F)                                  \
  case DType::kFloat32: return F<float, float>;               \
  case DType::kFloat64: return F<double, double>;             \
  case DType::kBFloat16: return F<BHalf, float>;              \
  case DType::kBool:                                          \
  case DType::kUint8: return F<std::uint8_t, std::int32_t>;   \
  case DType::kInt8: return F<std::int8_t, std::int32_t>;     \
  case DType::kInt16: return F<std::int16_t, std::int32_t>;   \
  case DType::kUint16: return F<std::uint16_t, std::int32_t>; \
  case DType::kInt32: return F<std::int32_t, std::int32_t>;   \
  case DType::kUint32: return F<std::uint32_t, std::int64_t>; \
  case DType::kInt64:                                         \
  case DType::kUint64: return F<std::int64_t, std::int64_t>;

inline MoveFn store_of(DType to) {
  switch (to) {
    case DType::kFloat16: return store_half; LATHE_STORE_CASES(store_plain)
    default: return nullptr;
  }
}
inline MoveFn store_fill_of(DType to) {
  switch (to) {
    case DType::kFloat16: return store_fill_plain<Half, float>; LATHE_STORE_CASES(store_fill_plain)
    default: return nullptr;
  }
}
#undef LATHE_STORE_CASES

// ---- memory to memory --------------------------------------------------------------------------------------------------------

/// dst(r, c) = src(r, c) with dst dense in c and src dense in r: blocks of 8 x 8 keep both sides within few cache lines.
template <class T>
void transpose_plain(T* dst, std::int64_t dst_row, const T* src, std::int64_t src_col, std::size_t rows, std::size_t cols) {
  constexpr std::size_t kBlock = 64 / sizeof(T);
  for (std::size_t r0 = 0; r0 < rows; r0 += kBlock) {
    const std::size_t r1 = std::min(rows, r0 + kBlock);
    for (std::size_t c0 = 0; c0 < cols; c0 += 8) {
      const std::size_t c1 = std::min(cols, c0 + 8);
      for (std::size_t r = r0; r < r1; ++r) {
        for (std::size_t c = c0; c < c1; ++c)
          dst[static_cast<std::int64_t>(r) * dst_row + static_cast<std::int64_t>(c)] =
              src[static_cast<std::int64_t>(c) * src_col + static_cast<std::int64_t>(r)];
      }
    }
  }
}

#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
/// 8 x 8 floats in registers.
HWY_INLINE void transpose_8x8(float* dst, std::int64_t dst_row, const float* src, std::int64_t src_col) {
  __m256 v[8], t[8];
  for (int i = 0; i < 8; ++i) v[i] = _mm256_loadu_ps(src + i * src_col);
  for (int i = 0; i < 4; ++i) {
    t[2 * i] = _mm256_unpacklo_ps(v[2 * i], v[2 * i + 1]);
    t[2 * i + 1] = _mm256_unpackhi_ps(v[2 * i], v[2 * i + 1]);
  }
  for (int i = 0; i < 2; ++i) {
    v[4 * i + 0] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0x44);
    v[4 * i + 1] = _mm256_shuffle_ps(t[4 * i], t[4 * i + 2], 0xee);
    v[4 * i + 2] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0x44);
    v[4 * i + 3] = _mm256_shuffle_ps(t[4 * i + 1], t[4 * i + 3], 0xee);
  }
  for (int i = 0; i < 4; ++i) {
    _mm256_storeu_ps(dst + i * dst_row, _mm256_permute2f128_ps(v[i], v[i + 4], 0x20));
    _mm256_storeu_ps(dst + (i + 4) * dst_row, _mm256_permute2f128_ps(v[i], v[i + 4], 0x31));
  }
}
#endif

inline void transpose_f32(float* dst, std::int64_t dst_row, const float* src, std::int64_t src_col, std::size_t rows, std::size_t cols) {
#if HWY_TARGET == HWY_AVX2 || HWY_TARGET == HWY_AVX3
  const std::size_t whole_rows = rows / 8 * 8, whole_cols = cols / 8 * 8;
  for (std::size_t r0 = 0; r0 < whole_rows; r0 += 16) {  // two blocks: a whole cache line of the source
    for (std::size_t c = 0; c < whole_cols; c += 8) {
      const std::int64_t ci = static_cast<std::int64_t>(c);
      for (std::size_t r = r0; r < std::min(r0 + 16, whole_rows); r += 8) {
        transpose_8x8(dst + static_cast<std::int64_t>(r) * dst_row + ci, dst_row, src + ci * src_col + static_cast<std::int64_t>(r), src_col);
      }
    }
  }
  if (whole_cols < cols)
    transpose_plain(dst + whole_cols, dst_row, src + static_cast<std::int64_t>(whole_cols) * src_col, src_col, whole_rows, cols - whole_cols);
  if (whole_rows < rows) transpose_plain(dst + static_cast<std::int64_t>(whole_rows) * dst_row, dst_row, src + whole_rows, src_col, rows - whole_rows, cols);
#else
  transpose_plain(dst, dst_row, src, src_col, rows, cols);
#endif
}

template <class T>
void copy_typed(const View& dst, const View& src, std::size_t rows, std::size_t cols) {
  T* to = static_cast<T*>(dst.data);
  const T* from = static_cast<const T*>(src.data);
  if (dst.col_stride == 1 && src.col_stride == 1) {
    if (dst.row_stride == static_cast<std::int64_t>(cols) && src.row_stride == static_cast<std::int64_t>(cols)) {
      std::memcpy(to, from, rows * cols * sizeof(T));
      return;
    }
    for (std::size_t r = 0; r < rows; ++r, to += dst.row_stride, from += src.row_stride) {
      if (cols * sizeof(T) >= 256) {
        std::memcpy(to, from, cols * sizeof(T));
      } else {
#pragma GCC ivdep
        for (std::size_t c = 0; c < cols; ++c) to[c] = from[c];
      }
    }
    return;
  }
  if (dst.col_stride == 1 && src.row_stride == 1 && rows > 1) {
    if constexpr (sizeof(T) == 4) {
      transpose_f32(reinterpret_cast<float*>(to), dst.row_stride, reinterpret_cast<const float*>(from), src.col_stride, rows, cols);
    } else {
      transpose_plain(to, dst.row_stride, from, src.col_stride, rows, cols);
    }
    return;
  }
  if (dst.row_stride == 1 && src.col_stride == 1 && cols > 1 && rows > 1) {
    return copy_typed<T>({dst.data, dst.col_stride, dst.row_stride}, {src.data, src.col_stride, src.row_stride}, cols, rows);
  }
  for (std::size_t r = 0; r < rows; ++r, to += dst.row_stride, from += src.row_stride) {
    if (src.col_stride == 0 && dst.col_stride == 1) {
      std::fill_n(to, cols, *from);
    } else {
      for (std::size_t c = 0; c < cols; ++c) to[static_cast<std::int64_t>(c) * dst.col_stride] = from[static_cast<std::int64_t>(c) * src.col_stride];
    }
  }
}

inline void copy_elements(const View& dst, const View& src, std::size_t rows, std::size_t cols, std::size_t size) {
  switch (size) {
    case 1: return copy_typed<std::uint8_t>(dst, src, rows, cols);
    case 2: return copy_typed<std::uint16_t>(dst, src, rows, cols);
    case 4: return copy_typed<std::uint32_t>(dst, src, rows, cols);
    default: return copy_typed<std::uint64_t>(dst, src, rows, cols);
  }
}

// ---- reductions --------------------------------------------------------------------------------------------------------------

/// One row of f32 to one value, in a fixed order: four vectors of partial results, then lanes. Where `kChecks`, f need not pass NaN on:
/// the row is searched for one beside.
template <bool kChecks, class F>
HWY_INLINE float reduce_row(const float* v, std::size_t n, float running, F f) {
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t i = 0;
  if (n >= 2 * lanes) {
    VF a = hn::LoadU(d, v), b = hn::LoadU(d, v + lanes);
    auto odd = hn::Or(hn::IsNaN(a), hn::IsNaN(b));
    i = 2 * lanes;
    if (n >= 4 * lanes) {
      VF c = hn::LoadU(d, v + 2 * lanes), e = hn::LoadU(d, v + 3 * lanes);
      if constexpr (kChecks) odd = hn::Or(odd, hn::Or(hn::IsNaN(c), hn::IsNaN(e)));
      for (i = 4 * lanes; i + 4 * lanes <= n; i += 4 * lanes) {
        const VF p = hn::LoadU(d, v + i), q = hn::LoadU(d, v + i + lanes), r = hn::LoadU(d, v + i + 2 * lanes), s = hn::LoadU(d, v + i + 3 * lanes);
        a = f.plain(a, p);
        b = f.plain(b, q);
        c = f.plain(c, r);
        e = f.plain(e, s);
        if constexpr (kChecks) odd = hn::Or(odd, hn::Or(hn::Or(hn::IsNaN(p), hn::IsNaN(q)), hn::Or(hn::IsNaN(r), hn::IsNaN(s))));
      }
      a = f.plain(a, c);
      b = f.plain(b, e);
    }
    a = f.plain(a, b);
    for (; i + lanes <= n; i += lanes) {
      const VF p = hn::LoadU(d, v + i);
      a = f.plain(a, p);
      if constexpr (kChecks) odd = hn::Or(odd, hn::IsNaN(p));
    }
    if (kChecks && !hn::AllFalse(d, odd)) return std::numeric_limits<float>::quiet_NaN();
    HWY_ALIGN float parts[HWY_MAX_BYTES / sizeof(float)];
    hn::Store(a, d, parts);
    for (std::size_t half = lanes / 2; half; half /= 2) {
      for (std::size_t k = 0; k < half; ++k) parts[k] = f.one(parts[k], parts[k + half]);
    }
    running = f.one(running, parts[0]);
  }
  for (; i < n; ++i) running = f.one(running, v[i]);
  return running;
}

struct RSum : FAdd {
  static float one(float a, float b) { return a + b; }
  static HWY_INLINE VF plain(VF a, VF b) { return hn::Add(a, b); }
};
struct RProd : FMul {
  static float one(float a, float b) { return a * b; }
  static HWY_INLINE VF plain(VF a, VF b) { return hn::Mul(a, b); }
};
struct RMax : FMax {
  static float one(float a, float b) { return a != a ? a : b != b ? b : a > b ? a : b; }
  static HWY_INLINE VF plain(VF a, VF b) { return hn::Max(a, b); }
};
struct RMin : FMin {
  static float one(float a, float b) { return a != a ? a : b != b ? b : a < b ? a : b; }
  static HWY_INLINE VF plain(VF a, VF b) { return hn::Min(a, b); }
};

template <class F, bool kChecks>
void reduce_f32(void* accumulators, const void* values, std::size_t rows, std::size_t cols, bool rows_kept, bool cols_kept) {
  float* acc = static_cast<float*>(accumulators);
  const float* v = static_cast<const float*>(values);
  if (!cols_kept) {
    if (!rows_kept) {
      *acc = reduce_row<kChecks>(v, rows * cols, *acc, F());
    } else {
      for (std::size_t r = 0; r < rows; ++r) acc[r] = reduce_row<kChecks>(v + r * cols, cols, acc[r], F());
    }
    return;
  }
  if (rows_kept) {
    each2<false, false>(acc, acc, v, rows * cols, F());
    return;
  }
  // Column sums: the rows of this tile first, among themselves, so that long reductions are sums of partial sums.
  const F32 d;
  const std::size_t lanes = hn::Lanes(d);
  std::size_t c = 0;
  for (; c + 4 * lanes <= cols; c += 4 * lanes) {  // four columns of vectors hide the latency of one
    VF a[4];
    for (std::size_t u = 0; u < 4; ++u) a[u] = hn::LoadU(d, v + c + u * lanes);
    for (std::size_t r = 1; r < rows; ++r)
      for (std::size_t u = 0; u < 4; ++u) a[u] = F()(a[u], hn::LoadU(d, v + r * cols + c + u * lanes));
    for (std::size_t u = 0; u < 4; ++u) hn::StoreU(F()(hn::LoadU(d, acc + c + u * lanes), a[u]), d, acc + c + u * lanes);
  }
  for (; c + lanes <= cols; c += lanes) {
    VF a = hn::LoadU(d, v + c);
    for (std::size_t r = 1; r < rows; ++r) a = F()(a, hn::LoadU(d, v + r * cols + c));
    hn::StoreU(F()(hn::LoadU(d, acc + c), a), d, acc + c);
  }
  for (; c < cols; ++c) {
    float a = v[c];
    for (std::size_t r = 1; r < rows; ++r) a = F::one(a, v[r * cols + c]);
    acc[c] = F::one(acc[c], a);
  }
}

template <class T, class F>
void reduce_any(void* accumulators, const void* values, std::size_t rows, std::size_t cols, bool rows_kept, bool cols_kept) {
  T* acc = static_cast<T*>(accumulators);
  const T* v = static_cast<const T*>(values);
  for (std::size_t r = 0; r < rows; ++r) {
    T* row = acc + (rows_kept ? r * (cols_kept ? cols : 1) : 0);
    if (cols_kept) {
#pragma GCC ivdep
      for (std::size_t c = 0; c < cols; ++c) row[c] = F()(row[c], v[r * cols + c]);
    } else {
      T a = *row;
      for (std::size_t c = 0; c < cols; ++c) a = F()(a, v[r * cols + c]);
      *row = a;
    }
  }
}

template <class T>
struct TSum {
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<Bits<T>>(a) + static_cast<Bits<T>>(b));
    else return a + b;
  }
};
template <class T>
struct TProd {
  T operator()(T a, T b) const {
    if constexpr (std::is_integral_v<T>) return static_cast<T>(static_cast<Bits<T>>(a) * static_cast<Bits<T>>(b));
    else return a * b;
  }
};
template <class T>
struct TMax {
  T operator()(T a, T b) const { return a != a ? a : b != b ? b : a > b ? a : b; }
};
template <class T>
struct TMin {
  T operator()(T a, T b) const { return a != a ? a : b != b ? b : a < b ? a : b; }
};
template <class T>
struct TAnd {
  T operator()(T a, T b) const { return (a != 0) & (b != 0); }
};
template <class T>
struct TOr {
  T operator()(T a, T b) const { return (a != 0) | (b != 0); }
};

template <class T>
ReduceFn reduce_plain(Reduce reduce) {
  switch (reduce) {
    case Reduce::kSum: return reduce_any<T, TSum<T>>;
    case Reduce::kProd: return reduce_any<T, TProd<T>>;
    case Reduce::kMax: return reduce_any<T, TMax<T>>;
    case Reduce::kMin: return reduce_any<T, TMin<T>>;
    case Reduce::kAnd: return reduce_any<T, TAnd<T>>;
    case Reduce::kOr: return reduce_any<T, TOr<T>>;
    default: return nullptr;
  }
}

inline ReduceFn reduce_of(Reduce reduce, VmType type) {
  if (type == VmType::kF32) {
    switch (reduce) {
      case Reduce::kSum: return reduce_f32<RSum, false>;
      case Reduce::kProd: return reduce_f32<RProd, false>;
      case Reduce::kMax: return reduce_f32<RMax, true>;
      case Reduce::kMin: return reduce_f32<RMin, true>;
      default: return nullptr;
    }
  }
  return type == VmType::kF64 ? reduce_plain<double>(reduce) : type == VmType::kI32 ? reduce_plain<std::int32_t>(reduce) : reduce_plain<std::int64_t>(reduce);
}

/// Positions below 0 mark an accumulator that has seen nothing. NaN ranks above all for both directions.
template <class T, bool kMaximum, bool kLast>
void arg_reduce_any(void* best, std::int64_t* positions, const void* values, std::size_t rows, std::size_t cols, bool rows_kept, bool cols_kept,
                    std::int64_t first, std::int64_t row_step, std::int64_t col_step) {
  const T* v = static_cast<const T*>(values);
  for (std::size_t r = 0; r < rows; ++r) {
    for (std::size_t c = 0; c < cols; ++c) {
      const std::size_t slot = (rows_kept ? r * (cols_kept ? cols : 1) : 0) + (cols_kept ? c : 0);
      T& top = static_cast<T*>(best)[slot];
      std::int64_t& at = positions[slot];
      const T x = v[r * cols + c];
      const std::int64_t here = first + static_cast<std::int64_t>(r) * row_step + static_cast<std::int64_t>(c) * col_step;
      const bool x_nan = x != x, top_nan = top != top;
      const bool better = x_nan ? !top_nan : !top_nan && (kMaximum ? x > top : x < top);
      const bool equal = x == top || (x_nan && top_nan);
      if (at < 0 || better || (equal && (kLast ? here > at : here < at))) {
        top = x;
        at = here;
      }
    }
  }
}

template <class T>
ArgReduceFn arg_reduce_typed(Reduce reduce) {
  switch (reduce) {
    case Reduce::kArgMax: return arg_reduce_any<T, true, false>;
    case Reduce::kArgMin: return arg_reduce_any<T, false, false>;
    case Reduce::kArgMaxLast: return arg_reduce_any<T, true, true>;
    case Reduce::kArgMinLast: return arg_reduce_any<T, false, true>;
    default: return nullptr;
  }
}
inline ArgReduceFn arg_reduce_of(Reduce reduce, VmType type) {
  switch (type) {
    case VmType::kF32: return arg_reduce_typed<float>(reduce);
    case VmType::kF64: return arg_reduce_typed<double>(reduce);
    case VmType::kI32: return arg_reduce_typed<std::int32_t>(reduce);
    default: return arg_reduce_typed<std::int64_t>(reduce);
  }
}

}  // namespace lathe::loops::HWY_NAMESPACE
HWY_AFTER_NAMESPACE();
#endif
