// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See plain_matmul_plan.h.

#include "regions/plain_matmul/plain_matmul_plan.h"

#include <algorithm>

namespace lathe::regions {
namespace {

constexpr std::int64_t kMostBlocks = (std::int64_t{1} << 31) - 1;
/// Fewer large tiles leave most of a GPU without work.
constexpr std::int64_t kFewBlocks = 64;

/// A tensor with its axes in the product's order.
struct Ordered {
  const plan::TensorDesc& desc;
  std::span<const std::int64_t> perm;
  std::size_t rank() const { return desc.dims.size(); }
  std::size_t axis(std::size_t i) const { return perm.empty() ? i : static_cast<std::size_t>(perm[i]); }
  std::int64_t extent(std::size_t i) const { return desc.dims[axis(i)]; }
  /// Axes of one element stand still.
  std::int64_t step(std::size_t i) const { return extent(i) == 1 ? 0 : desc.strides[axis(i)]; }
};

bool is_order(std::span<const std::int64_t> perm, std::size_t rank) {
  if (perm.empty()) return true;
  if (perm.size() != rank) return false;
  return std::all_of(perm.begin(), perm.end(), [&](std::int64_t axis) { return axis >= 0 && axis < static_cast<std::int64_t>(rank); });
}

/// What the sums are made in; nullopt where the types do not go together.
std::optional<PlainMatMulKind> kind_of(const cuda::PlainMatMulParams& p) {
  const auto types = {p.a_type, p.b_type, p.y_type, p.has_z ? p.z_type : p.y_type};
  const auto is_float = [](int type) { return is_plain_float(static_cast<cuda::PlainType>(type)); };
  if (std::all_of(types.begin(), types.end(), is_float))
    return std::find(types.begin(), types.end(), cuda::kPlainFloat64) != types.end() ? PlainMatMulKind::kDouble : PlainMatMulKind::kFloat;
  if (std::any_of(types.begin(), types.end(), [&](int type) { return type != p.y_type; })) return std::nullopt;
  const bool narrow = p.y_type == cuda::kPlainInt32 || p.y_type == cuda::kPlainUint32;
  return narrow && p.scale == 1 && p.z_scale == 1 ? PlainMatMulKind::kWhole32 : PlainMatMulKind::kWhole64;
}

}  // namespace

bool plain_matmul_plan(const PlainMatMulRequest& request, PlainMatMulPlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  into = {};
  cuda::PlainMatMulParams& p = into.params;
  const Ordered a{request.a, request.perm_a}, b{request.b, request.perm_b}, y{request.y, {}};
  if (!is_order(a.perm, a.rank()) || !is_order(b.perm, b.rank())) return refuse("an order of axes that is none");
  const auto a_type = plain_type(a.desc.dtype), b_type = plain_type(b.desc.dtype), y_type = plain_type(y.desc.dtype),
             z_type = request.z ? plain_type(request.z->dtype) : y_type;
  if (!a_type || !b_type || !y_type || !z_type) return refuse("no kernel reads this element type");
  p.a_type = *a_type, p.b_type = *b_type, p.y_type = *y_type, p.z_type = *z_type;
  p.has_z = request.z != nullptr;
  p.scale = request.scale, p.z_scale = request.z ? request.z_scale : 1;
  const auto kind = kind_of(p);
  if (!kind) return refuse("the operands are stored in types that do not go together");
  into.kind = *kind;

  const bool rows = a.rank() > 1, columns = b.rank() > 1;
  const std::size_t a_batch = rows ? a.rank() - 2 : 0, b_batch = columns ? b.rank() - 2 : 0, batch = std::max(a_batch, b_batch);
  if (a.rank() == 0 || b.rank() == 0 || y.rank() != batch + rows + columns) return refuse("ranks that do not fit each other");
  p.k = a.extent(a.rank() - 1), p.a_k = a.step(a.rank() - 1);
  const std::size_t b_rows = columns ? b.rank() - 2 : 0;
  p.b_k = b.step(b_rows);
  p.m = rows ? y.extent(batch) : 1, p.n = columns ? y.extent(y.rank() - 1) : 1;
  if (rows) p.a_m = a.step(a.rank() - 2), p.y_m = y.step(batch);
  if (columns) p.b_n = b.step(b.rank() - 1), p.y_n = y.step(y.rank() - 1);
  if (b.extent(b_rows) != p.k || (rows && a.extent(a.rank() - 2) != p.m) || (columns && b.extent(b.rank() - 1) != p.n))
    return refuse("extents that do not fit each other");
  if (request.z) {
    const Ordered z{*request.z, {}};
    const std::size_t rank = z.rank();
    if (rank > 2 || (rank >= 1 && z.extent(rank - 1) != 1 && z.extent(rank - 1) != p.n) || (rank == 2 && z.extent(0) != 1 && z.extent(0) != p.m))
      return refuse("what is added does not fit the product");
    if (rank >= 1) p.z_n = z.step(rank - 1);
    if (rank == 2) p.z_m = z.step(0);
  }

  // Batch axes, those that lie behind each other in all three as one.
  for (std::size_t i = 0; i < batch; ++i) {
    const std::int64_t extent = y.extent(i);
    const auto step = [&](const Ordered& of, std::size_t own, std::int64_t& to) {
      to = 0;
      if (i + own < batch) return true;
      const std::size_t axis = i + own - batch;
      to = of.step(axis);
      return of.extent(axis) == extent || of.extent(axis) == 1;
    };
    std::int64_t of_a = 0, of_b = 0;
    if (!step(a, a_batch, of_a) || !step(b, b_batch, of_b)) return refuse("extents that do not fit each other");
    if (extent == 1) continue;
    const std::int64_t of_y = y.step(i);
    if (p.axes > 0) {
      const int last = p.axes - 1;
      if (p.a_step[last] == of_a * extent && p.b_step[last] == of_b * extent && p.y_step[last] == of_y * extent) {
        p.extent[last] *= extent, p.a_step[last] = of_a, p.b_step[last] = of_b, p.y_step[last] = of_y;
        continue;
      }
    }
    if (p.axes == cuda::kPlainMatMulAxes) return refuse("more batch axes than the kernels walk");
    p.extent[p.axes] = extent, p.a_step[p.axes] = of_a, p.b_step[p.axes] = of_b, p.y_step[p.axes] = of_y;
    ++p.axes;
  }
  // A batch over one second operand is more rows.
  if (p.axes > 0 && !request.z) {
    const int last = p.axes - 1;
    const bool one = p.m == 1;
    if (p.b_step[last] == 0 && (one || (p.a_step[last] == p.m * p.a_m && p.y_step[last] == p.m * p.y_m))) {
      if (one) p.a_m = p.a_step[last], p.y_m = p.y_step[last];
      p.m *= p.extent[last];
      --p.axes;
    }
  }
  p.a_along_k = p.a_k == 1 || p.a_m == 0;
  p.b_along_k = p.b_n != 1 && (p.b_k == 1 || p.b_n == 0);

  const auto blocks_of = [&](std::int64_t tile, std::int64_t& blocks) {
    p.row_tiles = p.m / tile + (p.m % tile != 0), p.column_tiles = p.n / tile + (p.n % tile != 0);
    bool counted = !__builtin_mul_overflow(p.row_tiles, p.column_tiles, &blocks);
    for (int axis = 0; axis < p.axes; ++axis) counted = counted && !__builtin_mul_overflow(blocks, p.extent[axis], &blocks);
    return counted && blocks <= kMostBlocks;
  };
  std::int64_t blocks = 0;
  constexpr std::int64_t kSide = cuda::kPlainMatMulSide;
  const bool counted = blocks_of(kSide * cuda::kPlainMatMulEach, blocks);
  into.large = !counted || (blocks >= kFewBlocks && p.m > kSide && p.n > kSide);
  if (!counted || (!into.large && !blocks_of(kSide, blocks))) return refuse("more elements than the kernels count");
  into.grid = static_cast<std::uint32_t>(blocks);
  into.flops = 2.0 * static_cast<double>(y.desc.elements()) * static_cast<double>(p.k);
  return true;
}

}  // namespace lathe::regions
