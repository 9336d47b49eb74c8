// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// MatMulNBits: A times weights of few bits, quantised in blocks along K.
//
//   Y[..., n] = sum over k of A[..., k] (q[n, k] - zero[n, k / block]) scale[n, k / block] + bias[n]
//
// B is [N, blocks, block * bits / 8] bytes, the first number in the lowest bits. The weights become a constant of A's type, so that they
// multiply by the same kernels as others. accuracy_level allows a runtime to round A as well; the meaning is the exact product.
#include <limits>

#include "ops/contrib_product/contrib_product.h"
#include "ops/expand_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

struct Layout {
  std::int64_t k = 0, n = 0, bits = 0, block = 0, blocks = 0, blob = 0;
};

/// What the attributes say, or the defect of them.
Layout layout_of(const Attrs& attrs, std::string& defect) {
  Layout l;
  l.k = attrs.get_int("K", 0);
  l.n = attrs.get_int("N", 0);
  l.bits = attrs.get_int("bits", 4);
  l.block = attrs.get_int("block_size", 0);
  constexpr std::int64_t kMost = std::int64_t{1} << 40;
  if (l.k < 1 || l.n < 1 || l.k > kMost || l.n > kMost || l.k > kMost / l.n) defect = "K is " + std::to_string(l.k) + ", N is " + std::to_string(l.n);
  else if (l.bits < 2 || l.bits > 8) defect = "bits is " + std::to_string(l.bits) + "; 2 to 8 are possible";
  else if (l.block < 16 || l.block > (std::int64_t{1} << 20) || (l.block & (l.block - 1)) != 0)
    defect = "block_size is " + std::to_string(l.block) + ", which is no power of two from 16 on";
  else if (attrs.get_int("weight_prepacked", 0) != 0) defect = "the weights are packed for one machine (weight_prepacked)";
  if (!defect.empty()) return l;
  l.blocks = (l.k + l.block - 1) / l.block;
  l.blob = l.block * l.bits / 8;
  return l;
}

void nbits_infer(InferContext& ctx) {
  std::string defect;
  const Layout l = layout_of(ctx.attrs(), defect);
  if (!defect.empty()) ctx.fail(defect);
  const auto& a = ctx.shape(0);
  if (!a) return ctx.set_unknown(0, ctx.dtype(0));
  if (a->empty()) ctx.fail("A is a scalar");
  if (const auto k = a->back().constant(); k && *k != l.k) ctx.fail("A is " + ir::to_string(*a) + ", K " + std::to_string(l.k));
  Shape shape(a->begin(), a->end() - 1);
  shape.emplace_back(l.n);
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

/// Number `index` of a row of bytes that holds `bits` each.
std::int64_t unpack(const std::uint8_t* row, std::int64_t index, std::int64_t bits) {
  const std::int64_t bit = index * bits, byte = bit / 8, shift = bit % 8;
  std::int64_t word = row[byte];
  if (shift + bits > 8) word |= static_cast<std::int64_t>(row[byte + 1]) << 8;
  return word >> shift & ((std::int64_t{1} << bits) - 1);
}

/// [K, N] in the type of A.
Tensor unpacked_weights(ExpandContext& ctx, const Layout& l, DType dtype) {
  const Node& node = ctx.node;
  const Tensor &b = node.inputs[1]->constant, &scales = node.inputs[2]->constant;
  const Tensor zeros = node.input(3) ? node.inputs[3]->constant : Tensor(), groups = node.input(4) ? node.inputs[4]->constant : Tensor();
  if (b.dtype() != DType::kUint8 || b.size() != l.n * l.blocks * l.blob)
    ctx.fail("B is " + lathe::to_string(b.dims()) + ", not " + lathe::to_string(Dims{l.n, l.blocks, l.blob}));
  if (scales.size() != l.n * l.blocks) ctx.fail("scales are " + lathe::to_string(scales.dims()) + ", not " + lathe::to_string(Dims{l.n, l.blocks}));
  const std::int64_t zero_bytes = (l.blocks * l.bits + 7) / 8;
  const bool packed_zeros = zeros.defined() && zeros.dtype() == DType::kUint8;
  if (zeros.defined() && zeros.size() != l.n * (packed_zeros ? zero_bytes : l.blocks))
    ctx.fail("zero_points are " + lathe::to_string(zeros.dims()) + " for " + std::to_string(l.n) + " columns of " + std::to_string(l.blocks) + " blocks");
  if (groups.defined() && groups.size() < l.k) ctx.fail("g_idx has " + std::to_string(groups.size()) + " elements for K = " + std::to_string(l.k));
  Tensor weights(dtype, {l.k, l.n});
  const auto* bytes = reinterpret_cast<const std::uint8_t*>(b.raw());
  const auto* zero_rows = packed_zeros ? reinterpret_cast<const std::uint8_t*>(zeros.raw()) : nullptr;
  const auto scale = to_doubles(scales);
  const auto real_zeros = zeros.defined() && !packed_zeros ? to_doubles(zeros) : std::vector<double>();
  std::vector<double> zero(static_cast<std::size_t>(l.blocks));
  float* plain = dtype == DType::kFloat32 ? weights.mutable_data<float>().data() : nullptr;
  for (std::int64_t n = 0; n < l.n; ++n) {
    for (std::int64_t g = 0; g < l.blocks; ++g) {
      double z = static_cast<double>(std::int64_t{1} << (l.bits - 1));
      if (zero_rows) z = static_cast<double>(unpack(zero_rows + n * zero_bytes, g, l.bits));
      else if (!real_zeros.empty()) z = real_zeros[static_cast<std::size_t>(n * l.blocks + g)];
      zero[static_cast<std::size_t>(g)] = z;
    }
    const std::uint8_t* row = bytes + n * l.blocks * l.blob;
    for (std::int64_t k = 0; k < l.k; ++k) {
      const std::int64_t g = groups.defined() ? groups.as_int64(k) : k / l.block;
      if (g < 0 || g >= l.blocks) ctx.fail("g_idx names block " + std::to_string(g) + " of " + std::to_string(l.blocks));
      const double w = (static_cast<double>(unpack(row, k, l.bits)) - zero[static_cast<std::size_t>(g)]) * scale[static_cast<std::size_t>(n * l.blocks + g)];
      if (plain) plain[k * l.n + n] = static_cast<float>(w);
      else weights.set_from_double(k * l.n + n, w);
    }
  }
  return weights;
}

bool nbits_expand(ExpandContext& ctx) {
  const Node& node = ctx.node;
  for (std::size_t i = 1; i < 5; ++i)
    if (const Value* v = node.input(i); v && !(v->is_constant() && v->constant.is_tensor())) return false;
  std::string defect;
  const Layout l = layout_of(ctx.attrs(), defect);
  if (!defect.empty()) ctx.fail(defect);
  Value* weights = ctx.constant(node.inputs[1]->name + "_unpacked", unpacked_weights(ctx, l, node.inputs[0]->dtype()));
  Parts p(ctx);
  ctx.replace(0, p.plus(p.binary("MatMul", node.inputs[0], weights), node.input(5)));
  return true;
}

}  // namespace

std::vector<OpDef> block_quantized_ops() {
  return {
      {.domain = "com.microsoft",
       .name = "MatMulNBits",
       .versions = {{1, "A:T1 B:T2 scales:T1 zero_points?:T3 g_idx?:T4 bias?:T1 -> Y:T1",
                     "K:int N:int accuracy_level:int=0 bits:int=4 block_size:int weight_prepacked:int=0",
                     "T1: float float16 bfloat16; T2: uint8; T3: uint8 float float16 bfloat16; T4: int32"}},
       .infer = nbits_infer,
       .tolerance = {.contraction = true},
       .expand = nbits_expand,
       .doc = "MatMul by weights of 2 to 8 bits, quantised in blocks"},
  };
}

}  // namespace lathe::ops
