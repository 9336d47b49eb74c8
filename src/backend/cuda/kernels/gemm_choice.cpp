// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Which tile and how many splits: the plans that exist for a product, a model of their time, and the launch of one.

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include "backend/cuda/kernels/gemm_plan.h"
#include "backend/cuda/kernels/gemm_tiles.h"

namespace lathe::cuda {
namespace {

struct Tile {
  GemmCore core;
  int rows, columns, threads, stages, blocks;
  bool everywhere;  ///< exists for every way of loading A and B, not only 16-byte copies and packed weights
};

#define LATHE_TILE_MMA(rows, columns, warps_m, warps_n, stages, blocks) {GemmCore::kMma, rows, columns, warps_m * warps_n * 32, stages, blocks, false},
#define LATHE_TILE_WGMMA(rows, columns, groups, stages, blocks, in_flight) {GemmCore::kWgmma, rows, columns, groups * 128, stages, blocks, false},
#define LATHE_TILE_OTHER(rows, columns, warps_m, warps_n, stages, blocks) {GemmCore::kMma, rows, columns, warps_m * warps_n * 32, stages, blocks, true},
constexpr Tile kTiles[] = {LATHE_GEMM_MMA_TILES(LATHE_TILE_MMA) LATHE_GEMM_WGMMA_TILES(LATHE_TILE_WGMMA)};
constexpr Tile kOtherTiles[] = {LATHE_GEMM_MMA_OTHER_TILES(LATHE_TILE_OTHER)};

std::span<const Tile> tiles_for(const GemmSetup& setup) {
  if (setup.a == kVectorA && setup.b == kPackedB) return kTiles;
  return kOtherTiles;
}

bool exists(const GemmSetup& setup, const Tile& tile, const GpuLimits& gpu) {
  if (tile.core == GemmCore::kWgmma && (gpu.arch != 90 || setup.product == kProductF32)) return false;
  // Element-wise B is compiled for one tile only.
  if ((setup.b == kRowsElementB || setup.b == kAcrossElementB) && tile.rows != 64) return false;
  return gpu.arch >= 80 || setup.product == kProductF16;
}

const Tile* find_tile(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  for (const Tile& tile : tiles_for(setup))
    if (tile.core == plan.core && tile.rows == plan.rows && tile.columns == plan.columns && exists(setup, tile, gpu)) return &tile;
  return nullptr;
}

std::uint32_t shared_bytes(const Tile& tile) {
  const int stages = tile.stages * (tile.rows + tile.columns) * 128, sums = tile.rows * (tile.columns + 8) * 4;
  return static_cast<std::uint32_t>(std::max(stages, sums));
}

std::int64_t up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The number of splits that really results: all but the last have the same number of chunks, none is empty.
int effective_splits(int chunks, int splits) { return static_cast<int>(up(chunks, up(chunks, splits))); }

constexpr int kMostCluster = 8;

}  // namespace

std::string describe(const GemmPlan& plan) {
  return fmt::format("{} {}x{}{}", plan.core == GemmCore::kMma ? "mma" : "wgmma", plan.rows, plan.columns,
                     plan.splits == 1 ? "" : fmt::format(" /{}{}", plan.splits, plan.cluster ? "c" : ""));
}

bool plan_fits(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  const Tile* tile = find_tile(setup, plan, gpu);
  if (!tile || shared_bytes(*tile) + 1024 > gpu.shared_per_block) return false;
  if (plan.splits < 1 || plan.splits > 64 || effective_splits(setup.params.chunks, plan.splits) != plan.splits) return false;
  if (plan.cluster && (gpu.arch < 90 || plan.splits < 2 || plan.splits > kMostCluster)) return false;
  return up(setup.params.rows, plan.rows) * up(setup.params.columns, plan.columns) < (std::int64_t{1} << 31);
}

namespace {

/// Every plan worth trying, one after the other.
template <class Visit>
void for_each_plan(const GemmSetup& setup, const GpuLimits& gpu, Visit visit) {
  for (const Tile& tile : tiles_for(setup))
    for (const int splits : {1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 16, 24, 32})
      for (const int cluster : {0, 1}) {
        // Through device memory a split costs 5 us more than through the cluster (measured on an H200).
        if (gpu.arch >= 90 && !cluster && splits > 1) continue;
        const GemmPlan plan{tile.core, tile.rows, tile.columns, splits, cluster};
        if (plan_fits(setup, plan, gpu)) visit(plan);
      }
}

}  // namespace

std::vector<GemmPlan> all_gemm_plans(const GemmSetup& setup, const GpuLimits& gpu) {
  std::vector<GemmPlan> plans;
  for_each_plan(setup, gpu, [&](const GemmPlan& plan) { plans.push_back(plan); });
  return plans;
}

double modelled_time(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  const Tile* tile = find_tile(setup, plan, gpu);
  if (!tile) return INFINITY;
  const GemmParams& p = setup.params;
  // Cycles of one multiprocessor. Compute: tile rows x columns x 128 bytes of depth.
  const double rate = (setup.product == kProductF32    ? 1.0 / 6
                       : setup.product == kProductTF32 ? 0.5
                                                       : 1.0) *
                      (tile->core == GemmCore::kWgmma ? 1700 : 1150) * (setup.a == kElementA ? 0.4 : 1.0);
  const double elements = setup.product == kProductF16 || setup.product == kProductBF16 ? 64 : 32;
  const double compute = tile->rows * tile->columns * elements / rate / (setup.product == kProductTF32 || setup.product == kProductF32 ? 1.0 : 1.0);
  const double load = (tile->rows + tile->columns) * 128 / 40.0;
  const double busy = std::max(compute, load);
  const double latency = std::max(busy, 280.0 + compute * 0.7);
  const double resident =
      std::max<double>(1, std::min<double>(tile->blocks, std::floor(static_cast<double>(gpu.shared_per_multiprocessor) / (shared_bytes(*tile) + 2048))));
  const double blocks = static_cast<double>(up(p.rows, tile->rows) * up(p.columns, tile->columns)) * setup.items * plan.splits;
  const double per_sm = std::ceil(blocks / gpu.multiprocessors);
  const double chunks = static_cast<double>(up(p.chunks, plan.splits));
  const double tile_bytes = static_cast<double>(tile->rows) * tile->columns * 4;
  double block_end = 500 + tile_bytes / 40;
  if (plan.splits > 1) block_end += plan.cluster ? 900 + tile_bytes / 25 : 1500 + tile_bytes / 32 + tile_bytes * plan.splits / 40;
  const double throughput = per_sm * (chunks * busy + block_end * 0.6);
  const double serial = std::ceil(per_sm / resident) * (chunks * latency + block_end);
  return (std::max(throughput, serial) + 2200) / 1.7e9;
}

std::vector<GemmPlan> gemm_plans(const GemmSetup& setup, const GpuLimits& gpu, std::size_t count) {
  std::vector<GemmPlan> plans = all_gemm_plans(setup, gpu);
  std::vector<std::pair<double, std::size_t>> order;
  for (std::size_t i = 0; i < plans.size(); ++i) order.emplace_back(modelled_time(setup, plans[i], gpu), i);
  std::sort(order.begin(), order.end());
  std::vector<GemmPlan> best;
  for (std::size_t i = 0; i < std::min(count, order.size()); ++i) best.push_back(plans[order[i].second]);
  return best;
}

GemmPlan best_gemm_plan(const GemmSetup& setup, const GpuLimits& gpu) {
  GemmPlan best;
  best.splits = 0;
  double least = INFINITY;
  for_each_plan(setup, gpu, [&](const GemmPlan& plan) {
    const double time = modelled_time(setup, plan, gpu);
    if (time < least) least = time, best = plan;
  });
  return best;
}

GemmPlan refit_gemm_plan(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  if (plan_fits(setup, plan, gpu)) return plan;
  GemmPlan best = plan;
  best.splits = 1;
  best.cluster = 0;
  if (!find_tile(setup, best, gpu)) {  // other ways of loading have other tiles
    const GemmPlan other = best_gemm_plan(setup, gpu);
    return other.splits == 0 ? plan : other;
  }
  double least = modelled_time(setup, best, gpu);
  for_each_plan(setup, gpu, [&](const GemmPlan& other) {
    if (other.core != plan.core || other.rows != plan.rows || other.columns != plan.columns) return;
    const double time = modelled_time(setup, other, gpu);
    if (time < least) least = time, best = other;
  });
  return best;
}

GemmKernelName gemm_kernel_name(const GemmSetup& setup, const GemmPlan& plan) {
  static constexpr const char* kTypes[] = {"f16", "bf16", "tf32", "f32"};
  static constexpr const char* kB[] = {"packed", "nk", "enk", "kn", "ekn"};
  GemmKernelName name;
  name.module = fmt::format("gemm_{}_{}", plan.core == GemmCore::kMma ? "mma" : "wgmma", kTypes[setup.product]);
  name.kernel = fmt::format("{}_{}x{}_{}_{}", name.module, plan.rows, plan.columns, setup.a == kVectorA ? "vec" : "elem", kB[setup.b]);
  return name;
}

GemmGrid gemm_grid(const GemmSetup& setup, const GemmPlan& plan) {
  GpuLimits any;
  any.arch = plan.core == GemmCore::kWgmma ? 90 : 80;
  const Tile* tile = find_tile(setup, plan, any);
  GemmGrid launch;
  launch.params = setup.params;
  GemmParams& p = launch.params;
  const std::int64_t tiles_n = up(p.columns, plan.columns), tiles = up(p.rows, plan.rows) * tiles_n;
  p.tiles_n = fast_divisor(static_cast<std::uint32_t>(tiles_n));
  p.chunks_per_split = static_cast<int>(up(p.chunks, plan.splits));
  p.splits = plan.splits;
  p.cluster = plan.cluster;
  launch.grid[0] = static_cast<std::uint32_t>(tiles);
  launch.grid[1] = static_cast<std::uint32_t>(plan.splits);
  launch.grid[2] = static_cast<std::uint32_t>(setup.items);
  launch.block = static_cast<std::uint32_t>(tile->threads);
  launch.cluster_y = plan.cluster ? static_cast<std::uint32_t>(plan.splits) : 1;
  launch.shared_bytes = shared_bytes(*tile);
  if (plan.splits > 1 && !plan.cluster) {
    launch.counters = static_cast<std::size_t>(tiles) * static_cast<std::size_t>(setup.items);
    launch.partial_bytes =
        launch.counters * static_cast<std::size_t>(plan.splits) * static_cast<std::size_t>(plan.rows) * static_cast<std::size_t>(plan.columns) * 4;
  }
  return launch;
}

GemmLaunch gemm_launch(const GemmSetup& setup, const GemmPlan& plan) { return {gemm_kernel_name(setup, plan), gemm_grid(setup, plan)}; }

}  // namespace lathe::cuda
