// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// DFT and STFT.
#include "ops/signal/fourier.h"

#include <algorithm>
#include <numbers>

#include "ops/infer.h"
#include "ops/op_def.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

/// Length a power of two, in place, bit-reversed order first.
void halving(std::vector<Complex>& x, bool inverse) {
  const std::size_t n = x.size();
  for (std::size_t i = 1, j = 0; i < n; ++i) {
    std::size_t bit = n >> 1;
    for (; j & bit; bit >>= 1) j ^= bit;
    j ^= bit;
    if (i < j) std::swap(x[i], x[j]);
  }
  for (std::size_t length = 2; length <= n; length <<= 1) {
    const double turn = (inverse ? 2 : -2) * std::numbers::pi / static_cast<double>(length);
    std::vector<Complex> factors(length / 2);
    for (std::size_t k = 0; k < factors.size(); ++k) factors[k] = std::polar(1.0, turn * static_cast<double>(k));
    for (std::size_t from = 0; from < n; from += length)
      for (std::size_t k = 0; k < length / 2; ++k) {
        const Complex a = x[from + k], b = x[from + k + length / 2] * factors[k];
        x[from + k] = a + b;
        x[from + k + length / 2] = a - b;
      }
  }
}

}  // namespace

std::vector<Complex> fourier(std::vector<Complex> x, bool inverse) {
  const std::size_t n = x.size();
  if (n <= 1) return x;
  if ((n & (n - 1)) == 0) {
    halving(x, inverse);
    return x;
  }
  // n k = (n^2 + k^2 - (n - k)^2) / 2 makes the transform a convolution with a chirp.
  std::size_t m = 1;
  while (m < 2 * n - 1) m <<= 1;
  std::vector<Complex> chirp(n), a(m), b(m);
  for (std::size_t i = 0; i < n; ++i) {
    const auto square = static_cast<double>(i * i % (2 * n));
    chirp[i] = std::polar(1.0, (inverse ? 1 : -1) * std::numbers::pi * square / static_cast<double>(n));
    a[i] = x[i] * chirp[i];
    b[i] = std::conj(chirp[i]);
    if (i > 0) b[m - i] = b[i];
  }
  halving(a, false);
  halving(b, false);
  for (std::size_t i = 0; i < m; ++i) a[i] *= b[i];
  halving(a, true);
  for (std::size_t i = 0; i < n; ++i) x[i] = a[i] * chirp[i] / static_cast<double>(m);
  return x;
}

namespace {

using ComplexFloat = std::complex<float>;

/// The factors of n: fours, a two in front of all others, then odd ones. Empty when one is large.
std::vector<std::size_t> factors_of(std::size_t n) {
  constexpr std::size_t kLargest = 31;
  std::vector<std::size_t> factors;
  for (; n % 4 == 0; n /= 4) factors.push_back(4);
  if (n % 2 == 0) factors.insert(factors.begin(), 2), n /= 2;
  for (std::size_t p = 3; n > 1; p += 2) {
    if (p > kLargest) return {};
    for (; n % p == 0; n /= p) factors.push_back(p);
  }
  return factors;
}

/// Sums of a few numbers: out[u] = sum of in[j] e^(2 pi i u j / p). Numbers of an odd p are paired, j with p - j.
void few(const ComplexFloat* in, ComplexFloat* out, std::size_t p, const std::vector<std::complex<double>>& turns) {
  if (p == 2) {
    out[0] = in[0] + in[1];
    out[1] = in[0] - in[1];
    return;
  }
  if (p == 4) {
    const ComplexFloat a = in[0] + in[2], b = in[0] - in[2], c = in[1] + in[3], d = in[1] - in[3], turned(-d.imag(), d.real());
    out[0] = a + c;
    out[1] = b + turned;
    out[2] = a - c;
    out[3] = b - turned;
    return;
  }
  out[0] = in[0];
  for (std::size_t j = 1; j <= p / 2; ++j) out[0] += in[j] + in[p - j];
  for (std::size_t u = 1; u <= p / 2; ++u) {
    ComplexFloat even = in[0], odd = 0;
    for (std::size_t j = 1; j <= p / 2; ++j) {
      const std::complex<double> turn = turns[u * j % p];
      const ComplexFloat sum = in[j] + in[p - j], difference = in[j] - in[p - j];
      even += static_cast<float>(turn.real()) * sum;
      odd += static_cast<float>(turn.imag()) * difference;
    }
    const ComplexFloat turned(-odd.imag(), odd.real());
    out[u] = even + turned;
    out[p - u] = even - turned;
  }
}

/// The inverse transform in single precision, without its factor 1/n: NumPy, which is the format's reference, takes float32 so, and
/// what cancels in it is judged by its rounding. False: the length has a large prime.
bool single_inverse(std::vector<Complex>& x) {
  const std::size_t n = x.size();
  const auto factors = factors_of(n);
  if (factors.empty()) return false;
  const auto turn = [](std::size_t k, std::size_t of) { return std::polar(1.0, 2 * std::numbers::pi * static_cast<double>(k % of) / static_cast<double>(of)); };
  std::vector<ComplexFloat> from(x.begin(), x.end()), to(n);
  // Of `done` interleaved transforms, each over n / done numbers, a pass makes `p` times as many.
  std::size_t done = 1;
  for (const std::size_t p : factors) {
    const std::size_t rest = n / done / p;
    std::vector<std::complex<double>> turns;
    for (std::size_t k = 0; k < p; ++k) turns.push_back(turn(k, p));
    std::vector<ComplexFloat> in(p), out(p);
    for (std::size_t k = 0; k < done; ++k)
      for (std::size_t i = 0; i < rest; ++i) {
        for (std::size_t j = 0; j < p; ++j) in[j] = from[i + rest * (j + p * k)];
        few(in.data(), out.data(), p, turns);
        for (std::size_t u = 0; u < p; ++u) {
          const ComplexFloat v = out[u], w(turn(u * i, rest * p));
          // By parts: a product of std::complex looks for infinities.
          to[i + rest * (k + done * u)] = u * i == 0 ? v : ComplexFloat(v.real() * w.real() - v.imag() * w.imag(), v.real() * w.imag() + v.imag() * w.real());
        }
      }
    from.swap(to);
    done *= p;
  }
  x.assign(from.begin(), from.end());
  return true;
}

constexpr std::int64_t kLongest = std::int64_t{1} << 28;

// DFT ----------------------------------------------------------------------------------------------------------------

std::int64_t axis_of(const Attrs& attrs, std::optional<std::int64_t> given) { return given ? *given : attrs.get_int("axis", -2); }

void dft_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (!x) return ctx.set_unknown(0, ctx.dtype(0));
  if (x->size() < 2) ctx.fail("takes rank 2 or more, got " + ir::to_string(*x));
  if (const auto last = x->back().constant(); last && *last != 1 && *last != 2)
    ctx.fail("the last extent is " + std::to_string(*last) + "; it is 1 (real numbers) or 2 (complex ones)");
  const bool inverse = ctx.attrs().get_int("inverse", 0) != 0, onesided = ctx.attrs().get_int("onesided", 0) != 0;
  std::optional<std::int64_t> given;
  if (ctx.has_input(2)) {
    const auto content = constant_content(ctx, 2);
    if (!content || content->size() != 1) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, x->size()));
    given = content->front();
  }
  const auto rank = static_cast<std::int64_t>(x->size());
  const auto axis = infer_axis(ctx, axis_of(ctx.attrs(), given), rank);
  if (axis == rank - 1) ctx.fail("the last axis holds real and imaginary parts and cannot be transformed");
  Shape out = *x;
  Dim& extent = out[static_cast<std::size_t>(axis)];
  if (ctx.has_input(1)) {
    const auto length = single_extent(ctx, 1);
    extent = length ? *length : ctx.fresh_symbol();
  } else if (inverse && onesided) {
    extent = (extent - Dim(1)) * Dim(2);
  }
  if (onesided && !inverse) extent = Dim::floordiv(extent, Dim(2)) + Dim(1);
  out.back() = Dim(onesided && inverse ? 1 : 2);
  ctx.set(0, ctx.dtype(0), std::move(out));
}

void dft_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const bool inverse = ctx.attrs().get_int("inverse", 0) != 0, onesided = ctx.attrs().get_int("onesided", 0) != 0;
  if (x.rank() < 2 || (x.dims().back() != 1 && x.dims().back() != 2)) ctx.fail("takes [..., signal, ..., 1 or 2], got " + lathe::to_string(x.dims()));
  const std::optional<std::int64_t> given = ctx.has_input(2) ? std::optional(ctx.input(2).as_int64(0)) : std::nullopt;
  const std::int64_t axis = ref_axis(ctx, axis_of(ctx.attrs(), given), x.rank()), parts = x.dims().back();
  if (axis == x.rank() - 1) ctx.fail("the last axis holds real and imaginary parts and cannot be transformed");
  const std::int64_t extent = x.dims()[static_cast<std::size_t>(axis)];
  const std::int64_t length = ctx.has_input(1) ? ctx.input(1).as_int64(0) : inverse && onesided ? 2 * (extent - 1) : extent;
  if (length < 1 || length > kLongest) ctx.fail("a transform of length " + std::to_string(length));
  const std::int64_t kept = onesided && !inverse ? length / 2 + 1 : length, out_parts = onesided && inverse ? 1 : 2;
  Dims places = x.dims(), out = x.dims();
  places.back() = 1;
  places[static_cast<std::size_t>(axis)] = 1;
  out[static_cast<std::size_t>(axis)] = kept;
  out.back() = out_parts;
  const Dims from_strides = strides_of(x.dims()), to_strides = strides_of(out);
  const std::int64_t from_step = from_strides[static_cast<std::size_t>(axis)], to_step = to_strides[static_cast<std::size_t>(axis)];
  const auto values = to_doubles(x);
  std::vector<double> result(static_cast<std::size_t>(element_count(out)));
  for_each_index(places, [&](const Dims& at) {
    std::int64_t from = 0, to = 0;
    for (std::size_t a = 0; a + 1 < at.size(); ++a) {
      from += at[a] * from_strides[a];
      to += at[a] * to_strides[a];
    }
    std::vector<Complex> signal(static_cast<std::size_t>(length));
    const std::int64_t spectrum = onesided && inverse ? std::min(extent, length / 2 + 1) : std::min(extent, length);
    for (std::int64_t i = 0; i < spectrum; ++i) {
      const auto p = static_cast<std::size_t>(from + i * from_step);
      signal[static_cast<std::size_t>(i)] = {values[p], parts == 2 ? values[p + 1] : 0.0};
    }
    if (onesided && inverse) {  // the other half is its mirror image; the first and the middle value have no imaginary part
      signal[0].imag(0);
      if (length % 2 == 0) signal[static_cast<std::size_t>(length / 2)].imag(0);
      for (std::int64_t i = length / 2 + 1; i < length; ++i) signal[static_cast<std::size_t>(i)] = std::conj(signal[static_cast<std::size_t>(length - i)]);
    }
    const bool single = x.dtype() == DType::kFloat32 && inverse && !onesided && single_inverse(signal);
    const auto transformed = single ? std::move(signal) : fourier(std::move(signal), inverse);
    const double scale = !inverse ? 1.0 : single ? static_cast<double>(1.0F / static_cast<float>(length)) : 1.0 / static_cast<double>(length);
    for (std::int64_t i = 0; i < kept; ++i) {
      const Complex value = transformed[static_cast<std::size_t>(i)] * scale;
      const auto p = static_cast<std::size_t>(to + i * to_step);
      result[p] = value.real();
      if (out_parts == 2) result[p + 1] = value.imag();
    }
  });
  ctx.set_output(0, from_doubles(x.dtype(), std::move(out), result));
}

// Version 17 has the axis as an attribute, which counts from 1 by default.
void dft_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version >= 20) return;
  const std::int64_t axis = ctx.node.attrs.get_int("axis", 1);
  ctx.node.attrs.erase("axis");
  ctx.graph.set_input(&ctx.node, 2, ctx.constant(ctx.node.name + "_axis", Tensor::scalar(axis)));
}

// STFT: DFTs of frames of a signal, each times a window ------------------------------------------------------------------------------

void stft_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (x && x->size() != 3) ctx.fail("takes a signal [batch, length, 1 or 2], got " + ir::to_string(*x));
  const bool onesided = ctx.attrs().get_int("onesided", 1) != 0;
  std::optional<Dim> length = single_extent(ctx, 3);
  if (!length && !ctx.has_input(3) && ctx.has_input(2) && ctx.shape(2) && ctx.shape(2)->size() == 1) length = (*ctx.shape(2))[0];
  const auto step = single_extent(ctx, 1);
  const bool known = x && length && step && step->lower_bound().value_or(0) > 0;
  const Dim frames = known ? Dim::floordiv((*x)[1] - *length, *step) + Dim(1) : ctx.fresh_symbol();
  const Dim bins = !length ? ctx.fresh_symbol() : onesided ? Dim::floordiv(*length, Dim(2)) + Dim(1) : *length;
  ctx.set(0, ctx.dtype(0), {x ? (*x)[0] : ctx.fresh_symbol(), frames, bins, Dim(2)});
}

void stft_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 3 || (x.dims()[2] != 1 && x.dims()[2] != 2)) ctx.fail("takes a signal [batch, length, 1 or 2], got " + lathe::to_string(x.dims()));
  const std::int64_t step = ctx.input(1).size() == 1 ? ctx.input(1).as_int64(0) : 0, total = x.dims()[1], parts = x.dims()[2];
  const std::int64_t length = ctx.has_input(3) ? ctx.input(3).as_int64(0) : ctx.has_input(2) ? ctx.input(2).size() : total;
  if (step < 1) ctx.fail("frame_step must be one positive number");
  if (length < 1 || length > total) ctx.fail("a frame of " + std::to_string(length) + " does not fit a signal of " + std::to_string(total));
  if (ctx.has_input(2) && ctx.input(2).size() != length)
    ctx.fail("the window has " + std::to_string(ctx.input(2).size()) + " elements for frames of " + std::to_string(length));
  const auto window = ctx.has_input(2) ? to_doubles(ctx.input(2)) : std::vector<double>(static_cast<std::size_t>(length), 1.0);
  const std::int64_t frames = 1 + (total - length) / step, bins = ctx.attrs().get_int("onesided", 1) != 0 ? length / 2 + 1 : length;
  const auto values = to_doubles(x);
  std::vector<double> result;
  for (std::int64_t n = 0; n < x.dims()[0]; ++n)
    for (std::int64_t f = 0; f < frames; ++f) {
      std::vector<Complex> signal;
      for (std::int64_t i = 0; i < length; ++i) {
        const auto p = static_cast<std::size_t>((n * total + f * step + i) * parts);
        signal.push_back(window[static_cast<std::size_t>(i)] * Complex(values[p], parts == 2 ? values[p + 1] : 0.0));
      }
      const auto transformed = fourier(std::move(signal), false);
      for (std::int64_t k = 0; k < bins; ++k) {
        result.push_back(transformed[static_cast<std::size_t>(k)].real());
        result.push_back(transformed[static_cast<std::size_t>(k)].imag());
      }
    }
  ctx.set_output(0, from_doubles(x.dtype(), {x.dims()[0], frames, bins, 2}, result));
}

}  // namespace

std::vector<OpDef> fourier_ops() {
  return {
      {.name = "DFT",
       .versions = {{17, "input:T1 dft_length?:T2 -> output:T1", "axis:int=1 inverse:int=0 onesided:int=0", "T1: @float13; T2: int32 int64"},
                    {20, "input:T1 dft_length?:T2 axis?:int64 -> output:T1", "inverse:int=0 onesided:int=0", "T1: @float13; T2: int32 int64"}},
       .upgrade = dft_upgrade,
       .infer = dft_infer,
       .reference = dft_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .expand = dft_expand,
       .doc = "discrete Fourier transform along an axis"},
      {.name = "STFT",
       .versions = {{17, "signal:T1 frame_step:T2 window?:T1 frame_length?:T2 -> output:T1", "onesided:int=1", "T1: @float13; T2: int32 int64"}},
       .infer = stft_infer,
       .reference = stft_reference,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .expand = stft_expand,
       .doc = "Fourier transforms of the frames of a signal"},
  };
}

}  // namespace lathe::ops
