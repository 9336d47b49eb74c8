// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Einsum: a product of tensors by named axes, summed over those that the output lacks. Where two inputs share summed axes the
// simplifier makes it a MatMul (src/passes/einsum_products.cpp); what is left is one loop nest.
#include <map>

#include "loops/builder.h"
#include "ops/einsum/equation.h"
#include "ops/lower_util.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;

void einsum_infer(InferContext& ctx) {
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    if (!ctx.shape(i)) return ctx.set_unknown(0, ctx.dtype(0));
    ranks.push_back(ctx.shape(i)->size());
  }
  const std::string text = ctx.attrs().get_string("equation", "");
  std::string defect;
  const Equation equation = parse_equation(text, ranks, defect);
  if (!defect.empty()) ctx.fail("equation '" + text + "': " + defect);
  std::map<int, Dim> extents;
  for (std::size_t i = 0; i < ranks.size(); ++i)
    for (std::size_t a = 0; a < ranks[i]; ++a) {
      const int label = equation.inputs[i][a];
      const Dim& extent = (*ctx.shape(i))[a];
      const auto [known, fresh] = extents.emplace(label, extent);
      if (fresh) continue;
      const auto x = known->second.constant(), y = extent.constant();
      if (x && y && *x != *y && *x != 1 && *y != 1)
        ctx.fail("equation '" + text + "': " + label_name(label) + " has the extents " + std::to_string(*x) + " and " + std::to_string(*y));
      known->second = broadcast_dim(ctx, known->second, extent);
    }
  Shape out;
  for (const int label : equation.output) out.push_back(extents.at(label));
  ctx.set(0, ctx.dtype(0), std::move(out));
}

void einsum_reference(RefContext& ctx) {
  const std::size_t count = ctx.input_count();
  std::vector<std::size_t> ranks;
  for (std::size_t i = 0; i < count; ++i) ranks.push_back(ctx.input(i).dims().size());
  const std::string text = ctx.attrs().get_string("equation", "");
  std::string defect;
  const Equation equation = parse_equation(text, ranks, defect);
  if (!defect.empty()) ctx.fail("equation '" + text + "': " + defect);
  std::map<int, std::int64_t> extents;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t a = 0; a < ranks[i]; ++a) {
      const std::int64_t extent = ctx.input(i).dims()[a];
      auto& known = extents.emplace(equation.inputs[i][a], extent).first->second;
      if (known != extent && known != 1 && extent != 1)
        ctx.fail("equation '" + text + "': " + label_name(equation.inputs[i][a]) + " has the extents " + std::to_string(known) + " and " +
                 std::to_string(extent));
      if (known == 1) known = extent;
    }
  Dims out, sum;
  for (const int label : equation.output) out.push_back(extents.at(label));
  for (const int label : equation.summed) sum.push_back(extents.at(label));
  // Offsets of each input by position along the output's axes and the summed ones; a repeated label adds its strides (a diagonal).
  const auto steps = [&](const std::vector<int>& labels) {
    std::vector<Dims> result(count, Dims(labels.size(), 0));
    for (std::size_t i = 0; i < count; ++i) {
      const Dims strides = strides_of(ctx.input(i).dims());
      for (std::size_t a = 0; a < ranks[i]; ++a)
        for (std::size_t l = 0; l < labels.size(); ++l)
          if (labels[l] == equation.inputs[i][a] && ctx.input(i).dims()[a] != 1) result[i][l] += strides[a];
    }
    return result;
  };
  const auto kept_steps = steps(equation.output), sum_steps = steps(equation.summed);
  const auto offset = [](const Dims& at, const Dims& step) {
    std::int64_t o = 0;
    for (std::size_t i = 0; i < at.size(); ++i) o += at[i] * step[i];
    return o;
  };
  const DType dtype = ctx.input(0).dtype();
  const auto compute = [&](const auto& inputs) {
    using T = typename std::decay_t<decltype(inputs[0])>::value_type;
    std::vector<T> result;
    for_each_index(out, [&](const Dims& at) {
      T total = 0;
      std::vector<std::int64_t> base(count);
      for (std::size_t i = 0; i < count; ++i) base[i] = offset(at, kept_steps[i]);
      for_each_index(sum, [&](const Dims& inner) {
        T product = 1;
        for (std::size_t i = 0; i < count; ++i) product *= inputs[i][static_cast<std::size_t>(base[i] + offset(inner, sum_steps[i]))];
        total += product;
      });
      result.push_back(total);
    });
    return result;
  };
  if (is_float(dtype)) {
    std::vector<std::vector<double>> inputs;
    for (std::size_t i = 0; i < count; ++i) inputs.push_back(to_doubles(ctx.input(i)));
    return ctx.set_output(0, from_doubles(dtype, out, compute(inputs)));
  }
  std::vector<std::vector<std::uint64_t>> inputs;  // integers wrap
  for (std::size_t i = 0; i < count; ++i) {
    const auto values = to_int64s(ctx.input(i));
    inputs.emplace_back(values.begin(), values.end());
  }
  const auto result = compute(inputs);
  ctx.set_output(0, from_int64s(dtype, out, std::vector<std::int64_t>(result.begin(), result.end())));
}

bool einsum_lower(const Node& node, loops::RegionBuilder& builder) {
  std::vector<std::size_t> ranks;
  for (const Value* input : node.inputs) {
    if (!can_lower_real(input, builder)) return false;
    ranks.push_back(input->shape().size());
  }
  std::string defect;
  const Equation equation = parse_equation(node.attrs.get_string("equation", ""), ranks, defect);
  if (!defect.empty() || !node.output()->has_shape()) {
    builder.decline("an equation that does not fit");
    return false;
  }
  std::map<int, Dim> extents;
  for (std::size_t i = 0; i < equation.output.size(); ++i) extents[equation.output[i]] = node.output()->shape()[i];
  for (std::size_t i = 0; i < ranks.size(); ++i)
    for (std::size_t a = 0; a < ranks[i]; ++a) {
      const Dim& extent = node.input(i)->shape()[a];
      auto& known = extents.emplace(equation.inputs[i][a], extent).first->second;
      if (known == Dim(1)) known = extent;
    }
  // Every axis of a label must have its extent, or surely be 1: the loop reads without looking.
  for (std::size_t i = 0; i < ranks.size(); ++i)
    for (std::size_t a = 0; a < ranks[i]; ++a) {
      const Dim &extent = node.input(i)->shape()[a], &known = extents.at(equation.inputs[i][a]);
      if (extent == known || extent == Dim(1)) continue;
      builder.decline("extents of one label that only a run tells apart");
      return false;
    }
  const Value* out = node.output();
  const DType wide = compute_dtype(out->dtype());
  const auto inputs = node.inputs;
  const auto product = [inputs, equation, wide](loops::RegionBuilder& b, const auto& kept, const auto& reduced) {
    std::map<int, ExprId> position;
    for (std::size_t i = 0; i < equation.output.size(); ++i) position[equation.output[i]] = kept[i];
    for (std::size_t i = 0; i < equation.summed.size(); ++i) position[equation.summed[i]] = reduced[i];
    ExprId result = -1;
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      loops::RegionBuilder::Indices at;
      for (std::size_t a = 0; a < equation.inputs[i].size(); ++a)
        at.push_back(is_one(inputs[i]->shape()[a]) ? b.integer(0) : position.at(equation.inputs[i][a]));
      const ExprId value = b.cast(b.read(inputs[i], at), wide);
      result = result < 0 ? value : b.binary(ExprOp::kMul, result, value);
    }
    return result;
  };
  if (equation.summed.empty()) {
    builder.define(out,
                   [product, out](loops::RegionBuilder& b, const auto& i) { return b.cast(product(b, i, loops::RegionBuilder::Indices{}), out->dtype()); });
    return true;
  }
  Shape space;
  for (const int label : equation.summed) space.push_back(extents.at(label));
  const Value* sum = builder.temporary("sum", wide, out->shape());
  builder.define_reduction(sum, loops::Reduce::kSum, space, product, wide);
  builder.define(out, [sum, out](loops::RegionBuilder& b, const auto& i) { return b.cast(b.read(sum, i), out->dtype()); });
  return true;
}

}  // namespace

std::span<const OpDef> ops_einsum() {
  static const std::vector<OpDef> ops{
      {.name = "Einsum",
       .versions = {{12, "Inputs+:T -> Output:T", "equation:string", "T: @num"}, {28, "Inputs+:T -> Output:T", "equation:string", "T: @num13"}},
       .infer = einsum_infer,
       .reference = einsum_reference,
       .tolerance = {.contraction = true},
       .lower = einsum_lower,
       .doc = "a product of tensors by named axes, summed over those that the output lacks"},
  };
  return ops;
}

}  // namespace lathe::ops
