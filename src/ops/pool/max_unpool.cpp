// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// MaxUnpool: the largest elements of a MaxPool back at their places, zeros elsewhere.
//
// Indices count in the input that the window's attributes imply; an explicit output_shape may be larger, and then holds that input in
// its first corner.
#include <algorithm>

#include "ops/lower_util.h"
#include "ops/op_def.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

/// The pooled input's extent along a spatial axis: (n - 1) * stride - pads + kernel.
struct Unpooling {
  std::vector<std::int64_t> kernel, strides, pads;
};

Unpooling unpooling_of(const Attrs& attrs, std::size_t spatial, std::string& defect) {
  Unpooling u{attrs.get_ints("kernel_shape"), attrs.get_ints("strides"), attrs.get_ints("pads")};
  if (u.strides.empty()) u.strides.assign(spatial, 1);
  if (u.pads.empty()) u.pads.assign(2 * spatial, 0);
  if (u.kernel.size() != spatial || u.strides.size() != spatial || u.pads.size() != 2 * spatial)
    defect = "kernel_shape, strides and pads do not fit " + std::to_string(spatial) + " spatial axes";
  return u;
}

void unpool_infer(InferContext& ctx) {
  const auto& x = ctx.shape(0);
  if (!x) return ctx.set_unknown(0, ctx.dtype(0));
  if (x->size() < 3) ctx.fail("takes rank 3 or more, got " + ir::to_string(*x));
  std::string defect;
  const Unpooling u = unpooling_of(ctx.attrs(), x->size() - 2, defect);
  if (!defect.empty()) ctx.fail(defect);
  if (ctx.has_input(2)) {
    const auto wanted = ctx.content(2);
    if (wanted && wanted->size() != x->size()) ctx.fail("output_shape has " + std::to_string(wanted->size()) + " elements for " + ir::to_string(*x));
    Shape out;
    for (std::size_t a = 0; a < x->size(); ++a) out.push_back(extent_of(ctx, wanted, a));
    return ctx.set(0, ctx.dtype(0), std::move(out));
  }
  Shape out{(*x)[0], (*x)[1]};
  for (std::size_t a = 0; a < u.kernel.size(); ++a)
    out.push_back(((*x)[a + 2] - Dim(1)) * Dim(u.strides[a]) + Dim(u.kernel[a] - u.pads[a] - u.pads[a + u.kernel.size()]));
  ctx.set(0, ctx.dtype(0), std::move(out));
}

void unpool_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &indices = ctx.input(1);
  if (x.rank() < 3 || indices.dims() != x.dims())
    ctx.fail("values " + lathe::to_string(x.dims()) + " and indices " + lathe::to_string(indices.dims()) + " do not fit");
  std::string defect;
  const Unpooling u = unpooling_of(ctx.attrs(), x.dims().size() - 2, defect);
  if (!defect.empty()) ctx.fail(defect);
  Dims implied{x.dims()[0], x.dims()[1]};
  for (std::size_t a = 0; a < u.kernel.size(); ++a)
    implied.push_back(std::max<std::int64_t>((x.dims()[a + 2] - 1) * u.strides[a] + u.kernel[a] - u.pads[a] - u.pads[a + u.kernel.size()], 0));
  const Dims out = ctx.has_input(2) ? ctx.input(2).to_int64_vector() : implied;
  bool fits = out.size() == implied.size();
  for (std::size_t a = 0; fits && a < out.size(); ++a) fits = out[a] >= implied[a];
  if (!fits) ctx.fail("output_shape " + lathe::to_string(out) + " is smaller than the pooled input " + lathe::to_string(implied));
  const Dims strides = strides_of(out);
  const std::int64_t count = element_count(implied);
  Tensor result(x.dtype(), out);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    std::int64_t from = indices.as_int64(i), to = 0;
    if (from < 0 || from >= count) ctx.fail("index " + std::to_string(from) + " is out of bounds for the pooled input " + lathe::to_string(implied));
    for (std::size_t a = implied.size(); a-- > 0;) {
      to += from % implied[a] * strides[a];
      from /= implied[a];
    }
    copy_element(result, to, x, i);
  }
  ctx.set_output(0, std::move(result));
}

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;

/// So many windows may hold an element.
constexpr std::int64_t kMostWindows = 16;

/// Whether the indices are those of a MaxPool over windows like these: then no index points elsewhere than into its own window.
bool are_of_such_windows(const Node& node, const Unpooling& u, const Shape& implied) {
  const Value* indices = node.input(1);
  const Node* pool = indices->producer;
  if (!pool || !pool->is("MaxPool") || pool->output(1) != indices || !pool->input(0) || !pool->input(0)->has_shape()) return false;
  const Attrs& attrs = pool->attrs;
  const auto dilations = attrs.get_ints("dilations");
  std::string defect;
  const Unpooling own = unpooling_of(attrs, u.kernel.size(), defect);
  return defect.empty() && own.kernel == u.kernel && own.strides == u.strides && own.pads == u.pads && attrs.get_int("storage_order", 0) == 0 &&
         attrs.get_string("auto_pad", "NOTSET") == "NOTSET" && std::all_of(dilations.begin(), dilations.end(), [](std::int64_t d) { return d == 1; }) &&
         pool->input(0)->shape() == implied;
}

/// Each element of the result asks the windows that hold it whether they found it. Of indices that may point anywhere, every element
/// would have to ask all.
bool unpool_lower(const Node& node, RegionBuilder& builder) {
  const Value *x = node.input(0), *indices = node.input(1), *out = node.output();
  if (!can_lower_real(x, builder) || !can_lower_real(indices, builder)) return false;
  const auto decline = [&](const char* why) {
    builder.decline(why);
    return false;
  };
  const std::size_t rank = x->shape().size();
  if (rank < 3 || !out->has_shape() || out->shape().size() != rank) return decline("shapes that are not known");
  std::string defect;
  const Unpooling u = unpooling_of(node.attrs, rank - 2, defect);
  if (!defect.empty()) return decline("attributes that do not fit");
  Shape implied{x->shape()[0], x->shape()[1]};
  Dims windows;
  for (std::size_t a = 0; a < u.kernel.size(); ++a) {
    if (u.kernel[a] < 1 || u.strides[a] < 1 || u.pads[a] < 0) return decline("attributes that do not fit");
    implied.push_back((x->shape()[a + 2] - Dim(1)) * Dim(u.strides[a]) + Dim(u.kernel[a] - u.pads[a] - u.pads[a + u.kernel.size()]));
    windows.push_back(std::min((u.kernel[a] - 1) / u.strides[a] + 1, kMostWindows + 1));
  }
  if (!are_of_such_windows(node, u, implied)) return decline("indices that may point anywhere");
  std::int64_t count = 1;
  for (const std::int64_t n : windows) count = std::min(count * n, kMostWindows + 1);
  if (count > kMostWindows) return decline("many windows");
  builder.define(out, [=](RegionBuilder& b, const RegionBuilder::Indices& at) {
    const auto add = [&](ExprId l, ExprId r) { return b.binary(ExprOp::kAdd, l, r); };
    ExprId flat = b.integer(0), inside = b.constant(1, DType::kBool);
    for (std::size_t a = 0; a < rank; ++a) {
      flat = add(b.binary(ExprOp::kMul, flat, b.dim(implied[a])), at[a]);
      if (out->shape()[a] != implied[a]) inside = b.binary(ExprOp::kAnd, inside, b.binary(ExprOp::kLess, at[a], b.dim(implied[a])));
    }
    const ExprId nothing = b.constant(0, x->dtype());
    ExprId result = nothing;
    for_each_index(windows, [&](const Dims& back) {  // the last one is the last that the definition writes
      RegionBuilder::Indices from{at[0], at[1]};
      for (std::size_t a = 0; a < back.size(); ++a) {
        const ExprId last = b.binary(ExprOp::kFloorDiv, add(at[a + 2], b.integer(u.pads[a])), b.integer(u.strides[a]));
        from.push_back(add(last, b.integer(back[a] + 1 - windows[a])));
      }
      const ExprId hit = b.binary(ExprOp::kEqual, b.read_or(indices, from, b.integer(-1)), flat);
      result = b.select(hit, b.read_or(x, from, nothing), result);
    });
    return b.select(inside, result, nothing);
  });
  return true;
}

}  // namespace

std::vector<OpDef> max_unpool_ops() {
  constexpr std::string_view kIo = "X:T1 I:T2 output_shape?:T2 -> output:T1", kAttrs = "kernel_shape:ints pads:ints? strides:ints?";
  return {
      {.name = "MaxUnpool",
       .versions = {{9, kIo, kAttrs, "T1: @float; T2: int64"}, {11, kIo, kAttrs, "T1: @float; T2: int64"}, {22, kIo, kAttrs, "T1: @float13; T2: int64"}},
       .infer = unpool_infer,
       .reference = unpool_reference,
       .lower = unpool_lower,
       .doc = "the inverse of MaxPool: values back at their indices, zeros elsewhere"},
  };
}

}  // namespace lathe::ops
