// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Intervals of whole numbers, up the graph for a few nodes.
#include "ops/quantize/whole_numbers.h"

#include <algorithm>
#include <cmath>
#include <string_view>

#include "ops/quantize/quantize.h"

namespace lathe::ops {
namespace {

using Range = std::optional<std::pair<std::int64_t, std::int64_t>>;

constexpr int kDepth = 10;
constexpr std::int64_t kMost = std::int64_t{1} << 40;  // sums of two stay far from overflow

Range range_of_constant(const Tensor& tensor) {
  if (tensor.dtype() == DType::kString || tensor.size() == 0) return std::nullopt;
  double low = 0, high = 0;
  const auto take = [&](double v) {
    low = std::min(low, v);
    high = std::max(high, v);
    return v == std::floor(v) && std::abs(v) <= static_cast<double>(kMost);
  };
  if (tensor.dtype() == DType::kFloat32) {
    const Tensor aligned = tensor.make_aligned();
    for (const float v : aligned.data<float>())
      if (!take(static_cast<double>(v))) return std::nullopt;
  } else {
    for (std::int64_t i = 0; i < tensor.size(); ++i)
      if (!take(tensor.as_double(i))) return std::nullopt;
  }
  return std::pair{static_cast<std::int64_t>(low), static_cast<std::int64_t>(high)};
}

Range range_of_type(DType dtype) {
  if (dtype == DType::kBool) return std::pair<std::int64_t, std::int64_t>{0, 1};
  if (!is_integer(dtype) || dtype_bits(dtype) > 16) return std::nullopt;
  return integer_range(dtype);
}

Range bounded(std::int64_t low, std::int64_t high) {
  if (low < -kMost || high > kMost) return std::nullopt;
  return std::pair{low, high};
}

/// A bound of Clip: a constant of one element.
std::optional<double> bound_of(const ir::Value* value) {
  if (!value || !value->is_constant() || value->constant.size() != 1 || value->dtype() == DType::kString) return std::nullopt;
  return value->constant.as_double(0);
}

bool only_moves(const ir::Node& node) {
  static constexpr std::string_view kMoves[] = {"Identity", "Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Slice", "Split", "Gather", "Expand"};
  return node.domain.empty() && std::find(std::begin(kMoves), std::end(kMoves), node.op) != std::end(kMoves);
}

Range range_of(const ir::Value* value, int depth);

/// Whole numbers of any size: what Round makes, and sums and bounds of such.
bool is_whole(const ir::Value* value, int depth) {
  if (!value || depth == 0) return false;
  if (const ir::Node* node = value->producer; node && !value->is_constant()) {
    if (node->is("Round") || node->is("Floor") || node->is("Ceil")) return true;
    if (node->is("Add") || node->is("Sub")) return is_whole(node->input(0), depth - 1) && is_whole(node->input(1), depth - 1);
  }
  return range_of(value, depth - 1).has_value();
}

Range range_of(const ir::Value* value, int depth) {
  if (!value || depth == 0) return std::nullopt;
  if (value->is_constant()) return range_of_constant(value->constant);
  if (const Range typed = range_of_type(value->dtype())) return typed;
  const ir::Node* node = value->producer;
  if (!node || !node->domain.empty()) return std::nullopt;
  if (node->is("Cast")) return range_of(node->input(0), depth - 1);
  if (only_moves(*node)) return range_of(node->input(0), depth - 1);
  if (node->is("Add") || node->is("Sub")) {
    const Range a = range_of(node->input(0), depth - 1), b = a ? range_of(node->input(1), depth - 1) : std::nullopt;
    if (!a || !b) return std::nullopt;
    return node->is("Add") ? bounded(a->first + b->first, a->second + b->second) : bounded(a->first - b->second, a->second - b->first);
  }
  if (node->is("Clip")) {
    const auto low = bound_of(node->input(1)), high = bound_of(node->input(2));
    if (!low || !high || *low > *high || std::floor(*low) != *low || std::floor(*high) != *high || !is_whole(node->input(0), depth - 1)) return std::nullopt;
    if (std::abs(*low) > static_cast<double>(kMost) || std::abs(*high) > static_cast<double>(kMost)) return std::nullopt;
    return std::pair{static_cast<std::int64_t>(*low), static_cast<std::int64_t>(*high)};
  }
  return std::nullopt;
}

bool is_small(const Range& range) { return range && range->first >= -65536 && range->second <= 65536; }

}  // namespace

std::optional<std::pair<std::int64_t, std::int64_t>> whole_range(const ir::Value* value) { return range_of(value, kDepth); }

bool is_whole_product(const ir::Node& node) {
  if (!node.is("Conv") && !node.is("MatMul")) return false;
  if (!node.output() || !is_float(node.output()->dtype())) return false;
  // Activations first: where they are no whole numbers the weights are not read.
  for (const std::size_t i : {0, 1})
    if (node.input(i) && !node.input(i)->is_constant() && !is_small(whole_range(node.input(i)))) return false;
  for (const std::size_t i : {0, 1})
    if (node.input(i) && node.input(i)->is_constant() && !is_small(whole_range(node.input(i)))) return false;
  return !node.input(2) || whole_range(node.input(2)).has_value();
}

}  // namespace lathe::ops
