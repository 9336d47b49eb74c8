// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Shape rules of operators that Lathe does not define yet, as far as the checker needs them: what follows for the outputs, and what no
// input may be. An op that moves to ops/ takes its rule along. Control flow is in control_flow.cpp.

#include <algorithm>
#include <array>
#include <cctype>
#include <map>
#include <set>

#include "check/inference.h"
#include "ops/shape_util.h"

namespace lathe::checker {
namespace {

using ir::Dim;
using ir::Shape;
using ir::Type;
using ir::TypeKind;
using ops::InferContext;

/// An undefined element type stays undefined in the output.
void set(InferContext& ctx, std::size_t output, DType dtype, std::optional<Shape> shape) {
  Type type = Type::tensor(dtype);
  type.shape = std::move(shape);
  ctx.set_type(output, std::move(type));
}

DType dtype(InferContext& ctx, std::size_t i) { return ctx.has_input(i) ? ctx.dtype(i) : DType::kUndefined; }

std::optional<Shape> shape(InferContext& ctx, std::size_t i) { return ctx.has_input(i) ? ctx.shape(i) : std::nullopt; }

void need_rank(InferContext& ctx, std::size_t i, std::size_t rank) {
  if (const auto s = shape(ctx, i); s && s->size() != rank)
    ctx.fail("input " + std::to_string(i) + " has rank " + std::to_string(s->size()) + "; expected " + std::to_string(rank));
}

/// The extent that both are; fails when they are different numbers.
Dim same(InferContext& ctx, const Dim& a, const Dim& b, const char* what) {
  const auto x = a.constant(), y = b.constant();
  if (x && y && *x != *y) ctx.fail(std::string(what) + " is " + std::to_string(*x) + " and " + std::to_string(*y));
  return x ? a : y ? b : a;
}

DType attribute_dtype(InferContext& ctx, const char* name, DType fallback) {
  const std::int64_t number = ctx.attrs().get_int(name, static_cast<std::int64_t>(fallback));
  if (number < 0 || number >= kDTypeCount) ctx.fail("attribute '" + std::string(name) + "' is no element type: " + std::to_string(number));
  return static_cast<DType>(number);
}

void like_first(InferContext& ctx) { set(ctx, 0, dtype(ctx, 0), shape(ctx, 0)); }

// Quantisation --------------------------------------------------------------------------------------------------------

void quantize_linear(InferContext& ctx) {
  const DType wanted = attribute_dtype(ctx, "output_dtype", DType::kUndefined), zero = dtype(ctx, 2);
  if (zero != DType::kUndefined && wanted != DType::kUndefined && wanted != zero)
    ctx.fail("output_dtype is " + std::string(dtype_name(wanted)) + ", but y_zero_point is " + std::string(dtype_name(zero)));
  set(ctx, 0, zero != DType::kUndefined ? zero : wanted != DType::kUndefined ? wanted : ctx.has_input(2) ? DType::kUndefined : DType::kUint8, shape(ctx, 0));
}

void dequantize_linear(InferContext& ctx) {
  const DType wanted = attribute_dtype(ctx, "output_dtype", DType::kUndefined);
  set(ctx, 0, wanted != DType::kUndefined ? wanted : dtype(ctx, 1), shape(ctx, 0));
}

void dynamic_quantize_linear(InferContext& ctx) {
  set(ctx, 0, DType::kUint8, shape(ctx, 0));
  set(ctx, 1, DType::kFloat32, Shape{});
  set(ctx, 2, DType::kUint8, Shape{});
}

// Tensors -------------------------------------------------------------------------------------------------------------

void pad(InferContext& ctx) {
  const auto in = shape(ctx, 0);
  std::optional<std::vector<std::int64_t>> pads;
  for (const char* name : {"pads", "paddings"})
    if (ctx.attrs().has(name)) pads = ctx.attrs().get_ints(name);
  if (!pads && ctx.has_input(1)) {
    if (const auto s = shape(ctx, 1); s && s->size() != 1 && !(s->size() == 2 && ops::is_one((*s)[0])))
      ctx.fail("pads has the shape " + ir::to_string(*s) + "; expected one dimension");
    pads = ops::constant_content(ctx, 1);
  }
  if (!in) return set(ctx, 0, dtype(ctx, 0), std::nullopt);
  const auto rank = static_cast<std::int64_t>(in->size());
  std::optional<std::vector<std::int64_t>> axes;
  if (ctx.has_input(3)) {
    axes = ops::constant_content(ctx, 3);
  } else {
    axes.emplace();
    for (std::int64_t i = 0; i < rank; ++i) axes->push_back(i);
  }
  if (!pads || !axes) {
    // pads of a constant length still tell the rank.
    Shape out = ops::fresh_shape(ctx, in->size());
    return set(ctx, 0, dtype(ctx, 0), std::move(out));
  }
  if (ctx.has_input(3)) axes = ops::infer_axes(ctx, *axes, rank);
  if (pads->size() != 2 * axes->size()) ctx.fail("pads has " + std::to_string(pads->size()) + " numbers; expected " + std::to_string(2 * axes->size()));
  Shape out = *in;
  for (std::size_t i = 0; i < axes->size(); ++i) {
    Dim& dim = out[static_cast<std::size_t>((*axes)[i])];
    const std::int64_t more = (*pads)[i] + (*pads)[i + axes->size()];
    dim = dim + Dim(more);
    if (const auto c = dim.constant(); c && *c < 0) ctx.fail("pads take more than axis " + std::to_string((*axes)[i]) + " has");
  }
  set(ctx, 0, dtype(ctx, 0), std::move(out));
}

void unique(InferContext& ctx) {
  const auto in = shape(ctx, 0);
  std::optional<Shape> out = Shape{ctx.fresh_symbol()};
  if (ctx.attrs().has("axis")) {
    out = in;
    if (in) (*out)[static_cast<std::size_t>(ops::infer_axis(ctx, ctx.attrs().get_int("axis", 0), static_cast<std::int64_t>(in->size())))] = ctx.fresh_symbol();
  }
  set(ctx, 0, dtype(ctx, 0), out);
  for (std::size_t i = 1; i < 4; ++i) set(ctx, i, DType::kInt64, Shape{ctx.fresh_symbol()});
}

void grid_sample(InferContext& ctx) {
  const auto in = shape(ctx, 0), grid = shape(ctx, 1);
  if (!in || !grid) return set(ctx, 0, dtype(ctx, 0), std::nullopt);
  const std::size_t rank = in->size();
  if (grid->size() != rank) ctx.fail("X has rank " + std::to_string(rank) + ", the grid " + std::to_string(grid->size()));
  if (rank < 3) ctx.fail("X has rank " + std::to_string(rank) + "; expected at least 3");
  if (const auto last = grid->back().constant(); last && *last != static_cast<std::int64_t>(rank) - 2)
    ctx.fail("the grid's last extent is " + std::to_string(*last) + "; expected " + std::to_string(rank - 2));
  Shape out{same(ctx, (*in)[0], (*grid)[0], "the batch"), (*in)[1]};
  out.insert(out.end(), grid->begin() + 1, grid->end() - 1);
  set(ctx, 0, dtype(ctx, 0), std::move(out));
}

void non_max_suppression(InferContext& ctx) { set(ctx, 0, DType::kInt64, Shape{ctx.fresh_symbol(), Dim(3)}); }

void roi_align(InferContext& ctx) {
  need_rank(ctx, 0, 4);
  need_rank(ctx, 1, 2);
  need_rank(ctx, 2, 1);
  Dim rois = ctx.fresh_symbol(), channels = ctx.fresh_symbol();
  if (const auto s = shape(ctx, 1)) {
    same(ctx, (*s)[1], Dim(4), "the width of rois");
    rois = (*s)[0];
  }
  if (const auto s = shape(ctx, 2)) rois = same(ctx, (*s)[0], rois, "the number of rois");
  if (const auto s = shape(ctx, 0)) channels = (*s)[1];
  set(ctx, 0, dtype(ctx, 0), Shape{rois, channels, Dim(ctx.attrs().get_int("output_height", 1)), Dim(ctx.attrs().get_int("output_width", 1))});
}

void einsum(InferContext& ctx) {
  std::string equation;
  for (const char c : ctx.attrs().get_string("equation", ""))
    if (!std::isspace(static_cast<unsigned char>(c))) equation += c;
  const std::size_t arrow = equation.find("->");
  const std::string left = equation.substr(0, arrow);
  std::vector<std::string> terms{""};
  for (const char c : left) {
    if (c == ',') terms.emplace_back();
    else terms.back() += c;
  }
  if (terms.size() != ctx.input_count())
    ctx.fail("the equation '" + equation + "' has " + std::to_string(terms.size()) + " terms for " + std::to_string(ctx.input_count()) + " inputs");
  std::map<char, Dim> extents;
  std::map<char, int> uses;
  Shape ellipsis;
  bool known = true, dots = false;
  for (std::size_t i = 0; i < terms.size(); ++i) {
    std::string letters = terms[i];
    const std::size_t at = letters.find("...");
    if (at != std::string::npos) letters.erase(at, 3);
    for (const char c : letters) {
      if (!std::isalpha(static_cast<unsigned char>(c))) ctx.fail("the equation '" + equation + "' has a '" + std::string(1, c) + "'");
      ++uses[c];
    }
    dots |= at != std::string::npos;
    const auto s = shape(ctx, i);
    if (!s) {
      known = false;
      continue;
    }
    if (at == std::string::npos ? s->size() != letters.size() : s->size() < letters.size())
      ctx.fail("term '" + terms[i] + "' of the equation does not fit input " + std::to_string(i) + " of rank " + std::to_string(s->size()));
    const std::size_t extra = s->size() - letters.size();
    for (std::size_t j = 0; j < letters.size(); ++j) {
      const Dim& dim = (*s)[j < at ? j : j + extra];
      const auto [place, fresh] = extents.emplace(letters[j], dim);
      if (fresh) continue;
      const auto a = place->second.constant(), b = dim.constant();
      if (a && b && *a != *b && *a != 1 && *b != 1)
        ctx.fail("'" + std::string(1, letters[j]) + "' of the equation is " + std::to_string(*a) + " and " + std::to_string(*b));
      if (b && *b != 1) place->second = dim;
    }
    if (at != std::string::npos) {
      const Shape part(s->begin() + static_cast<std::ptrdiff_t>(at), s->begin() + static_cast<std::ptrdiff_t>(at + extra));
      ellipsis = ops::broadcast_shape(ctx, ellipsis, part);
    }
  }
  std::string right;
  if (arrow != std::string::npos) {
    right = equation.substr(arrow + 2);
  } else {
    right = dots ? "..." : "";
    for (const auto& [c, n] : uses)
      if (n == 1) right += c;
  }
  std::string letters = right;
  const std::size_t at = letters.find("...");
  if (at != std::string::npos) letters.erase(at, 3);
  for (const char c : letters)
    if (!uses.contains(c)) ctx.fail("the equation's result has '" + std::string(1, c) + "', which no term has");
  if (!known) return set(ctx, 0, dtype(ctx, 0), std::nullopt);
  Shape out;
  for (std::size_t j = 0; j <= letters.size(); ++j) {
    if (j == at) out.insert(out.end(), ellipsis.begin(), ellipsis.end());
    if (j < letters.size()) out.push_back(extents.at(letters[j]));
  }
  set(ctx, 0, dtype(ctx, 0), std::move(out));
}

// Random numbers ------------------------------------------------------------------------------------------------------

void random_of_shape(InferContext& ctx) {
  const auto extents = ctx.attrs().get_ints("shape");
  set(ctx, 0, attribute_dtype(ctx, "dtype", DType::kFloat32), Shape(extents.begin(), extents.end()));
}

void random_like(InferContext& ctx) { set(ctx, 0, ctx.attrs().has("dtype") ? attribute_dtype(ctx, "dtype", DType::kFloat32) : dtype(ctx, 0), shape(ctx, 0)); }

void multinomial(InferContext& ctx) {
  need_rank(ctx, 0, 2);
  const auto in = shape(ctx, 0);
  set(ctx, 0, attribute_dtype(ctx, "dtype", DType::kInt32), Shape{in ? (*in)[0] : ctx.fresh_symbol(), Dim(ctx.attrs().get_int("sample_size", 1))});
}

// Sequences and optionals ---------------------------------------------------------------------------------------------

const Type& type(InferContext& ctx, std::size_t i) {
  static const Type unknown;
  return ctx.has_input(i) ? ctx.node().input(i)->type : unknown;
}

Type sequence_of(Type element) {
  Type result;
  result.kind = TypeKind::kSequence;
  result.element = std::make_shared<const Type>(std::move(element));
  return result;
}

Type optional_of(Type element) {
  Type result = sequence_of(std::move(element));
  result.kind = TypeKind::kOptional;
  return result;
}

/// The shape that covers both: extents that differ become unknown, ranks that differ the whole.
std::optional<Shape> cover(InferContext& ctx, const std::optional<Shape>& a, const std::optional<Shape>& b) {
  if (!a || !b || a->size() != b->size()) return std::nullopt;
  Shape out = *a;
  for (std::size_t i = 0; i < out.size(); ++i)
    if (!(out[i] == (*b)[i])) out[i] = ctx.fresh_symbol();
  return out;
}

Type element_of(InferContext& ctx, std::size_t i) {
  const Type& sequence = type(ctx, i);
  if (sequence.kind == TypeKind::kUnknown) ctx.fail("the type of input " + std::to_string(i) + " is not known");
  return sequence.kind == TypeKind::kSequence && sequence.element ? *sequence.element : Type{};
}

void sequence_empty(InferContext& ctx) { ctx.set_type(0, sequence_of(Type::tensor(attribute_dtype(ctx, "dtype", DType::kFloat32)))); }

void sequence_construct(InferContext& ctx) {
  Type element = Type::tensor(dtype(ctx, 0));
  element.shape = shape(ctx, 0);
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    if (type(ctx, i).kind == TypeKind::kUnknown) ctx.fail("the type of input " + std::to_string(i) + " is not known");
    if (dtype(ctx, i) != element.dtype) ctx.fail("its inputs have several element types");
    if (i > 0) element.shape = cover(ctx, element.shape, shape(ctx, i));
  }
  ctx.set_type(0, sequence_of(std::move(element)));
}

void sequence_insert(InferContext& ctx) {
  Type element = element_of(ctx, 0);
  if (type(ctx, 1).kind == TypeKind::kUnknown) ctx.fail("the type of input 1 is not known");
  if (element.dtype != dtype(ctx, 1))
    ctx.fail("the sequence holds " + std::string(dtype_name(element.dtype)) + ", the tensor is " + std::string(dtype_name(dtype(ctx, 1))));
  element.shape = cover(ctx, element.shape, shape(ctx, 1));
  ctx.set_type(0, sequence_of(std::move(element)));
}

void sequence_at(InferContext& ctx) { ctx.set_type(0, element_of(ctx, 0)); }
void sequence_erase(InferContext& ctx) {
  element_of(ctx, 0);
  ctx.set_type(0, type(ctx, 0));
}
void scalar_int64(InferContext& ctx) { set(ctx, 0, DType::kInt64, Shape{}); }

void concat_from_sequence(InferContext& ctx) {
  const Type element = element_of(ctx, 0);
  if (!element.shape) return set(ctx, 0, element.dtype, std::nullopt);
  const std::int64_t fresh_axis = ctx.attrs().get_int("new_axis", 0);
  if (fresh_axis != 0 && fresh_axis != 1) ctx.fail("new_axis is " + std::to_string(fresh_axis) + "; expected 0 or 1");
  const auto rank = static_cast<std::int64_t>(element.shape->size()) + fresh_axis;
  const std::int64_t axis = ops::infer_axis(ctx, ctx.attrs().get_int("axis", 0), rank);
  Shape out = *element.shape;
  if (fresh_axis) out.insert(out.begin() + axis, ctx.fresh_symbol());
  else out[static_cast<std::size_t>(axis)] = ctx.fresh_symbol();
  set(ctx, 0, element.dtype, std::move(out));
}

void split_to_sequence(InferContext& ctx) {
  const auto in = shape(ctx, 0);
  Type element = Type::tensor(dtype(ctx, 0));
  if (!in) return ctx.set_type(0, sequence_of(std::move(element)));
  const auto rank = static_cast<std::int64_t>(in->size());
  const auto axis = static_cast<std::size_t>(ops::infer_axis(ctx, ctx.attrs().get_int("axis", 0), rank));
  const std::int64_t keep = ctx.attrs().get_int("keepdims", 1);
  Shape part = *in;
  const auto extent = part[axis].constant();
  if (!ctx.has_input(1)) {
    if (keep == 0) part.erase(part.begin() + static_cast<std::ptrdiff_t>(axis));
    else part[axis] = Dim(1);
  } else {
    const auto split = ops::constant_content(ctx, 1);
    const auto lengths = shape(ctx, 1);
    part[axis] = ctx.fresh_symbol();
    if (split && lengths && extent) {
      if (lengths->empty()) {
        if (split->at(0) > 0 && *extent % split->at(0) == 0) part[axis] = Dim(split->at(0));
      } else {
        std::int64_t sum = 0;
        for (const std::int64_t length : *split) sum += length;
        if (sum != *extent) ctx.fail("its parts sum to " + std::to_string(sum) + ", the axis has " + std::to_string(*extent));
        if (std::all_of(split->begin(), split->end(), [&](std::int64_t l) { return l == split->front(); }) && !split->empty()) part[axis] = Dim(split->front());
      }
    }
  }
  element.shape = std::move(part);
  ctx.set_type(0, sequence_of(std::move(element)));
}

void optional_(InferContext& ctx) {
  const ir::Attribute* given = ctx.attrs().find("type");
  if (ctx.input_count() == 0) {
    const auto* held = given ? std::get_if<ir::Type>(&given->value) : nullptr;
    if (!held) ctx.fail("it has neither an input nor the attribute 'type'");
    return ctx.set_type(0, optional_of(*held));
  }
  if (type(ctx, 0).kind == TypeKind::kUnknown) ctx.fail("the type of its input is not known");
  ctx.set_type(0, optional_of(type(ctx, 0)));
}

void optional_has_element(InferContext& ctx) { set(ctx, 0, DType::kBool, Shape{}); }

void optional_get_element(InferContext& ctx) {
  const Type& in = type(ctx, 0);
  if (in.kind == TypeKind::kUnknown) ctx.fail("the type of its input is not known");
  if (in.kind != TypeKind::kOptional) return ctx.set_type(0, in);
  if (!in.element) ctx.fail("its input is an optional of nothing known");
  ctx.set_type(0, *in.element);
}

// Strings -------------------------------------------------------------------------------------------------------------

void string_concat(InferContext& ctx) {
  const auto a = shape(ctx, 0), b = shape(ctx, 1);
  set(ctx, 0, DType::kString, a && b ? std::optional(ops::broadcast_shape(ctx, *a, *b)) : std::nullopt);
}

void regex_full_match(InferContext& ctx) { set(ctx, 0, DType::kBool, shape(ctx, 0)); }

// ai.onnx.ml ----------------------------------------------------------------------------------------------------------

std::size_t length_of(InferContext& ctx, const char* name) {
  const ir::Attribute* a = ctx.attrs().find(name);
  if (!a) return 0;
  if (const auto* v = std::get_if<std::vector<std::int64_t>>(&a->value)) return v->size();
  if (const auto* v = std::get_if<std::vector<float>>(&a->value)) return v->size();
  if (const auto* v = std::get_if<std::vector<std::string>>(&a->value)) return v->size();
  if (const auto* v = std::get_if<Tensor>(&a->value)) return static_cast<std::size_t>(v->size());
  return 0;
}

/// Batch of a classifier's input: rank 1 is one row.
std::optional<Dim> batch(InferContext& ctx) {
  const auto in = shape(ctx, 0);
  if (!in) return std::nullopt;
  if (in->size() != 1 && in->size() != 2) ctx.fail("its input has rank " + std::to_string(in->size()) + "; expected 1 or 2");
  return in->size() == 1 ? Dim(1) : (*in)[0];
}

DType label_dtype(InferContext& ctx, const char* strings) { return length_of(ctx, strings) > 0 ? DType::kString : DType::kInt64; }

void array_feature_extractor(InferContext& ctx) {
  const auto in = shape(ctx, 0), index = shape(ctx, 1);
  if (!in || in->size() < 2) return set(ctx, 0, dtype(ctx, 0), std::nullopt);
  Shape out = *in;
  out.back() = index && !index->empty() ? ir::product(*index) : ctx.fresh_symbol();
  set(ctx, 0, dtype(ctx, 0), std::move(out));
}

void label_encoder(InferContext& ctx) {
  const auto pick = [&](const char* prefix, std::size_t& length) {
    const std::array<std::pair<const char*, DType>, 3> kinds{{{"_strings", DType::kString}, {"_int64s", DType::kInt64}, {"_floats", DType::kFloat32}}};
    const std::string tensor = std::string(prefix) + "_tensor";
    int found = 0;
    DType result = DType::kUndefined;
    if (const Tensor t = ctx.attrs().get_tensor(tensor); t.defined()) {
      result = t.dtype();
      length = static_cast<std::size_t>(t.size());
      ++found;
    }
    for (const auto& [suffix, kind] : kinds) {
      const std::string name = prefix + std::string(suffix);
      if (!ctx.attrs().has(name)) continue;
      result = kind;
      length = length_of(ctx, name.c_str());
      ++found;
    }
    if (found > 1) ctx.fail("several of " + std::string(prefix) + "_* are given");
    return result;
  };
  if (ctx.attrs().has("classes_strings")) return set(ctx, 0, dtype(ctx, 0) == DType::kString ? DType::kInt64 : DType::kString, shape(ctx, 0));  // version 1
  std::size_t keys = 0, values = 0;
  const DType key = pick("keys", keys), value = pick("values", values);
  if (key == DType::kUndefined) ctx.fail("none of keys_* is given");
  if (value == DType::kUndefined) ctx.fail("none of values_* is given");
  if (dtype(ctx, 0) != DType::kUndefined && dtype(ctx, 0) != key)
    ctx.fail("its input is " + std::string(dtype_name(dtype(ctx, 0))) + ", its keys are " + std::string(dtype_name(key)));
  if (keys != values) ctx.fail("it has " + std::to_string(keys) + " keys and " + std::to_string(values) + " values");
  set(ctx, 0, value, shape(ctx, 0));
}

void linear_classifier(InferContext& ctx) {
  const std::size_t strings = length_of(ctx, "classlabels_strings"), labels = strings ? strings : length_of(ctx, "classlabels_ints");
  std::size_t classes = length_of(ctx, "intercepts");
  if (classes == 1 && labels == 2) classes = 2;
  const Dim rows = batch(ctx).value_or(ctx.fresh_symbol());
  set(ctx, 0, label_dtype(ctx, "classlabels_strings"), Shape{rows});
  set(ctx, 1, DType::kFloat32, Shape{rows, Dim(static_cast<std::int64_t>(classes))});
}

void svm_classifier(InferContext& ctx) {
  set(ctx, 0, label_dtype(ctx, "classlabels_strings"), std::nullopt);
  set(ctx, 1, DType::kFloat32, std::nullopt);
}

void one_hot_encoder(InferContext& ctx) {
  const bool ints = ctx.attrs().has("cats_int64s"), strings = ctx.attrs().has("cats_strings");
  if (ints == strings) ctx.fail("it needs exactly one of cats_int64s and cats_strings");
  const auto in = shape(ctx, 0);
  if (!in) return set(ctx, 0, DType::kFloat32, std::nullopt);
  Shape out = *in;
  out.emplace_back(static_cast<std::int64_t>(std::max(length_of(ctx, "cats_int64s"), length_of(ctx, "cats_strings"))));
  set(ctx, 0, DType::kFloat32, std::move(out));
}

void category_mapper(InferContext& ctx) {
  if (!ctx.attrs().has("cats_int64s") || !ctx.attrs().has("cats_strings")) ctx.fail("it needs cats_int64s and cats_strings");
  if (length_of(ctx, "cats_int64s") != length_of(ctx, "cats_strings")) ctx.fail("cats_int64s and cats_strings differ in length");
  const DType in = dtype(ctx, 0);
  set(ctx, 0, in == DType::kString ? DType::kInt64 : in == DType::kInt64 ? DType::kString : DType::kUndefined, shape(ctx, 0));
}

void zip_map(InferContext& ctx) {
  batch(ctx);
  Type map;
  map.kind = TypeKind::kMap;
  map.dtype = length_of(ctx, "classlabels_strings") ? DType::kString : DType::kInt64;
  if (length_of(ctx, "classlabels_strings") == 0 && length_of(ctx, "classlabels_int64s") == 0) return;
  map.element = std::make_shared<const Type>(Type::tensor(DType::kFloat32, {}));
  ctx.set_type(0, sequence_of(std::move(map)));
}

void cast_map(InferContext& ctx) {
  const std::string to = ctx.attrs().get_string("cast_to", "TO_FLOAT");
  set(ctx, 0, to == "TO_INT64" ? DType::kInt64 : to == "TO_STRING" ? DType::kString : DType::kFloat32, std::nullopt);
}

struct Entry {
  std::string_view domain, op;
  void (*rule)(InferContext&);
};

constexpr std::string_view kMl = "ai.onnx.ml";

constexpr std::array kRules{
    Entry{"", "Bernoulli", random_like},
    Entry{"", "ConcatFromSequence", concat_from_sequence},
    Entry{"", "DequantizeLinear", dequantize_linear},
    Entry{"", "DynamicQuantizeLinear", dynamic_quantize_linear},
    Entry{"", "Einsum", einsum},
    Entry{"", "GridSample", grid_sample},
    Entry{"", "Multinomial", multinomial},
    Entry{"", "NonMaxSuppression", non_max_suppression},
    Entry{"", "Optional", optional_},
    Entry{"", "OptionalGetElement", optional_get_element},
    Entry{"", "OptionalHasElement", optional_has_element},
    Entry{"", "Pad", pad},
    Entry{"", "QuantizeLinear", quantize_linear},
    Entry{"", "RandomNormal", random_of_shape},
    Entry{"", "RandomNormalLike", random_like},
    Entry{"", "RandomUniform", random_of_shape},
    Entry{"", "RandomUniformLike", random_like},
    Entry{"", "RegexFullMatch", regex_full_match},
    Entry{"", "RoiAlign", roi_align},
    Entry{"", "ScatterElements", like_first},
    Entry{"", "ScatterND", like_first},
    Entry{"", "SequenceAt", sequence_at},
    Entry{"", "SequenceConstruct", sequence_construct},
    Entry{"", "SequenceEmpty", sequence_empty},
    Entry{"", "SequenceErase", sequence_erase},
    Entry{"", "SequenceInsert", sequence_insert},
    Entry{"", "SequenceLength", scalar_int64},
    Entry{"", "SplitToSequence", split_to_sequence},
    Entry{"", "StringConcat", string_concat},
    Entry{"", "TensorScatter", like_first},
    Entry{"", "Unique", unique},
    Entry{kMl, "ArrayFeatureExtractor", array_feature_extractor},
    Entry{kMl, "Binarizer", like_first},
    Entry{kMl, "CastMap", cast_map},
    Entry{kMl, "CategoryMapper", category_mapper},
    Entry{kMl, "LabelEncoder", label_encoder},
    Entry{kMl, "LinearClassifier", linear_classifier},
    Entry{kMl, "OneHotEncoder", one_hot_encoder},
    Entry{kMl, "SVMClassifier", svm_classifier},
    Entry{kMl, "TreeEnsembleClassifier", svm_classifier},
    Entry{kMl, "ZipMap", zip_map},
};

}  // namespace

void (*extra_rule(const ir::Node& node))(ops::InferContext&) {
  for (const Entry& entry : kRules)
    if (entry.op == node.op && entry.domain == node.domain) return entry.rule;
  return nullptr;
}

}  // namespace lathe::checker
