// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See matmul_layout.h.

#include "regions/matmul_block/matmul_layout.h"

#include <fmt/format.h>

#include <algorithm>

namespace lathe::regions {
namespace {

struct Axis {
  std::int64_t extent = 1, stride = 0;
};

Axis axis_of(const plan::TensorDesc& desc, std::size_t i) { return {desc.dims[i], desc.strides[i]}; }

/// Axis `i` of `rank` batch axes of a tensor whose own batch axes are its first `own`; missing and size-1 axes stand still.
Axis batch_axis(const plan::TensorDesc& desc, std::size_t own, std::size_t rank, std::size_t i) {
  if (i + own < rank) return {};
  const Axis axis = axis_of(desc, i + own - rank);
  return axis.extent == 1 ? Axis{} : axis;
}

bool unit(const Axis& axis) { return axis.extent <= 1 || axis.stride == 1; }

}  // namespace

void permute(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm, plan::TensorDesc& into) {
  into = desc;
  for (std::size_t i = 0; i < perm.size(); ++i) {
    into.dims.at(i) = desc.dims.at(static_cast<std::size_t>(perm[i]));
    into.strides.at(i) = desc.strides.at(static_cast<std::size_t>(perm[i]));
  }
}

plan::TensorDesc permuted(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm) {
  plan::TensorDesc result;
  permute(desc, perm, result);
  return result;
}

void unpermute(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm, plan::TensorDesc& into) {
  into = desc;
  for (std::size_t i = 0; i < perm.size(); ++i) {
    into.dims.at(static_cast<std::size_t>(perm[i])) = desc.dims.at(i);
    into.strides.at(static_cast<std::size_t>(perm[i])) = desc.strides.at(i);
  }
}

plan::TensorDesc unpermuted(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm) {
  plan::TensorDesc result;
  unpermute(desc, perm, result);
  return result;
}

std::vector<std::int64_t> checked_permutation(std::vector<std::int64_t> perm, std::size_t rank) {
  std::vector<bool> seen(rank, false);
  bool good = perm.empty() || perm.size() == rank;
  for (const std::int64_t axis : perm) {
    good = good && axis >= 0 && axis < static_cast<std::int64_t>(rank) && !seen[static_cast<std::size_t>(axis)];
    if (good) seen[static_cast<std::size_t>(axis)] = true;
  }
  if (!good) throw Error(Code::kCorruptFile, "a matrix product step has a permutation that is none");
  return perm;
}

std::optional<MatMulLayout> matmul_layout(const MatMulRequest& request, std::string& why) {
  MatMulLayout layout;
  if (!matmul_layout(request, layout, why)) return std::nullopt;
  return layout;
}

bool matmul_layout(const MatMulRequest& request, MatMulLayout& layout, std::string& why) {
  const plan::TensorDesc &a = request.a, &c = request.c;
  const std::size_t a_rank = a.dims.size(), b_rank = request.b ? request.b->dims.size() : request.packed_vector ? 1 : 2;
  if (a_rank == 0 || b_rank == 0) {
    why = "an operand is a scalar";
    return false;
  }
  const bool has_rows = a_rank > 1, has_columns = b_rank > 1;
  const std::size_t a_batch = has_rows ? a_rank - 2 : 0, b_batch = has_columns ? b_rank - 2 : 0, batch = std::max(a_batch, b_batch);
  if (c.dims.size() != batch + has_rows + has_columns) {
    why = "the output's rank is not that of the product";
    return false;
  }
  // Rows, columns and the summed axis of each.
  Axis a_m = has_rows ? axis_of(a, a_rank - 2) : Axis{}, a_k = axis_of(a, a_rank - 1);
  Axis b_k{request.packed_k, 0}, b_n{request.packed_vector ? 1 : request.packed_n, 0};
  if (request.b) {
    b_k = axis_of(*request.b, has_columns ? b_rank - 2 : 0);
    b_n = has_columns ? axis_of(*request.b, b_rank - 1) : Axis{};
  }
  Axis c_m = has_rows ? axis_of(c, batch) : Axis{}, c_n = has_columns ? axis_of(c, batch + has_rows) : Axis{};
  Axis r_m, r_n;
  std::size_t r_batch = 0;
  if (request.residual) {
    const plan::TensorDesc& r = *request.residual;
    const std::size_t rank = r.dims.size(), skip = c.dims.size() - rank;
    if (rank > c.dims.size()) {
      why = "the residual has more axes than the product";
      return false;
    }
    const auto at = [&](std::size_t i) { return i < skip || r.dims[i - skip] == 1 ? Axis{} : axis_of(r, i - skip); };
    if (has_rows) r_m = at(batch);
    if (has_columns) r_n = at(batch + has_rows);
    r_batch = batch > skip ? batch - skip : 0;
    if (r_n.extent != c_n.extent) {
      why = "the residual is broadcast along the columns";
      return false;
    }
  }
  if (a_k.extent != b_k.extent || a_m.extent != c_m.extent || b_n.extent != c_n.extent) {
    why = fmt::format("the extents of a {}x{} by {}x{} product do not fit", a_m.extent, a_k.extent, b_k.extent, b_n.extent);
    return false;
  }
  if (!unit(c_n)) why = "the output's columns are not contiguous";
  else if (!unit(r_n)) why = "the residual's columns are not contiguous";
  else if (!unit(a_k) && !unit(a_m)) why = "the first operand has no contiguous axis";
  else if (request.b && !unit(b_k) && !unit(b_n)) why = "the second operand has no contiguous axis";
  if (!why.empty()) return false;

  // Batch axes, merged where all tensors allow it.
  std::vector<MatMulLoop>& loops = layout.loops;
  loops.clear();
  for (std::size_t i = 0; i < batch; ++i) {
    const Axis x = batch_axis(a, a_batch, batch, i), y = request.b ? batch_axis(*request.b, b_batch, batch, i) : Axis{};
    const MatMulLoop loop{c.dims[i], x.stride, y.stride, c.strides[i], request.residual ? batch_axis(*request.residual, r_batch, batch, i).stride : 0};
    if (loop.extent == 1) continue;
    if (!loops.empty()) {
      MatMulLoop& outer = loops.back();
      if (outer.a == loop.a * loop.extent && outer.b == loop.b * loop.extent && outer.c == loop.c * loop.extent &&
          outer.residual == loop.residual * loop.extent) {
        outer = {outer.extent * loop.extent, loop.a, loop.b, loop.c, loop.residual};
        continue;
      }
    }
    loops.push_back(loop);
  }
  // A batch over one B is more rows.
  const bool rows_first = unit(a_k);
  while (!loops.empty() && loops.back().b == 0 && rows_first) {
    const MatMulLoop& inner = loops.back();
    const bool one = a_m.extent == 1;
    if (!one && (inner.a != a_m.extent * a_m.stride || inner.c != c_m.extent * c_m.stride)) break;
    if (!one && request.residual && inner.residual != r_m.extent * r_m.stride) break;
    if (!one && request.residual && r_m.extent != c_m.extent) break;
    a_m = {a_m.extent * inner.extent, one ? inner.a : a_m.stride};
    c_m = {c_m.extent * inner.extent, one ? inner.c : c_m.stride};
    if (request.residual) r_m = {c_m.extent, one ? inner.residual : r_m.stride};
    loops.pop_back();
  }

  layout.problem = {};
  layout.residual_outer = layout.residual_inner = 0;
  cpu::GemmProblem& p = layout.problem;
  p.m = c_m.extent;
  p.n = c_n.extent;
  p.k = a_k.extent;
  const auto leading = [](const Axis& axis, std::int64_t dense) { return axis.extent > 1 ? axis.stride : std::max<std::int64_t>(dense, 1); };
  p.trans_a = !rows_first;
  p.lda = rows_first ? leading(a_m, p.k) : leading(a_k, p.m);
  p.packed_b = !request.b;
  if (request.b) {
    p.trans_b = !(unit(b_n) && !(b_n.extent == 1 && unit(b_k)));
    p.ldb = p.trans_b ? leading(b_n, p.k) : leading(b_k, p.n);
  }
  p.ldc = leading(c_m, p.n);
  layout.residual_stride = r_m.extent > 1 ? r_m.stride : 0;
  layout.empty = c.elements() == 0;
  layout.flops = 2.0 * static_cast<double>(c.elements()) * static_cast<double>(p.k);
  if (!loops.empty()) {
    const MatMulLoop inner = loops.back();
    loops.pop_back();
    p.batch_inner = inner.extent;
    p.a_inner = inner.a;
    p.b_inner = inner.b;
    p.c_inner = inner.c;
    layout.residual_inner = inner.residual;
  }
  if (!loops.empty()) {
    const MatMulLoop outer = loops.back();
    loops.pop_back();
    p.batch_outer = outer.extent;
    p.a_outer = outer.a;
    p.b_outer = outer.b;
    p.c_outer = outer.c;
    layout.residual_outer = outer.residual;
  }
  return true;
}

}  // namespace lathe::regions
