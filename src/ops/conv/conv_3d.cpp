// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Convolutions over three axes as convolutions over two, for which there are kernels:
//
//   weight [M, C, k, 1, 1]:   the image's axes are one axis; a convolution with a k x 1 weight over (depth, height * width)
//   any other:                the sum over the weight's planes of 1 x kh x kw convolutions of the slices of the depth that each plane meets,
//                             each of them one convolution of N * depth images
//
// Of extents the depth or the batch may be symbolic, not both: a Reshape has one extent that the rest tells.

#include "ops/conv/conv_3d.h"

#include <algorithm>

namespace lathe::ops {
namespace {

using Ints = std::vector<std::int64_t>;

struct Problem {
  Ints kernel, strides, dilations, pads;
  std::int64_t group = 1;
  Shape in, out;
};

std::optional<Problem> read(const Node& node) {
  const Value *x = node.input(0), *w = node.input(1);
  if (!x || !w || !x->has_shape() || x->shape().size() != 5 || !w->is_constant() || w->constant.rank() != 5 || !node.output() || !node.output()->has_shape() ||
      node.output()->shape().size() != 5)
    return std::nullopt;
  const std::string auto_pad = node.attrs.get_string("auto_pad", "NOTSET");
  if (auto_pad != "NOTSET" && auto_pad != "VALID") return std::nullopt;
  Problem p;
  const Dims& dims = w->constant.dims();
  p.kernel = {dims[2], dims[3], dims[4]};
  p.strides = node.attrs.get_ints("strides", Ints(3, 1));
  p.dilations = node.attrs.get_ints("dilations", Ints(3, 1));
  p.pads = node.attrs.get_ints("pads", Ints(6, 0));
  p.group = node.attrs.get_int("group", 1);
  if (auto_pad == "VALID") p.pads = Ints(6, 0);
  if (p.strides.size() != 3 || p.dilations.size() != 3 || p.pads.size() != 6 || std::any_of(p.pads.begin(), p.pads.end(), [](std::int64_t v) { return v < 0; }))
    return std::nullopt;
  p.in = x->shape();
  p.out = node.output()->shape();
  // Channels and image are numbers; of batch and depth at least one is.
  for (const Shape* shape : {&p.in, &p.out}) {
    for (const std::size_t axis : {1U, 3U, 4U})
      if (!(*shape)[axis].is_constant() || *(*shape)[axis].constant() <= 0) return std::nullopt;
    if (!(*shape)[0].is_constant() && !(*shape)[2].is_constant()) return std::nullopt;
  }
  return p;
}

Attrs attrs_of(const Problem& p, Ints kernel, Ints strides, Ints dilations, Ints pads) {
  Attrs attrs;
  attrs.set("kernel_shape", std::move(kernel));
  attrs.set("strides", std::move(strides));
  attrs.set("dilations", std::move(dilations));
  attrs.set("pads", std::move(pads));
  attrs.set("group", p.group);
  return attrs;
}

Value* reshape(ExpandContext& ctx, Value* value, Ints target) { return ctx.add("Reshape", {value, ctx.constant("target", Tensor::vector(target))}); }

Value* swap_channels_and_depth(ExpandContext& ctx, Value* value) {
  Attrs attrs;
  attrs.set("perm", Ints{0, 2, 1, 3, 4});
  return ctx.add("Transpose", {value}, attrs);
}

/// Elements [.., .., plane, .., ..] of the weight as [M, C, kh, kw].
Tensor plane_of(const Tensor& weight, std::int64_t plane) {
  const Dims& d = weight.dims();
  Tensor result(weight.dtype(), {d[0], d[1], d[3], d[4]});
  const std::size_t size = dtype_bytes(weight.dtype(), d[3] * d[4]);
  std::byte* to = result.mutable_raw();
  for (std::int64_t i = 0; i < d[0] * d[1]; ++i)
    std::copy_n(weight.raw() + static_cast<std::size_t>(i * d[2] + plane) * size, size, to + static_cast<std::size_t>(i) * size);
  return result;
}

/// Along the depth alone.
void expand_depth(ExpandContext& ctx, const Problem& p) {
  const Dims& w = ctx.node.input(1)->constant.dims();
  Value* flat = reshape(ctx, ctx.node.inputs[0], {0, 0, 0, -1});
  Value* weight = ctx.constant("planes", ctx.node.input(1)->constant.reshaped({w[0], w[1], w[2], 1}));
  Value* y =
      ctx.add("Conv", {flat, weight, ctx.node.input(2)}, attrs_of(p, {p.kernel[0], 1}, {p.strides[0], 1}, {p.dilations[0], 1}, {p.pads[0], 0, p.pads[3], 0}));
  ctx.replace(0, reshape(ctx, y, {0, 0, 0, *p.out[3].constant(), *p.out[4].constant()}));
}

/// One plane of the weight over every image of x [N, D', C, H, W]; the sum over planes is taken in that order of axes.
void expand_planes(ExpandContext& ctx, const Problem& p) {
  const Node& node = ctx.node;
  const Tensor& weight = node.input(1)->constant;
  Value* x = swap_channels_and_depth(ctx, node.inputs[0]);  // N, D, C, H, W
  if (p.pads[0] > 0 || p.pads[3] > 0) {
    Attrs constant;
    constant.set("mode", "constant");
    x = ctx.add("Pad", {x, ctx.constant("pads", Tensor::vector(Ints{0, p.pads[0], 0, 0, 0, 0, p.pads[3], 0, 0, 0}))}, constant);
  }
  const std::int64_t channels = *p.in[1].constant();
  Value* sum = nullptr;
  for (std::int64_t plane = 0; plane < p.kernel[0]; ++plane) {
    Value* images = x;
    if (p.kernel[0] > 1 || p.strides[0] > 1) {
      // The depths that this plane meets: from plane * dilation on, as many as there are outputs.
      const std::int64_t behind = (p.kernel[0] - 1 - plane) * p.dilations[0];
      images = ctx.add("Slice", {x, ctx.constant("begin", Tensor::vector(Ints{plane * p.dilations[0]})),
                                 ctx.constant("end", Tensor::vector(Ints{behind == 0 ? INT64_MAX : -behind})), ctx.constant("axis", Tensor::vector(Ints{1})),
                                 ctx.constant("step", Tensor::vector(Ints{p.strides[0]}))});
    }
    images = reshape(ctx, images, {-1, channels, *p.in[3].constant(), *p.in[4].constant()});
    Value* y = ctx.add(
        "Conv", {images, ctx.constant("plane", plane_of(weight, plane)), plane == 0 ? node.input(2) : nullptr},
        attrs_of(p, {p.kernel[1], p.kernel[2]}, {p.strides[1], p.strides[2]}, {p.dilations[1], p.dilations[2]}, {p.pads[1], p.pads[2], p.pads[4], p.pads[5]}));
    sum = sum ? ctx.add("Add", {sum, y}) : y;
  }
  const auto number = [](const Dim& dim) { return dim.constant().value_or(-1); };
  Value* back = reshape(ctx, sum, {number(p.out[0]), number(p.out[2]), *p.out[1].constant(), *p.out[3].constant(), *p.out[4].constant()});
  ctx.replace(0, swap_channels_and_depth(ctx, back));
}

}  // namespace

bool expand_conv_3d(ExpandContext& ctx) {
  const std::optional<Problem> p = read(ctx.node);
  if (!p) return false;
  const auto one = [&](std::size_t axis) { return p->kernel[axis] == 1 && p->strides[axis] == 1 && p->pads[axis] == 0 && p->pads[axis + 3] == 0; };
  if (one(1) && one(2)) expand_depth(ctx, *p);
  else expand_planes(ctx, *p);
  return true;
}

}  // namespace lathe::ops
