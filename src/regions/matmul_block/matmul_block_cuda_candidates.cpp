// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.matmul": a constant right operand packed at build time, or both operands at run time (attention), on the tensor cores.

#include <array>
#include <optional>

#include "ops/candidate.h"
#include "regions/matmul_block/matmul_cuda_params.h"
#include "regions/matmul_block/matmul_plan.h"

namespace lathe::ops {
namespace {

using regions::desc_of;
using regions::layout_of;
using regions::MatMulBlock;
using regions::packs;
using regions::residual_of;

constexpr std::size_t kPlansTimed = 16;

struct Problem {
  regions::MatMulLayout layout;
  regions::CudaMatMul matmul;
  cuda::GemmSetup setup;
  std::vector<cuda::GemmPlan> plans;
  cuda::ProductType product = cuda::kProductF32;
};

std::optional<Problem> problem_of(const PlanRequest& request, const MatMulBlock& block, std::string& why) {
  const bool packed = packs(block);
  const plan::TensorDesc &a = *desc_of(request, block.a), &c = request.outputs[0];
  const ir::Value* residual = residual_of(block);
  const auto a_type = regions::cuda_element(a.dtype), c_type = regions::cuda_element(c.dtype);
  if (!a_type || !c_type) {
    why = regions::kNoCudaElement;
    return std::nullopt;
  }
  if (residual && desc_of(request, residual)->dtype != c.dtype) {
    why = "the residual is stored in another type than the result";
    return std::nullopt;
  }
  Problem p;
  p.product = regions::product_of(*a_type, request.tf32);
  if (!packed) {
    // The second operand is read as it is: its type decides. A first one in float32 is rounded to it.
    const auto b_type = regions::cuda_element(desc_of(request, block.b)->dtype);
    if (!b_type) {
      why = regions::kNoCudaElement;
      return std::nullopt;
    }
    p.product = regions::product_of(*b_type, request.tf32);
    if (*a_type != *b_type) {
      why = "the operands are stored in different types";
      return std::nullopt;
    }
  }
  auto layout = layout_of(request, block, packed, why);
  if (!layout) return std::nullopt;
  if (layout->empty) {
    why = "the product is empty";
    return std::nullopt;
  }
  p.layout = std::move(*layout);
  p.matmul = regions::cuda_matmul(p.layout, p.product, *a_type, *c_type, residual != nullptr);
  why = cuda::matmul_unsupported(p.matmul.shape, p.matmul.operands);
  if (!why.empty()) return std::nullopt;
  p.setup = cuda::matmul_setup(p.matmul.shape, p.matmul.operands);
  const cuda::Device& device = regions::need_device(request.device);
  if (device.info().arch() >= 80 || (p.setup.a == cuda::kVectorA && p.setup.b == cuda::kPackedB))
    p.plans = cuda::gemm_plans(p.setup, cuda::limits_of(device.info()), kPlansTimed);
  std::erase_if(p.plans, [&](const cuda::GemmPlan& plan) { return !device.has_builtin_module(cuda::gemm_kernel_name(p.setup, plan).module); });
  if (p.plans.empty()) {
    why = "this build has no kernel for such operands on " + device.info().arch_name();
    return std::nullopt;
  }
  return p;
}

Verdict supports(const PlanRequest& request) {
  const MatMulBlock block = regions::match_matmul_block(request.region);
  if (request.outputs.size() != 1) return Verdict::decline("an inner value is read outside");
  std::string why;
  return problem_of(request, block, why) ? Verdict::accept() : Verdict::decline(why);
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const MatMulBlock block = regions::match_matmul_block(request.region);
  std::string why;
  const Problem p = *problem_of(request, block, why);
  const bool packed = packs(block);
  StepPlan step;
  step.kernel = "cuda.matmul";
  step.params.set("product", static_cast<std::int64_t>(p.product));
  describe_operands(block, packed, step);
  if (packed) {
    WeightRequest weights;
    weights.pack = "cuda.matmul.pack";
    weights.params.set("product", static_cast<std::int64_t>(p.product));
    weights.params.set("trans_b", static_cast<std::int64_t>(block.trans_b));
    weights.sources = {block.b};
    step.weights.push_back(std::move(weights));
  }
  describe_bias(block, p.layout.problem.n, step);
  step.outputs = {request.region.outputs.at(0)};
  step.flops = p.layout.flops;
  const plan::TensorDesc &a = *desc_of(request, block.a), &c = request.outputs[0];
  step.bytes = static_cast<double>(dtype_bytes(a.dtype, a.elements()) + dtype_bytes(c.dtype, c.elements()) * (residual_of(block) ? 2 : 1)) +
               static_cast<double>(packed ? cuda::packed_bytes(p.setup) : dtype_bytes(a.dtype, desc_of(request, block.b)->elements()));
  std::vector<StepPlan> result;
  for (const cuda::GemmPlan& plan : p.plans) {
    StepPlan next = step;
    next.variant = cuda::describe(plan);
    regions::write_gemm_plan(plan, static_cast<std::int64_t>(p.setup.params.rows) * p.setup.items, next.params);
    result.push_back(std::move(next));
  }
  return result;
}

}  // namespace

std::span<const Candidate> candidates_matmul_block_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.matmul", "matmul_block", supports, plan, regions::matmul_layouts}}};
  return list;
}

}  // namespace lathe::ops
