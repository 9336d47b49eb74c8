// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Data movement that moves nothing: the output has the input's type and every element stays where it is.
//
//   Reshape, Flatten, Squeeze, Unsqueeze, Expand, Tile, Slice (step > 0) to the same shape     -> x
//   Pad by zeros, Transpose by the identity, Concat or Split of one, DepthToSpace of 1         -> x
//   Cast or CastLike to the same type, Resize by 1 with unchanged grid                         -> x
//   Gather of 0..n-1 along an axis of n                                                        -> x
//   pooling with kernel 1, stride 1, no pads; GlobalAveragePool over 1x1; Reduce(Sum|Mean|Max|Min|Prod) that keeps the shape -> x
//
// "The same shape" is decided on symbolic shapes: [batch, floordiv(h + 1, 2)] equals itself, never something merely possible.

#include <algorithm>
#include <set>

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Node;
using ir::Value;

bool all_equal(const std::vector<std::int64_t>& values, std::int64_t number) {
  return std::all_of(values.begin(), values.end(), [&](std::int64_t v) { return v == number; });
}

bool steps_are_positive(const Node& node) {
  if (!node.input(4)) return true;
  const auto steps = constant_ints(node.input(4));
  // With an unchanged extent, step 1 is the only positive step that keeps n > 1 elements; n <= 1 is unmoved by any.
  return steps && std::all_of(steps->begin(), steps->end(), [](std::int64_t s) { return s > 0; });
}

bool pads_nothing(const Node& node) {
  const auto pads = constant_ints(node.input(1));
  return pads && all_equal(*pads, 0);
}

bool is_identity_permutation(const Node& node) {
  const auto rank = rank_of(node.input(0));
  if (!rank) return false;
  const auto perm = node.attrs.get_ints("perm");
  if (perm.empty()) return *rank <= 1;
  for (std::size_t i = 0; i < perm.size(); ++i) {
    if (perm[i] != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

bool pools_single_elements(const Node& node) {
  return all_equal(node.attrs.get_ints("kernel_shape"), 1) && all_equal(node.attrs.get_ints("strides"), 1) && all_equal(node.attrs.get_ints("pads"), 0) &&
         (node.outputs.size() < 2 || !node.outputs[1]);
}

bool gathers_everything(const Node& node) {
  const auto rank = rank_of(node.input(0));
  const auto indices = constant_ints(node.input(1));
  if (!rank || !indices || rank_of(node.input(1)) != 1) return false;
  const auto axis = normalise_axis(node.attrs.get_int("axis", 0), *rank);
  if (!axis || node.input(0)->shape()[static_cast<std::size_t>(*axis)] != ir::Dim(static_cast<std::int64_t>(indices->size()))) return false;
  for (std::size_t i = 0; i < indices->size(); ++i) {
    const auto n = static_cast<std::int64_t>(indices->size()), index = (*indices)[i];
    if ((index < 0 ? index + n : index) != static_cast<std::int64_t>(i)) return false;
  }
  return true;
}

// Equal extents and a grid that maps i to i. align_corners and half_pixel do, and so does every mode at scale 1 but those that take a
// region of interest.
bool resizes_nothing(const Node& node) { return node.attrs.get_string("coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"; }

// With scales given, equal extents do not prove scale 1 (floor(3 * 1.1) = 3).
bool scales_are_one(const Node& node) {
  const Value* scales = node.input(2);
  if (!scales || element_count_of(scales) == 0) return node.input(3) != nullptr;
  return is_splat(scales, 1);
}

bool moves_nothing(const Node& node) {
  static const std::set<std::string_view> kByShape = {"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Cast", "CastLike"};
  static const std::set<std::string_view> kReductions = {"ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceProd"};
  if (node.is("Slice")) return steps_are_positive(node);
  if (node.is("Pad")) return pads_nothing(node);
  if (node.is("Transpose")) return is_identity_permutation(node);
  if (node.is("Concat") || node.is("Split")) return node.is("Concat") ? node.inputs.size() == 1 : node.outputs.size() == 1;
  if (node.is("DepthToSpace") || node.is("SpaceToDepth")) return node.attrs.get_int("blocksize", 0) == 1;
  if (node.is("AveragePool") || node.is("MaxPool")) return pools_single_elements(node);
  // The extents of equal shapes that such an op reduces must have been 1.
  if (node.is("GlobalAveragePool") || node.is("GlobalMaxPool")) return true;
  if (node.is("Resize")) return resizes_nothing(node) && scales_are_one(node);
  if (node.is("Gather")) return gathers_everything(node);
  if (node.domain.empty() && kReductions.contains(node.op)) return !node.input(1) || constant_ints(node.input(1));
  return node.domain.empty() && kByShape.contains(node.op);
}

}  // namespace

int no_op_moves(ir::Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.domain.empty() || !node.output(0) || !node.input(0)) return;
    if (node.outputs.size() > 1 && !node.is("MaxPool")) return;
    // Transpose by the identity needs no known extents, only a rank.
    const bool same = same_type(node.outputs[0], node.inputs[0]) || ((node.is("Concat") || node.is("Transpose") || node.is("Split")) && moves_nothing(node));
    if (!same || !moves_nothing(node)) return;
    rewrites += bypass(node, node.inputs[0]) ? 1 : 0;
  });
  return rewrites;
}

}  // namespace lathe::passes
