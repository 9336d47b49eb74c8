// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Reshape, Flatten, Squeeze, Unsqueeze: the same elements in the same order under another shape.
#include <algorithm>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/reshape/view.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void set_shape(InferContext& ctx, const std::optional<Shape>& shape) {
  if (shape) {
    ctx.set(0, ctx.dtype(0), *shape);
  } else {
    ctx.set_unknown(0, ctx.dtype(0));
  }
  if (auto content = ctx.content(0)) ctx.set_content(0, std::move(*content));
}

bool lower_view(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!in->has_shape() || !out->has_shape()) {
    builder.decline("unknown rank");
    return false;
  }
  if (in->dtype() == DType::kString) {
    builder.decline("strings");
    return false;
  }
  builder.define(out, [in, out](loops::RegionBuilder& b, const auto& i) { return b.read(in, view_indices(b, in->shape(), out->shape(), i)); });
  return true;
}

// Reshape ------------------------------------------------------------------------------------------------------------

Shape reshape_target(InferContext& ctx, const std::optional<Shape>& in, const std::vector<Dim>& target) {
  const bool allow_zero = ctx.attrs().get_int("allowzero", 0) != 0;
  Shape out(target.size());
  std::optional<std::size_t> inferred;
  Dim others(1);
  bool unknown = false;
  for (std::size_t i = 0; i < target.size(); ++i) {
    const auto number = target[i].constant();
    if (number == std::int64_t{-1}) {
      if (inferred) ctx.fail("the target shape has more than one -1");
      inferred = i;
      continue;
    }
    if (number && *number < -1) ctx.fail("the target shape has the extent " + std::to_string(*number));
    if (number == std::int64_t{0} && !allow_zero) {
      if (in && i >= in->size()) ctx.fail("the target shape's 0 at axis " + std::to_string(i) + " has no input axis to copy");
      out[i] = in ? (*in)[i] : ctx.fresh_symbol();
    } else {
      out[i] = ctx.is_extent(target[i]) ? target[i] : ctx.fresh_symbol();
      if (!number && out[i] != target[i]) unknown = true;
    }
    others = others * out[i];
  }
  const auto mismatch = [&] { ctx.fail("cannot reshape " + ir::to_string(*in) + " to " + ir::to_string(target)); };
  if (in && !unknown) {
    const Dim total = ir::product(*in);
    if (inferred) {
      const auto t = total.constant(), o = others.constant();
      if (t && o && (*o == 0 ? *t != 0 : *t % *o != 0)) mismatch();
      if (const auto exact = Dim::exact_div(total, others)) {
        out[*inferred] = *exact;
      } else if (o == std::int64_t{0}) {
        out[*inferred] = Dim(0);
      } else {
        out[*inferred] = Dim::floordiv(total, others);  // the model promises that it divides
      }
    } else if (total.is_constant() && others.is_constant() && total != others) {
      mismatch();
    }
  } else if (inferred) {
    out[*inferred] = ctx.fresh_symbol();
  }
  return out;
}

void reshape_infer(InferContext& ctx) {
  if (const auto target = ctx.content(1)) return set_shape(ctx, reshape_target(ctx, ctx.shape(0), *target));
  if (const auto rank = known_length(ctx, 1)) return set_shape(ctx, fresh_shape(ctx, static_cast<std::size_t>(*rank)));
  set_shape(ctx, std::nullopt);
}

void reshape_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const bool allow_zero = ctx.attrs().get_int("allowzero", 0) != 0;
  Dims dims = ctx.input(1).to_int64_vector();
  std::int64_t known = 1;
  std::optional<std::size_t> inferred;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    if (dims[i] == 0 && !allow_zero) {
      if (i >= in.dims().size()) ctx.fail("the target shape's 0 at axis " + std::to_string(i) + " has no input axis to copy");
      dims[i] = in.dims()[i];
    }
    if (dims[i] == -1) {
      if (inferred) ctx.fail("the target shape has more than one -1");
      inferred = i;
    } else if (dims[i] < 0) {
      ctx.fail("the target shape has the extent " + std::to_string(dims[i]));
    } else {
      known *= dims[i];
    }
  }
  const auto mismatch = [&] { ctx.fail("cannot reshape " + lathe::to_string(in.dims()) + " to " + lathe::to_string(ctx.input(1).to_int64_vector())); };
  if (inferred) {
    if (known == 0 ? in.size() != 0 : in.size() % known != 0) mismatch();
    dims[*inferred] = known == 0 ? 0 : in.size() / known;
  } else if (known != in.size()) {
    mismatch();
  }
  ctx.set_output(0, in.reshaped(dims));
}

void reshape_upgrade(UpgradeContext& ctx) {
  ctx.node.attrs.erase("consumed_inputs");
  if (ctx.from_version < 5) attribute_to_input(ctx, "shape", 1);
}

// Flatten ------------------------------------------------------------------------------------------------------------

void flatten_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) return set_shape(ctx, fresh_shape(ctx, 2));
  const auto rank = static_cast<std::int64_t>(in->size());
  std::int64_t axis = ctx.attrs().get_int("axis", 1);
  if (axis < -rank || axis > rank) ctx.fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  if (axis < 0) axis += rank;
  set_shape(ctx, Shape{ir::product({in->begin(), in->begin() + axis}), ir::product({in->begin() + axis, in->end()})});
}

void flatten_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const std::int64_t rank = in.rank();
  std::int64_t axis = ctx.attrs().get_int("axis", 1);
  if (axis < -rank || axis > rank) ctx.fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  if (axis < 0) axis += rank;
  std::int64_t outer = 1, inner = 1;
  for (std::int64_t i = 0; i < rank; ++i) (i < axis ? outer : inner) *= in.dims()[static_cast<std::size_t>(i)];
  ctx.set_output(0, in.reshaped({outer, inner}));
}

// Squeeze, Unsqueeze -------------------------------------------------------------------------------------------------

void squeeze_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  if (!in) return set_shape(ctx, std::nullopt);
  std::vector<bool> drop(in->size());
  if (ctx.has_input(1)) {
    const auto axes = constant_content(ctx, 1);
    if (!axes) return set_shape(ctx, std::nullopt);
    for (const auto axis : infer_axes(ctx, *axes, static_cast<std::int64_t>(in->size()))) {
      const auto at = static_cast<std::size_t>(axis);
      const auto number = (*in)[at].constant();
      if (number && *number != 1) ctx.fail("squeezes axis " + std::to_string(axis) + " of shape " + ir::to_string(*in));
      drop[at] = true;
    }
  } else {
    for (std::size_t i = 0; i < in->size(); ++i) {
      drop[i] = is_one((*in)[i]);
      // An open extent may be 1 at run time, and then the rank differs.
      if (!(*in)[i].is_constant() && (*in)[i].lower_bound().value_or(0) < 2) return set_shape(ctx, std::nullopt);
    }
  }
  Shape out;
  for (std::size_t i = 0; i < in->size(); ++i) {
    if (!drop[i]) out.push_back((*in)[i]);
  }
  set_shape(ctx, out);
}

void squeeze_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  std::vector<bool> drop(in.dims().size());
  if (ctx.has_input(1)) {
    for (auto axis : ctx.input(1).to_int64_vector()) {
      const auto at = static_cast<std::size_t>(ref_axis(ctx, axis, in.rank()));
      if (in.dims()[at] != 1) ctx.fail("squeezes axis " + std::to_string(axis) + " of shape " + lathe::to_string(in.dims()));
      drop[at] = true;
    }
  } else {
    for (std::size_t i = 0; i < drop.size(); ++i) drop[i] = in.dims()[i] == 1;
  }
  Dims dims;
  for (std::size_t i = 0; i < drop.size(); ++i) {
    if (!drop[i]) dims.push_back(in.dims()[i]);
  }
  ctx.set_output(0, in.reshaped(dims));
}

void unsqueeze_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  const auto axes = constant_content(ctx, 1);
  if (!in) return set_shape(ctx, std::nullopt);
  if (!axes) {
    const auto count = known_length(ctx, 1);
    return set_shape(ctx, count ? std::optional(fresh_shape(ctx, in->size() + static_cast<std::size_t>(*count))) : std::nullopt);
  }
  const std::size_t rank = in->size() + axes->size();
  std::vector<bool> added(rank);
  for (const auto axis : infer_axes(ctx, *axes, static_cast<std::int64_t>(rank))) added[static_cast<std::size_t>(axis)] = true;
  Shape out;
  auto next = in->begin();
  for (std::size_t i = 0; i < rank; ++i) out.push_back(added[i] ? Dim(1) : *next++);
  set_shape(ctx, out);
}

void unsqueeze_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto axes = ctx.input(1).to_int64_vector();
  const std::size_t rank = in.dims().size() + axes.size();
  std::vector<bool> added(rank);
  for (const auto axis : axes) {
    const auto at = static_cast<std::size_t>(ref_axis(ctx, axis, static_cast<std::int64_t>(rank)));
    if (added[at]) ctx.fail("axis " + std::to_string(axis) + " is given twice");
    added[at] = true;
  }
  Dims dims;
  auto next = in.dims().begin();
  for (std::size_t i = 0; i < rank; ++i) dims.push_back(added[i] ? 1 : *next++);
  ctx.set_output(0, in.reshaped(dims));
}

void axes_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version < 13) attribute_to_input(ctx, "axes", 1);
}

}  // namespace

std::span<const OpDef> ops_reshape() {
  constexpr std::string_view kReshape = "data:T shape:int64 -> reshaped:T", kZero = "allowzero:int=0";
  constexpr std::string_view kFlat = "input:T -> output:T", kAxis = "axis:int=1";
  constexpr std::string_view kSqueeze1 = "data:T -> squeezed:T", kSqueeze = "data:T axes?:int64 -> squeezed:T";
  constexpr std::string_view kUnsqueeze1 = "data:T -> expanded:T", kUnsqueeze = "data:T axes:int64 -> expanded:T";
  constexpr std::string_view kAll = "T: @all", k13 = "T: @all13", k19 = "T: @all19", k21 = "T: @all21", k23 = "T: @all23", k24 = "T: @all24", k25 = "T: @all25";
  static const std::vector<OpDef> ops{
      {.name = "Reshape",
       .versions = {{1, "data:T -> reshaped:T", "shape:ints? consumed_inputs:ints?", "T: @float"},
                    {5, kReshape, "", kAll},
                    {13, kReshape, "", k13},
                    {14, kReshape, kZero, k13},
                    {19, kReshape, kZero, k19},
                    {21, kReshape, kZero, k21},
                    {23, kReshape, kZero, k23},
                    {24, kReshape, kZero, k24},
                    {25, kReshape, kZero, k25}},
       .upgrade = reshape_upgrade,
       .infer = reshape_infer,
       .reference = reshape_reference,
       .lower = lower_view,
       .doc = "the same elements under a computed shape"},
      {.name = "Flatten",
       .versions = {{1, kFlat, kAxis, "T: @float"},
                    {9, kFlat, kAxis, kAll},
                    {11, kFlat, kAxis, kAll},
                    {13, kFlat, kAxis, k13},
                    {21, kFlat, kAxis, k21},
                    {23, kFlat, kAxis, k23},
                    {24, kFlat, kAxis, k24},
                    {25, kFlat, kAxis, k25}},
       .infer = flatten_infer,
       .reference = flatten_reference,
       .lower = lower_view,
       .doc = "a matrix of the axes before and after one"},
      {.name = "Squeeze",
       .versions = {{1, kSqueeze1, "axes:ints?", kAll},
                    {11, kSqueeze1, "axes:ints?", kAll},
                    {13, kSqueeze, "", k13},
                    {21, kSqueeze, "", k21},
                    {23, kSqueeze, "", k23},
                    {24, kSqueeze, "", k24},
                    {25, kSqueeze, "", k25}},
       .upgrade = axes_upgrade,
       .infer = squeeze_infer,
       .reference = squeeze_reference,
       .lower = lower_view,
       .doc = "axes of extent 1 removed"},
      {.name = "Unsqueeze",
       .versions = {{1, kUnsqueeze1, "axes:ints", kAll},
                    {11, kUnsqueeze1, "axes:ints", kAll},
                    {13, kUnsqueeze, "", k13},
                    {21, kUnsqueeze, "", k21},
                    {23, kUnsqueeze, "", k23},
                    {24, kUnsqueeze, "", k24},
                    {25, kUnsqueeze, "", k25}},
       .upgrade = axes_upgrade,
       .infer = unsqueeze_infer,
       .reference = unsqueeze_reference,
       .lower = lower_view,
       .doc = "axes of extent 1 added"},
  };
  return ops;
}

}  // namespace lathe::ops
