// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The candidate that runs a matrix product with a constant right operand by oneDNN, as its 1x1 convolution of a row of pixels: one code for
// pieces, slices and packing. Its plans differ in how the output is cut for the threads.

#include <algorithm>
#include <array>

#include "backend/cpu/features.h"
#include "regions/matmul_block/matmul_plan.h"
#include "regions/matmul_block/onednn_matmul_params.h"

namespace lathe::ops {
namespace {

namespace onednn = cpu::onednn;
using namespace regions;  // the helpers of matmul_plan.h

/// Rows whose number is fixed: of all, or of one item of a batch that is not. 0: there are none.
std::int64_t fixed_rows(const PlanRequest& request, const MatMulBlock& block) {
  const ir::Shape& shape = block.a->shape();
  const Dims& dims = desc_of(request, block.a)->dims;
  const bool all = std::all_of(shape.begin(), shape.end(), [](const ir::Dim& extent) { return extent.is_constant(); });
  if (!all && (shape.size() < 3 || !block.perm_a.empty() || !block.perm_out.empty())) return 0;
  std::int64_t rows = 1;
  for (std::size_t axis = all ? 0 : 1; axis < shape.size(); ++axis) {
    if (!shape[axis].is_constant()) return 0;
    // The last axis of the product's order is k.
    const bool inner = block.perm_a.empty() ? axis + 1 == shape.size() : static_cast<std::size_t>(block.perm_a.back()) == axis;
    if (!inner) rows *= dims[axis];
  }
  return rows;
}

struct Product {
  MatMulLayout layout;
  onednn::ConvSpec spec;
  onednn::ConvStrides strides;
  std::int64_t items = 1;  ///< of a batch
};

/// The product as oneDNN's; nullopt, and in `why` the reason, when it is none.
std::optional<Product> product_of(const PlanRequest& request, const MatMulBlock& block, std::string& why) {
  const auto layout = layout_of(request, block, true, why);
  if (!layout) return std::nullopt;
  Product product{*layout, {}, {}, 1};
  const ir::Value* residual = residual_of(block);
  const std::int64_t rows = fixed_rows(request, block);
  if (!onednn_strides(product.layout, rows, residual != nullptr, product.strides, why)) return std::nullopt;
  product.items = layout->problem.m / rows;
  onednn::ConvSpec& spec = product.spec;
  spec.problem = matmul_as_conv(rows, layout->problem.k, layout->problem.n);
  spec.problem.src = desc_of(request, block.a)->dtype;
  spec.problem.dst = request.outputs[0].dtype;
  spec.problem.weights = onednn::product_type(spec.problem.src, spec.problem.dst);
  spec.bias = third_of(block) == Third::kBias || block.tail.bias;
  spec.residual = residual != nullptr;
  if (residual) spec.residual_type = desc_of(request, residual)->dtype;
  if (const auto activation = cpu::find_activation(block.tail.activation)) spec.epilogue.activation = *activation;
  spec.epilogue.alpha = block.tail.alpha;
  spec.epilogue.beta = block.tail.beta;
  spec.epilogue.residual_after = block.tail.residual_after;
  why = onednn::conv_unsupported(spec);
  if (!why.empty()) return std::nullopt;
  return product;
}

std::vector<onednn::ConvSplit> splits_of(const Product& product, int threads) {
  const cpu::ConvProblem& p = product.spec.problem;
  return onednn::conv_splits(p, product.items, product.strides.src_pixel == p.cin && product.strides.dst_pixel == p.cout && p.src == p.weights, threads);
}

Verdict supports(const PlanRequest& request) {
  std::string why;
  if (!onednn::Library::find(&why)) return Verdict::decline(why);
  if ((request.cpu_features & cpu::cpu_features().mask) != cpu::cpu_features().mask)
    return Verdict::decline("oneDNN cannot be held to fewer CPU features than the process has");
  const MatMulBlock block = match_matmul_block(request.region);
  const Verdict verdict = supports_tiles(request, true);
  if (!verdict.yes) return verdict;
  if (block.b->constant.rank() != 2) return Verdict::decline("the second operand is a vector");
  if (block.scale != 1 || (third_of(block) == Third::kResidual && block.c_scale != 1)) return Verdict::decline("a factor on the product or what is added");
  if (fixed_rows(request, block) == 0) return Verdict::decline("the number of rows is not fixed, and oneDNN makes its kernels for fixed ones");
  const std::optional<Product> product = product_of(request, block, why);
  if (!product) return Verdict::decline(why);
  why = onednn::no_implementation(product->spec, splits_of(*product, request.threads));
  return why.empty() ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plans(const PlanRequest& request) {
  const MatMulBlock block = match_matmul_block(request.region);
  std::string why;
  Product product = *product_of(request, block, why);
  const cpu::ConvProblem& p = product.spec.problem;
  const ir::Value* residual = residual_of(block);
  std::vector<StepPlan> result;
  for (const onednn::ConvSplit& split : splits_of(product, request.threads)) {
    product.spec.split = split;
    StepPlan step;
    std::size_t weight_bytes = 0;
    try {
      const onednn::Conv conv(product.spec);
      weight_bytes = conv.weight_bytes();
      step.params.set("weight_format", conv.weight_format());
      step.variant = fmt::format("{} {} {}", conv.implementation(), split.channels ? "columns" : "rows", split.count);
    } catch (const Error&) {
      continue;  // supports() has found one that goes
    }
    step.kernel = "cpu.matmul.onednn";
    step.burden = kOnednnBurden;
    step.params.set("extents", std::vector<std::int64_t>{p.w, p.cin, p.cout});
    step.params.set("weight_dims", block.b->constant.dims());
    step.params.set("trans_b", static_cast<std::int64_t>(block.trans_b));
    if (!block.perm_a.empty()) step.params.set("perm_a", block.perm_a);
    if (!block.perm_out.empty()) step.params.set("perm_out", block.perm_out);
    write_onednn(product.spec, step.params);
    write_tail(block.tail, step.params);
    step.inputs = {block.a};
    if (residual) step.inputs.push_back(const_cast<ir::Value*>(residual));
    step.outputs = {request.region.outputs.at(0)};
    step.weights.push_back({"cpu.matmul.onednn.pack", step.params, {block.b}});
    if (product.spec.bias) step.weights.push_back(bias_weights(block, p.cout));
    step.flops = product.layout.flops;
    const double out = static_cast<double>(dtype_bytes(p.dst, product.items * p.w * p.cout));
    step.bytes = static_cast<double>(dtype_bytes(p.src, product.items * p.w * p.cin)) + out * (residual ? 2 : 1) + static_cast<double>(weight_bytes);
    result.push_back(std::move(step));
  }
  return result;
}

}  // namespace

std::span<const Candidate> candidates_onednn_matmul() {
  static const std::array<Candidate, 1> list{{{"cpu.matmul.onednn", "matmul_block", supports, plans, matmul_layouts}}};
  return list;
}

}  // namespace lathe::ops
