// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
//   from [n, 12, 64, 197]          groups:  n | 12 64 = 768 | 197
//   to   [n, 768,    197]
#include "ops/reshape/view.h"

namespace lathe::ops {
namespace {

using loops::ExprId;
using loops::ExprOp;

bool one(const ir::Dim& d) { return d.constant() == std::int64_t{1}; }

/// Which side of a group must grow next: -1 the left one, +1 the right one, 0 unknown.
int smaller_side(const ir::Dim& left, const ir::Dim& right) {
  const auto l = left.constant(), r = right.constant();
  if (l && r) return *l < *r ? -1 : 1;
  if (ir::Dim::exact_div(right, left)) return -1;
  if (ir::Dim::exact_div(left, right)) return 1;
  return 0;
}

}  // namespace

loops::RegionBuilder::Indices view_indices(loops::RegionBuilder& b, const ir::Shape& from, const ir::Shape& to, const loops::RegionBuilder::Indices& indices) {
  loops::RegionBuilder::Indices out(from.size(), b.integer(0));
  std::size_t i = 0, j = 0;
  while (true) {
    while (i < from.size() && one(from[i])) ++i;
    while (j < to.size() && one(to[j])) ++j;
    if (i >= from.size() || j >= to.size()) break;
    if (from[i] == to[j]) {
      out[i++] = indices[j++];
      continue;
    }
    std::size_t i_end = i + 1, j_end = j + 1;
    ir::Dim left = from[i], right = to[j];
    while (left != right) {
      const int side = smaller_side(left, right);
      if (side < 0 && i_end < from.size()) {
        left = left * from[i_end++];
      } else if (side > 0 && j_end < to.size()) {
        right = right * to[j_end++];
      } else {  // cannot be told apart: the rest is one group
        i_end = from.size();
        j_end = to.size();
        break;
      }
    }
    ExprId linear = indices[j];
    for (std::size_t k = j + 1; k < j_end; ++k) {
      linear = b.binary(ExprOp::kAdd, b.binary(ExprOp::kMul, linear, b.dim(to[k])), indices[k]);
    }
    for (std::size_t k = i_end; k-- > i;) {
      if (k == i) {
        out[k] = linear;
      } else {
        out[k] = b.binary(ExprOp::kMod, linear, b.dim(from[k]));
        linear = b.binary(ExprOp::kFloorDiv, linear, b.dim(from[k]));
      }
    }
    i = i_end;
    j = j_end;
  }
  return out;
}

}  // namespace lathe::ops
