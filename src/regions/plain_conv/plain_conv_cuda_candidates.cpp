// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.conv.generic": a Conv or ConvTranspose alone that no kernel on the tensor cores takes: float64, weights that the model gives, three axes, any groups.

#include <algorithm>
#include <array>

#include "ops/candidate.h"
#include "regions/cuda_params.h"
#include "regions/plain_conv/plain_conv_plan.h"

namespace lathe::ops {
namespace {

bool plan_of(const PlanRequest& request, regions::PlainConvPlan& plan, std::string& why) {
  const ir::Node& node = *request.region.nodes.front();
  const auto desc = [&](const ir::Value* value) -> const plan::TensorDesc* {
    const auto found = std::find(request.region.inputs.begin(), request.region.inputs.end(), value);
    return value && found != request.region.inputs.end() ? &request.inputs[static_cast<std::size_t>(found - request.region.inputs.begin())] : nullptr;
  };
  const plan::TensorDesc *x = desc(node.input(0)), *w = desc(node.input(1));
  if (!x || !w || x->dims.size() < 3 || request.outputs.size() != 1) {
    why = "no image, or none is made";
    return false;
  }
  const auto spec = regions::plain_conv_spec(node.attrs, node.is("ConvTranspose"), x->dims.size() - 2, why);
  return spec && regions::plain_conv_plan(*spec, *x, *w, desc(node.input(2)), request.outputs[0], plan, why);
}

Verdict supports(const PlanRequest& request) {
  if (request.region.nodes.size() != 1) return Verdict::decline("more than the convolution itself");
  regions::PlainConvPlan plan;
  std::string why;
  if (!plan_of(request, plan, why)) return Verdict::decline(why);
  return regions::need_device(request.device).has_builtin_module("plain_conv") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  regions::PlainConvPlan plan;
  std::string why;
  plan_of(request, plan, why);
  StepPlan step;
  step.kernel = "cuda.conv.generic";
  for (const auto& [name, attribute] : node.attrs) step.params.set(name, attribute);
  step.params.set("transposed", std::int64_t{node.is("ConvTranspose")});
  step.inputs = {node.input(0), node.input(1)};
  if (node.input(2)) step.inputs.push_back(node.input(2));
  step.outputs = {node.output(0)};
  step.flops = plan.flops;
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_plain_conv_cuda() {
  // The patterns are those of constant weights; where the model gives them the node's name is.
  static const std::array<Candidate, 4> list{{{"cuda.conv.generic", "conv_block", supports, plan, row_major},
                                              {"cuda.conv.generic", "conv_transpose", supports, plan, row_major},
                                              {"cuda.conv.generic", "Conv", supports, plan, row_major},
                                              {"cuda.conv.generic", "ConvTranspose", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
