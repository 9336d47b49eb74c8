// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.tfidf": TfIdfVectorizer of tokens that are numbers. Texts are the host's.

#include <array>

#include <fmt/format.h>

#include "ops/candidate.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

Verdict supports(const PlanRequest& request) {
  const plan::TensorDesc& x = request.inputs[0];
  if (x.dtype != DType::kInt32 && x.dtype != DType::kInt64) return Verdict::decline("the tokens are texts");
  if (x.dims.empty() || x.dims.size() > 2) return Verdict::decline("tokens of another rank than 1 or 2");
  if (!regions::cuda_element(request.outputs[0].dtype)) return Verdict::decline(std::string(regions::kNoCudaElement));
  return regions::need_device(request.device).has_builtin_module("tfidf") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  StepPlan step;
  step.kernel = "cuda.tfidf";
  step.inputs = {node.input(0)};
  step.outputs = {node.output(0)};
  WeightRequest& grams = step.weights.emplace_back(WeightRequest{"cuda.tfidf.pack", {}, {}});
  for (const auto& [name, attribute] : node.attrs) grams.params.set(name, attribute);
  step.variant = fmt::format("{} n-grams", node.attrs.get_ints("ngram_indexes").size());
  const plan::TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements())) + 5 * static_cast<double>(dtype_bytes(y.dtype, y.elements()));
  step.flops = static_cast<double>(x.elements());
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_text_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.tfidf", "TfIdfVectorizer", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
