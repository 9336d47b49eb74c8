// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// DFT and STFT as products with constant matrices of cosines and sines, where lengths are known: products have kernels on every device.
//
//   short     one product of the real and imaginary parts, which stand side by side: [..., T * parts] x [T * parts, K * 2]
//   long      N = P * Q in two products around a factor for each element (Cooley and Tukey 1965), each short
//   frames    of a STFT, short: one convolution over blocks of gcd(length, step) samples, whose weights hold the window as well
//             long: gathered, times the window, then as above
//
// Lengths with a large prime factor, float64 and what only a run tells stay with the reference, a fast transform in double precision.

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "lathe/status.h"
#include "ops/evaluate.h"
#include "ops/expand_util.h"
#include "ops/ref_util.h"
#include "ops/registry.h"
#include "ops/signal/fourier.h"
#include "ops/signal/fourier_matrix.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kShort = 512;      // one product up to here
constexpr std::int64_t kShortAlone = 64;  // for few signals: a large matrix would be read for little
constexpr std::int64_t kFewSignals = 16;
constexpr std::int64_t kFewNumbers = 16;     // the reference rounds an inverse transform as NumPy does, by which what cancels among few numbers is judged
constexpr std::int64_t kLongestPart = 1024;  // P, Q
constexpr std::int64_t kMostElements = std::int64_t{1} << 22;  // of one matrix
constexpr std::int64_t kMostSlices = 16;                       // of which frames are put together
constexpr std::int64_t kFewestChannels = 4;                    // blocks of a convolution over frames

/// P * Q = n, as close to each other as it gets, P <= Q; {1, n} for primes.
std::pair<std::int64_t, std::int64_t> halves_of(std::int64_t n) {
  std::int64_t p = static_cast<std::int64_t>(std::sqrt(static_cast<double>(n)));
  while (p > 1 && (p * p > n || n % p != 0)) --p;
  return {std::max<std::int64_t>(p, 1), n / std::max<std::int64_t>(p, 1)};
}

bool splits(std::int64_t n) {
  const auto [p, q] = halves_of(n);
  return p > 1 && q <= kLongestPart;
}

bool fits_one_product(const Transform& t) {
  return t.length <= kMostElements && (t.extent * t.parts) <= kMostElements / std::max<std::int64_t>(t.kept * t.out_parts, 1);
}

/// A target of Reshape that keeps the first `kept` extents.
std::vector<std::int64_t> behind(std::size_t kept, std::initializer_list<std::int64_t> rest) {
  std::vector<std::int64_t> target(kept, 0);
  target.insert(target.end(), rest);
  return target;
}

/// Swaps axes `a` and `a + 1` of `rank`.
Value* swapped(Parts& p, Value* x, std::size_t rank, std::size_t a) {
  std::vector<std::int64_t> perm(rank);
  std::iota(perm.begin(), perm.end(), 0);
  std::swap(perm[a], perm[a + 1]);
  return p.transpose(x, std::move(perm));
}

/// x: [batch axes..., extent, parts] -> [batch axes..., kept, out_parts].
Value* one_product(Parts& p, Value* x, std::size_t batch, const Transform& t) {
  Value* y = p.binary("MatMul", p.reshape(x, behind(batch, {t.extent * t.parts})), p.ctx.constant("fourier", matrix_of(t)));
  return p.reshape(y, behind(batch, {t.kept, t.out_parts}));
}

/// The same by N = P * Q. Number n = n1 Q + n2 goes to k = k1 + P k2:
///   X[k1 + P k2] = sum over n2 of e(n2 k2 / Q) e(n2 k1 / N) sum over n1 of e(n1 k1 / P) x[n1 Q + n2]
/// Both matrices stand on the left, so that rows of numbers stay rows: [n1, n2] -> [k1, n2] -> [n2, k1] -> [k2, k1], which is k.
/// Precondition: t.extent == t.length, not mirrored.
Value* two_products(Parts& p, Value* x, std::size_t batch, const Transform& t) {
  const std::pair<std::int64_t, std::int64_t> split = halves_of(t.length);
  const std::int64_t first = split.first, second = split.second;  // no bindings: lambdas take them along
  Transform inner;                                                // each divides by its own length where the whole does
  inner.length = inner.extent = inner.kept = first;
  inner.inverse = t.inverse;
  Transform outer;
  outer.length = outer.extent = second;
  outer.parts = 2;
  outer.kept = std::min(second, (t.kept + first - 1) / first);
  outer.out_parts = t.out_parts;
  outer.inverse = t.inverse;

  Value* y = p.binary("MatMul", p.ctx.constant("fourier", planes_of(inner)), p.reshape(x, behind(batch, {first, second * t.parts})));
  // Each number [k1, n2] times its turn.
  Tensor cosines(DType::kFloat32, {first, second}), sines(DType::kFloat32, {first, second});
  const Turns turns(t.length);
  for (std::int64_t k1 = 0; k1 < first; ++k1)
    for (std::int64_t n2 = 0; n2 < second; ++n2) {
      const Complex turn = turns(t.inverse ? n2 * k1 : -n2 * k1);
      cosines.set_from_double(k1 * second + n2, turn.real());
      sines.set_from_double(k1 * second + n2, turn.imag());
    }
  Value *c = p.ctx.constant("cosines", std::move(cosines)), *s = p.ctx.constant("sines", std::move(sines));
  const auto rows = static_cast<std::int64_t>(batch);
  const auto halves = p.split(y, rows, {first, first});
  Value *re = halves[0], *im = halves[1];
  if (t.parts == 2) {  // of the real and of the imaginary parts of x
    const auto part = [&](Value* value, std::int64_t which) {
      return p.squeeze(p.slice(p.reshape(value, behind(batch, {first, second, 2})), rows + 2, which, which + 1), {rows + 2});
    };
    Value *real_re = part(re, 0), *imag_re = part(re, 1), *real_im = part(im, 0), *imag_im = part(im, 1);
    re = p.binary("Sub", real_re, imag_im);
    im = p.plus(real_im, imag_re);
  }
  Value* turned_re = p.binary("Sub", p.times(re, c), p.times(im, s));
  Value* turned_im = p.plus(p.times(re, s), p.times(im, c));
  Value* z = p.concat({swapped(p, turned_re, batch + 2, batch), swapped(p, turned_im, batch + 2, batch)}, rows);  // [(part, n2), k1]
  z = p.binary("MatMul", p.ctx.constant("fourier", planes_of(outer)), z);                                         // [(part, k2), k1]
  z = p.reshape(z, behind(batch, {t.out_parts, outer.kept * first}));
  if (outer.kept * first != t.kept) z = p.slice(z, rows + 1, 0, t.kept);
  return swapped(p, z, batch + 2, batch);
}

/// Half a spectrum as a whole one.
Value* mirrored(Parts& p, Value* x, std::size_t batch, const Transform& t) {
  const std::int64_t half = t.length / 2 + 1;
  std::vector<std::int64_t> places;
  Tensor signs(DType::kFloat32, {t.length, t.parts});
  for (std::int64_t i = 0; i < t.length; ++i) {
    places.push_back(i < half ? i : t.length - i);
    signs.set_from_double(i * t.parts, 1);
    if (t.parts == 2) signs.set_from_double(i * 2 + 1, i == 0 || 2 * i == t.length ? 0 : i < half ? 1 : -1);
  }
  return p.times(p.gather(x, p.ints(places), static_cast<std::int64_t>(batch)), p.ctx.constant("signs", std::move(signs)));
}

/// Whether and how it is done: decided before a node is added.
enum class Way { kReference, kOne, kTwo };

Way way_of(const Transform& t, std::optional<std::int64_t> signals) {
  if (t.inverse && !t.mirrored && t.length <= kFewNumbers) return Way::kReference;
  const bool few = signals && *signals < kFewSignals;
  const bool one = fits_one_product(t), two = splits(t.length);
  if (one && t.length <= (few ? kShortAlone : kShort)) return Way::kOne;
  return two ? Way::kTwo : one ? Way::kOne : Way::kReference;
}

/// x has t.extent numbers along axis `batch`, the last but one.
Value* transformed(Parts& p, Value* x, std::size_t batch, Transform t, Way way) {
  if (way == Way::kOne) return one_product(p, x, batch, t);
  const std::int64_t wanted = t.mirrored ? t.length / 2 + 1 : t.length;
  if (t.extent < wanted) {
    std::vector<std::int64_t> pads(2 * (batch + 2), 0);
    pads[2 * batch + 2] = wanted - t.extent;
    x = p.binary("Pad", x, p.ints(pads));
  }
  if (t.mirrored) x = mirrored(p, x, batch, t);
  t.extent = t.length;
  t.mirrored = false;
  return two_products(p, x, batch, t);
}

bool takes(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kBFloat16; }

/// A single known integer; `open` is set when there is an input that is not known.
std::optional<std::int64_t> given(const Value* value, bool& open) {
  if (!value) return std::nullopt;
  if (value->is_constant() && value->constant.size() == 1) return value->constant.as_int64(0);
  open = true;
  return std::nullopt;
}

/// The number of signals when every extent but those of `axis` and the last is known.
std::optional<std::int64_t> count_signals(const Shape& shape, std::size_t axis) {
  std::int64_t count = 1;
  for (std::size_t a = 0; a + 1 < shape.size(); ++a) {
    const auto extent = a == axis ? std::optional<std::int64_t>(1) : shape[a].constant();
    if (!extent || *extent < 0 || *extent > kMostElements || count > kMostElements) return std::nullopt;
    count *= *extent;
  }
  return count;
}

/// The value where only constants lead to it (a HannWindow of a number), whether or not folding comes to store it.
std::optional<Tensor> known_tensor(const Value* value, int depth = 8) {
  if (value->is_constant()) return value->constant;
  const Node* node = value->producer;
  const OpDef* op = node ? find_op(node->domain, node->op) : nullptr;
  if (!op || !op->deterministic || depth == 0 || !can_evaluate(*node) || !ir::nested_graphs(*node).empty()) return std::nullopt;
  std::vector<Tensor> inputs;
  for (const Value* input : node->inputs) {
    const auto tensor = input ? known_tensor(input, depth - 1) : std::optional(Tensor());
    if (!tensor) return std::nullopt;
    inputs.push_back(*tensor);
  }
  try {
    const auto results = evaluate_node(*node, inputs);
    const auto at = std::find(node->outputs.begin(), node->outputs.end(), value) - node->outputs.begin();
    return results.at(static_cast<std::size_t>(at));
  } catch (const Error&) {  // of the node that fails, at run time
    return std::nullopt;
  }
}

}  // namespace

bool dft_expand(ExpandContext& ctx) {
  const Value* x = ctx.node.input(0);
  const auto rank = rank_of(x);
  if (!rank || *rank < 2 || !takes(x->dtype())) return false;
  bool open = false;
  const auto length = given(ctx.node.input(1), open), asked = given(ctx.node.input(2), open);
  if (open) return false;
  std::int64_t axis = asked ? *asked : -2;
  if (axis < 0) axis += static_cast<std::int64_t>(*rank);
  if (axis < 0 || axis + 1 >= static_cast<std::int64_t>(*rank)) return false;  // the shape rule says what is wrong
  const auto at = static_cast<std::size_t>(axis);
  const auto extent = extent_of(x, at), parts = extent_of(x, *rank - 1);
  if (!extent || !parts || *extent < 1 || (*parts != 1 && *parts != 2)) return false;
  const bool inverse = ctx.attrs().get_int("inverse", 0) != 0, onesided = ctx.attrs().get_int("onesided", 0) != 0;
  Transform t;
  t.inverse = inverse;
  t.mirrored = inverse && onesided;
  t.parts = *parts;
  t.length = length ? *length : t.mirrored ? 2 * (*extent - 1) : *extent;
  if (t.length < 1 || t.length > kMostElements) return false;
  t.extent = std::min(*extent, t.mirrored ? t.length / 2 + 1 : t.length);
  t.kept = onesided && !inverse ? t.length / 2 + 1 : t.length;
  t.out_parts = t.mirrored ? 1 : 2;
  const Way way = way_of(t, count_signals(x->shape(), at));
  if (way == Way::kReference) return false;

  Parts p(ctx);
  const DType dtype = x->dtype();
  Value* y = p.as(ctx.node.input(0), dtype, DType::kFloat32);
  if (t.extent < *extent) y = p.slice(y, axis, 0, t.extent);
  // [..., axis, part]; a signal alone is a batch of one.
  std::vector<std::int64_t> there, back(*rank);
  for (std::int64_t a = 0; a + 1 < static_cast<std::int64_t>(*rank); ++a)
    if (a != axis) there.push_back(a);
  there.push_back(axis);
  there.push_back(static_cast<std::int64_t>(*rank) - 1);
  for (std::size_t i = 0; i < there.size(); ++i) back[static_cast<std::size_t>(there[i])] = static_cast<std::int64_t>(i);
  const bool alone = *rank == 2;
  y = p.transpose(y, std::move(there));
  if (alone) y = p.unsqueeze(y, {0});
  y = transformed(p, y, alone ? 1 : *rank - 2, t, way);
  if (alone) y = p.squeeze(y, {0});
  ctx.replace(0, p.as(p.transpose(y, std::move(back)), DType::kFloat32, dtype));
  return true;
}

namespace {

/// [batch, blocks, block * parts] of a signal; what fills no block at its end belongs to no frame.
Value* in_blocks(Parts& p, Value* signal, std::int64_t block, std::int64_t parts, std::optional<std::int64_t> total) {
  if (total) {
    const std::int64_t blocks = *total / block;
    if (blocks * block != *total) signal = p.slice(signal, 1, 0, blocks * block);
    return p.reshape(signal, {0, blocks, block * parts});
  }
  if (block > 1) signal = p.slice(signal, 1, p.ints({0}), p.times(p.binary("Div", p.extent(signal, 1), p.ints({block})), p.ints({block})));
  return p.reshape(signal, {0, -1, block * parts});
}

/// Frames as windows of a convolution over blocks, whose weights are the transform with its window.
Value* frames_by_convolution(Parts& p, Value* signal, const Transform& t, std::int64_t step, std::int64_t block, std::optional<std::int64_t> total) {
  const std::int64_t taps = t.extent / block, channels = block * t.parts, outputs = t.kept * t.out_parts;
  signal = in_blocks(p, signal, block, t.parts, total);
  // weights[output, channel, tap] of matrix[tap * channels + channel, output]
  const Tensor matrix = matrix_of(t);
  Tensor weights(DType::kFloat32, {outputs, channels, taps});
  const auto to = weights.mutable_data<float>();
  for (std::int64_t o = 0; o < outputs; ++o)
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t tap = 0; tap < taps; ++tap)
        to[static_cast<std::size_t>((o * channels + c) * taps + tap)] = matrix.data<float>()[static_cast<std::size_t>((tap * channels + c) * outputs + o)];
  Value* y = p.ctx.add("Conv", {p.transpose(signal, {0, 2, 1}), p.ctx.constant("fourier", std::move(weights))},
                       attrs_of({{"kernel_shape", std::vector<std::int64_t>{taps}}, {"strides", std::vector<std::int64_t>{step / block}}}));
  return p.reshape(p.transpose(y, {0, 2, 1}), {0, 0, t.kept, t.out_parts});
}

/// [batch, frames, t.extent, parts], each number times that of `window` where there is one: blocks of `block` samples at their places.
Value* gathered_frames(Parts& p, Value* signal, const Transform& t, std::int64_t step, std::int64_t block, std::optional<std::int64_t> total, Value* window) {
  const std::int64_t taps = t.extent / block, stride = step / block;
  signal = in_blocks(p, signal, block, t.parts, total);
  Value* frames = nullptr;
  if (taps <= kMostSlices) {  // the first blocks of all frames, the second ones, ...: copies of rows
    std::vector<Value*> columns;
    for (std::int64_t tap = 0; tap < taps; ++tap) {
      Value* end = p.ints({tap + 1 == taps ? std::numeric_limits<std::int64_t>::max() : tap + 1 - taps});
      columns.push_back(p.unsqueeze(p.ctx.add("Slice", {signal, p.ints({tap}), end, p.ints({1}), p.ints({stride})}), {2}));
    }
    frames = taps == 1 ? columns.front() : p.concat(std::move(columns), 2);
  } else {
    Value *first = p.whole(0), *by = p.whole(stride), *end = nullptr;
    if (total) end = p.whole(((*total - t.extent) / step + 1) * stride);
    else end = p.binary("Sub", p.squeeze(p.extent(signal, 1), {0}), p.whole(taps - 1));  // those from which a whole frame follows
    std::vector<std::int64_t> within(static_cast<std::size_t>(taps));
    std::iota(within.begin(), within.end(), 0);
    frames = p.gather(signal, p.plus(p.unsqueeze(p.ctx.add("Range", {first, end, by}), {1}), p.ints(within)), 1);
  }
  if (window) {
    Value* factors = p.reshape(window, {taps, block, 1});
    if (t.parts == 2) factors = p.concat({factors, factors}, 2);
    frames = p.times(frames, p.reshape(factors, {taps, block * t.parts}));
  }
  return p.reshape(frames, {0, 0, t.extent, t.parts});
}

}  // namespace

bool stft_expand(ExpandContext& ctx) {
  const Value* x = ctx.node.input(0);
  const auto rank = rank_of(x);
  if (!rank || *rank != 3 || !takes(x->dtype())) return false;
  bool open = false;
  const auto step = given(ctx.node.input(1), open), asked = given(ctx.node.input(3), open);
  const auto total = extent_of(x, 1), parts = extent_of(x, 2);
  if (open || !step || *step < 1 || !parts || (*parts != 1 && *parts != 2)) return false;
  Value* window = ctx.node.input(2);
  const bool windowed = window != nullptr;
  const auto window_extent = windowed ? extent_of(window, 0) : std::nullopt;
  if (windowed && (rank_of(window) != std::size_t{1} || !window_extent)) return false;
  const auto length = asked ? asked : windowed ? window_extent : total;
  if (!length || *length < 1 || *length > kMostElements || (windowed && *window_extent != *length) || (total && *total < *length)) return false;
  Transform t;
  t.length = t.extent = *length;
  t.parts = *parts;
  t.kept = ctx.attrs().get_int("onesided", 1) != 0 ? t.length / 2 + 1 : t.length;
  const auto frames = total ? std::optional((*total - *length) / *step + 1) : std::nullopt;
  const auto batch = extent_of(x, 0);
  const bool countable = frames && batch && *batch >= 0 && *batch <= kMostElements && *frames <= kMostElements;
  const Way way = way_of(t, countable ? std::optional(*frames * *batch) : std::nullopt);
  if (way == Way::kReference) return false;
  const auto factors = windowed ? known_tensor(window) : std::nullopt;
  const bool folded = factors && factors->size() == *length;
  const std::int64_t block = std::gcd(*length, *step);

  Parts p(ctx);
  const DType dtype = x->dtype();
  Value* signal = p.as(ctx.node.input(0), dtype, DType::kFloat32);
  Value* y = nullptr;
  if (folded && way == Way::kOne) t.window = to_doubles(*factors);
  if (way == Way::kOne && (!windowed || folded) && block * *parts >= kFewestChannels) {
    y = frames_by_convolution(p, signal, t, *step, block, total);
  } else {
    y = gathered_frames(p, signal, t, *step, block, total, windowed && t.window.empty() ? p.as(window, dtype, DType::kFloat32) : nullptr);
    y = transformed(p, y, 2, t, way);
  }
  ctx.replace(0, p.as(y, DType::kFloat32, dtype));
  return true;
}

}  // namespace lathe::ops
