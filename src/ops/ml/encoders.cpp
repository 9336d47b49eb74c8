// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// LabelEncoder, CategoryMapper, OneHotEncoder: elements looked up in a list.
#include <algorithm>
#include <cmath>
#include <numeric>
#include <unordered_set>

#include "ops/expand_util.h"
#include "ops/ml/ml_defs.h"
#include "ops/ml/ml_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

Tensor of_floats(const std::vector<float>& v) { return Tensor::from<float>(DType::kFloat32, {static_cast<std::int64_t>(v.size())}, v); }
Tensor of_strings(const std::vector<std::string>& v) { return Tensor::strings({static_cast<std::int64_t>(v.size())}, v); }

// LabelEncoder ----------------------------------------------------------------------------------------------------

/// The one of <prefix>_tensor, _int64s, _strings, _floats that is given.
Tensor given_list(const Attrs& attrs, const std::string& prefix) {
  std::vector<Tensor> found;
  if (const Tensor t = attrs.get_tensor(prefix + "_tensor"); t.defined()) found.push_back(t);
  const auto ints = attrs.get_ints(prefix + "_int64s");
  const auto floats = attrs.get_floats(prefix + "_floats");
  const auto strings = attrs.get_strings(prefix + "_strings");
  if (!ints.empty()) found.push_back(Tensor::vector(ints));
  if (!strings.empty()) found.push_back(of_strings(strings));
  if (!floats.empty()) found.push_back(of_floats(floats));
  if (found.size() == 1) return found.front();
  if (found.empty()) {  // an empty list says at least its type
    if (attrs.has(prefix + "_strings")) return of_strings({});
    if (attrs.has(prefix + "_floats")) return of_floats({});
    if (attrs.has(prefix + "_int64s")) return Tensor::vector({});
  }
  reject("gives " + std::string(found.empty() ? "none" : std::to_string(found.size())) + " of " + prefix + "_tensor, " + prefix + "_int64s, " + prefix +
         "_strings, " + prefix + "_floats; expected one");
}

struct Encoding {
  Tensor keys, values, fallback;
};

Encoding encoding_of(const Attrs& attrs) {
  Encoding e{given_list(attrs, "keys"), given_list(attrs, "values"), attrs.get_tensor("default_tensor")};
  if (e.keys.size() != e.values.size()) reject("has " + std::to_string(e.keys.size()) + " keys and " + std::to_string(e.values.size()) + " values");
  const DType dtype = e.values.dtype();
  const bool known = dtype == DType::kString || is_float(dtype) || is_integer(dtype);
  if (!known) reject("its values have type " + std::string(dtype_name(dtype)));
  if (e.fallback.defined()) {
    if (e.fallback.dtype() != dtype) {
      reject("default_tensor has type " + std::string(dtype_name(e.fallback.dtype())) + ", its values " + std::string(dtype_name(dtype)));
    }
    if (e.fallback.size() != 1) reject("default_tensor has " + std::to_string(e.fallback.size()) + " elements; expected 1");
    return e;
  }
  if (dtype == DType::kString) {
    e.fallback = of_strings({attrs.get_string("default_string", "_Unused")});
  } else {
    e.fallback = Tensor(dtype, {1});
    if (is_float(dtype)) e.fallback.set_from_double(0, attrs.get_float("default_float", -0.0f));
    else e.fallback.set_from_int64(0, attrs.get_int("default_int64", -1));
  }
  return e;
}

void check_key_type(const Encoding& e, DType dtype) {
  if (dtype == e.keys.dtype()) return;
  reject("X has type " + std::string(dtype_name(dtype)) + ", its keys " + std::string(dtype_name(e.keys.dtype())));
}

/// Version 1 mapped texts to their positions and positions to texts, by the type of X, as CategoryMapper does. Versions 2 and 3 did not say
/// which of equal keys counts: the first does where models were made for them, since version 4 the last.
void encoder_upgrade(UpgradeContext& ctx) {
  Attrs& attrs = ctx.node.attrs;
  if (ctx.from_version < 2) {
    const auto classes = attrs.get_strings("classes_strings");
    std::vector<std::int64_t> positions(classes.size());
    std::iota(positions.begin(), positions.end(), std::int64_t{0});
    attrs.erase("classes_strings");
    attrs.set("cats_strings", classes);
    attrs.set("cats_int64s", positions);
    ctx.node.op = "CategoryMapper";
    return;
  }
  if (ctx.from_version >= 4) return;
  const Encoding e = encoding_of(attrs);
  std::vector<std::int64_t> kept;
  std::unordered_set<std::string> texts;
  std::unordered_set<std::int64_t> numbers;
  for (std::int64_t i = 0; i < e.keys.size(); ++i) {
    const bool fresh = e.keys.dtype() == DType::kString ? texts.insert(e.keys.string_data()[static_cast<std::size_t>(i)]).second
                       : is_float(e.keys.dtype())       ? numbers.insert(key_of(e.keys.as_double(i))).second
                                                        : numbers.insert(e.keys.as_int64(i)).second;
    if (fresh) kept.push_back(i);
  }
  if (static_cast<std::int64_t>(kept.size()) == e.keys.size()) return;
  const auto shorten = [&](const std::string& prefix) {
    const auto pick = [&](const std::string& name, auto list) {
      if (list.empty()) return;
      decltype(list) shorter;
      for (const auto i : kept) shorter.push_back(list[static_cast<std::size_t>(i)]);
      attrs.set(name, shorter);
    };
    pick(prefix + "_int64s", attrs.get_ints(prefix + "_int64s"));
    pick(prefix + "_floats", attrs.get_floats(prefix + "_floats"));
    pick(prefix + "_strings", attrs.get_strings(prefix + "_strings"));
  };
  shorten("keys");
  shorten("values");
}

void encoder_infer(InferContext& ctx) {
  const Encoding e = encoding_of(ctx.attrs());
  if (ctx.dtype(0) != DType::kUndefined) check_key_type(e, ctx.dtype(0));
  set_like_input(ctx, e.values.dtype());
}

/// An encoding and where its keys are.
struct Table {
  explicit Table(Encoding e) : encoding(std::move(e)), lookup(encoding.keys) {}
  Tensor encode(const Tensor& x) const {
    return remap(
        encoding.values, x.dims(), [&](std::int64_t i) { return lookup.find(x, i); }, &encoding.fallback);
  }
  Encoding encoding;
  Lookup lookup;
};

void encoder_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto table = ctx.kept<Table>([&] { return Table(encoding_of(ctx.attrs())); });
  check_key_type(table->encoding, x.dtype());
  ctx.set_output(0, table->encode(x));
}

/// Numbers compared with every key: the position of the last that is equal, behind the default, is the place in a table.
bool encoder_expand_by_comparing(ExpandContext& ctx, const Encoding& e) {
  constexpr std::int64_t kMostKeys = 1024;
  Value* x = ctx.node.input(0);
  const DType dtype = e.keys.dtype();
  if (dtype == DType::kString || x->dtype() != dtype || e.values.dtype() == DType::kString || e.keys.size() == 0 || e.keys.size() > kMostKeys) return false;
  Parts p(ctx);
  std::vector<std::int64_t> positions(static_cast<std::size_t>(e.keys.size()));
  std::iota(positions.begin(), positions.end(), std::int64_t{1});
  std::int64_t of_nan = 0;
  for (std::int64_t i = 0; is_float(dtype) && i < e.keys.size(); ++i)
    if (std::isnan(e.keys.as_double(i))) of_nan = i + 1;
  Value* hits = p.binary("Equal", p.unsqueeze(x, {-1}), ctx.constant("keys", e.keys.reshaped({e.keys.size()})));
  Value* place = ctx.add("ReduceMax", {ctx.add("Where", {hits, p.ints(positions), p.whole(0)}), p.ints({-1})}, attrs_of({{"keepdims", 0}}));
  if (of_nan > 0) place = ctx.add("Where", {p.unary("IsNaN", x), p.whole(of_nan), place});  // no NaN equals its key by comparison
  const Tensor table = remap(
      e.values, {e.keys.size() + 1}, [](std::int64_t i) { return i - 1; }, &e.fallback);
  ctx.replace(0, p.gather(ctx.constant("table", table), place, 0));
  return true;
}

/// Whole keys that lie close together are a table to gather from, with the default at its ends and in its gaps.
bool encoder_expand(ExpandContext& ctx) {
  constexpr std::int64_t kMostEntries = 1 << 16;
  const Encoding e = encoding_of(ctx.attrs());
  Value* x = ctx.node.input(0);
  if (!is_integer(e.keys.dtype())) return encoder_expand_by_comparing(ctx, e);
  if (x->dtype() != e.keys.dtype() || e.values.dtype() == DType::kString || e.keys.size() == 0) return false;
  const auto keys = to_int64s(e.keys);
  const auto [least, most] = std::minmax_element(keys.begin(), keys.end());
  std::int64_t extent = 0;
  if (__builtin_sub_overflow(*most, *least, &extent) || extent >= kMostEntries) return encoder_expand_by_comparing(ctx, e);
  constexpr std::int64_t kFar = std::int64_t{1} << 62;
  if (*least < -kFar || *most > kFar) return encoder_expand_by_comparing(ctx, e);
  const std::int64_t first = *least - 1, last = *most + 1;
  std::vector<std::int64_t> place(static_cast<std::size_t>(extent + 3), -1);
  for (std::size_t i = 0; i < keys.size(); ++i) place[static_cast<std::size_t>(keys[i] - first)] = static_cast<std::int64_t>(i);
  const Tensor table = remap(
      e.values, {extent + 3}, [&](std::int64_t i) { return place[static_cast<std::size_t>(i)]; }, &e.fallback);
  if (x->dtype() != DType::kInt64) {
    Attrs to;
    to.set("to", static_cast<std::int64_t>(DType::kInt64));
    x = ctx.add("Cast", {x}, std::move(to));
  }
  Value* inside = ctx.add("Clip", {x, ctx.constant("first", Tensor::scalar(first)), ctx.constant("last", Tensor::scalar(last))});
  Value* index = ctx.add("Sub", {inside, ctx.constant("first", Tensor::scalar(first))});
  ctx.replace(0, ctx.add("Gather", {ctx.constant("table", table), index}));
  return true;
}

// CategoryMapper --------------------------------------------------------------------------------------------------

Encoding categories_of(const Attrs& attrs, bool from_text) {
  const Tensor texts = of_strings(attrs.get_strings("cats_strings")), numbers = Tensor::vector(attrs.get_ints("cats_int64s"));
  check_length("cats_strings", static_cast<std::size_t>(texts.size()), static_cast<std::size_t>(numbers.size()), "as cats_int64s");
  if (from_text) return {texts, numbers, from_int64s(DType::kInt64, {1}, {attrs.get_int("default_int64", -1)})};
  return {numbers, texts, of_strings({attrs.get_string("default_string", "_Unused")})};
}

void mapper_infer(InferContext& ctx) {
  const Encoding e = categories_of(ctx.attrs(), ctx.dtype(0) == DType::kString);
  set_like_input(ctx, ctx.dtype(0) == DType::kUndefined ? DType::kUndefined : e.values.dtype());
}

void mapper_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const auto table = ctx.kept<Table>([&] { return Table(categories_of(ctx.attrs(), x.dtype() == DType::kString)); });
  ctx.set_output(0, table->encode(x));
}

// OneHotEncoder ---------------------------------------------------------------------------------------------------

/// The categories for X of this type.
Tensor hot_categories(const Attrs& attrs, DType dtype) {
  const Labels categories = class_labels(attrs, "cats_int64s", "cats_strings");
  if (dtype != DType::kUndefined && (dtype == DType::kString) != categories.is_text()) {
    reject("X has type " + std::string(dtype_name(dtype)) + ", its categories are " + (categories.is_text() ? "strings" : "int64"));
  }
  return categories.tensor();
}

void hot_infer(InferContext& ctx) {
  const Tensor categories = hot_categories(ctx.attrs(), ctx.dtype(0));
  if (!ctx.shape(0)) return ctx.set_unknown(0, DType::kFloat32);
  Shape out = *ctx.shape(0);
  out.push_back(Dim(categories.size()));
  ctx.set(0, DType::kFloat32, std::move(out));
}

void hot_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Tensor categories = hot_categories(ctx.attrs(), x.dtype());
  const Lookup lookup(categories);
  const bool zeros = ctx.attrs().get_int("zeros", 1) != 0;
  Tensor whole = x;
  if (is_float(x.dtype())) {  // whole numbers towards zero; what is none has no category
    whole = Tensor(DType::kInt64, x.dims());
    for (std::int64_t i = 0; i < x.size(); ++i) {
      const double v = x.as_double(i);
      whole.set_from_int64(i, std::abs(v) < 9.2e18 ? static_cast<std::int64_t>(v) : std::numeric_limits<std::int64_t>::min());
    }
  }
  Dims dims = x.dims();
  dims.push_back(categories.size());
  Tensor out(DType::kFloat32, dims);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t at = lookup.find(whole, i);
    if (at >= 0) out.set_from_double(i * categories.size() + at, 1);
    else if (!zeros) ctx.fail("element " + std::to_string(i) + " of X is no category, and zeros is 0");
  }
  ctx.set_output(0, std::move(out));
}

bool hot_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  if (ctx.attrs().get_int("zeros", 1) == 0) return false;
  Tensor categories = hot_categories(ctx.attrs(), x->dtype());
  if (x->dtype() == DType::kString) {
    Attrs encoder;
    std::vector<std::int64_t> positions(static_cast<std::size_t>(categories.size()));
    std::iota(positions.begin(), positions.end(), std::int64_t{0});
    encoder.set("keys_strings", ctx.attrs().get_strings("cats_strings"));
    encoder.set("values_int64s", positions);
    x = ctx.add("LabelEncoder", {x}, std::move(encoder), {}, kMlDomain);
    categories = Tensor::vector(positions);
  } else {
    std::unordered_set<std::int64_t> seen;
    for (const auto c : to_int64s(categories))
      if (!seen.insert(c).second) return false;
    if (is_float(x->dtype())) {  // whole numbers towards zero; what is none is the least there is, as the reference has it
      Parts p(ctx);
      Value* wide = p.as(x, x->dtype(), DType::kFloat64);
      Value* fits = p.binary("Less", p.unary("Abs", wide), p.number(DType::kFloat64, 9.2e18));
      Value* whole = p.cast(ctx.add("Where", {fits, wide, p.number(DType::kFloat64, 0)}), DType::kInt64);
      x = ctx.add("Where", {fits, whole, p.whole(std::numeric_limits<std::int64_t>::min())});
    } else if (x->dtype() != DType::kInt64) {
      Attrs to;
      to.set("to", static_cast<std::int64_t>(DType::kInt64));
      x = ctx.add("Cast", {x}, std::move(to));
    }
  }
  const std::int64_t last[] = {-1};
  Attrs to;
  to.set("to", static_cast<std::int64_t>(DType::kFloat32));
  Value* hit = ctx.add("Equal", {ctx.add("Unsqueeze", {x, ctx.constant("axes", Tensor::vector(last))}), ctx.constant("categories", categories)});
  ctx.replace(0, ctx.add("Cast", {hit}, std::move(to)));
  return true;
}

}  // namespace

OpDef label_encoder() {
  return {.domain = kMlDomain,
          .name = "LabelEncoder",
          .versions = {{1, "X:T1 -> Y:T2", "classes_strings:strings? default_int64:int=-1 default_string:string=_Unused", "T1: string int64; T2: string int64"},
                       {2, "X:T1 -> Y:T2",
                        "default_float:float=-0.0 default_int64:int=-1 default_string:string=_Unused keys_floats:floats? keys_int64s:ints? "
                        "keys_strings:strings? values_floats:floats? values_int64s:ints? values_strings:strings?",
                        "T1: string int64 float; T2: string int64 float"},
                       {4, "X:T1 -> Y:T2",
                        "default_float:float=-0.0 default_int64:int=-1 default_string:string=_Unused default_tensor:tensor? keys_floats:floats? "
                        "keys_int64s:ints? keys_strings:strings? keys_tensor:tensor? values_floats:floats? values_int64s:ints? values_strings:strings? "
                        "values_tensor:tensor?",
                        "T1: string int64 float int32 int16 double; T2: string int64 float int32 int16 double"}},
          .upgrade = encoder_upgrade,
          .infer = encoder_infer,
          .reference = encoder_reference,
          .expand = encoder_expand,
          .doc = "each element looked up in a list of keys, and replaced by its value"};
}

OpDef category_mapper() {
  return {.domain = kMlDomain,
          .name = "CategoryMapper",
          .versions = {{1, "X:T1 -> Y:T2", "cats_int64s:ints? cats_strings:strings? default_int64:int=-1 default_string:string=_Unused",
                        "T1: string int64; T2: string int64"}},
          .infer = mapper_infer,
          .reference = mapper_reference,
          .doc = "strings to integers or integers to strings, by two lists"};
}

OpDef one_hot_encoder() {
  return {.domain = kMlDomain,
          .name = "OneHotEncoder",
          .versions = {{1, "X:T -> Y:float", "cats_int64s:ints? cats_strings:strings? zeros:int=1", "T: string int64 int32 float double"}},
          .infer = hot_infer,
          .reference = hot_reference,
          .expand = hot_expand,
          .doc = "a new last axis with 1 at the element's category"};
}

}  // namespace lathe::ops
