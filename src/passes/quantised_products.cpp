// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Products of 8-bit integers become products of float32, which the kernels know, and stay exact:
//
//   MatMulInteger(a, b, za, zb)       ->  Cast(MatMul(Cast(a) - za, Cast(b) - zb), int32)
//   ConvInteger                       ->  the same with Conv
//   QLinearMatMul, QLinearConv        ->  Cast(Clip(Round(product * (sa * sb / sy)) + zy))
//   Conv, MatMul, Gemm of what DequantizeLinear makes, by constant weights   ->  product * (sa * sb) + bias     (fast_whole_products)
//   MaxPool                           ->  Cast(MaxPool(Cast(x)))
//
// Every operand is a whole number of at most 255, and a sum of float32 products is exact in whatever order it is made while no partial
// sum can exceed 2^24. For constant weights that bound is the largest column's sum of magnitudes times the reach of the other operand. A
// product beyond it is split along what it sums over, and the parts are added as int32. Who chooses how such a product runs finds out
// by ops::is_whole_product. Where only a run tells how much is summed, or the weights of a convolution, the integer product stays, which
// the region language has, and QLinear* become it.
//
// Only where the graph is made to be run (SimplifyOptions::for_running): a model that is written keeps its quantised operators.

#include <algorithm>
#include <cstdlib>

#include "ops/control/join.h"
#include "ops/expand_util.h"
#include "ops/quantize/quantize.h"
#include "ops/ref_util.h"
#include "passes/fold.h"
#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;
using ops::Parts;

constexpr std::int64_t kExact = std::int64_t{1} << 24;
constexpr std::size_t kMostParts = 64;

bool is_byte(const Value* value) { return value && (value->dtype() == DType::kInt8 || value->dtype() == DType::kUint8); }

bool is_single(const Value* value) {
  return value && value->has_shape() && value->shape().size() <= 1 && (value->shape().empty() || value->shape()[0] == ir::Dim(1));
}

/// Rank 1 with the extent that `of` has on `axis` (negative: from the end).
bool runs_along(const Value* value, const Value* of, std::int64_t axis) {
  if (!value || !value->has_shape() || value->shape().size() != 1) return false;
  const auto at = normalise_axis(axis, static_cast<std::int64_t>(of->shape().size()));
  return at && value->shape()[0] == of->shape()[static_cast<std::size_t>(*at)];
}

/// The greatest |x - zero| that the types allow.
std::int64_t reach(const Value* x, const Value* zero) {
  const auto [low, high] = ops::integer_range(x->dtype());
  if (!zero) return std::max(-low, high);
  if (!is_constant(zero) || zero->constant.size() == 0) return high - low;
  std::int64_t most = 0;
  for (std::int64_t i = 0; i < zero->constant.size(); ++i) {
    const std::int64_t z = zero->constant.as_int64(i);
    most = std::max({most, z - low, high - z});
  }
  return most;
}

/// x - zero in float32 at run time. `zero` broadcasts.
Value* centred(Parts& p, Value* x, Value* zero) {
  Value* real = p.cast(x, DType::kFloat32);
  if (!zero || is_splat(zero, 0)) return real;
  return p.binary("Sub", real, p.cast(zero, DType::kFloat32));
}

/// x - zero of constants, as float32. `zero` is one number or one for each index of `axis`.
Tensor centred_constant(const Tensor& x, const Tensor* zero, std::size_t axis) {
  Tensor result(DType::kFloat32, x.dims());
  const auto to = result.mutable_data<float>();
  const ops::AxisView view = zero && zero->size() != 1 ? ops::around_axis(x.dims(), static_cast<std::int64_t>(axis)) : ops::AxisView();
  for (std::int64_t i = 0; i < x.size(); ++i)
    to[static_cast<std::size_t>(i)] = static_cast<float>(x.as_int64(i) - (zero ? zero->as_int64(i / view.inner % view.extent) : 0));
  return result;
}

/// Where to cut what a product sums over so that every part is exact: ends of the parts. `sums` holds a running bound for each result
/// (what is added to each beforehand), `add` adds index k's share to it. Empty: one index alone is too much.
template <class Add>
std::vector<std::int64_t> cuts(std::int64_t count, std::vector<std::int64_t> sums, Add add) {
  std::vector<std::int64_t> ends;
  std::vector<std::int64_t> next;
  for (std::int64_t k = 0; k < count; ++k) {
    next = sums;
    add(k, next);
    if (!next.empty() && *std::max_element(next.begin(), next.end()) > kExact) {
      if (k == (ends.empty() ? 0 : ends.back())) return {};
      ends.push_back(k);
      next.assign(sums.size(), 0);
      add(k, next);
      if (*std::max_element(next.begin(), next.end()) > kExact) return {};
    }
    sums.swap(next);
  }
  ends.push_back(count);
  return ends;
}

std::vector<std::int64_t> lengths(const std::vector<std::int64_t>& ends) {
  std::vector<std::int64_t> sizes;
  for (std::size_t i = 0; i < ends.size(); ++i) sizes.push_back(ends[i] - (i == 0 ? 0 : ends[i - 1]));
  return sizes;
}

/// Exact sums: in float32 where one product made them, else in int32.
struct Sums {
  Value* value = nullptr;
  bool real = false;
  Value* as(Parts& p, DType dtype) const {
    const DType is = real ? DType::kFloat32 : DType::kInt32;
    return p.as(value, is, dtype);
  }
};

Sums added(Parts& p, std::vector<Value*> parts) {
  if (parts.size() == 1) return {parts[0], true};
  Value* sum = nullptr;
  for (Value* part : parts) sum = p.plus(sum, p.cast(part, DType::kInt32));
  return {sum, false};
}

// MatMul -----------------------------------------------------------------------------------------------------------------------

/// The zero point of a matrix, one that fits, in a shape that broadcasts.
Value* spread_zero(Parts& p, Value* zero, const Value* x, std::int64_t axis) {
  return zero && !is_single(zero) && axis != -1 && runs_along(zero, x, axis) ? p.unsqueeze(zero, {1}) : zero;
}

bool zero_fits(const Value* zero, const Value* x, std::int64_t axis) {
  if (!zero || is_single(zero) || runs_along(zero, x, axis)) return true;
  if (!zero->has_shape() || zero->shape().size() != x->shape().size()) return false;
  for (std::size_t a = 0; a < x->shape().size(); ++a)
    if (zero->shape()[a] != ir::Dim(1) && zero->shape()[a] != x->shape()[a]) return false;
  return true;
}

/// What a MatMul multiplies: its operands with their zero points, and the cuts of what it sums over.
struct MatMulParts {
  Value *a, *b, *za, *zb;
  Tensor weights;  ///< b centred, where it is a constant
  std::vector<std::int64_t> ends;
};

std::optional<MatMulParts> plan_matmul(Value* a, Value* b, Value* za, Value* zb) {
  if (!is_byte(a) || !is_byte(b) || !a->has_shape() || !b->has_shape() || a->shape().empty() || b->shape().empty()) return std::nullopt;
  if (!zero_fits(za, a, -2) || !zero_fits(zb, b, -1)) return std::nullopt;
  MatMulParts plan{a, b, za, zb, {}, {}};
  const std::size_t rank = b->shape().size();
  const auto from_a = a->shape().back().constant(), from_b = b->shape()[rank == 1 ? 0 : rank - 2].constant();
  const auto k = from_b ? from_b : from_a;
  if (!k || *k <= 0) return std::nullopt;
  const std::int64_t reach_a = reach(a, za);
  if (is_constant(b) && (!zb || (is_constant(zb) && zb->shape().size() <= 1))) {
    plan.weights = centred_constant(b->constant, zb ? &zb->constant : nullptr, rank - 1);
    const Dims& dims = plan.weights.dims();
    const std::int64_t columns = rank == 1 ? 1 : dims.back(), matrices = columns == 0 ? 0 : plan.weights.size() / (*k * columns);
    const auto values = plan.weights.data<float>();
    plan.ends = cuts(*k, std::vector<std::int64_t>(static_cast<std::size_t>(matrices * columns), 0), [&](std::int64_t row, std::vector<std::int64_t>& sums) {
      for (std::int64_t m = 0; m < matrices; ++m)
        for (std::int64_t n = 0; n < columns; ++n)
          sums[static_cast<std::size_t>(m * columns + n)] +=
              std::llabs(static_cast<std::int64_t>(values[static_cast<std::size_t>((m * *k + row) * columns + n)])) * reach_a;
    });
  } else {
    const std::int64_t each = reach_a * reach(b, zb);
    plan.ends = cuts(*k, {0}, [&](std::int64_t, std::vector<std::int64_t>& sums) { sums[0] += each; });
  }
  if (plan.ends.empty() || plan.ends.size() > kMostParts) return std::nullopt;
  return plan;
}

Sums make_matmul(Parts& p, const MatMulParts& plan) {
  Value* a = centred(p, plan.a, spread_zero(p, plan.za, plan.a, -2));
  const auto rank = static_cast<std::int64_t>(plan.b->shape().size()), axis = rank == 1 ? 0 : rank - 2;
  const bool constant = plan.weights.defined(), whole = plan.ends.size() == 1;
  const std::string hint = plan.b->name + "_centred";
  Value* b = constant ? nullptr : centred(p, plan.b, spread_zero(p, plan.zb, plan.b, -1));
  if (whole) return added(p, {p.binary("MatMul", a, constant ? p.ctx.constant(hint, plan.weights) : b)});
  const auto sizes = lengths(plan.ends);
  const auto as = p.split(a, static_cast<std::int64_t>(plan.a->shape().size()) - 1, sizes);
  const auto bs = constant ? std::vector<Value*>() : p.split(b, axis, sizes);
  std::vector<Value*> parts;
  for (std::size_t i = 0; i < sizes.size(); ++i)
    parts.push_back(p.binary("MatMul", as[i], constant ? p.ctx.constant(hint, ops::take_along(plan.weights, axis, plan.ends[i] - sizes[i], sizes[i])) : bs[i]));
  return added(p, std::move(parts));
}

// Conv -------------------------------------------------------------------------------------------------------------------------

struct ConvParts {
  Value *x, *zx, *w, *bias;
  Tensor weights;
  std::vector<std::int64_t> ends;  ///< of input channels
  bool bias_inside = false;        ///< the first part adds it
};

std::optional<ConvParts> plan_conv(const Node& node, Value* x, Value* w, Value* zx, Value* zw, Value* bias) {
  if (!is_byte(x) || !is_byte(w) || !x->has_shape() || !is_constant(w)) return std::nullopt;
  if ((zx && !is_single(zx)) || (zw && !is_constant(zw))) return std::nullopt;
  const Dims& dims = w->constant.dims();
  if (dims.size() < 3 || dims.size() != x->shape().size()) return std::nullopt;
  if (zw && zw->constant.size() != 1 && (zw->constant.rank() != 1 || zw->constant.size() != dims[0])) return std::nullopt;
  if (bias && (!bias->has_shape() || bias->shape().size() != 1 || bias->dtype() != DType::kInt32)) return std::nullopt;
  ConvParts plan{x, zx, w, bias, centred_constant(w->constant, zw ? &zw->constant : nullptr, 0), {}, false};
  const std::int64_t outputs = dims[0], channels = dims[1], count = plan.weights.size();
  if (count == 0) return std::nullopt;
  const std::int64_t inner = count / (outputs * channels), reach_x = reach(x, zx);
  std::vector<std::int64_t> start(static_cast<std::size_t>(outputs), 0);
  if (bias && is_constant(bias) && bias->constant.size() == outputs) {
    plan.bias_inside = true;
    for (std::int64_t o = 0; o < outputs; ++o) start[static_cast<std::size_t>(o)] = std::llabs(bias->constant.as_int64(o));
  }
  const auto values = plan.weights.data<float>();
  const auto add = [&](std::int64_t c, std::vector<std::int64_t>& sums) {
    for (std::int64_t o = 0; o < outputs; ++o)
      for (std::int64_t i = 0; i < inner; ++i)
        sums[static_cast<std::size_t>(o)] += std::llabs(static_cast<std::int64_t>(values[static_cast<std::size_t>((o * channels + c) * inner + i)])) * reach_x;
  };
  plan.ends = cuts(channels, start, add);
  if (plan.bias_inside && plan.ends.size() != 1) {  // a bias beyond what one product holds is added to the sums
    const auto without = cuts(channels, std::vector<std::int64_t>(start.size(), 0), add);
    if (plan.ends.empty() || without.size() < plan.ends.size()) {
      plan.bias_inside = false;
      plan.ends = without;
    }
  }
  if (plan.ends.empty() || plan.ends.size() > kMostParts) return std::nullopt;
  if (plan.ends.size() > 1 && node.attrs.get_int("group", 1) != 1) return std::nullopt;
  return plan;
}

Sums make_conv(Parts& p, const ConvParts& plan) {
  const ir::Attrs attrs = ops::conv_attrs(p.ctx.attrs());
  const std::string hint = plan.w->name + "_centred";
  Value* x = centred(p, plan.x, plan.zx);
  Value* inside = plan.bias_inside ? p.ctx.constant(plan.bias->name + "_real", plan.bias->constant.cast(DType::kFloat32)) : nullptr;
  std::vector<Value*> parts;
  if (plan.ends.size() == 1) {
    parts.push_back(p.ctx.add("Conv", {x, p.ctx.constant(hint, plan.weights), inside}, attrs));
  } else {
    const auto sizes = lengths(plan.ends);
    const auto xs = p.split(x, 1, sizes);
    for (std::size_t i = 0; i < sizes.size(); ++i)
      parts.push_back(p.ctx.add(
          "Conv", {xs[i], p.ctx.constant(hint, ops::take_along(plan.weights, 1, plan.ends[i] - sizes[i], sizes[i])), i == 0 ? inside : nullptr}, attrs));
  }
  Sums sums = added(p, std::move(parts));
  if (!plan.bias || plan.bias_inside) return sums;
  std::vector<std::int64_t> target{-1};
  target.resize(plan.weights.dims().size() - 1, 1);
  Value* whole = sums.as(p, DType::kInt32);
  return {p.plus(whole, p.reshape(plan.bias, target)), false};
}

// Back to few bits -------------------------------------------------------------------------------------------------------------

bool is_scale(const Value* value) {
  return value && value->has_shape() && (value->dtype() == DType::kFloat32 || value->dtype() == DType::kFloat16 || value->dtype() == DType::kBFloat16);
}

/// sums * (sa * sb / sy), rounded, shifted, bounded. The three factors are one first, as the integer kernels have it: ties then fall to
/// the same side.
Value* requantised(Parts& p, const Sums& sums, Value* sa, Value* sb, Value* sy, Value* zero) {
  const DType stored = sy->dtype(), out = zero->dtype();
  Value* scale = p.as(p.binary("Div", p.times(sa, sb), sy), stored, DType::kFloat32);
  Value* y = p.unary("Round", p.times(sums.as(p, DType::kFloat32), scale));
  if (!is_splat(zero, 0)) y = p.plus(y, p.cast(zero, DType::kFloat32));
  const auto [low, high] = ops::integer_range(out);
  y = p.ctx.add("Clip", {y, p.number(DType::kFloat32, static_cast<double>(low)), p.number(DType::kFloat32, static_cast<double>(high))});
  return p.cast(y, out);
}

// Dequantised operands -----------------------------------------------------------------------------------------------------------

/// What a DequantizeLinear reads; nullopt for blocks, other types or an axis that is neither `axis` nor needed.
struct Dequantised {
  Value *whole, *scale, *zero;
};

std::optional<Dequantised> dequantised(const Value* value, std::int64_t axis) {
  const Node* node = producer_of(value, "DequantizeLinear");
  if (!node || value->dtype() != DType::kFloat32 || node->attrs.get_int("block_size", 0) != 0) return std::nullopt;
  const Dequantised d{node->input(0), node->input(1), node->input(2)};
  if (!is_byte(d.whole) || !d.whole->has_shape() || !d.scale || d.scale->dtype() != DType::kFloat32 || !d.scale->has_shape()) return std::nullopt;
  if (is_single(d.scale)) return d;
  const auto rank = static_cast<std::int64_t>(d.whole->shape().size());
  const auto at = normalise_axis(node->attrs.get_int("axis", 1), rank);
  return at && at == normalise_axis(axis, rank) && runs_along(d.scale, d.whole, axis) ? std::optional(d) : std::nullopt;
}

/// Constant weights of rank 2 or more with one scale or one for each index of `axis`.
std::optional<Dequantised> dequantised_weights(const Value* value, std::int64_t axis) {
  const auto d = dequantised(value, axis);
  return d && is_constant(d->whole) && is_constant(d->scale) && (!d->zero || is_constant(d->zero)) ? d : std::nullopt;
}

/// y = sums * (sa * sb) + bias, where the operands were dequantised first.
bool rewrite_dequantised(Graph& graph, Node& node) {
  ops::ExpandContext context{graph, node};
  Parts p(context);
  if (node.is("Conv")) {
    const auto x = dequantised(node.input(0), 1), w = dequantised_weights(node.input(1), 0);
    if (!x || !w || !is_single(x->scale) || (node.input(2) && node.input(2)->dtype() != DType::kFloat32)) return false;
    const auto plan = plan_conv(node, x->whole, w->whole, x->zero, w->zero, nullptr);
    if (!plan || plan->ends.size() > 1) return false;
    std::vector<std::int64_t> target{-1};
    target.resize(x->whole->shape().size() - 1, 1);
    Value* sb = is_single(w->scale) ? w->scale : p.reshape(w->scale, target);
    Value* sums = make_conv(p, *plan).as(p, DType::kFloat32);
    Value* scale = p.times(x->scale, sb);
    Value* y = p.times(sums, scale);
    context.replace(0, p.plus(y, node.input(2) ? p.reshape(node.input(2), target) : nullptr));
    return true;
  }
  const bool gemm = node.is("Gemm");
  if (!gemm && !node.is("MatMul")) return false;
  if (gemm && (node.attrs.get_int("transA", 0) != 0 || node.attrs.get_float("alpha", 1) != 1 || node.attrs.get_float("beta", 1) != 1)) return false;
  const bool turned = gemm && node.attrs.get_int("transB", 0) != 0;
  const auto a = dequantised(node.input(0), -1), b = dequantised_weights(node.input(1), turned ? 0 : -1);
  if (!a || !b || !is_single(a->scale) || a->whole->shape().size() < 2 || b->whole->shape().size() != 2) return false;
  if (node.input(2) && node.input(2)->dtype() != DType::kFloat32) return false;
  Value* whole = b->whole;
  if (turned) {
    const Tensor& from = whole->constant;
    const std::int64_t rows = from.dims()[0], columns = from.dims()[1];
    whole = context.constant(whole->name + "_turned", ops::remap_nd(from, {columns, rows}, [&](const Dims& at) { return at[1] * columns + at[0]; }));
  }
  const auto plan = plan_matmul(a->whole, whole, a->zero, b->zero);
  if (!plan || plan->ends.size() > 1) return false;
  Value* sums = make_matmul(p, *plan).as(p, DType::kFloat32);
  Value* scale = p.times(a->scale, b->scale);
  Value* y = p.times(sums, scale);
  context.replace(0, p.plus(y, node.input(2)));
  return true;
}

/// Whether no later round knows more of a QLinear product's second operand: it comes from a run.
bool only_in_integers(const Node& node) {
  const Value* b = node.input(3);
  const Node* maker = b->producer;
  return !b->is_constant() && (!maker || std::any_of(maker->inputs.begin(), maker->inputs.end(), [](const Value* v) { return v && !v->is_constant(); }));
}

/// The sums of a QLinear product by the integer product itself, which has a form in the region language.
Sums integer_sums(Parts& p, std::string_view op, Value* bias) {
  const Node& node = p.ctx.node;
  const bool conv = op == "ConvInteger";
  Value* sums = p.ctx.add(op, {node.input(0), node.input(3), node.input(2), node.input(5)}, conv ? ops::conv_attrs(node.attrs) : ir::Attrs());
  if (!bias) return {sums, false};
  std::vector<std::int64_t> target{-1};
  target.resize(node.input(0)->shape().size() - 1, 1);
  return {p.plus(sums, p.reshape(bias, target)), false};
}

bool rewrite(Graph& graph, Node& node, const SimplifyOptions& options) {
  if (options.fast_whole_products && rewrite_dequantised(graph, node)) return true;
  ops::ExpandContext context{graph, node};
  Parts p(context);
  if (node.is("MatMulInteger")) {
    const auto plan = plan_matmul(node.input(0), node.input(1), node.input(2), node.input(3));
    if (!plan) return false;
    context.replace(0, make_matmul(p, *plan).as(p, DType::kInt32));
    return true;
  }
  if (node.is("ConvInteger")) {
    const auto plan = plan_conv(node, node.input(0), node.input(1), node.input(2), node.input(3), nullptr);
    if (!plan) return false;
    context.replace(0, make_conv(p, *plan).as(p, DType::kInt32));
    return true;
  }
  if (node.is("MaxPool") && is_byte(node.input(0)) && !node.output(1)) {
    // Windows of bytes are compared in float32 as well: the kernels have that alone.
    const DType dtype = node.input(0)->dtype();
    context.replace(0, p.cast(context.add("MaxPool", {p.cast(node.input(0), DType::kFloat32)}, node.attrs), dtype));
    return true;
  }
  const bool conv = node.is("QLinearConv");
  if (!conv && !node.is("QLinearMatMul")) return false;
  Value *a = node.input(0), *sa = node.input(1), *b = node.input(3), *sb = node.input(4), *sy = node.input(6), *zy = node.input(7);
  if (!is_byte(a) || !is_byte(b) || !is_byte(zy) || !is_single(zy) || !is_single(sy) || !a->has_shape() || !b->has_shape()) return false;
  if (!is_scale(sa) || !is_scale(sb) || !is_scale(sy)) return false;
  const auto rank = static_cast<std::int64_t>(a->shape().size());
  if (conv) {
    if (!is_single(sa) || !(is_single(sb) || runs_along(sb, b, 0))) return false;
    const auto plan = plan_conv(node, a, b, node.input(2), node.input(5), node.input(8));
    if (!plan && !only_in_integers(node)) return false;
    const Sums sums = plan ? make_conv(p, *plan) : integer_sums(p, "ConvInteger", node.input(8));
    if (!is_single(sb)) {
      std::vector<std::int64_t> target{-1};
      target.resize(static_cast<std::size_t>(rank - 1), 1);
      sb = p.reshape(sb, target);
    }
    context.replace(0, requantised(p, sums, sa, sb, sy, zy));
    return true;
  }
  // Vectors would make scales of rank 1 raise the result's rank.
  if (rank < 2 || b->shape().size() < 2 || !(is_single(sa) || runs_along(sa, a, -2)) || !(is_single(sb) || runs_along(sb, b, -1))) return false;
  const auto plan = plan_matmul(a, b, node.input(2), node.input(5));
  if (!plan && !only_in_integers(node)) return false;
  const Sums sums = plan ? make_matmul(p, *plan) : integer_sums(p, "MatMulInteger", nullptr);
  if (!is_single(sa)) sa = p.unsqueeze(sa, {1});
  context.replace(0, requantised(p, sums, sa, sb, sy, zy));
  return true;
}

/// Of the largest constant that the node reads, itself or dequantised.
std::size_t weight_bytes(const Node& node) {
  std::size_t most = 0;
  for (const Value* input : node.inputs) {
    if (const Node* maker = producer_of(input, "DequantizeLinear")) input = maker->input(0);
    if (is_byte(input) && is_constant(input)) most = std::max(most, input->constant.bytes());
  }
  return most;
}

}  // namespace

int quantised_products(Graph& graph, PassContext& context) {
  if (!context.options.for_running) return 0;
  int rewrites = 0;
  const std::size_t before = constant_bytes(graph);
  std::size_t in_use = before;
  graph.for_each([&](Node& node) {
    const std::size_t made = 4 * weight_bytes(node);
    if (in_use + made > kMostDequantised || !rewrite(graph, node, context.options)) return;
    graph.erase(&node);
    in_use += made;
    ++rewrites;
  });
  if (rewrites == 0) return 0;
  // What other constants may take stays what it was.
  const std::size_t after = constant_bytes(graph);
  context.original_constant_bytes += after - std::min(before, after);
  return rewrites;
}

}  // namespace lathe::passes
