// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.matmul.generic": a MatMul or Gemm alone that no kernel on the tensor cores takes: float64, integers, operands of several types, any memory order.

#include <array>

#include "regions/cuda_params.h"
#include "regions/matmul_block/matmul_plan.h"
#include "regions/plain_matmul/plain_matmul_plan.h"

namespace lathe::ops {
namespace {

using regions::desc_of;
using regions::MatMulBlock;

bool plan_of(const PlanRequest& request, const MatMulBlock& block, regions::PlainMatMulPlan& plan, std::string& why) {
  const std::vector<std::int64_t> perm_b = full_perm_b(block);
  const plan::TensorDesc* z = block.c ? desc_of(request, block.c) : nullptr;
  return regions::plain_matmul_plan(
      {*desc_of(request, block.a), *desc_of(request, block.b), request.outputs[0], z, block.perm_a, perm_b, block.scale, block.c_scale}, plan, why);
}

Verdict supports(const PlanRequest& request) {
  if (request.region.nodes.size() != 1) return Verdict::decline("more than the product itself");
  regions::PlainMatMulPlan plan;
  std::string why;
  if (!plan_of(request, regions::match_matmul_block(request.region), plan, why)) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("plain_matmul") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const MatMulBlock block = regions::match_matmul_block(request.region);
  regions::PlainMatMulPlan plan;
  std::string why;
  plan_of(request, block, plan, why);
  StepPlan step;
  step.kernel = "cuda.matmul.generic";
  regions::describe_alone(request, block, plan.flops, step);
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_plain_matmul_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.matmul.generic", "matmul_block", supports, plan, regions::any_layout}}};
  return list;
}

}  // namespace lathe::ops
