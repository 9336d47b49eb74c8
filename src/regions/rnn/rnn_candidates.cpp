// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.rnn": recurrent layers with packed weights, both layouts, all directions, sequence lengths, initial states. What it lacks (clip,
// peepholes, coupled gates) runs by the defining reference.

#include <array>

#include "ops/candidate.h"
#include "regions/rnn/rnn.h"

namespace lathe::ops {
namespace {

bool is_stored(DType dtype) { return dtype == DType::kFloat32 || dtype == DType::kBFloat16; }

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  for (const std::size_t i : {std::size_t{1}, std::size_t{2}, std::size_t{3}})
    if (node.input(i) && !node.input(i)->is_constant()) return Verdict::decline("weights that are no constants");
  std::string why;
  if (!regions::rnn_problem(node.op, node.attrs, why)) return Verdict::decline(why + " have no kernel");
  if (node.input(7)) return Verdict::decline("peepholes have no kernel");
  if (node.input(0)->dtype() != DType::kFloat32) return Verdict::decline("the element type is not float32");
  const Dims &w = node.input(1)->constant.dims(), &r = node.input(2)->constant.dims();
  if (w.size() != 3 || r.size() != 3) return Verdict::decline("weights of another rank than 3");
  DType state = DType::kUndefined;
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i) {
    const ir::Value* value = request.region.inputs[i];
    if (value == node.input(0) && !is_stored(request.inputs[i].dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
    if (value == node.input(4) && request.inputs[i].dtype != DType::kInt32) return Verdict::decline("sequence lengths that are not int32");
    if (value == node.input(5) || value == node.input(6)) {
      if (state != DType::kUndefined && state != request.inputs[i].dtype) return Verdict::decline("states of different storage types");
      state = request.inputs[i].dtype;
    }
  }
  for (std::size_t i = 0; i < request.region.outputs.size(); ++i) {
    const DType dtype = request.outputs[i].dtype;
    if (!is_stored(dtype)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
    if (request.region.outputs[i] == node.output(0)) continue;
    if (state != DType::kUndefined && state != dtype) return Verdict::decline("states of different storage types");
    state = dtype;
  }
  if (state != DType::kUndefined && !is_stored(state)) return Verdict::decline("the storage type is neither float32 nor bfloat16");
  return Verdict::accept();
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  std::string why;
  const cpu::RnnProblem p = *regions::rnn_problem(node.op, node.attrs, why);
  StepPlan step;
  step.kernel = "cpu.rnn";
  step.variant = "packed";
  const Dims& w = node.input(1)->constant.dims();
  const auto describe = [&](ir::Attrs& params) {
    params.set("op", node.op);
    for (const auto& [name, attribute] : node.attrs) params.set(name, attribute);
    params.set("input_size", w[2]);
    params.set("hidden_size", node.input(2)->constant.dims()[2]);
  };
  describe(step.params);
  step.inputs = {node.input(0), node.input(4), node.input(5), node.op == "LSTM" ? node.input(6) : nullptr};
  // Outputs nobody reads are not made.
  for (std::size_t i = 0; i < 3; ++i) {
    ir::Value* output = node.output(i);
    step.outputs.push_back(output && (!output->uses.empty() || output->is_graph_output()) ? output : nullptr);
  }
  for (const auto& [pack, source] :
       {std::pair{"cpu.rnn.pack_input", node.input(1)}, std::pair{"cpu.rnn.pack_recurrent", node.input(2)}, std::pair{"cpu.rnn.pack_bias", node.input(3)}}) {
    WeightRequest weights;
    weights.pack = pack;
    describe(weights.params);
    weights.sources = {source};
    step.weights.push_back(std::move(weights));
  }
  for (std::size_t i = 0; i < request.region.inputs.size(); ++i) {
    const plan::TensorDesc& desc = request.inputs[i];
    if (!desc.dims.empty()) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
    if (request.region.inputs[i] == node.input(0) && desc.dims.size() == 3)
      step.flops =
          2.0 * static_cast<double>(desc.dims[0] * desc.dims[1]) * static_cast<double>(w[0] * w[1]) * static_cast<double>(w[2] + w[1] / cpu::rnn_gates(p.kind));
  }
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_rnn() {
  static const std::array<Candidate, 1> list{{{"cpu.rnn", "rnn", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
