// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.det", "cuda.inverse": a block for a matrix of any number of rows. Those of up to 4 rows are left to the region language, which has them as expressions.

#include <array>

#include "ops/candidate.h"
#include "ops/linalg/linalg_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

template <bool kInverse>
Verdict supports(const PlanRequest& request) {
  const ir::Shape& shape = request.region.nodes.front()->input(0)->shape();
  const std::size_t rank = shape.size();
  if (rank >= 2 && shape[rank - 2] == shape[rank - 1] && shape[rank - 1].constant().value_or(5) <= 4)
    return Verdict::decline("matrices of up to 4 rows are expressions");
  if (request.outputs.size() != 1) return Verdict::decline("nothing is read of it");
  MatrixPlan plan;
  std::string why;
  if (!matrix_plan(request.inputs[0], request.outputs[0], kInverse, plan, why)) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("linalg") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

template <bool kInverse>
std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = kInverse ? "cuda.inverse" : "cuda.det";
  step.inputs = {node.input(0)};
  step.outputs = {node.output(0)};
  const plan::TensorDesc& x = request.inputs[0];
  const double elements = static_cast<double>(x.elements());
  step.bytes = (kInverse ? 2 : 1) * static_cast<double>(dtype_bytes(x.dtype, x.elements()));
  step.flops = elements * static_cast<double>(x.dims.back()) * (kInverse ? 3 : 2.0 / 3);
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_linalg_cuda() {
  static const std::array<Candidate, 2> list{
      {{"cuda.det", "Det", supports<false>, plan<false>, row_major}, {"cuda.inverse", "com.microsoft::Inverse", supports<true>, plan<true>, row_major}}};
  return list;
}

}  // namespace lathe::ops
