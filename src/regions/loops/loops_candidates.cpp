// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.loops", "cuda.loops": nodes with a lowering, as one region of the region language. Accept any memory order: the emitters read strides.

#include <algorithm>
#include <array>

#include "loops/builder.h"
#include "loops/cuda/emitter.h"
#include "ops/candidate.h"
#include "plan/kernel.h"

namespace lathe::ops {
namespace {

struct Lowered {
  loops::LoopRegion region;
  std::vector<ir::Value*> inputs;  ///< those that the region reads (a scalar constant becomes part of an expression)
  std::string reason;
};

Lowered lower(const Region& region) {
  Lowered result;
  const std::vector<const ir::Value*> outputs(region.outputs.begin(), region.outputs.end());
  const std::vector<const ir::Value*> all(region.inputs.begin(), region.inputs.end());
  loops::LoopRegion whole;
  if (!loops::lower_nodes(region.nodes, all, outputs, whole, result.reason)) return result;
  std::vector<bool> read(whole.buffers.size(), false);
  for (const loops::Expr& e : whole.exprs)
    if (e.op == loops::ExprOp::kLoad || e.op == loops::ExprOp::kLoadOr) read[static_cast<std::size_t>(e.index)] = true;
  std::vector<const ir::Value*> used;
  for (std::size_t i = 0; i < region.inputs.size(); ++i)
    if (read[i]) {
      used.push_back(region.inputs[i]);
      result.inputs.push_back(region.inputs[i]);
    }
  loops::lower_nodes(region.nodes, used, outputs, result.region, result.reason);
  return result;
}

StepPlan step_of(const PlanRequest& request, Lowered lowered) {
  StepPlan step;
  step.kernel = request.device ? "cuda.loops" : "cpu.loops";
  step.params.set("region", lowered.region.serialize());
  step.inputs = std::move(lowered.inputs);
  step.outputs = request.region.outputs;
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i)
    if (std::find(step.inputs.begin(), step.inputs.end(), request.region.inputs[i]) != step.inputs.end())
      step.bytes += static_cast<double>(dtype_bytes(request.inputs[i].dtype, request.inputs[i].elements()));
  for (const plan::TensorDesc& desc : request.outputs) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  return step;
}

/// Throws what the emitter cannot put into CUDA C++; nothing is compiled yet.
void emit_for_cuda(const StepPlan& step, const std::vector<plan::TensorDesc>& inputs, const PlanRequest& request) {
  const loops::LoopRegion region = loops::parse_region(step.params.get_string("region", ""));
  std::vector<plan::TensorDesc> descs;
  std::size_t in = 0, out = 0;
  for (const loops::Buffer& buffer : region.buffers) {
    if (buffer.role == loops::Role::kInput) descs.push_back(inputs[in++]);
    else if (buffer.role == loops::Role::kOutput) descs.push_back(request.outputs[out++]);
    else descs.push_back(plan::TensorDesc::row_major(buffer.dtype, *ir::evaluate(buffer.shape, request.symbols)));
  }
  loops::cuda::emit(region, descs, request.symbols, {});
}

Verdict supports(const PlanRequest& request) {
  for (const auto* list : {&request.region.inputs, &request.region.outputs})
    for (const ir::Value* value : *list)
      if (value->dtype() == DType::kString) return Verdict::decline("string tensors");
  if (request.region.outputs.empty()) return Verdict::decline("nothing outside reads the result");
  Lowered lowered = lower(request.region);
  if (!lowered.reason.empty()) return Verdict::decline(lowered.reason);
  // What the emitter cannot compile it says when it binds: ask it with these shapes.
  const StepPlan step = step_of(request, std::move(lowered));
  std::vector<plan::TensorDesc> inputs;
  for (const ir::Value* value : step.inputs)
    inputs.push_back(
        request.inputs[static_cast<std::size_t>(std::find(request.region.inputs.begin(), request.region.inputs.end(), value) - request.region.inputs.begin())]);
  const std::vector<const void*> constants(inputs.size(), nullptr);
  try {
    if (request.device) {
      emit_for_cuda(step, inputs, request);
      return Verdict::accept();
    }
    plan::find_kernel("cpu.loops")->bind({step.params, inputs, request.outputs, constants, {}, request.symbols, request.threads});
  } catch (const Error& error) {
    if (error.code() == Code::kInternal) throw;
    return Verdict::decline(error.message());
  }
  return Verdict::accept();
}

std::vector<StepPlan> plan_loops(const PlanRequest& request) { return {step_of(request, lower(request.region))}; }

Layout any(const Region&, bool, std::size_t) { return Layout::kAny; }

}  // namespace

std::span<const Candidate> candidates_loops() {
  static const std::array<Candidate, 2> list{{{"cpu.loops", "loops", supports, plan_loops, any}, {"cuda.loops", "loops", supports, plan_loops, any}}};
  return list;
}

}  // namespace lathe::ops
