// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Candidates for matmul_block: a constant right operand packed at build time, both operands at run time (attention), and the plain
// loop for every other type and memory order.

#include <array>

#include "backend/cpu/features.h"
#include "ops/candidate.h"
#include "regions/matmul_block/matmul_plan.h"

namespace lathe::ops {
namespace {

using regions::desc_of;
using regions::full_perm_b;
using regions::layout_of;
using regions::MatMulBlock;
using regions::residual_of;
using regions::supports_tiles;

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
    if (narrow && cpu::includes(features.isa(), cpu::Isa::kAvx512Bf16)) products.push_back(DType::kBFloat16);
    if (products.empty() || a.dtype == DType::kFloat32) products.push_back(DType::kFloat32);
  } else {
    products.push_back(desc_of(request, block.b)->dtype);
  }

  std::vector<StepPlan> result;
  for (const DType product : products) {
    StepPlan step;
    step.kernel = "cpu.matmul";
    step.variant = std::string(packed ? "packed" : "dynamic") + (product == DType::kBFloat16 ? " bf16" : "");
    describe_operands(block, packed, step);
    step.outputs = {request.region.outputs.at(0)};
    if (packed) {
      step.params.set("weight_type", static_cast<std::int64_t>(product));
      WeightRequest weights;
      weights.pack = "cpu.matmul.pack";
      weights.params.set("weight_type", static_cast<std::int64_t>(product));
      weights.params.set("trans_b", static_cast<std::int64_t>(block.trans_b));
      weights.sources = {block.b};
      step.weights.push_back(std::move(weights));
    }
    describe_bias(block, layout.problem.n, step);
    step.flops = layout.flops;
    step.bytes = static_cast<double>(dtype_bytes(a.dtype, a.elements()) + dtype_bytes(c.dtype, c.elements()) * (residual_of(block) ? 2 : 1));
    step.bytes += static_cast<double>(packed ? dtype_bytes(product, block.b->constant.size()) : dtype_bytes(product, desc_of(request, block.b)->elements()));
    result.push_back(std::move(step));
  }
  return result;
}

Verdict supports_packed(const PlanRequest& request) { return supports_tiles(request, true); }
std::vector<StepPlan> plan_packed(const PlanRequest& request) { return plans(request, true); }
Verdict supports_dynamic(const PlanRequest& request) { return supports_tiles(request, false); }
std::vector<StepPlan> plan_dynamic(const PlanRequest& request) { return plans(request, false); }

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
  const plan::TensorDesc& a = *desc_of(request, block.a);
  const double k = static_cast<double>(
      a.dims.empty() ? 1 : a.dims[static_cast<std::size_t>(block.perm_a.empty() ? static_cast<std::int64_t>(a.dims.size()) - 1 : block.perm_a.back())]);
  regions::describe_alone(request, block, 2.0 * k * static_cast<double>(request.outputs[0].elements()), step);
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_matmul_block() {
  static const std::array<Candidate, 3> list{{
      {"cpu.matmul.packed", "matmul_block", supports_packed, plan_packed, regions::matmul_layouts},
      {"cpu.matmul.dynamic", "matmul_block", supports_dynamic, plan_dynamic, regions::matmul_layouts},
      {"cpu.matmul.generic", "matmul_block", supports_generic, plan_generic, regions::any_layout},
  }};
  return list;
}

}  // namespace lathe::ops
