// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Cast, CastLike, BitCast: element types changed, shapes kept.
#include "ops/cast/cast.h"

#include <cstring>

#include "loops/builder.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

DType target_of(const Node& node) { return dtype_of_number(node.attrs.get_int("to", 0)); }

/// Contents survive where every whole number does; narrow integers wrap, which only numbers can follow.
void pass_content(InferContext& ctx, DType to) {
  auto content = ctx.content(0);
  if (!content) return;
  const DType from = ctx.dtype(0);
  if (to == DType::kString || to == DType::kComplex64 || to == DType::kComplex128) return;
  const bool wide = to == DType::kInt64 || to == DType::kFloat32 || to == DType::kFloat64 || to == DType::kInt32;
  if (from == DType::kBool || wide) {
    for (const auto& dim : *content) {
      // A number that the target cannot hold exactly is not the number any more.
      if (const auto c = dim.constant()) {
        if (to == DType::kInt32 && *c != static_cast<std::int32_t>(*c)) return;
        if (to == DType::kFloat32 && *c != static_cast<std::int64_t>(static_cast<float>(*c))) return;
      }
    }
    ctx.set_content(0, std::move(*content));
    return;
  }
  const auto numbers = ir::constant_dims(*content);
  if (!numbers) return;
  const Tensor converted = convert_tensor(from_int64s(DType::kInt64, {static_cast<std::int64_t>(numbers->size())}, *numbers), to, true, "up");
  std::vector<Dim> values;
  for (std::int64_t i = 0; i < converted.size(); ++i) {
    if (is_float(to) && converted.as_double(i) != static_cast<double>((*numbers)[static_cast<std::size_t>(i)])) return;
    values.emplace_back(is_float(to) ? (*numbers)[static_cast<std::size_t>(i)] : converted.as_int64(i));
  }
  ctx.set_content(0, std::move(values));
}

void infer_to(InferContext& ctx, DType to) {
  set_like_input(ctx, to);
  pass_content(ctx, to);
}

void cast_infer(InferContext& ctx) {
  const DType to = target_of(ctx.node());
  if (to == DType::kUndefined) ctx.fail("attribute 'to' is " + std::to_string(ctx.attrs().get_int("to", 0)) + ", which is no element type");
  infer_to(ctx, to);
}

void cast_reference(RefContext& ctx) {
  const auto& attrs = ctx.attrs();
  ctx.set_output(0, convert_tensor(ctx.input(0), target_of(ctx.node()), attrs.get_int("saturate", 1) != 0, attrs.get_string("round_mode", "up")));
}

bool lower_to(const Node& node, loops::RegionBuilder& builder, DType to) {
  const auto numeric = [](DType t) { return is_float(t) || is_integer(t) || t == DType::kBool; };
  if (!numeric(node.input(0)->dtype()) || !numeric(to)) {
    builder.decline("Cast of strings or complex numbers");
    return false;
  }
  if (node.attrs.get_int("saturate", 1) == 0 || to == DType::kFloat8E8M0) {
    builder.decline("Cast to an 8-bit float with unusual rounding");
    return false;
  }
  builder.define(node.output(), [&node, to](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(node.input(0), i), to); });
  return true;
}

bool cast_lower(const Node& node, loops::RegionBuilder& builder) { return lower_to(node, builder, target_of(node)); }

// Cast-1 spells the type as text.
void cast_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version >= 6) return;
  std::string text = ctx.node.attrs.get_string("to", "");
  for (auto& c : text) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
  const auto dtype = parse_dtype(text);
  if (!dtype) throw Error(Code::kInvalidModel, "attribute 'to' is '" + text + "', which is no element type").at_node(ctx.node.name, "Cast");
  ctx.node.attrs.set("to", static_cast<std::int64_t>(*dtype));
}

void cast_like_infer(InferContext& ctx) { infer_to(ctx, ctx.dtype(1)); }
void cast_like_reference(RefContext& ctx) {
  const auto& attrs = ctx.attrs();
  ctx.set_output(0, convert_tensor(ctx.input(0), ctx.input(1).dtype(), attrs.get_int("saturate", 1) != 0, attrs.get_string("round_mode", "up")));
}
bool cast_like_lower(const Node& node, loops::RegionBuilder& builder) { return lower_to(node, builder, node.input(1)->dtype()); }

void bit_cast_infer(InferContext& ctx) {
  const DType to = target_of(ctx.node());
  if (to == DType::kUndefined || to == DType::kString) ctx.fail("attribute 'to' is no type with a bit pattern");
  if (dtype_bits(to) != dtype_bits(ctx.dtype(0))) {
    ctx.fail("reinterprets " + std::string(dtype_name(ctx.dtype(0))) + " as " + std::string(dtype_name(to)) + " of another width");
  }
  set_like_input(ctx, to);
}

void bit_cast_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  Tensor out(target_of(ctx.node()), in.dims());
  if (out.bytes() != in.bytes()) ctx.fail("the types differ in width");
  if (out.bytes()) std::memcpy(out.mutable_raw(), in.raw(), in.bytes());
  ctx.set_output(0, std::move(out));
}

/// Regions know values, not bits: whole numbers of one width are cast into each other by their bits, and truth values are 0 and 1.
bool bit_cast_lower(const Node& node, loops::RegionBuilder& builder) {
  const DType from = node.input(0)->dtype(), to = target_of(node);
  const bool whole = (is_integer(from) || from == DType::kBool) && is_integer(to);
  if (!whole && (from != to || !is_float(from))) {
    builder.decline("the bits of a floating number");
    return false;
  }
  builder.define(node.output(), [&node, to](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(node.input(0), i), to); });
  return true;
}

}  // namespace

std::span<const OpDef> ops_cast() {
  constexpr std::string_view kIo = "input:T1 -> output:T2", kLike = "input:T1 target_type:T2 -> output:T2";
  constexpr std::string_view kSaturate = "saturate:int=1", kRound = "saturate:int=1 round_mode:string=up";
  constexpr std::string_view kTo = "to:int", kToSaturate = "to:int saturate:int=1", kToRound = "to:int saturate:int=1 round_mode:string=up";
  constexpr std::string_view k6 = "T1: @num bool; T2: @num bool", k9 = "T1: @num bool string; T2: @num bool string",
                             k13 = "T1: @num13 bool string; T2: @num13 bool string",
                             k19 = "T1: @all19 -complex64 -complex128; T2: @all19 -complex64 -complex128",
                             k21 = "T1: @all21 -complex64 -complex128; T2: @all21 -complex64 -complex128",
                             k23 = "T1: @all23 -complex64 -complex128; T2: @all23 -complex64 -complex128",
                             k24 = "T1: @all24 -complex64 -complex128; T2: @all24 -complex64 -complex128",
                             k25 = "T1: @all25 -complex64 -complex128; T2: @all25 -complex64 -complex128",
                             k28 = "T1: @all28 -complex64 -complex128; T2: @all28 -complex64 -complex128";
  static const std::vector<OpDef> ops{
      {.name = "Cast",
       .versions = {{1, kIo, "to:string", k6},
                    {6, kIo, kTo, k6},
                    {9, kIo, kTo, k9},
                    {13, kIo, kTo, k13},
                    {19, kIo, kToSaturate, k19},
                    {21, kIo, kToSaturate, k21},
                    {23, kIo, kToSaturate, k23},
                    {24, kIo, kToRound, k24},
                    {25, kIo, kToRound, k25},
                    {28, kIo, kToRound, k28}},
       .upgrade = cast_upgrade,
       .infer = cast_infer,
       .reference = cast_reference,
       .lower = cast_lower,
       .doc = "elements converted to another type"},
      {.name = "CastLike",
       .versions = {{15, kLike, "", k13},
                    {19, kLike, kSaturate, k19},
                    {21, kLike, kSaturate, k21},
                    {23, kLike, kSaturate, k23},
                    {24, kLike, kRound, k24},
                    {25, kLike, kRound, k25}},
       .infer = cast_like_infer,
       .reference = cast_like_reference,
       .lower = cast_like_lower,
       .doc = "elements converted to the second input's type"},
      {.name = "BitCast",
       .versions = {{26, kIo, kTo, "T1: @all25 -string; T2: @all25 -string"}},
       .infer = bit_cast_infer,
       .reference = bit_cast_reference,
       .lower = bit_cast_lower,
       .doc = "bit patterns read as another type of the same width"},
  };
  return ops;
}

}  // namespace lathe::ops
