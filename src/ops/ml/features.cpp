// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Steps on features, before and between models: selection, thresholds, scaling, filling of gaps.
#include <algorithm>
#include <cmath>

#include "ops/expand_util.h"
#include "ops/ml/ml_defs.h"
#include "ops/ml/ml_util.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

std::int64_t last_extent(const Tensor& x) { return x.rank() == 0 ? 1 : x.dims().back(); }

/// A list of one entry, or of one a feature. `extent`: of X's last axis where known.
void check_per_feature(std::string_view name, std::size_t length, std::optional<std::int64_t> extent) {
  if (length == 1 || !extent || static_cast<std::int64_t>(length) == *extent) return;
  reject(std::string(name) + " has " + std::to_string(length) + " entries; expected 1, or one for each of X's " + std::to_string(*extent) + " features");
}

std::optional<std::int64_t> last_extent(InferContext& ctx) {
  const auto& shape = ctx.shape(0);
  if (!shape) return std::nullopt;
  return shape->empty() ? std::optional<std::int64_t>(1) : shape->back().constant();
}

// ArrayFeatureExtractor -------------------------------------------------------------------------------------------

void extractor_infer(InferContext& ctx) {
  const auto &x = ctx.shape(0), &y = ctx.shape(1);
  if (!x) return ctx.set_unknown(0, ctx.dtype(0));
  if (x->empty()) ctx.fail("X is a scalar; expected at least one axis");
  Shape out = x->size() == 1 ? Shape{Dim(1), Dim(1)} : *x;
  Dim count(1);
  if (y) {
    for (const Dim& d : *y) count = count * d;
  } else {
    count = ctx.fresh_symbol();
  }
  out.back() = count;
  ctx.set(0, ctx.dtype(0), std::move(out));
}

void extractor_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() == 0) ctx.fail("X is a scalar; expected at least one axis");
  const auto indices = to_int64s(ctx.input(1));
  const std::int64_t width = x.dims().back(), count = static_cast<std::int64_t>(indices.size());
  for (const auto i : indices)
    if (i < 0 || i >= width) ctx.fail("index " + std::to_string(i) + " is out of range: X has " + std::to_string(width) + " features");
  Dims dims = x.rank() == 1 ? Dims{1, 1} : x.dims();
  dims.back() = count;
  ctx.set_output(0, remap(x, dims, [&](std::int64_t i) { return i / count * width + indices[static_cast<std::size_t>(i % count)]; }));
}

bool extractor_expand(ExpandContext& ctx) {
  Value *x = ctx.node.input(0), *y = ctx.node.input(1);
  if (!x->has_shape() || x->shape().empty()) return false;
  const std::int64_t all[] = {-1}, first[] = {0};
  if (x->shape().size() == 1) x = ctx.add("Unsqueeze", {x, ctx.constant("axes", Tensor::vector(first))});
  Value* indices = ctx.add("Reshape", {y, ctx.constant("all", Tensor::vector(all))});
  Attrs last;
  last.set("axis", -1);
  ctx.replace(0, ctx.add("Gather", {x, indices}, std::move(last)));
  return true;
}

// Binarizer -------------------------------------------------------------------------------------------------------

void binarizer_infer(InferContext& ctx) { ctx.set_type(0, ctx.node().input(0)->type); }

void binarizer_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const double threshold = ctx.attrs().get_float("threshold", 0);
  auto values = to_doubles(x);
  for (double& v : values) v = v > threshold ? 1 : 0;
  ctx.set_output(0, from_doubles(x.dtype(), x.dims(), values));
}

bool binarizer_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  if (!is_feature_type(x->dtype())) return false;
  Parts p(ctx);
  const DType wide = wide_type(x->dtype());
  Value* above = p.binary("Greater", p.as(x, x->dtype(), wide), p.number(wide, ctx.attrs().get_float("threshold", 0)));
  ctx.replace(0, p.cast(above, x->dtype()));
  return true;
}

// FeatureVectorizer -----------------------------------------------------------------------------------------------

/// [1, C] of [C], [N, C] of [N, ...].
Rows vectorizer_rows(const Tensor& x) {
  if (x.rank() == 0) reject("an input is a scalar; expected [N, C] or [C]");
  const std::int64_t count = x.rank() == 1 ? 1 : x.dims()[0];
  return {count, count == 0 ? 0 : x.size() / count};
}

void check_extent(std::int64_t width) {
  constexpr std::int64_t kMost = std::int64_t{1} << 31;
  if (width < 0 || width > kMost) reject("inputdimensions has the entry " + std::to_string(width) + "; expected 0 to " + std::to_string(kMost));
}

void vectorizer_infer(InferContext& ctx) {
  const auto widths = ctx.attrs().get_ints("inputdimensions");
  if (!widths.empty()) check_length("inputdimensions", widths.size(), ctx.input_count(), "one for each input");
  Dim count, width(0);
  bool known_count = false;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    const auto& shape = ctx.shape(i);
    if (shape && shape->empty()) ctx.fail("input " + std::to_string(i) + " is a scalar; expected [N, C] or [C]");
    if (shape && (!known_count || shape->size() == 1)) count = shape->size() == 1 ? Dim(1) : shape->front(), known_count = true;
    if (!widths.empty()) {
      check_extent(widths[i]);
      width = width + Dim(widths[i]);
    } else if (shape) {
      width = width + ir::product(Shape(shape->begin() + (shape->size() > 1 ? 1 : 0), shape->end()));
    } else {
      width = ctx.fresh_symbol();
      break;
    }
  }
  ctx.set(0, DType::kFloat32, {known_count ? count : ctx.fresh_symbol(), width});
}

void vectorizer_reference(RefContext& ctx) {
  const auto widths = ctx.attrs().get_ints("inputdimensions");
  if (!widths.empty()) check_length("inputdimensions", widths.size(), ctx.input_count(), "one for each input");
  std::int64_t total = 0, rows = 0;
  std::vector<std::int64_t> taken;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    const Rows r = vectorizer_rows(ctx.input(i));
    if (i > 0 && r.count != rows) ctx.fail("its inputs have " + std::to_string(rows) + " and " + std::to_string(r.count) + " rows");
    rows = r.count;
    taken.push_back(widths.empty() ? r.width : widths[i]);
    check_extent(taken.back());
    total += taken.back();
  }
  Tensor out(DType::kFloat32, {rows, total});
  std::int64_t start = 0;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    const Rows r = vectorizer_rows(ctx.input(i));
    for (std::int64_t row = 0; row < rows; ++row)
      for (std::int64_t k = 0; k < std::min(taken[i], r.width); ++k) out.set_from_double(row * total + start + k, ctx.input(i).as_double(row * r.width + k));
    start += taken[i];
  }
  ctx.set_output(0, std::move(out));
}

bool vectorizer_expand(ExpandContext& ctx) {
  const auto widths = ctx.attrs().get_ints("inputdimensions");
  const std::size_t count = ctx.node.inputs.size();
  if (count == 0 || (!widths.empty() && widths.size() != count)) return false;
  for (std::size_t i = 0; i < count; ++i) {
    const auto rank = rank_of(ctx.node.input(i));
    if (!rank || *rank == 0) return false;
    if (!widths.empty() && (*rank > 2 || !extent_of(ctx.node.input(i), *rank - 1) || widths[i] < 0)) return false;
  }
  Parts p(ctx);
  std::vector<Value*> columns;
  for (std::size_t i = 0; i < count; ++i) {
    Value* x = ctx.node.input(i);
    const std::size_t rank = x->shape().size();
    const auto extent = extent_of(x, rank - 1);
    x = p.as(x, x->dtype(), DType::kFloat32);
    if (rank == 1) x = p.unsqueeze(x, {0});
    if (rank > 2) x = p.unary("Flatten", x, attrs_of({{"axis", 1}}));
    if (!widths.empty() && widths[i] < *extent) x = p.slice(x, 1, 0, widths[i]);
    if (!widths.empty() && widths[i] > *extent) x = p.binary("Pad", x, p.ints({0, 0, 0, widths[i] - *extent}));
    columns.push_back(x);
  }
  ctx.replace(0, count == 1 ? p.unary("Identity", columns[0]) : p.concat(std::move(columns), 1));
  return true;
}

// Imputer ---------------------------------------------------------------------------------------------------------

struct Imputation {
  bool whole = false;
  std::vector<double> fill;
  std::vector<std::int64_t> fill_whole;
};

Imputation imputation_of(const Attrs& attrs, DType dtype, std::optional<std::int64_t> extent) {
  Imputation how;
  const auto floats = attrs.get_floats("imputed_value_floats");
  how.fill.assign(floats.begin(), floats.end());
  how.fill_whole = attrs.get_ints("imputed_value_int64s");
  how.whole = is_integer(dtype);
  const std::string_view name = how.whole ? "imputed_value_int64s" : "imputed_value_floats";
  const std::size_t length = how.whole ? how.fill_whole.size() : how.fill.size();
  if (length == 0) reject("lacks " + std::string(name) + ", which input of type " + std::string(dtype_name(dtype)) + " needs");
  check_per_feature(name, length, extent);
  return how;
}

void imputer_infer(InferContext& ctx) {
  if (ctx.dtype(0) != DType::kUndefined) imputation_of(ctx.attrs(), ctx.dtype(0), last_extent(ctx));
  ctx.set_type(0, ctx.node().input(0)->type);
}

void imputer_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::int64_t width = last_extent(x);
  const Imputation how = imputation_of(ctx.attrs(), x.dtype(), width);
  Tensor out = x.make_aligned();
  const std::int64_t hole_whole = ctx.attrs().get_int("replaced_value_int64", 0);
  const double hole = ctx.attrs().get_float("replaced_value_float", 0);
  for (std::int64_t i = 0; i < x.size(); ++i) {
    if (how.whole) {
      if (x.as_int64(i) == hole_whole) out.set_from_int64(i, how.fill_whole[how.fill_whole.size() == 1 ? 0 : static_cast<std::size_t>(i % width)]);
      continue;
    }
    const double v = x.as_double(i);
    if (v == hole || (std::isnan(v) && std::isnan(hole))) out.set_from_double(i, how.fill[how.fill.size() == 1 ? 0 : static_cast<std::size_t>(i % width)]);
  }
  ctx.set_output(0, std::move(out));
}

bool imputer_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  if (!has_features(x)) return false;
  Parts p(ctx);
  if (is_integer(x->dtype())) {  // compared as int64: no int32 is a number beyond its range
    Value* empty = p.binary("Equal", p.as(x, x->dtype(), DType::kInt64), p.whole(ctx.attrs().get_int("replaced_value_int64", 0)));
    ctx.replace(0, ctx.add("Where", {empty, per_feature(ctx, "imputed", x->dtype(), ctx.attrs().get_ints("imputed_value_int64s")), x}));
    return true;
  }
  const float hole = ctx.attrs().get_float("replaced_value_float", 0);
  Value* empty = std::isnan(hole) ? p.unary("IsNaN", x) : p.binary("Equal", x, p.number(x->dtype(), hole));
  ctx.replace(0, ctx.add("Where", {empty, per_feature(ctx, "imputed", x->dtype(), ctx.attrs().get_floats("imputed_value_floats")), x}));
  return true;
}

// Normalizer ------------------------------------------------------------------------------------------------------

enum class NormKind { kMax, kL1, kL2 };

NormKind norm_of(const Attrs& attrs) {
  const std::string name = attrs.get_string("norm", "MAX");
  if (name == "MAX") return NormKind::kMax;
  if (name == "L1") return NormKind::kL1;
  if (name == "L2") return NormKind::kL2;
  reject("norm '" + name + "' is none of MAX, L1, L2");
}

void normalizer_infer(InferContext& ctx) {
  norm_of(ctx.attrs());
  if (ctx.shape(0)) infer_rows(ctx);
  set_like_input(ctx, DType::kFloat32);
}

void normalizer_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const Rows rows = rows_of(x);
  const NormKind kind = norm_of(ctx.attrs());
  auto values = to_doubles(x);
  for (std::int64_t row = 0; row < rows.count; ++row) {
    const auto first = values.begin() + row * rows.width, last = first + rows.width;
    double norm = kind == NormKind::kMax ? -INFINITY : 0;
    for (auto v = first; v != last; ++v) {
      if (kind != NormKind::kMax) norm += kind == NormKind::kL1 ? std::abs(*v) : *v * *v;
      else if (*v > norm || std::isnan(*v)) norm = *v;
    }
    if (kind == NormKind::kL2) norm = std::sqrt(norm);
    if (norm == 0) continue;
    for (auto v = first; v != last; ++v) *v /= norm;
  }
  ctx.set_output(0, from_doubles(DType::kFloat32, x.dims(), values));
}

bool normalizer_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  if (!has_features(x) || !x->has_shape()) return false;
  Parts p(ctx);
  const DType wide = wide_type(x->dtype());
  x = p.as(x, x->dtype(), wide);
  const NormKind kind = norm_of(ctx.attrs());
  const std::int64_t last[] = {-1};
  Value* axes = ctx.constant("axes", Tensor::vector(last));
  Value* norm = ctx.add(kind == NormKind::kMax ? "ReduceMax" : kind == NormKind::kL1 ? "ReduceL1" : "ReduceL2", {x, axes});
  Value* divisor = ctx.add("Where", {p.binary("Equal", norm, p.number(wide, 0)), p.number(wide, 1), norm});
  ctx.replace(0, p.as(p.binary("Div", x, divisor), wide, DType::kFloat32));
  return true;
}

// Scaler ----------------------------------------------------------------------------------------------------------

struct Scaling {
  std::vector<float> offset, scale;
};

Scaling scaling_of(const Attrs& attrs, std::optional<std::int64_t> extent) {
  Scaling s{attrs.get_floats("offset"), attrs.get_floats("scale")};
  if (!s.offset.empty() && !s.scale.empty() && s.offset.size() != s.scale.size()) {
    reject("offset has " + std::to_string(s.offset.size()) + " entries and scale " + std::to_string(s.scale.size()) + "; expected as many");
  }
  if (s.offset.empty()) s.offset = {0};
  if (s.scale.empty()) s.scale = {1};
  check_per_feature("offset", s.offset.size(), extent);
  check_per_feature("scale", s.scale.size(), extent);
  return s;
}

void scaler_infer(InferContext& ctx) {
  scaling_of(ctx.attrs(), last_extent(ctx));
  set_like_input(ctx, DType::kFloat32);
}

void scaler_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  const std::int64_t width = last_extent(x);
  const Scaling s = scaling_of(ctx.attrs(), width);
  auto values = to_doubles(x);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const std::size_t k = i % static_cast<std::size_t>(width);
    values[i] = (values[i] - s.offset[s.offset.size() == 1 ? 0 : k]) * s.scale[s.scale.size() == 1 ? 0 : k];
  }
  ctx.set_output(0, from_doubles(DType::kFloat32, x.dims(), values));
}

bool scaler_expand(ExpandContext& ctx) {
  Value* x = ctx.node.input(0);
  if (!has_features(x)) return false;
  Parts p(ctx);
  const Scaling s = scaling_of(ctx.attrs(), std::nullopt);
  const DType wide = wide_type(x->dtype());
  Value* centred = p.binary("Sub", p.as(x, x->dtype(), wide), per_feature(ctx, "offset", wide, s.offset));
  ctx.replace(0, p.as(p.binary("Mul", centred, per_feature(ctx, "scale", wide, s.scale)), wide, DType::kFloat32));
  return true;
}

}  // namespace

OpDef array_feature_extractor() {
  return {.domain = kMlDomain,
          .name = "ArrayFeatureExtractor",
          .versions = {{1, "X:T Y:int64 -> Z:T", "", "T: float double int64 int32 string"}},
          .infer = extractor_infer,
          .reference = extractor_reference,
          .expand = extractor_expand,
          .doc = "elements of the last axis, by their indices"};
}

OpDef binarizer() {
  return {.domain = kMlDomain,
          .name = "Binarizer",
          .versions = {{1, "X:T -> Y:T", "threshold:float=0", kFeatureTypes}},
          .infer = binarizer_infer,
          .reference = binarizer_reference,
          .expand = binarizer_expand,
          .doc = "1 above a threshold, else 0"};
}

OpDef feature_vectorizer() {
  return {.domain = kMlDomain,
          .name = "FeatureVectorizer",
          .versions = {{1, "X+:T1 -> Y:float", "inputdimensions:ints?", "T1: int32 int64 float double"}},
          .infer = vectorizer_infer,
          .reference = vectorizer_reference,
          .expand = vectorizer_expand,
          .doc = "the columns of several inputs side by side, as float32"};
}

OpDef imputer() {
  return {.domain = kMlDomain,
          .name = "Imputer",
          .versions = {{1, "X:T -> Y:T", "imputed_value_floats:floats? imputed_value_int64s:ints? replaced_value_float:float=0 replaced_value_int64:int=0",
                        kFeatureTypes}},
          .infer = imputer_infer,
          .reference = imputer_reference,
          .expand = imputer_expand,
          .doc = "one value replaced by another, for each feature"};
}

OpDef normalizer() {
  return {.domain = kMlDomain,
          .name = "Normalizer",
          .versions = {{1, "X:T -> Y:float", "norm:string=MAX", kFeatureTypes}},
          .infer = normalizer_infer,
          .reference = normalizer_reference,
          .tolerance = kScoreTolerance,
          .expand = normalizer_expand,
          .doc = "each row divided by its largest element, sum or length"};
}

OpDef scaler() {
  return {.domain = kMlDomain,
          .name = "Scaler",
          .versions = {{1, "X:T -> Y:float", "offset:floats? scale:floats?", kFeatureTypes}},
          .infer = scaler_infer,
          .reference = scaler_reference,
          .tolerance = kScoreTolerance,
          .expand = scaler_expand,
          .doc = "(X - offset) * scale, for each feature"};
}

}  // namespace lathe::ops
