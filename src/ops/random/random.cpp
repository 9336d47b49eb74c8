// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// RandomNormal, RandomUniform, their ...Like forms, Bernoulli, Multinomial. With the attribute seed a node gives the numbers that the
// format's reference gives, at each run the same; without one no two runs are alike. None is ever folded or merged with another.
#include <algorithm>
#include <cmath>

#include "ops/random/draws.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

RandomStream stream_of(const RefContext& ctx) {
  if (has_infinite_seed(ctx.attrs())) ctx.fail("the seed is infinite");
  const auto seed = seed_of(ctx.attrs());
  return seed ? RandomStream(*seed) : RandomStream::fresh();
}

/// The attribute dtype, or `otherwise` without it; kUndefined when it is no type of the format's.
DType dtype_of(const Attrs& attrs, DType otherwise) { return attrs.has("dtype") ? dtype_of_number(attrs.get_int("dtype", 0)) : otherwise; }

constexpr bool is_drawn(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kFloat16 || dtype == DType::kFloat64 || dtype == DType::kBFloat16; }

template <class Context>
DType drawn_dtype(Context& ctx, DType otherwise) {
  const DType dtype = dtype_of(ctx.attrs(), otherwise);
  if (!is_drawn(dtype)) {
    if (!ctx.attrs().has("dtype")) ctx.fail("its input has type " + std::string(dtype_name(dtype)) + ", so that it needs the attribute dtype");
    ctx.fail("dtype " + std::to_string(ctx.attrs().get_int("dtype", 0)) + " is none of float, double, float16 and bfloat16");
  }
  return dtype;
}

// RandomNormal, RandomUniform ----------------------------------------------------------------------------------------

template <class Context>
Dims shape_of(Context& ctx) {
  Dims dims = ctx.attrs().get_ints("shape");
  for (const std::int64_t extent : dims)
    if (extent < 0) ctx.fail("the attribute shape has the extent " + std::to_string(extent));
  if (dims.size() > kMostAxes) ctx.fail("the attribute shape has " + std::to_string(dims.size()) + " extents");
  element_count(dims);  // refuses a product that is no number
  return dims;
}

void shaped_infer(InferContext& ctx) {
  const Dims dims = shape_of(ctx);
  ctx.set(0, drawn_dtype(ctx, DType::kFloat32), Shape(dims.begin(), dims.end()));
}

void like_infer(InferContext& ctx) { set_like_input(ctx, drawn_dtype(ctx, ctx.dtype(0))); }

Tensor draw_tensor(const RefContext& ctx, Dims dims, const Drawing& drawing) {
  RandomStream stream = stream_of(ctx);
  Tensor out(drawing.dtype, std::move(dims));
  for (std::int64_t i = 0; i < out.size(); ++i) out.set_from_double(i, drawing.next(stream));
  return out;
}

Tensor normal_tensor(const RefContext& ctx, DType dtype, Dims dims) { return draw_tensor(ctx, std::move(dims), Drawing::normal_of(ctx.attrs(), dtype)); }
Tensor uniform_tensor(const RefContext& ctx, DType dtype, Dims dims) { return draw_tensor(ctx, std::move(dims), Drawing::uniform_of(ctx.attrs(), dtype)); }

using Make = Tensor (*)(const RefContext&, DType, Dims);

template <Make kMake>
void shaped_reference(RefContext& ctx) {
  ctx.set_output(0, kMake(ctx, drawn_dtype(ctx, DType::kFloat32), shape_of(ctx)));
}

template <Make kMake>
void like_reference(RefContext& ctx) {
  ctx.set_output(0, kMake(ctx, drawn_dtype(ctx, ctx.input(0).dtype()), ctx.input(0).dims()));
}

// Bernoulli ----------------------------------------------------------------------------------------------------------

template <class Context>
DType bernoulli_dtype(Context& ctx, DType input) {
  const DType dtype = dtype_of(ctx.attrs(), input);
  const bool whole = is_integer(dtype) && dtype_bits(dtype) >= 8;
  if (!is_drawn(dtype) && !whole && dtype != DType::kBool) ctx.fail("dtype " + std::to_string(ctx.attrs().get_int("dtype", 0)) + " is no type of its output");
  return dtype;
}

void bernoulli_infer(InferContext& ctx) { set_like_input(ctx, bernoulli_dtype(ctx, ctx.dtype(0))); }

void bernoulli_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  RandomStream stream = stream_of(ctx);
  Tensor out(bernoulli_dtype(ctx, x.dtype()), x.dims());
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const double p = x.as_double(i);
    // What is no probability counts as the nearest one, NaN as 0.
    out.set_from_double(i, stream.bernoulli(p > 0 ? std::min(p, 1.0) : 0.0) ? 1 : 0);
  }
  ctx.set_output(0, std::move(out));
}

// Multinomial: each row of log-probabilities is drawn from by the inverse of its distribution function --------------------------------

struct Draws {
  DType dtype;
  std::int64_t count;
};

template <class Context>
Draws draws_of(Context& ctx) {
  const Draws draws{dtype_of(ctx.attrs(), DType::kInt32), ctx.attrs().get_int("sample_size", 1)};
  if (draws.dtype != DType::kInt32 && draws.dtype != DType::kInt64)
    ctx.fail("dtype " + std::to_string(ctx.attrs().get_int("dtype", 0)) + " is neither int32 nor int64");
  if (draws.count < 1) ctx.fail("sample_size is " + std::to_string(draws.count));
  return draws;
}

void multinomial_infer(InferContext& ctx) {
  const Draws draws = draws_of(ctx);
  const auto& x = ctx.shape(0);
  if (x && x->size() != 2) ctx.fail("takes [batch, classes], got " + ir::to_string(*x));
  ctx.set(0, draws.dtype, {x ? (*x)[0] : ctx.fresh_symbol(), Dim(draws.count)});
}

void multinomial_reference(RefContext& ctx) {
  const Draws draws = draws_of(ctx);
  const Tensor& x = ctx.input(0);
  if (x.rank() != 2) ctx.fail("takes [batch, classes], got " + lathe::to_string(x.dims()));
  const std::int64_t rows = x.dims()[0], classes = x.dims()[1];
  RandomStream stream = stream_of(ctx);
  Tensor out(draws.dtype, {rows, draws.count});
  std::vector<double> below(static_cast<std::size_t>(classes));
  for (std::int64_t r = 0; r < rows; ++r) {
    double largest = -std::numeric_limits<double>::infinity(), sum = 0;
    for (std::int64_t c = 0; c < classes; ++c) largest = std::max(largest, x.as_double(r * classes + c));
    for (std::int64_t c = 0; c < classes; ++c) below[static_cast<std::size_t>(c)] = sum += std::exp(x.as_double(r * classes + c) - largest);
    if (!std::isfinite(sum) || !(sum > 0)) ctx.fail("row " + std::to_string(r) + " of the input is no distribution of log-probabilities");
    for (auto& share : below) share /= sum;
    for (std::int64_t s = 0; s < draws.count; ++s) {
      const auto at = std::upper_bound(below.begin(), below.end(), stream.uniform());
      out.set_from_int64(r * draws.count + s, std::min(static_cast<std::int64_t>(at - below.begin()), classes - 1));
    }
  }
  ctx.set_output(0, std::move(out));
}

}  // namespace

std::span<const OpDef> ops_random() {
  constexpr std::string_view kShaped = "-> output:T", kLike = "input:T1 -> output:T2";
  constexpr std::string_view kNormal = "dtype:int=1 mean:float=0 scale:float=1 seed:float? shape:ints";
  constexpr std::string_view kUniform = "dtype:int=1 high:float=1 low:float=0 seed:float? shape:ints";
  constexpr std::string_view kNormalLike = "dtype:int? mean:float=0 scale:float=1 seed:float?";
  constexpr std::string_view kUniformLike = "dtype:int? high:float=1 low:float=0 seed:float?";
  constexpr std::string_view kMultinomial = "dtype:int=6 sample_size:int=1 seed:float?";
  static const std::vector<OpDef> ops{
      {.name = "RandomNormal",
       .versions = {{1, kShaped, kNormal, "T: @float"}, {22, kShaped, kNormal, "T: @float13"}},
       .infer = shaped_infer,
       .reference = shaped_reference<normal_tensor>,
       .deterministic = false,
       .doc = "normal random numbers; with a seed those of NumPy's RandomState"},
      {.name = "RandomUniform",
       .versions = {{1, kShaped, kUniform, "T: @float"}, {22, kShaped, kUniform, "T: @float13"}},
       .infer = shaped_infer,
       .reference = shaped_reference<uniform_tensor>,
       .deterministic = false,
       .doc = "uniform random numbers; with a seed those of NumPy's RandomState"},
      {.name = "RandomNormalLike",
       .versions = {{1, kLike, kNormalLike, "T1: @all; T2: @float"}, {22, kLike, kNormalLike, "T1: @all13; T2: @float13"}},
       .infer = like_infer,
       .reference = like_reference<normal_tensor>,
       .deterministic = false,
       .doc = "RandomNormal in the shape of a tensor"},
      {.name = "RandomUniformLike",
       .versions = {{1, kLike, kUniformLike, "T1: @all; T2: @float"}, {22, kLike, kUniformLike, "T1: @all13; T2: @float13"}},
       .infer = like_infer,
       .reference = like_reference<uniform_tensor>,
       .deterministic = false,
       .doc = "RandomUniform in the shape of a tensor"},
      {.name = "Bernoulli",
       .versions = {{15, kLike, "dtype:int? seed:float?", "T1: @float; T2: @num13 bool"},
                    {22, kLike, "dtype:int? seed:float?", "T1: @float13; T2: @num13 bool"}},
       .infer = bernoulli_infer,
       .reference = bernoulli_reference,
       .deterministic = false,
       .doc = "ones with the probabilities of a tensor; with a seed those of NumPy's RandomState"},
      {.name = "Multinomial",
       .versions = {{7, kLike, kMultinomial, "T1: @float; T2: int32 int64"}, {22, kLike, kMultinomial, "T1: @float13; T2: int32 int64"}},
       .infer = multinomial_infer,
       .reference = multinomial_reference,
       .deterministic = false,
       .doc = "classes drawn by log-probabilities; with a seed as NumPy's RandomState.choice draws them row by row"},
  };
  return ops;
}

}  // namespace lathe::ops
