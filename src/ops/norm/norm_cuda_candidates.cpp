// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.layer_norm", "cuda.rms_norm": normalised rows of up to 8192 elements with constant scale and bias.

#include <algorithm>
#include <array>
#include <span>

#include "ops/candidate.h"
#include "ops/norm/row_norm_plan.h"
#include "regions/cuda_params.h"

namespace lathe::ops {
namespace {

std::int64_t axis_of(const ir::Node& node, std::size_t rank) {
  const std::int64_t axis = node.attrs.get_int("axis", -1);
  return axis < 0 ? axis + static_cast<std::int64_t>(rank) : axis;
}

/// A constant with one number per element of a row, in the row's order: its last axes are the row's, what stands before them has extent 1.
bool is_per_column(const ir::Value* value, std::span<const std::int64_t> row) {
  if (!value || !value->is_constant()) return false;
  const Dims& dims = value->constant.dims();
  for (std::size_t i = 0; i < std::max(dims.size(), row.size()); ++i) {
    const std::int64_t own = i < dims.size() ? dims[dims.size() - 1 - i] : 1, wanted = i < row.size() ? row[row.size() - 1 - i] : 1;
    if (own != wanted) return false;
  }
  return true;
}

Verdict supports(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const ir::Value* output = node.output();
  if (!output || request.region.outputs.size() != 1 || request.region.outputs[0] != output) return Verdict::decline("the statistics are read too");
  if (node.attrs.get_int("stash_type", 1) != 1) return Verdict::decline("statistics of another type than float32");
  const plan::TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  if (!regions::cuda_element(x.dtype) || !regions::cuda_element(y.dtype)) return Verdict::decline(std::string(regions::kNoCudaElement));
  if (x.dims.empty()) return Verdict::decline("a scalar");
  const auto axis = static_cast<std::size_t>(axis_of(node, x.dims.size()));
  std::int64_t columns = 1;
  for (std::size_t a = axis; a < x.dims.size(); ++a) {
    if (!node.input(0)->shape()[a].is_constant()) return Verdict::decline("the length of a row is not fixed");
    columns *= x.dims[a];
  }
  if (columns < 1 || columns > kMostNormColumns) return Verdict::decline("rows of more than 8192 elements");
  for (const std::size_t i : {1, 2})
    if (node.input(i) && !is_per_column(node.input(i), std::span(x.dims).subspan(axis)))
      return Verdict::decline("scale and bias are no constants of a row's length");
  if (!rows_of(x, axis) || !rows_of(y, axis)) return Verdict::decline("the elements of a row are not contiguous");
  return regions::need_device(request.device).has_builtin_module("row_norm") ? Verdict::accept() : Verdict::decline("this build has no such kernel");
}

std::vector<StepPlan> plan(const PlanRequest& request) {
  const ir::Node& node = *request.region.nodes.front();
  const plan::TensorDesc &x = request.inputs[0], &y = request.outputs[0];
  StepPlan step;
  step.kernel = "cuda.row_norm";
  step.params.set("axis", axis_of(node, x.dims.size()));
  step.params.set("epsilon", node.attrs.get_float("epsilon", 1e-5F));
  step.params.set("rms", static_cast<std::int64_t>(node.op == "RMSNormalization"));
  step.inputs = {node.input(0)};
  step.outputs = {request.region.outputs[0]};
  step.weights.push_back({"cpu.bias.pack", {}, {node.input(1)}});
  if (node.input(2)) step.weights.push_back({"cpu.bias.pack", {}, {node.input(2)}});
  step.flops = 8 * static_cast<double>(x.elements());
  step.bytes = static_cast<double>(dtype_bytes(x.dtype, x.elements()) + dtype_bytes(y.dtype, y.elements()));
  return {step};
}

}  // namespace

std::span<const Candidate> candidates_norm_cuda() {
  static const std::array<Candidate, 2> list{
      {{"cuda.layer_norm", "LayerNormalization", supports, plan, row_major}, {"cuda.rms_norm", "RMSNormalization", supports, plan, row_major}}};
  return list;
}

}  // namespace lathe::ops
