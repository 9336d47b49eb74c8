// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The Reduce* family: y = post(fold of pre(x) over some axes).
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/infer.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {

std::vector<OpDef> arg_ops();         // arg.cpp: ArgMax, ArgMin
std::vector<OpDef> cumulative_ops();  // cumulative.cpp: CumSum, CumProd

namespace {

using loops::ExprId;
using loops::ExprOp;
using loops::Reduce;

enum class Kind { kSum, kMean, kMax, kMin, kProd, kL1, kL2, kLogSum, kLogSumExp, kSumSquare };

/// The axes in [0, rank), or all; nullopt when they are known at run time only. An empty list with noop is no axis at all.
template <class Content>
std::optional<std::vector<std::int64_t>> reduced_axes(const Node& node, std::int64_t rank, Content&& content) {
  std::vector<std::int64_t> axes;
  if (node.input(1)) {
    const auto given = content();
    if (!given) return std::nullopt;
    axes = *given;
  }
  if (axes.empty() && node.attrs.get_int("noop_with_empty_axes", 0) == 0) {
    axes.resize(static_cast<std::size_t>(rank));
    std::iota(axes.begin(), axes.end(), 0);
  }
  return axes;
}

template <Kind kKind>
void reduce_content(InferContext& ctx, std::size_t reduced) {
  const auto content = ctx.content(0);
  if (!content || content->empty() || ctx.shape(0)->size() != 1 || reduced != 1) return;
  Dim total = content->front();
  for (std::size_t i = 1; i < content->size(); ++i) {
    const Dim& d = (*content)[i];
    if (kKind == Kind::kSum) {
      total = total + d;
    } else if (kKind == Kind::kProd) {
      total = total * d;
    } else if (kKind == Kind::kMax) {
      total = Dim::max(total, d);
    } else if (kKind == Kind::kMin) {
      total = Dim::min(total, d);
    } else {
      return;
    }
  }
  if (kKind == Kind::kSum || kKind == Kind::kProd || kKind == Kind::kMax || kKind == Kind::kMin) ctx.set_content(0, {total});
}

template <Kind kKind>
void reduce_infer(InferContext& ctx) {
  const auto& in = ctx.shape(0);
  const bool keep = ctx.attrs().get_int("keepdims", 1) != 0;
  if (!in) {
    const bool all = !ctx.has_input(1) && ctx.attrs().get_int("noop_with_empty_axes", 0) == 0;
    if (all && !keep) return ctx.set(0, ctx.dtype(0), {});
    return ctx.set_unknown(0, ctx.dtype(0));
  }
  const auto rank = static_cast<std::int64_t>(in->size());
  const auto axes = reduced_axes(ctx.node(), rank, [&] { return constant_content(ctx, 1); });
  if (!axes) {
    const auto count = known_length(ctx, 1);
    if (keep) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, in->size()));
    if (count && *count > 0 && *count <= rank) return ctx.set(0, ctx.dtype(0), fresh_shape(ctx, in->size() - static_cast<std::size_t>(*count)));
    return ctx.set_unknown(0, ctx.dtype(0));
  }
  const ReducedAxes reduced(in->size(), infer_axes(ctx, *axes, rank), keep);
  ctx.set(0, ctx.dtype(0), reduced.kept_shape(*in));
  reduce_content<kKind>(ctx, axes->size());
}

/// Input element number -> output element number.
std::vector<std::int64_t> target_of(const Dims& dims, const std::vector<bool>& reduced) {
  Dims kept = dims;
  for (std::size_t a = 0; a < dims.size(); ++a) {
    if (reduced[a]) kept[a] = 1;
  }
  Dims strides = strides_of(kept);
  for (std::size_t a = 0; a < dims.size(); ++a) {
    if (reduced[a]) strides[a] = 0;
  }
  std::vector<std::int64_t> target;
  target.reserve(static_cast<std::size_t>(element_count(dims)));
  for_each_index(dims, [&](const Dims& i) { target.push_back(std::inner_product(i.begin(), i.end(), strides.begin(), std::int64_t{0})); });
  return target;
}

template <Kind kKind>
double pre(double x) {
  switch (kKind) {
    case Kind::kL1: return std::abs(x);
    case Kind::kL2:
    case Kind::kSumSquare: return x * x;
    default: return x;
  }
}

template <Kind kKind>
std::vector<double> fold_real(const std::vector<double>& x, const std::vector<std::int64_t>& target, std::size_t outputs, double count) {
  constexpr double kInfinity = std::numeric_limits<double>::infinity();
  const double identity = kKind == Kind::kMax ? -kInfinity : kKind == Kind::kMin ? kInfinity : kKind == Kind::kProd ? 1 : 0;
  std::vector<double> y(outputs, identity), largest;
  if (kKind == Kind::kLogSumExp) {
    largest.assign(outputs, -kInfinity);
    for (std::size_t i = 0; i < x.size(); ++i) {
      double& m = largest[static_cast<std::size_t>(target[i])];
      if (!(x[i] <= m)) m = x[i];
    }
  }
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto t = static_cast<std::size_t>(target[i]);
    double& acc = y[t];
    const double v = pre<kKind>(x[i]);
    switch (kKind) {
      case Kind::kMax: acc = std::isnan(acc) || v <= acc ? acc : v; break;
      case Kind::kMin: acc = std::isnan(acc) || v >= acc ? acc : v; break;
      case Kind::kProd: acc *= v; break;
      case Kind::kLogSumExp: acc += std::isinf(largest[t]) ? (v == largest[t] ? 1 : 0) : std::exp(v - largest[t]); break;
      default: acc += v;
    }
  }
  for (std::size_t t = 0; t < outputs; ++t) {
    if (kKind == Kind::kMean) y[t] /= count;
    if (kKind == Kind::kL2) y[t] = std::sqrt(y[t]);
    if (kKind == Kind::kLogSum) y[t] = std::log(y[t]);
    if (kKind == Kind::kLogSumExp) y[t] = std::log(y[t]) + (largest[t] == -kInfinity ? 0 : largest[t]);
  }
  return y;
}

/// Sums, products and extremes of integers stay integers (wrapping in the end, as the format's types do).
template <Kind kKind>
std::vector<std::int64_t> fold_whole(const Tensor& in, const std::vector<std::int64_t>& target, std::size_t outputs) {
  const bool is_unsigned = in.dtype() == DType::kUint64;
  const auto less = [is_unsigned](std::int64_t a, std::int64_t b) {
    return is_unsigned ? static_cast<std::uint64_t>(a) < static_cast<std::uint64_t>(b) : a < b;
  };
  const auto x = to_int64s(in);
  const int bits = in.dtype() == DType::kBool ? 1 : dtype_bits(in.dtype());
  const bool is_signed = is_signed_integer(in.dtype());
  const std::int64_t lowest = is_signed ? static_cast<std::int64_t>(~std::uint64_t{0} << (bits - 1)) : 0;
  const std::int64_t highest = static_cast<std::int64_t>(~std::uint64_t{0} >> (64 - bits + is_signed));
  std::vector<std::int64_t> y(outputs, kKind == Kind::kProd ? 1 : kKind == Kind::kMax ? lowest : kKind == Kind::kMin ? highest : 0);
  for (std::size_t i = 0; i < x.size(); ++i) {
    std::int64_t& acc = y[static_cast<std::size_t>(target[i])];
    const auto a = static_cast<std::uint64_t>(acc), v = static_cast<std::uint64_t>(x[i]);
    switch (kKind) {
      case Kind::kMax: acc = less(acc, x[i]) ? x[i] : acc; break;
      case Kind::kMin: acc = less(x[i], acc) ? x[i] : acc; break;
      case Kind::kProd: acc = static_cast<std::int64_t>(a * v); break;
      case Kind::kSumSquare: acc = static_cast<std::int64_t>(a + v * v); break;
      case Kind::kL1: acc = static_cast<std::int64_t>(a + (!is_unsigned && x[i] < 0 ? 0 - v : v)); break;
      default: acc = static_cast<std::int64_t>(a + v);
    }
  }
  return y;
}

template <Kind kKind>
void reduce_reference(RefContext& ctx) {
  const Tensor& in = ctx.input(0);
  const auto axes = *reduced_axes(ctx.node(), in.rank(), [&] { return std::optional(ctx.input(1).to_int64_vector()); });
  std::vector<bool> reduced(in.dims().size());
  for (const auto axis : axes) reduced[static_cast<std::size_t>(ref_axis(ctx, axis, in.rank()))] = true;
  const bool keep = ctx.attrs().get_int("keepdims", 1) != 0;
  Dims dims;
  std::int64_t outputs = 1, count = 1;
  for (std::size_t a = 0; a < reduced.size(); ++a) {
    (reduced[a] ? count : outputs) *= in.dims()[a];
    if (!reduced[a]) {
      dims.push_back(in.dims()[a]);
    } else if (keep) {
      dims.push_back(1);
    }
  }
  const auto target = target_of(in.dims(), reduced);
  const bool whole = is_integer(in.dtype()) || in.dtype() == DType::kBool;
  constexpr bool kStaysWhole =
      kKind == Kind::kSum || kKind == Kind::kProd || kKind == Kind::kMax || kKind == Kind::kMin || kKind == Kind::kL1 || kKind == Kind::kSumSquare;
  if (whole && kStaysWhole) {
    ctx.set_output(0, from_int64s(in.dtype(), dims, fold_whole<kKind>(in, target, static_cast<std::size_t>(outputs))));
    return;
  }
  auto y = fold_real<kKind>(to_doubles(in), target, static_cast<std::size_t>(outputs), static_cast<double>(count));
  if (whole) {
    for (double& v : y) v = std::isfinite(v) ? std::trunc(v) : 0;
  }
  ctx.set_output(0, from_doubles(in.dtype(), dims, y));
}

template <Kind kKind>
ExprId pre(loops::RegionBuilder& b, ExprId x) {
  switch (kKind) {
    case Kind::kL1: return b.unary(ExprOp::kAbs, x);
    case Kind::kL2:
    case Kind::kSumSquare: return b.binary(ExprOp::kMul, x, x);
    default: return x;
  }
}

template <Kind kKind>
bool reduce_lower(const Node& node, loops::RegionBuilder& builder) {
  const Value *in = node.input(0), *out = node.output();
  if (!can_lower_real(in, builder)) return false;
  const Shape shape = in->shape();
  const auto axes = reduced_axes(node, static_cast<std::int64_t>(shape.size()), [&]() -> std::optional<std::vector<std::int64_t>> {
    const auto content = known_content(*node.input(1));
    return content ? ir::constant_dims(*content) : std::nullopt;
  });
  if (!axes) {
    builder.decline("axes known at run time only");
    return false;
  }
  const bool whole = !is_float(in->dtype());
  constexpr bool kTruncated = kKind == Kind::kMean || kKind == Kind::kL2;  // of integers: in double precision, then towards zero
  if (whole && (kKind == Kind::kLogSum || kKind == Kind::kLogSumExp)) {
    builder.decline("a real reduction of integers");
    return false;
  }
  const ReducedAxes reduced(shape.size(), *axes, node.attrs.get_int("keepdims", 1) != 0);
  const DType wide = whole && kTruncated ? DType::kFloat64 : in->dtype() == DType::kUint64 ? DType::kUint64 : compute_dtype(in->dtype());
  const auto x = [in, wide](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(in, i), wide); };
  constexpr Reduce kFold = kKind == Kind::kMax ? Reduce::kMax : kKind == Kind::kMin ? Reduce::kMin : kKind == Kind::kProd ? Reduce::kProd : Reduce::kSum;
  const Value* largest = nullptr;
  if (kKind == Kind::kLogSumExp) largest = reduce_to_temporary(builder, "largest", Reduce::kMax, wide, shape, reduced, x);
  const Value* fold = reduce_to_temporary(builder, "fold", kFold, wide, shape, reduced, [=](loops::RegionBuilder& b, const auto& i) {
    auto v = pre<kKind>(b, x(b, i));
    if (largest) v = b.unary(ExprOp::kExp, b.binary(ExprOp::kSub, v, b.read(largest, reduced.kept_indices(b, i))));
    return v;
  });
  builder.define(out, [=](loops::RegionBuilder& b, const auto& i) {
    auto y = b.read(fold, i);
    if (kKind == Kind::kMean) y = b.binary(ExprOp::kDiv, y, b.cast(b.dim(reduced.count(shape)), wide));
    if (kKind == Kind::kL2) y = b.unary(ExprOp::kSqrt, y);
    if (kKind == Kind::kLogSum || kKind == Kind::kLogSumExp) y = b.unary(ExprOp::kLog, y);
    if (largest) y = b.binary(ExprOp::kAdd, y, b.read(largest, i));
    // A root of 32-bit numbers may have more bits, which are cut off as the reference does.
    if (whole && kTruncated && out->dtype() != DType::kUint64) y = b.cast(y, DType::kInt64);
    return b.cast(y, out->dtype());
  });
  return true;
}

void reduce_upgrade(UpgradeContext& ctx) {
  const int inputs_since = ctx.node.op == "ReduceSum" ? 13 : 18;
  if (ctx.from_version < inputs_since) attribute_to_input(ctx, "axes", 1);
}

constexpr std::string_view kAttr = "data:T -> reduced:T", kInput = "data:T axes?:int64 -> reduced:T";
constexpr std::string_view kAxes = "axes:ints? keepdims:int=1", kNoop = "keepdims:int=1 noop_with_empty_axes:int=0";

template <Kind kKind>
OpDef reduction(std::string_view name, std::vector<VersionDef> versions, std::string_view doc) {
  return {.name = name,
          .versions = std::move(versions),
          .upgrade = reduce_upgrade,
          .infer = reduce_infer<kKind>,
          .reference = reduce_reference<kKind>,
          .tolerance = {.relative = 2e-5, .absolute = 1e-6},
          .lower = reduce_lower<kKind>,
          .doc = doc};
}

std::vector<VersionDef> usual_versions() {
  return {{1, kAttr, kAxes, "T: @high"}, {11, kAttr, kAxes, "T: @high"}, {13, kAttr, kAxes, "T: @high13"}, {18, kInput, kNoop, "T: @high13"}};
}

std::vector<VersionDef> with_28(std::vector<VersionDef> versions) {
  versions.push_back({28, kInput, kNoop, "T: @float13"});
  return versions;
}

std::vector<VersionDef> extreme_versions() {
  return {{1, kAttr, kAxes, "T: @high"},
          {11, kAttr, kAxes, "T: @high"},
          {12, kAttr, kAxes, "T: @high int8 uint8"},
          {13, kAttr, kAxes, "T: @high13 int8 uint8"},
          {18, kInput, kNoop, "T: @high13 int8 uint8"},
          {20, kInput, kNoop, "T: @high13 int8 uint8 bool"}};
}

}  // namespace

std::span<const OpDef> ops_reduce() {
  static const std::vector<OpDef> ops = [] {
    std::vector<OpDef> list{
        reduction<Kind::kSum>("ReduceSum", {{1, kAttr, kAxes, "T: @high"}, {11, kAttr, kAxes, "T: @high"}, {13, kInput, kNoop, "T: @high13"}}, "sum over axes"),
        reduction<Kind::kMean>("ReduceMean", usual_versions(), "mean over axes"),
        reduction<Kind::kMax>("ReduceMax", extreme_versions(), "largest element over axes"),
        reduction<Kind::kMin>("ReduceMin", extreme_versions(), "smallest element over axes"),
        reduction<Kind::kProd>("ReduceProd", usual_versions(), "product over axes"),
        reduction<Kind::kL1>("ReduceL1", usual_versions(), "sum of magnitudes over axes"),
        reduction<Kind::kL2>("ReduceL2", usual_versions(), "root of the sum of squares over axes"),
        reduction<Kind::kLogSum>("ReduceLogSum", with_28(usual_versions()), "logarithm of the sum over axes"),
        reduction<Kind::kLogSumExp>("ReduceLogSumExp", with_28(usual_versions()), "logarithm of the sum of exponentials over axes"),
        reduction<Kind::kSumSquare>("ReduceSumSquare", usual_versions(), "sum of squares over axes"),
    };
    for (auto& op : arg_ops()) list.push_back(std::move(op));
    for (auto& op : cumulative_ops()) list.push_back(std::move(op));
    return list;
  }();
  return ops;
}

}  // namespace lathe::ops
