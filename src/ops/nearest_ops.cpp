// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See nearest_ops.h.

#include "ops/nearest_ops.h"

#include <algorithm>
#include <tuple>

#include "base/nearest.h"
#include "ops/registry.h"

namespace lathe::ops {

std::vector<std::string> nearest_ops(std::string_view domain, std::string_view name) {
  constexpr std::size_t kMost = 3;
  const std::size_t limit = most_spelling_distance(name);
  std::vector<std::tuple<std::size_t, bool, std::string>> near;  // distance, another domain, as a model has it
  for (const OpDef* op : all_ops()) {
    if (op->versions.back().deprecated) continue;
    const std::size_t distance = spelling_distance(name, op->name);
    if (distance > limit) continue;
    near.emplace_back(distance, op->domain != domain, full_name(op->domain, op->name));
  }
  std::sort(near.begin(), near.end());
  std::vector<std::string> names;
  for (std::size_t i = 0; i < std::min(near.size(), kMost); ++i) names.push_back(std::get<2>(near[i]));
  return names;
}

}  // namespace lathe::ops
