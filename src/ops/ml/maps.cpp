// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// CastMap, DictVectorizer, ZipMap: between maps and tensors. What comes of one map is one row, [1, C].
#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "ops/ml/ml_defs.h"
#include "ops/ml/ml_util.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

/// Input 0, which must be a map.
std::pair<const Tensor&, const Tensor&> map_input(const RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (!x.is_map()) ctx.fail("X is no map");
  return {x.items()[0], x.items()[1]};
}

DType map_value_type(InferContext& ctx) {
  const ir::Type& type = ctx.node().input(0)->type;
  return type.kind == ir::TypeKind::kMap && type.element ? type.element->dtype : DType::kUndefined;
}

// CastMap ---------------------------------------------------------------------------------------------------------

struct MapCast {
  DType to = DType::kFloat32;
  bool sparse = false;
  std::int64_t length = 1;
};

MapCast cast_of(const Attrs& attrs) {
  MapCast cast;
  const std::string to = attrs.get_string("cast_to", "TO_FLOAT"), form = attrs.get_string("map_form", "DENSE");
  if (to == "TO_STRING") cast.to = DType::kString;
  else if (to == "TO_INT64") cast.to = DType::kInt64;
  else if (to != "TO_FLOAT") reject("cast_to '" + to + "' is none of TO_FLOAT, TO_STRING, TO_INT64");
  if (form != "DENSE" && form != "SPARSE") reject("map_form '" + form + "' is none of DENSE, SPARSE");
  cast.sparse = form == "SPARSE";
  cast.length = attrs.get_int("max_map", 1);
  if (cast.sparse && (cast.length < 1 || cast.length > kMostClasses)) {
    reject("max_map is " + std::to_string(cast.length) + "; expected 1 to " + std::to_string(kMostClasses));
  }
  return cast;
}

void cast_infer(InferContext& ctx) {
  const MapCast cast = cast_of(ctx.attrs());
  ctx.set(0, cast.to, {Dim(1), cast.sparse ? Dim(cast.length) : ctx.fresh_symbol()});
}

template <class T>
T parsed(const RefContext& ctx, const std::string& text) {
  T value{};
  const char* first = text.data() + (text.starts_with('+') ? 1 : 0);
  const auto [end, error] = std::from_chars(first, text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) ctx.fail("the map's value '" + text + "' is no number");
  return value;
}

void cast_element(const RefContext& ctx, const Tensor& from, std::int64_t i, Tensor& to, std::int64_t at) {
  if (from.dtype() == DType::kString) {
    const std::string& text = from.string_data()[static_cast<std::size_t>(i)];
    if (to.dtype() == DType::kString) to.mutable_string_data()[static_cast<std::size_t>(at)] = text;
    else if (to.dtype() == DType::kInt64) to.set_from_int64(at, parsed<std::int64_t>(ctx, text));
    else to.set_from_double(at, parsed<float>(ctx, text));
    return;
  }
  const double value = from.as_double(i);
  if (to.dtype() == DType::kString) {
    to.mutable_string_data()[static_cast<std::size_t>(at)] = std::to_string(value);
  } else if (to.dtype() == DType::kInt64) {
    if (!(std::abs(value) < 9.2e18)) ctx.fail("the map's value " + std::to_string(value) + " is no int64");
    to.set_from_int64(at, static_cast<std::int64_t>(value));
  } else {
    to.set_from_double(at, value);
  }
}

void cast_reference(RefContext& ctx) {
  const MapCast cast = cast_of(ctx.attrs());
  const auto [keys, values] = map_input(ctx);
  const auto places = to_int64s(keys);
  std::vector<std::int64_t> order(places.size());
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](auto a, auto b) { return places[static_cast<std::size_t>(a)] < places[static_cast<std::size_t>(b)]; });
  Tensor out(cast.to, {1, cast.sparse ? cast.length : keys.size()});
  std::int64_t next = 0;
  for (const auto i : order) {
    const std::int64_t place = places[static_cast<std::size_t>(i)];
    if (cast.sparse && place < 0) ctx.fail("the map has the negative key " + std::to_string(place));
    if (cast.sparse && place >= cast.length) break;  // beyond the output's end
    cast_element(ctx, values, i, out, cast.sparse ? place : next++);
  }
  ctx.set_output(0, std::move(out));
}

// DictVectorizer --------------------------------------------------------------------------------------------------

Labels vocabulary_of(const Attrs& attrs) { return class_labels(attrs, "int64_vocabulary", "string_vocabulary"); }

void check_vocabulary(const Labels& words, DType key) {
  if (key == DType::kUndefined || key == words.dtype()) return;
  reject("X has keys of type " + std::string(dtype_name(key)) + ", its vocabulary " + std::string(dtype_name(words.dtype())));
}

void dict_infer(InferContext& ctx) {
  const Labels words = vocabulary_of(ctx.attrs());
  const ir::Type& in = ctx.node().input(0)->type;
  if (in.kind == ir::TypeKind::kMap) check_vocabulary(words, in.dtype);
  ctx.set(0, map_value_type(ctx), {Dim(1), Dim(static_cast<std::int64_t>(words.count()))});
}

void dict_reference(RefContext& ctx) {
  const Labels words = vocabulary_of(ctx.attrs());
  const auto [keys, values] = map_input(ctx);
  check_vocabulary(words, keys.dtype());
  const Lookup lookup(keys);
  const Tensor wanted = words.tensor();
  ctx.set_output(0, remap(values, {1, wanted.size()}, [&](std::int64_t i) { return lookup.find(wanted, i); }));
}

// ZipMap ----------------------------------------------------------------------------------------------------------

Labels zip_keys(const Attrs& attrs) { return class_labels(attrs, "classlabels_int64s", "classlabels_strings"); }

void check_columns(const Labels& keys, std::int64_t width) {
  if (static_cast<std::int64_t>(keys.count()) == width) return;
  reject("X has " + std::to_string(width) + " columns for " + std::to_string(keys.count()) + " keys");
}

void zip_infer(InferContext& ctx) {
  const Labels keys = zip_keys(ctx.attrs());
  const RowDims rows = infer_rows(ctx);
  if (const auto width = rows.width.constant()) check_columns(keys, *width);
  ir::Type map;
  map.kind = ir::TypeKind::kMap;
  map.dtype = keys.dtype();
  map.element = std::make_shared<const ir::Type>(ir::Type::tensor(DType::kFloat32));
  ir::Type sequence;
  sequence.kind = ir::TypeKind::kSequence;
  sequence.element = std::make_shared<const ir::Type>(std::move(map));
  ctx.set_type(0, std::move(sequence));
}

void zip_reference(RefContext& ctx) {
  const Labels keys = zip_keys(ctx.attrs());
  const Tensor& x = ctx.input(0);
  const Rows rows = rows_of(x);
  check_columns(keys, rows.width);
  const Tensor names = keys.tensor();
  std::vector<Tensor> maps;
  for (std::int64_t row = 0; row < rows.count; ++row)
    maps.push_back(Tensor::map(names, remap(x, {rows.width}, [&](std::int64_t i) { return row * rows.width + i; })));
  ctx.set_output(0, Tensor::sequence(std::move(maps)));
}

}  // namespace

OpDef cast_map() {
  return {.domain = kMlDomain,
          .name = "CastMap",
          .versions = {{1, "X:T1 -> Y:T2", "cast_to:string=TO_FLOAT map_form:string=DENSE max_map:int=1",
                        "T1: map(int64,string) map(int64,float); T2: string float int64"}},
          .infer = cast_infer,
          .reference = cast_reference,
          .doc = "the values of a map in the order of its keys, or at the places that they tell"};
}

OpDef dict_vectorizer() {
  return {.domain = kMlDomain,
          .name = "DictVectorizer",
          .versions = {{1, "X:T1 -> Y:T2", "int64_vocabulary:ints? string_vocabulary:strings?",
                        "T1: map(string,int64) map(int64,string) map(int64,float) map(int64,double) map(string,float) map(string,double); "
                        "T2: int64 float double string"}},
          .infer = dict_infer,
          .reference = dict_reference,
          .doc = "the values of a map in the order of a vocabulary, zero where it lacks a word"};
}

OpDef zip_map() {
  return {.domain = kMlDomain,
          .name = "ZipMap",
          .versions = {{1, "X:float -> Z:T", "classlabels_int64s:ints? classlabels_strings:strings?", "T: seq(map(string,float)) seq(map(int64,float))"}},
          .infer = zip_infer,
          .reference = zip_reference,
          .doc = "each row as a map from the classes' labels"};
}

}  // namespace lathe::ops
