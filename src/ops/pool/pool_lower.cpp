// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/pool/pool_lower.h"

namespace lathe::ops {

using loops::ExprId;
using loops::ExprOp;
using loops::RegionBuilder;

const Value* reduce_window(const Node& node, RegionBuilder& builder, const char* name, const Window& window, loops::Reduce reduce, DType type,
                           const RegionBuilder::Body& outside, ElementMap map) {
  const Value* x = node.input(0);
  const auto element = [=, map = std::move(map)](RegionBuilder& b, const RegionBuilder::Indices& kept, const RegionBuilder::Indices& taps) {
    RegionBuilder::Indices index{kept[0], kept[1]};
    for (std::size_t axis = 0; axis < window.rank(); ++axis) {
      const ExprId at = b.binary(ExprOp::kMul, kept[axis + 2], b.integer(window.strides[axis]));
      const ExprId tap = b.binary(ExprOp::kMul, taps[axis], b.integer(window.dilations[axis]));
      index.push_back(b.binary(ExprOp::kSub, b.binary(ExprOp::kAdd, at, tap), b.integer(window.pads_begin[axis])));
    }
    return map(b, b.cast(b.read_or(x, index, outside(b, kept)), type));
  };
  const Value* out = node.output() ? node.output() : node.output(1);
  const Value* reduced = builder.temporary(name, loops::is_arg_reduce(reduce) ? DType::kInt64 : type, out->shape());
  builder.define_reduction(reduced, reduce, Shape(window.kernel.begin(), window.kernel.end()), element, type);
  return reduced;
}

const Value* reduce_planes(const Node& node, RegionBuilder& builder, const char* name, loops::Reduce reduce, DType type, ElementMap map) {
  const Value* x = node.input(0);
  std::vector<std::int64_t> axes;
  for (std::size_t axis = 2; axis < x->shape().size(); ++axis) axes.push_back(static_cast<std::int64_t>(axis));
  return reduce_to_temporary(builder, name, reduce, type, x->shape(), ReducedAxes(x->shape().size(), axes, true),
                             [=, map = std::move(map)](RegionBuilder& b, const RegionBuilder::Indices& at) { return map(b, b.cast(b.read(x, at), type)); });
}

}  // namespace lathe::ops
