// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See pool.h.

#include "regions/pool/pool.h"

#include <algorithm>

namespace lathe::regions {
namespace {

/// ReduceMean and kin over exactly the axes behind the channels.
bool reduces_pixels(const ir::Node& node) {
  const ir::Value* x = node.input(0);
  if (!x || !x->has_shape() || x->shape().size() < 3) return false;
  std::vector<std::int64_t> axes;
  if (const ir::Value* list = node.input(1)) {
    if (!list->is_constant()) return false;
    axes = list->constant.to_int64_vector();
  } else {
    axes = node.attrs.get_ints("axes");
  }
  const auto rank = static_cast<std::int64_t>(x->shape().size());
  for (std::int64_t& axis : axes)
    if (axis < 0) axis += rank;
  std::sort(axes.begin(), axes.end());
  if (static_cast<std::int64_t>(axes.size()) != rank - 2) return false;
  for (std::size_t i = 0; i < axes.size(); ++i)
    if (axes[i] != static_cast<std::int64_t>(i) + 2) return false;
  return true;
}

}  // namespace

std::optional<PoolMode> pool_mode(const ir::Node& node) {
  if (!node.domain.empty()) return std::nullopt;
  if (node.op == "MaxPool") return node.output(1) ? std::nullopt : std::optional(PoolMode::kMax);
  if (node.op == "AveragePool") return PoolMode::kAverage;
  if (node.op == "GlobalMaxPool") return PoolMode::kGlobalMax;
  if (node.op == "GlobalAveragePool") return PoolMode::kGlobalAverage;
  if (node.op == "ReduceMean" && reduces_pixels(node)) return PoolMode::kGlobalAverage;
  if (node.op == "ReduceMax" && reduces_pixels(node)) return PoolMode::kGlobalMax;
  return std::nullopt;
}

std::vector<ops::Region> propose_pool(const ir::Node& node) {
  if (!pool_mode(node) || !node.input(0) || !node.input(0)->has_shape()) return {};
  return {make_region("pool", {&node})};
}

}  // namespace lathe::regions
