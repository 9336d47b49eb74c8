// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates for matmul_block share: reading a region as a product of strided matrices, what its kernels on tiles ask of it, the
// memory orders that they want.

#include "ops/candidate.h"
#include "regions/matmul_block/matmul_block.h"
#include "regions/matmul_block/matmul_layout.h"

namespace lathe::regions {

inline const plan::TensorDesc* desc_of(const ops::PlanRequest& request, const ir::Value* value) {
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (request.region.inputs[i] == value) return &request.inputs[i];
  return nullptr;
}

inline bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

/// Gemm's third input: nothing, a constant per column, or a tensor added like a residual.
enum class Third { kNone, kBias, kResidual };
inline Third third_of(const MatMulBlock& block) {
  if (!block.c) return Third::kNone;
  return block.c->is_constant() && is_per_channel(block.c, block.node->output()->shape(), -1) ? Third::kBias : Third::kResidual;
}

inline const ir::Value* residual_of(const MatMulBlock& block) { return third_of(block) == Third::kResidual ? block.c : block.tail.residual; }

inline std::vector<std::int64_t> full_perm_b(const MatMulBlock& block) {
  std::vector<std::int64_t> perm = block.perm_b;
  if (!block.trans_b) return perm;
  if (perm.empty()) return {1, 0};
  std::swap(perm[0], perm[1]);
  return perm;
}

inline bool packs(const MatMulBlock& block) { return block.b->is_constant() && block.b->constant.rank() >= 1 && block.b->constant.rank() <= 2; }

inline std::optional<MatMulLayout> layout_of(const ops::PlanRequest& request, const MatMulBlock& block, bool packed, std::string& why) {
  MatMulRequest r;
  r.a = permuted(*desc_of(request, block.a), block.perm_a);
  r.c = unpermuted(request.outputs[0], block.perm_out);
  if (packed) {
    const Dims& dims = block.b->constant.dims();
    r.packed_vector = dims.size() == 1;
    r.packed_k = block.trans_b ? dims[1] : dims[0];
    r.packed_n = dims.size() == 1 ? 1 : block.trans_b ? dims[0] : dims[1];
  } else {
    r.b = permuted(*desc_of(request, block.b), full_perm_b(block));
  }
  if (const ir::Value* residual = residual_of(block)) r.residual = *desc_of(request, residual);
  return matmul_layout(r, why);
}

/// What every kernel on tiles asks; `packed`: the right operand is constant.
inline ops::Verdict supports_tiles(const ops::PlanRequest& request, bool packed) {
  const MatMulBlock block = match_matmul_block(request.region);
  if (packed && !packs(block)) return ops::Verdict::decline("the second operand is not a constant matrix");
  if (!packed && packs(block)) return ops::Verdict::decline("the second operand is constant: packed is better");
  if (request.outputs.size() != 1) return ops::Verdict::decline("an inner value is read outside");
  if (block.node->output()->dtype() != DType::kFloat32) return ops::Verdict::decline("the element type is not float32");
  if (residual_of(block) == nullptr && third_of(block) == Third::kResidual) return ops::Verdict::decline("the third operand is no tensor");
  for (const ir::Value* value : {const_cast<const ir::Value*>(block.a), packed ? nullptr : const_cast<const ir::Value*>(block.b), residual_of(block)})
    if (value && !is_stored(desc_of(request, value)->dtype)) return ops::Verdict::decline("the storage type is neither float32 nor bfloat16");
  if (!is_stored(request.outputs[0].dtype)) return ops::Verdict::decline("the storage type is neither float32 nor bfloat16");
  std::string why;
  return layout_of(request, block, packed, why) ? ops::Verdict::accept() : ops::Verdict::decline(why);
}

/// Row-major, or channels-last where that makes one of these axes (of the value as stored) the contiguous one.
inline ops::Layout layout_for(const ir::Value* value, std::initializer_list<std::int64_t> wanted) {
  if (!value->has_shape() || value->shape().size() < 3) return ops::Layout::kRowMajor;
  const auto last = static_cast<std::int64_t>(value->shape().size()) - 1;
  for (const std::int64_t axis : wanted)
    if (axis == last) return ops::Layout::kRowMajor;
  for (const std::int64_t axis : wanted)
    if (axis == 1) return ops::Layout::kChannelsLast;
  return ops::Layout::kRowMajor;
}

/// The memory orders that kernels on tiles want.
inline ops::Layout matmul_layouts(const ops::Region& region, bool is_output, std::size_t index) {
  const MatMulBlock block = match_matmul_block(region);
  const ir::Value* value = is_output ? region.outputs[index] : region.inputs[index];
  if (is_output) {
    if (block.perm_out.empty()) return ops::Layout::kRowMajor;
    const auto rank = static_cast<std::int64_t>(block.perm_out.size());
    for (std::int64_t i = 0; i < rank; ++i)
      if (block.perm_out[static_cast<std::size_t>(i)] == rank - 1) return layout_for(value, {i});
  }
  const auto& perm = value == block.a ? block.perm_a : block.perm_b;
  if ((value != block.a && value != block.b) || perm.size() < 2) return ops::Layout::kRowMajor;
  return layout_for(value, {perm[perm.size() - 1], perm[perm.size() - 2]});
}

/// Bias of tiles and of oneDNN: Gemm's constant third input or the tail's.
inline ops::WeightRequest bias_weights(const MatMulBlock& block, std::int64_t columns) {
  ops::WeightRequest weights;
  weights.pack = "cpu.matmul.pack_bias";
  weights.params.set("columns", columns);
  weights.params.set("scale", block.c_scale);
  weights.sources = {third_of(block) == Third::kBias ? block.c : nullptr, const_cast<ir::Value*>(block.tail.bias)};
  return weights;
}

/// Permutations, scale, tail and run-time inputs of a step, and what its weight is.
inline void describe_operands(const MatMulBlock& block, bool packed, ops::StepPlan& step) {
  if (!block.perm_a.empty()) step.params.set("perm_a", block.perm_a);
  if (!block.perm_out.empty()) step.params.set("perm_out", block.perm_out);
  if (!packed)
    if (const auto perm = full_perm_b(block); !perm.empty()) step.params.set("perm_b", perm);
  step.params.set("scale", block.scale);
  write_tail(block.tail, step.params);
  step.inputs = {block.a};
  if (!packed) step.inputs.push_back(block.b);
  if (const ir::Value* residual = residual_of(block)) {
    step.inputs.push_back(const_cast<ir::Value*>(residual));
    step.params.set("residual_scale", third_of(block) == Third::kResidual ? block.c_scale : 1.0F);
  }
  step.params.set("packed", static_cast<std::int64_t>(packed));
  if (packed) {
    step.params.set("weight_dims", block.b->constant.dims());
    step.params.set("trans_b", static_cast<std::int64_t>(block.trans_b));
  }
}

/// A product alone, whatever its types and memory orders: what its step reads, in which order and with which factors.
inline void describe_alone(const ops::PlanRequest& request, const MatMulBlock& block, double flops, ops::StepPlan& step) {
  if (!block.perm_a.empty()) step.params.set("perm_a", block.perm_a);
  if (const auto perm = full_perm_b(block); !perm.empty()) step.params.set("perm_b", perm);
  step.params.set("scale", block.scale);
  step.params.set("c_scale", block.c_scale);
  step.inputs = {block.a, block.b};
  if (block.c) step.inputs.push_back(block.c);
  step.outputs = {request.region.outputs.at(0)};
  step.flops = flops;
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
}
inline ops::Layout any_layout(const ops::Region&, bool, std::size_t) { return ops::Layout::kAny; }

/// The bias that Gemm's third input and the tail come to, as a weight of the step.
inline void describe_bias(const MatMulBlock& block, std::int64_t columns, ops::StepPlan& step) {
  const bool bias = third_of(block) == Third::kBias || block.tail.bias;
  step.params.set("bias", static_cast<std::int64_t>(bias));
  if (bias) step.weights.push_back(bias_weights(block, columns));
}

}  // namespace lathe::regions
