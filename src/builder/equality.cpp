// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See equality.h.

#include "builder/equality.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "builder/hints.h"
#include "builder/random_inputs.h"
#include "ops/reference_runner.h"
#include "ops/registry.h"

namespace lathe::builder {
namespace {

/// Largest difference as a share of the scale; infinite when types, shapes or non-finite elements differ.
double difference(const Tensor& a, const Tensor& b) {
  if (a.form() != b.form()) return INFINITY;
  if (a.is_sequence() || a.is_map()) {
    if (a.items().size() != b.items().size()) return INFINITY;
    double worst = 0;
    for (std::size_t i = 0; i < a.items().size(); ++i) worst = std::max(worst, difference(a.items()[i], b.items()[i]));
    return worst;
  }
  if (a.dtype() != b.dtype() || a.dims() != b.dims()) return INFINITY;
  if (a.dtype() == DType::kString) return a.string_data() == b.string_data() ? 0 : INFINITY;
  double scale = 0, worst = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    if (!is_float(a.dtype())) {
      if (a.as_int64(i) != b.as_int64(i)) return INFINITY;
      continue;
    }
    const double x = a.as_double(i), y = b.as_double(i);
    if (!std::isfinite(x) || !std::isfinite(y)) {
      if (!(x == y || (std::isnan(x) && std::isnan(y)))) return INFINITY;
      continue;
    }
    scale = std::max(scale, std::fabs(x));
    worst = std::max(worst, std::fabs(x - y));
  }
  return worst == 0 ? 0 : worst / std::max(scale, 1e-30);
}

double share_of(const Tensor& tensor) {
  if (tensor.is_sequence() && !tensor.items().empty()) return share_of(tensor.items().front());
  return narrow_share(tensor.dtype());
}

/// Does a run draw random numbers that no seed fixes? Two runs then have shapes in common, not numbers.
bool draws(const ir::Graph& graph) {
  bool found = false;
  ir::for_each_node_deep(graph, [&](const ir::Node& node) { found |= !ops::is_deterministic(node) && !node.attrs.has("seed"); });
  return found;
}

bool same_shape(const Tensor& a, const Tensor& b) { return a.form() == b.form() && a.dtype() == b.dtype() && a.dims() == b.dims(); }

}  // namespace

double narrow_share(DType dtype) {
  constexpr double kUnits = 8;
  return dtype == DType::kFloat16 ? kUnits / 2048 : dtype == DType::kBFloat16 ? kUnits / 256 : 0;
}

Equality check_equality(const ir::Model& original, const ir::Model& model, const std::map<std::string, ShapeRange>& shapes, int sets, double tolerance) {
  Equality result;
  ops::RunnerOptions options;
  options.oracle = true;
  ops::ReferenceRunner before(original, options), after(model, options);
  const bool random = draws(before.graph());
  std::map<std::string, ShapeRange> all = shapes;
  const auto compare = [&](const ir::Bindings& bindings, std::uint64_t seed) {
    // Inputs that the simplified model dropped still feed the original.
    std::map<std::string, Tensor> inputs = random_inputs(before.graph(), bindings, seed), fewer;
    for (const ir::Value* input : after.graph().inputs()) {
      const auto found = inputs.find(input->name);
      if (found == inputs.end()) throw Error(Code::kInternal, "the simplified model has an input that the original has not").at_tensor(input->name);
      fewer.insert(*found);
    }
    const auto expected = before.run(inputs), actual = after.run(fewer);
    for (const auto& [name, tensor] : expected) {
      const auto found = actual.find(name);
      const double error = found == actual.end() ? INFINITY : random ? (same_shape(tensor, found->second) ? 0 : INFINITY) : difference(tensor, found->second);
      if (!(error <= std::max(tolerance, share_of(tensor))))
        throw Error(Code::kVerification, fmt::format("the simplified model's output differs from the original's by {:.1e} of its scale", error))
            .at_tensor(name)
            .with_remedy("Nothing was written. This is a defect of Lathe: please report it with the model.");
      result.max_relative_error = std::max(result.max_relative_error, error);
    }
    ++result.input_sets;
  };
  const ir::Bindings hints = hint_bindings(before.graph(), all);
  for (int set = 1; set <= sets; ++set) compare(hints, static_cast<std::uint64_t>(set));
  if (const ir::Bindings odd = odd_bindings(before.graph(), all, hints); !odd.empty()) compare(odd, static_cast<std::uint64_t>(sets) + 1);
  return result;
}

}  // namespace lathe::builder
