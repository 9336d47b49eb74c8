// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "loops/cpu/tile_shape.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "loops/cpu/program.h"

namespace lathe::loops::cpu {
namespace {

// Nanoseconds, from a machine of 3 GHz; only their relations matter.
constexpr double kTileCost = 40;  // per tile, and per access of it
constexpr double kAccessCost = 8;
constexpr double kRowCost = 5;   // per row of an access that is not one run
constexpr double kDense = 0.05;  // per point
constexpr double kStrided = 0.5;
constexpr double kFarStrided = 1.2;  // each point in a cache line of its own
constexpr double kTransposed = 0.2;
constexpr double kGathered = 3;

struct Sides {
  std::int64_t rows, cols;
  int row_loop, col_loop;
};

std::int64_t stride_along(const Affine& f, int loop) { return loop < 0 ? 0 : f.k[static_cast<std::size_t>(loop)]; }

double access_cost(const Access& access, const Sides& s) {
  const bool computed = std::any_of(access.dims.begin(), access.dims.end(), [](const DimIndex& d) { return !d.affine; });
  const double points = static_cast<double>(s.rows * s.cols);
  if (computed) return points * kGathered;
  const std::int64_t row = std::abs(stride_along(access.offset, s.row_loop)), col = std::abs(stride_along(access.offset, s.col_loop));
  if (row == 0 && col == 0) return 0;
  // A value per row or per column is read once.
  if (row == 0) return kRowCost + static_cast<double>(s.cols) * (col == 1 ? kDense : kStrided) + points * kDense;
  if (col == 0) return kRowCost + static_cast<double>(s.rows) * (row == 1 ? kDense : kStrided) + points * kDense;
  if ((col == 1 && (s.rows == 1 || row == s.cols)) || (s.cols == 1 && row == 1)) return points * kDense;
  if (s.cols == 1) return kRowCost + points * (row < 16 ? kStrided : kFarStrided);
  const double rows = static_cast<double>(s.rows);
  if (col == 1) return rows * kRowCost + points * kDense;
  if (row == 1 && s.rows >= 8 && s.cols >= 8) return kRowCost + points * kTransposed;
  // Neighbours in memory are met again by the other side of the tile, or by the next tile.
  const bool near = col < 16 || (row < 16 && s.rows > 1);
  return rows * kRowCost + points * (near ? kStrided : kFarStrided);
}

}  // namespace

TileShape choose_tile(const TileQuestion& q) {
  const StageAnalysis& a = q.stage;
  const bool reduces = a.stage->reduce != Reduce::kNone;
  const int first = q.block_loop >= 0 ? q.block_loop : q.first_loop, count = static_cast<int>(a.loops.size());
  const auto extent = [&](int l) { return l < 0 ? std::int64_t{1} : std::max<std::int64_t>(a.loops[static_cast<std::size_t>(l)].extent, 1); };
  const std::int64_t most = q.pure_copy ? 16 * kTilePoints : kTilePoints;
  TileShape best;
  double best_cost = 1e300;
  for (int col = first; col < std::max(count, first + 1); ++col)
    for (int row = -1; row < count; ++row) {
      if (row == col || (row >= 0 && row < first)) continue;
      if (col >= count) continue;
      if (q.block_loop >= 0 && row != q.block_loop && col != q.block_loop) continue;
      for (const std::int64_t cap : {most, std::int64_t{128}, std::int64_t{64}, std::int64_t{32}}) {
        TileShape shape{row, col, 1, 1};
        if (row == q.block_loop && q.block_loop >= 0) {
          shape.row_step = q.block;
          shape.col_step = std::min({extent(col), cap, std::max<std::int64_t>(1, kTilePoints / q.block)});
        } else {
          shape.col_step = col == q.block_loop ? q.block : std::min(extent(col), cap);
          // Pieces of even length, whole vectors each.
          if (col != q.block_loop && extent(col) > shape.col_step && shape.col_step >= 32) {
            const std::int64_t pieces = (extent(col) + shape.col_step - 1) / shape.col_step;
            shape.col_step = std::min(shape.col_step, ((extent(col) + pieces - 1) / pieces + 15) / 16 * 16);
          }
          shape.row_step = std::min(extent(row), std::max<std::int64_t>(1, most / shape.col_step));
        }
        const Sides sides{shape.row_step, shape.col_step, row, col};
        double cost = kTileCost + kAccessCost * static_cast<double>(a.loads.size() + 1);
        for (const auto& [id, access] : a.loads) cost += access_cost(access, sides);
        const double points = static_cast<double>(shape.row_step * shape.col_step);
        if (!reduces) {
          cost += access_cost(a.store, sides);
        } else {
          const bool col_reduced = a.loops[static_cast<std::size_t>(col)].reduction, row_reduced = row >= 0 && a.loops[static_cast<std::size_t>(row)].reduction;
          cost += points * kDense;
          if (col_reduced && !row_reduced) cost += kRowCost * static_cast<double>(shape.row_step);
          if (!col_reduced && !row_reduced) cost += points * kDense;  // accumulators come and go with every tile
        }
        cost /= points;
        if (cost < best_cost * 0.999) {
          best_cost = cost;
          best = shape;
        }
      }
    }
  return best;
}

}  // namespace lathe::loops::cpu
