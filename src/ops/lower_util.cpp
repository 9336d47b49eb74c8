// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/lower_util.h"

namespace lathe::ops {

using Indices = loops::RegionBuilder::Indices;

DType compute_dtype(DType dtype) {
  if (dtype == DType::kFloat64) return dtype;
  return is_float(dtype) ? DType::kFloat32 : DType::kInt64;
}

ReducedAxes::ReducedAxes(std::size_t rank, const std::vector<std::int64_t>& axes, bool keep_axes) : reduced(rank), keep(keep_axes) {
  for (const auto axis : axes) reduced[static_cast<std::size_t>(axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis)] = true;
}

ir::Shape ReducedAxes::kept_shape(const ir::Shape& in) const {
  ir::Shape out;
  for (std::size_t a = 0; a < in.size(); ++a) {
    if (!reduced[a]) {
      out.push_back(in[a]);
    } else if (keep) {
      out.emplace_back(1);
    }
  }
  return out;
}

ir::Shape ReducedAxes::reduction_space(const ir::Shape& in) const {
  ir::Shape space;
  for (std::size_t a = 0; a < in.size(); ++a) {
    if (reduced[a]) space.push_back(in[a]);
  }
  return space;
}

ir::Dim ReducedAxes::count(const ir::Shape& in) const { return ir::product(reduction_space(in)); }

Indices ReducedAxes::input_indices(const Indices& kept, const Indices& reduction) const {
  Indices out;
  std::size_t k = 0, r = 0;
  for (const bool is_reduced : reduced) {
    out.push_back(is_reduced ? reduction[r++] : kept[k]);
    if (!is_reduced || keep) ++k;
  }
  return out;
}

Indices ReducedAxes::kept_indices(loops::RegionBuilder& builder, const Indices& input) const {
  Indices out;
  for (std::size_t a = 0; a < reduced.size(); ++a) {
    if (!reduced[a]) {
      out.push_back(input[a]);
    } else if (keep) {
      out.push_back(builder.integer(0));
    }
  }
  return out;
}

const ir::Value* reduce_to_temporary(loops::RegionBuilder& builder, const char* name, loops::Reduce reduce, DType accumulate, const ir::Shape& in,
                                     const ReducedAxes& axes, Element element) {
  const bool index =
      reduce == loops::Reduce::kArgMax || reduce == loops::Reduce::kArgMin || reduce == loops::Reduce::kArgMaxLast || reduce == loops::Reduce::kArgMinLast;
  const ir::Value* value = builder.temporary(name, index ? DType::kInt64 : accumulate, axes.kept_shape(in));
  builder.define_reduction(
      value, reduce, axes.reduction_space(in),
      [axes, element = std::move(element)](loops::RegionBuilder& b, const Indices& kept, const Indices& reduction) {
        return element(b, axes.input_indices(kept, reduction));
      },
      accumulate);
  return value;
}

loops::ExprId from_end(loops::RegionBuilder& builder, loops::ExprId index, const ir::Dim& extent) {
  const loops::ExprId wide = builder.cast(index, DType::kInt64);
  const loops::ExprId negative = builder.binary(loops::ExprOp::kLess, wide, builder.integer(0));
  return builder.select(negative, builder.binary(loops::ExprOp::kAdd, wide, builder.dim(extent)), wide);
}

std::optional<Window> known_window(const ir::Node& node, loops::RegionBuilder& builder, const std::vector<std::int64_t>& kernel) {
  const ir::Shape& x = node.input(0)->shape();
  Window window = read_window(node.attrs, kernel, x.size() - 2);
  if (window.automatic == Window::Auto::kValid) return window.concrete(Dims(window.rank(), 0));  // no pads, whatever the extents
  if (window.automatic == Window::Auto::kNotSet) return window;
  const auto extents = ir::constant_dims(ir::Shape(x.begin() + 2, x.end()));
  if (extents) return window.concrete(*extents);
  builder.decline("SAME pads depend on the extents");
  return std::nullopt;
}

bool can_lower_real(const ir::Value* value, loops::RegionBuilder& builder) {
  if (!value->has_shape()) {
    builder.decline("unknown rank");
    return false;
  }
  if (!is_float(value->dtype()) && !is_integer(value->dtype()) && value->dtype() != DType::kBool) {
    builder.decline("no real numbers");
    return false;
  }
  return true;
}

}  // namespace lathe::ops
