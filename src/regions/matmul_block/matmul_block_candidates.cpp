// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Candidates for matmul_block: a constant right operand packed at build time, both operands at run time (attention), and the plain
// loop for every other type and memory order.

#include <array>

#include "backend/cpu/features.h"
#include "ops/candidate.h"
#include "regions/matmul_block/matmul_block.h"
#include "regions/matmul_block/matmul_layout.h"

namespace lathe::ops {
namespace {

using regions::MatMulBlock;

const plan::TensorDesc* desc_of(const PlanRequest& request, const ir::Value* value) {
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (request.region.inputs[i] == value) return &request.inputs[i];
  return nullptr;
}

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

/// Gemm's third input: nothing, a constant per column, or a tensor added like a residual.
enum class Third { kNone, kBias, kResidual };
Third third_of(const MatMulBlock& block) {
  if (!block.c) return Third::kNone;
  return block.c->is_constant() && regions::is_per_channel(block.c, block.node->output()->shape(), -1) ? Third::kBias : Third::kResidual;
}

const ir::Value* residual_of(const MatMulBlock& block) { return third_of(block) == Third::kResidual ? block.c : block.tail.residual; }

std::vector<std::int64_t> full_perm_b(const MatMulBlock& block) {
  std::vector<std::int64_t> perm = block.perm_b;
  if (!block.trans_b) return perm;
  if (perm.empty()) return {1, 0};
  std::swap(perm[0], perm[1]);
  return perm;
}

bool packs(const MatMulBlock& block) { return block.b->is_constant() && block.b->constant.rank() >= 1 && block.b->constant.rank() <= 2; }

std::optional<regions::MatMulLayout> layout_of(const PlanRequest& request, const MatMulBlock& block, bool packed, std::string& why) {
  regions::MatMulRequest r;
  r.a = regions::permuted(*desc_of(request, block.a), block.perm_a);
  r.c = regions::unpermuted(request.outputs[0], block.perm_out);
  if (packed) {
    const Dims& dims = block.b->constant.dims();
    r.packed_vector = dims.size() == 1;
    r.packed_k = block.trans_b ? dims[1] : dims[0];
    r.packed_n = dims.size() == 1 ? 1 : block.trans_b ? dims[0] : dims[1];
  } else {
    r.b = regions::permuted(*desc_of(request, block.b), full_perm_b(block));
  }
  if (const ir::Value* residual = residual_of(block)) r.residual = *desc_of(request, residual);
  return regions::matmul_layout(r, why);
}

Verdict supports(const PlanRequest& request, bool packed) {
  const MatMulBlock block = regions::match_matmul_block(request.region);
  if (packed && !packs(block)) return Verdict::decline("the second operand is not a constant matrix");
  if (!packed && packs(block)) return Verdict::decline("the second operand is constant: packed is better");
  if (request.outputs.size() != 1) return Verdict::decline("an inner value is read outside");
  if (block.node->output()->dtype() != DType::kFloat32) return Verdict::decline("the element type is not float32");
  if (residual_of(block) == nullptr && third_of(block) == Third::kResidual) return Verdict::decline("the third operand is no tensor");
  for (const ir::Value* value : {const_cast<const ir::Value*>(block.a), packed ? nullptr : const_cast<const ir::Value*>(block.b), residual_of(block)})
    if (value && !is_stored(desc_of(request, value)->dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
  if (!is_stored(request.outputs[0].dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
  std::string why;
  return layout_of(request, block, packed, why) ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plans(const PlanRequest& request, bool packed) {
  const MatMulBlock block = regions::match_matmul_block(request.region);
  std::string why;
  const regions::MatMulLayout layout = *layout_of(request, block, packed, why);
  const plan::TensorDesc &a = *desc_of(request, block.a), &c = request.outputs[0];
  const cpu::CpuFeatures features{request.cpu_features & cpu::cpu_features().mask};
  // Products in bf16 where the precision plan stores bf16 and the machine multiplies it faster. Of two run-time operands the second
  // decides, as the kernel says.
  std::vector<DType> products;
  if (packed) {
    const bool narrow = a.dtype == DType::kBFloat16 || c.dtype == DType::kBFloat16;
    if (narrow && features.isa() >= cpu::Isa::kAvx512Bf16) products.push_back(DType::kBFloat16);
    if (products.empty() || a.dtype == DType::kFloat32) products.push_back(DType::kFloat32);
  } else {
    products.push_back(desc_of(request, block.b)->dtype);
  }

  std::vector<StepPlan> result;
  for (const DType product : products) {
    StepPlan step;
    step.kernel = "cpu.matmul";
    step.variant = std::string(packed ? "packed" : "dynamic") + (product == DType::kBFloat16 ? " bf16" : "");
    if (!block.perm_a.empty()) step.params.set("perm_a", block.perm_a);
    if (!block.perm_out.empty()) step.params.set("perm_out", block.perm_out);
    if (!packed)
      if (const auto perm = full_perm_b(block); !perm.empty()) step.params.set("perm_b", perm);
    step.params.set("scale", block.scale);
    regions::write_tail(block.tail, step.params);
    step.inputs = {block.a};
    if (!packed) step.inputs.push_back(block.b);
    const Third third = third_of(block);
    if (const ir::Value* residual = residual_of(block)) {
      step.inputs.push_back(const_cast<ir::Value*>(residual));
      step.params.set("residual_scale", third == Third::kResidual ? block.c_scale : 1.0F);
    }
    step.outputs = {request.region.outputs.at(0)};
    step.params.set("packed", static_cast<std::int64_t>(packed));
    if (packed) {
      const Dims& dims = block.b->constant.dims();
      step.params.set("weight_dims", dims);
      step.params.set("weight_type", static_cast<std::int64_t>(product));
      step.params.set("trans_b", static_cast<std::int64_t>(block.trans_b));
      WeightRequest weights;
      weights.pack = "cpu.matmul.pack";
      weights.params.set("weight_type", static_cast<std::int64_t>(product));
      weights.params.set("trans_b", static_cast<std::int64_t>(block.trans_b));
      weights.sources = {block.b};
      step.weights.push_back(std::move(weights));
    }
    const bool bias = third == Third::kBias || block.tail.bias;
    step.params.set("bias", static_cast<std::int64_t>(bias));
    if (bias) {
      WeightRequest weights;
      weights.pack = "cpu.matmul.pack_bias";
      weights.params.set("columns", layout.problem.n);
      weights.params.set("scale", block.c_scale);
      weights.sources = {third == Third::kBias ? block.c : nullptr, const_cast<ir::Value*>(block.tail.bias)};
      step.weights.push_back(std::move(weights));
    }
    step.flops = layout.flops;
    step.bytes = static_cast<double>(dtype_bytes(a.dtype, a.elements()) + dtype_bytes(c.dtype, c.elements()) * (residual_of(block) ? 2 : 1));
    step.bytes += static_cast<double>(packed ? dtype_bytes(product, block.b->constant.size()) : dtype_bytes(product, desc_of(request, block.b)->elements()));
    result.push_back(std::move(step));
  }
  return result;
}

Verdict supports_packed(const PlanRequest& request) { return supports(request, true); }
std::vector<StepPlan> plan_packed(const PlanRequest& request) { return plans(request, true); }
Verdict supports_dynamic(const PlanRequest& request) { return supports(request, false); }
std::vector<StepPlan> plan_dynamic(const PlanRequest& request) { return plans(request, false); }

/// Row-major, or channels-last where that makes one of these axes (of the value as stored) the contiguous one.
Layout layout_for(const ir::Value* value, std::initializer_list<std::int64_t> wanted) {
  if (!value->has_shape() || value->shape().size() < 3) return Layout::kRowMajor;
  const auto last = static_cast<std::int64_t>(value->shape().size()) - 1;
  for (const std::int64_t axis : wanted)
    if (axis == last) return Layout::kRowMajor;
  for (const std::int64_t axis : wanted)
    if (axis == 1) return Layout::kChannelsLast;
  return Layout::kRowMajor;
}

Layout block_layout(const Region& region, bool is_output, std::size_t index) {
  const MatMulBlock block = regions::match_matmul_block(region);
  const ir::Value* value = is_output ? region.outputs[index] : region.inputs[index];
  if (is_output) {
    if (block.perm_out.empty()) return Layout::kRowMajor;
    const auto rank = static_cast<std::int64_t>(block.perm_out.size());
    for (std::int64_t i = 0; i < rank; ++i)
      if (block.perm_out[static_cast<std::size_t>(i)] == rank - 1) return layout_for(value, {i});
  }
  const auto& perm = value == block.a ? block.perm_a : block.perm_b;
  if ((value != block.a && value != block.b) || perm.size() < 2) return Layout::kRowMajor;
  return layout_for(value, {perm[perm.size() - 1], perm[perm.size() - 2]});
}

// The plain loop: one node alone.

Verdict supports_generic(const PlanRequest& request) {
  if (request.region.nodes.size() != 1) return Verdict::decline("more than the product itself");
  const DType dtype = request.outputs[0].dtype;
  for (const plan::TensorDesc& desc : request.inputs)
    if (desc.dtype != dtype) return Verdict::decline("the operands are stored in different types");
  switch (dtype) {
    case DType::kFloat32:
    case DType::kFloat64:
    case DType::kFloat16:
    case DType::kBFloat16:
    case DType::kInt32:
    case DType::kInt64:
    case DType::kUint32:
    case DType::kUint64: return Verdict::accept();
    default: return Verdict::decline("the element type has no loop");
  }
}

std::vector<StepPlan> plan_generic(const PlanRequest& request) {
  const MatMulBlock block = regions::match_matmul_block(request.region);
  StepPlan step;
  step.kernel = "cpu.matmul.loop";
  step.variant = "loop";
  if (!block.perm_a.empty()) step.params.set("perm_a", block.perm_a);
  if (const auto perm = full_perm_b(block); !perm.empty()) step.params.set("perm_b", perm);
  step.params.set("scale", block.scale);
  step.params.set("c_scale", block.c_scale);
  step.inputs = {block.a, block.b};
  if (block.c) step.inputs.push_back(block.c);
  step.outputs = {request.region.outputs.at(0)};
  const plan::TensorDesc& a = *desc_of(request, block.a);
  const double k = static_cast<double>(
      a.dims.empty() ? 1 : a.dims[static_cast<std::size_t>(block.perm_a.empty() ? static_cast<std::int64_t>(a.dims.size()) - 1 : block.perm_a.back())]);
  step.flops = 2.0 * k * static_cast<double>(request.outputs[0].elements());
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  return {step};
}

Layout any_layout(const Region&, bool, std::size_t) { return Layout::kAny; }

}  // namespace

std::span<const Candidate> candidates_matmul_block() {
  static const std::array<Candidate, 3> list{{
      {"cpu.matmul.packed", "matmul_block", supports_packed, plan_packed, block_layout},
      {"cpu.matmul.dynamic", "matmul_block", supports_dynamic, plan_dynamic, block_layout},
      {"cpu.matmul.generic", "matmul_block", supports_generic, plan_generic, any_layout},
  }};
  return list;
}

}  // namespace lathe::ops
