// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Setting up products for the tensor-core kernels: geometry, strides, the layout of packed weights.

#include "backend/cuda/kernels/gemm_plan.h"

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/half.h"

namespace lathe::cuda {
namespace {

constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1;

int element_bytes(ProductType product) { return product == kProductF16 || product == kProductBF16 ? 2 : 4; }
ElementType element_of(ProductType product) { return product == kProductF16 ? kElementFloat16 : product == kProductBF16 ? kElementBFloat16 : kElementFloat32; }
bool known_source(ProductType product, ElementType type) { return type == element_of(product) || type == kElementFloat32; }

void finish_epilogue(GemmParams& p, ElementType stored, bool residual, int alignment) {
  p.epilogue.stored_type = stored;
  constexpr int vector = 8;
  const bool items = p.c_outer % vector == 0 && p.c_inner % vector == 0 && (!residual || (p.residual_outer % vector == 0 && p.residual_inner % vector == 0));
  p.epilogue.vectors = alignment % 16 == 0 && p.c_pixel % vector == 0 && items && (!residual || p.residual_pixel % vector == 0);
}

std::uint32_t tf32_bits(float value) {
  std::uint32_t bits = std::bit_cast<std::uint32_t>(value);
  if ((bits & 0x7f800000u) != 0x7f800000u) bits += 0x1000u;  // to nearest, ties away from zero
  return bits & ~0x1fffu;
}

}  // namespace

FastDivisor fast_divisor(std::uint32_t divisor) noexcept {
  FastDivisor d;
  d.divisor = divisor;
  d.shift = divisor <= 1 ? 0 : 32 - static_cast<unsigned>(std::countl_zero(divisor - 1));
  d.multiplier = static_cast<unsigned>(((std::uint64_t{1} << 32) * ((std::uint64_t{1} << d.shift) - divisor)) / divisor + 1);
  return d;
}

std::string conv_unsupported(const ConvShape& s, const ConvOperands& o) {
  if (s.groups < 1 || s.cin % s.groups || s.cout % s.groups) return "channels are no multiple of the groups";
  if (s.n < 1 || s.oh() < 1 || s.ow() < 1) return "the output is empty";
  if (!known_source(o.product, o.src)) return "the source's type is neither the product's nor float32";
  if (s.n * s.oh() * s.ow() > kMost || (s.cin / s.groups) * s.kh * s.kw > kMost || s.w * std::max(s.cin, o.src_pixel) > kMost)
    return "an extent does not fit 31 bits";
  if (s.groups > 65535) return "more than 65535 groups";
  if (o.first_columns && (o.first_columns < 0 || o.first_columns >= s.cout || o.first_columns % kSiblingColumns || s.groups != 1 || o.residual))
    return "two convolutions side by side that no tile keeps apart";
  if (s.kh * s.dilation_h > 30000 || s.kw * s.dilation_w > 30000 || s.pad_top > 30000 || s.pad_left > 30000) return "the window is too large";
  return "";
}

std::string matmul_unsupported(const MatMulShape& s, const MatMulOperands& o) {
  if (s.rows < 1 || s.columns < 1 || s.depth < 1 || s.outer < 1 || s.inner < 1) return "the product is empty";
  if (!known_source(o.product, o.a_type)) return "A's type is neither the product's nor float32";
  if (s.rows > kMost || s.columns > kMost - 7 || s.depth > kMost || s.outer * s.inner > 65535) return "an extent is too large";
  if (o.a_row > kMost || o.a_column > kMost || o.b_row > kMost || o.c_row > kMost || o.residual_row > kMost) return "a stride does not fit 31 bits";
  if (o.packed_b && (o.b_outer > 1 || o.b_inner > 1)) return "packed B has one matrix per batch item or one for all";
  return "";
}

bool pairs_pixels(const ConvShape& s) noexcept { return s.groups == 1 && s.cin <= 4 && s.dilation_w == 1 && s.stride_w % 2 == 0 && s.w % 2 == 0; }

ConvShape paired_shape(const ConvShape& s) noexcept {
  const std::int64_t shift = s.pad_left % 2;  // a column of zero weights on the left where the window starts within a pair
  ConvShape p = s;
  p.cin = 8;
  p.w = s.w / 2;
  p.stride_w = s.stride_w / 2;
  p.pad_left = (s.pad_left + shift) / 2;
  p.kw = (s.kw + shift + 1) / 2;
  p.pad_right = (s.ow() - 1) * p.stride_w + p.kw - p.w - p.pad_left;
  return p;
}

std::vector<float> paired_weights(const ConvShape& s, const float* oihw) {
  const ConvShape p = paired_shape(s);
  const std::int64_t shift = s.pad_left % 2;
  std::vector<float> weights(static_cast<std::size_t>(p.cout * 8 * p.kh * p.kw));
  for (std::int64_t n = 0; n < s.cout; ++n)
    for (std::int64_t c = 0; c < s.cin; ++c)
      for (std::int64_t ky = 0; ky < s.kh; ++ky)
        for (std::int64_t kx = 0; kx < s.kw; ++kx)
          weights[static_cast<std::size_t>(((n * 8 + (kx + shift) % 2 * 4 + c) * p.kh + ky) * p.kw + (kx + shift) / 2)] =
              oihw[((n * s.cin + c) * s.kh + ky) * s.kw + kx];
  return weights;
}

GemmSetup conv_setup(const ConvShape& s, const ConvOperands& o) {
  GemmSetup setup;
  setup.product = o.product;
  setup.items = setup.packed_items = static_cast<int>(s.groups);
  setup.flops = s.flops();
  GemmParams& p = setup.params;
  const std::int64_t channels = s.cin / s.groups, src_pixel = o.src_pixel ? o.src_pixel : s.cin;
  p.rows = static_cast<int>(s.n * s.oh() * s.ow());
  p.columns = static_cast<int>(s.cout / s.groups);
  p.height = static_cast<int>(s.h);
  p.width = static_cast<int>(s.w);
  p.kernel_h = static_cast<int>(s.kh);
  p.kernel_w = static_cast<int>(s.kw);
  p.stride_h = static_cast<int>(s.stride_h);
  p.stride_w = static_cast<int>(s.stride_w);
  p.pad_top = static_cast<int>(s.pad_top);
  p.pad_left = static_cast<int>(s.pad_left);
  p.dilation_h = static_cast<int>(s.dilation_h);
  p.dilation_w = static_cast<int>(s.dilation_w);
  p.channels = static_cast<int>(channels);
  p.out_width = fast_divisor(static_cast<std::uint32_t>(s.ow()));
  p.out_pixels = fast_divisor(static_cast<std::uint32_t>(s.oh() * s.ow()));
  p.a_type = o.src;
  if (o.src_planar) {
    p.a_image = s.cin * s.h * s.w;
    p.a_row = static_cast<int>(s.w);
    p.a_pixel = 1;
    p.a_channel = static_cast<int>(s.h * s.w);
  } else {
    p.a_image = s.h * s.w * src_pixel;
    p.a_row = static_cast<int>(s.w * src_pixel);
    p.a_pixel = static_cast<int>(src_pixel);
    p.a_channel = 1;
  }
  p.plain = s.kh == 1 && s.kw == 1 && s.stride_h == 1 && s.stride_w == 1 && s.pad_top == 0 && s.pad_left == 0 && s.pad_bottom == 0 && s.pad_right == 0 &&
            !o.src_planar;
  p.batch_inner = fast_divisor(static_cast<std::uint32_t>(s.groups));
  p.a_inner = channels * p.a_channel;
  if (s.groups > 1) p.c_inner = p.residual_inner = p.bias_inner = p.columns;
  p.c_pixel = static_cast<int>(o.dst_pixel ? o.dst_pixel : s.cout);
  p.residual_pixel = static_cast<int>(o.residual_pixel ? o.residual_pixel : s.cout);
  const int piece = 16 / element_bytes(o.product);
  const bool vectors = !o.src_planar && o.src == element_of(o.product) && (p.plain ? s.groups == 1 : channels % piece == 0) && src_pixel % piece == 0 &&
                       o.src_alignment % 16 == 0;
  setup.a = vectors ? kVectorA : kElementA;
  finish_epilogue(p, o.stored, o.residual, o.dst_alignment);

  const int elements = 128 / element_bytes(o.product), taps = p.kernel_h * p.kernel_w;
  p.chunk_major = p.channels % elements == 0;
  p.chunks = static_cast<int>((static_cast<std::int64_t>(taps) * p.channels + elements - 1) / elements);
  p.channels_div = fast_divisor(static_cast<std::uint32_t>(p.channels));
  p.kernel_w_div = fast_divisor(static_cast<std::uint32_t>(p.kernel_w));
  p.packed_columns = (p.columns + 7) / 8 * 8;
  p.b_inner = static_cast<long long>(p.chunks) * p.packed_columns * 128;
  if (o.first_columns > 0) {
    p.first_columns = static_cast<int>(o.first_columns);
    p.c_pixel = static_cast<int>(o.dst_pixel ? o.dst_pixel : o.first_columns);
    p.c_second_pixel = static_cast<int>(o.second_pixel ? o.second_pixel : s.cout - o.first_columns);
    finish_epilogue(p, o.stored, o.residual, o.dst_alignment);
    p.epilogue.vectors = p.epilogue.vectors && p.c_second_pixel % 8 == 0;
  }
  return setup;
}

GemmSetup matmul_setup(const MatMulShape& s, const MatMulOperands& o) {
  GemmSetup setup;
  setup.product = o.product;
  setup.items = static_cast<int>(s.outer * s.inner);
  setup.flops = 2.0 * static_cast<double>(s.rows) * static_cast<double>(s.columns) * static_cast<double>(s.depth) * setup.items;
  GemmParams& p = setup.params;
  p.rows = static_cast<int>(s.rows);
  p.columns = static_cast<int>(s.columns);
  p.width = p.rows;
  p.plain = 1;
  p.channels = static_cast<int>(s.depth);
  p.out_width = p.out_pixels = fast_divisor(static_cast<std::uint32_t>(s.rows));
  p.channels_div = fast_divisor(static_cast<std::uint32_t>(s.depth));
  p.kernel_w_div = fast_divisor(1);
  p.a_type = o.a_type;
  p.a_pixel = static_cast<int>(o.a_row ? o.a_row : s.depth);
  p.a_channel = static_cast<int>(o.a_column);
  p.batch_inner = fast_divisor(static_cast<std::uint32_t>(s.inner));
  p.a_outer = o.a_outer;
  p.a_inner = o.a_inner;
  p.c_outer = o.c_outer;
  p.c_inner = o.c_inner;
  p.residual_outer = o.residual_outer;
  p.residual_inner = o.residual_inner;
  p.c_pixel = static_cast<int>(o.c_row ? o.c_row : s.columns);
  p.residual_pixel = static_cast<int>(o.residual_row);
  const int bytes = element_bytes(o.product), piece = 16 / bytes, elements = 128 / bytes;
  const auto pieces = [&](std::int64_t v) { return v % piece == 0; };
  const bool vectors =
      o.a_type == element_of(o.product) && o.a_column == 1 && pieces(p.a_pixel) && pieces(o.a_outer) && pieces(o.a_inner) && o.a_alignment % 16 == 0;
  setup.a = vectors ? kVectorA : kElementA;
  p.chunks = (p.channels + elements - 1) / elements;
  p.chunk_major = p.channels % elements == 0;
  if (o.packed_b) {
    p.packed_columns = (p.columns + 7) / 8 * 8;
    const long long matrix = static_cast<long long>(p.chunks) * p.packed_columns * 128;
    p.b_inner = o.b_inner ? matrix : 0;
    p.b_outer = o.b_outer ? matrix * (o.b_inner ? s.inner : 1) : 0;
    setup.packed_items = static_cast<int>((o.b_outer ? s.outer : 1) * (o.b_inner ? s.inner : 1));
  } else {
    setup.packed_items = 0;
    p.b_row = static_cast<int>(o.b_row ? o.b_row : o.b_across ? s.columns : s.depth);
    p.b_outer = o.b_outer;
    p.b_inner = o.b_inner;
    const bool vector_b = pieces(p.b_row) && pieces(o.b_outer) && pieces(o.b_inner) && o.b_alignment % 16 == 0;
    if (!vector_b) setup.a = kElementA;  // the kernels have both or neither
    setup.b = setup.a == kVectorA ? (o.b_across ? kAcrossB : kRowsB) : (o.b_across ? kAcrossElementB : kRowsElementB);
  }
  finish_epilogue(p, o.stored, o.residual, o.c_alignment);
  return setup;
}

WeightStrides oihw_strides(const ConvShape& s) noexcept {
  const std::int64_t taps = s.kh * s.kw, channels = s.cin / s.groups;
  return {s.cout / s.groups * channels * taps, channels * taps, s.kw, 1, taps};
}

std::size_t packed_bytes(const GemmSetup& setup) noexcept {
  return static_cast<std::size_t>(setup.packed_items) * static_cast<std::size_t>(setup.params.chunks) * static_cast<std::size_t>(setup.params.packed_columns) *
         128;
}

void pack_weights(const GemmSetup& setup, const float* weights, const WeightStrides& strides, std::span<std::byte> packed) {
  const GemmParams& p = setup.params;
  const int bytes = element_bytes(setup.product), elements = 128 / bytes, piece = 16 / bytes, taps = p.kernel_h * p.kernel_w;
  std::memset(packed.data(), 0, packed.size());
  for (std::int64_t item = 0; item < setup.packed_items; ++item)
    for (std::int64_t chunk = 0; chunk < p.chunks; ++chunk)
      for (std::int64_t e = 0; e < elements; ++e) {
        std::int64_t tap, channel;
        if (p.chunk_major) {
          tap = chunk % taps;
          channel = chunk / taps * elements + e;
        } else {
          tap = (chunk * elements + e) / p.channels;
          channel = (chunk * elements + e) % p.channels;
        }
        if (tap >= taps) continue;
        const float* from = weights + item * strides.item + tap / p.kernel_w * strides.ky + tap % p.kernel_w * strides.kx + channel * strides.channel;
        std::byte* to = packed.data() + (item * p.chunks + chunk) * p.packed_columns * 128;
        for (std::int64_t n = 0; n < p.columns; ++n) {
          std::byte* at = to + n * 128 + ((e / piece) ^ (n & 7)) * 16 + e % piece * bytes;
          const float value = from[n * strides.column];
          if (setup.product == kProductF16) {
            const std::uint16_t half = float_to_half(value);
            std::memcpy(at, &half, 2);
          } else if (setup.product == kProductBF16) {
            const std::uint16_t half = float_to_bfloat16(value);
            std::memcpy(at, &half, 2);
          } else {
            const std::uint32_t bits = setup.product == kProductTF32 ? tf32_bits(value) : std::bit_cast<std::uint32_t>(value);
            std::memcpy(at, &bits, 4);
          }
        }
      }
}

}  // namespace lathe::cuda
