// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.random": the random operators, any number of elements without a seed, of a seed as many as are worth keeping.

#include <array>

#include "ops/node_descs.h"
#include "ops/random/random_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

cuda::RandomKind kind_of(const ir::Node& node) {
  if (node.op == "Bernoulli") return cuda::kRandomBernoulli;
  if (node.op == "Multinomial") return cuda::kRandomMultinomial;
  return node.op.starts_with("RandomNormal") ? cuda::kRandomNormal : cuda::kRandomUniform;
}

RandomHow how_of(const ir::Node& node) {
  RandomHow how;
  how.kind = kind_of(node);
  how.dtype = node.output(0)->dtype();
  const Drawing drawing = how.kind == cuda::kRandomNormal ? Drawing::normal_of(node.attrs, how.dtype) : Drawing::uniform_of(node.attrs, how.dtype);
  if (!reads_input(how.kind)) how.scale = drawing.scale, how.offset = drawing.offset;
  how.seed = seed_of(node.attrs);
  return how;
}

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  if (request.outputs.size() != 1) return Verdict::decline("nothing is read of it");
  if (has_infinite_seed(node.attrs)) return Verdict::decline("the seed is infinite");
  const RandomHow how = how_of(node);
  const auto inputs = node_input_descs<1>(request);
  cuda::RandomParams params;
  std::string why;
  if (!random_plan(std::span(inputs).first(reads_input(how.kind) ? 1 : 0), request.outputs, how, params, why)) return Verdict::decline(why);
  if (how.seed && params.count > kMostSeeded) return Verdict::decline("more numbers of a seed than are worth keeping");
  return regions::need_device(request.device).has_builtin_module("random") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const RandomHow how = how_of(node);
  StepPlan step;
  step.kernel = "cuda.random";
  step.params.set("kind", static_cast<std::int64_t>(how.kind));
  step.params.set("dtype", static_cast<std::int64_t>(how.dtype));
  if (how.seed) step.params.set("seed", static_cast<std::int64_t>(*how.seed));
  if (reads_input(how.kind)) {
    step.inputs = {node.input(0)};
  } else {
    step.params.set("scale", static_cast<float>(how.scale));
    step.params.set("offset", static_cast<float>(how.offset));
  }
  step.outputs = {node.output(0)};
  for (const auto* list : {&request.inputs, &request.outputs})
    for (const plan::TensorDesc& desc : *list) step.bytes += static_cast<double>(dtype_bytes(desc.dtype, desc.elements()));
  step.flops = 40 * static_cast<double>(request.outputs[0].elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_random_cuda() {
  static const std::array<Candidate, 6> list{{{"cuda.random", "RandomNormal", supports, plan, row_major},
                                              {"cuda.random", "RandomUniform", supports, plan, row_major},
                                              {"cuda.random", "RandomNormalLike", supports, plan, row_major},
                                              {"cuda.random", "RandomUniformLike", supports, plan, row_major},
                                              {"cuda.random", "Bernoulli", supports, plan, row_major},
                                              {"cuda.random", "Multinomial", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
