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
  bool everywhere;    ///< exists for every way of loading A and B, not only 16-byte copies and packed weights
  bool even = false;  ///< blocks may share tiles, and pairs B (kPipe)
};

#define LATHE_TILE_MMA(rows, columns, warps_m, warps_n, stages, blocks) {GemmCore::kMma, rows, columns, warps_m * warps_n * 32, stages, blocks, false},
#define LATHE_TILE_WGMMA(rows, columns, groups, stages, blocks, in_flight) {GemmCore::kWgmma, rows, columns, groups * 128, stages, blocks, false},
#define LATHE_TILE_OTHER(rows, columns, warps_m, warps_n, stages, blocks) {GemmCore::kMma, rows, columns, warps_m * warps_n * 32, stages, blocks, true},
#define LATHE_TILE_PIPE(rows, columns, consumers, stages, blocks, even) {GemmCore::kPipe, rows, columns, (consumers + 1) * 128, stages, blocks, false, even},
constexpr Tile kTiles[] = {LATHE_GEMM_MMA_TILES(LATHE_TILE_MMA) LATHE_GEMM_WGMMA_TILES(LATHE_TILE_WGMMA) LATHE_GEMM_PIPE_TILES(LATHE_TILE_PIPE)};
constexpr Tile kOtherTiles[] = {LATHE_GEMM_MMA_OTHER_TILES(LATHE_TILE_OTHER)};

std::span<const Tile> tiles_for(const GemmSetup& setup) {
  if (setup.a == kVectorA && setup.b == kPackedB) return kTiles;
  return kOtherTiles;
}

bool exists(const GemmSetup& setup, const Tile& tile, const GpuLimits& gpu) {
  if (tile.core == GemmCore::kWgmma && (gpu.arch != 90 || setup.product == kProductF32)) return false;
  if (tile.core == GemmCore::kPipe && (gpu.arch != 90 || (setup.product != kProductF16 && setup.product != kProductBF16))) return false;
  // A tile's columns go to one tensor.
  if (setup.params.first_columns < setup.params.columns && setup.params.first_columns % tile.columns) return false;
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
  if (tile.core == GemmCore::kPipe) {  // the ring; of every consumer 8 KB for rows on their way out and two rows of bias; barriers
    const int consumers = tile.threads / 128 - 1;
    return static_cast<std::uint32_t>(tile.stages * (tile.rows + tile.columns) * 128 + consumers * (8192 + tile.columns * 8) + tile.stages * 16);
  }
  const int stages = tile.stages * (tile.rows + tile.columns) * 128, sums = tile.rows * (tile.columns + 8) * 4;
  return static_cast<std::uint32_t>(std::max(stages, sums));
}

std::int64_t up(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// The number of splits that really results: all but the last have the same number of chunks, none is empty.
int effective_splits(int chunks, int splits) { return static_cast<int>(up(chunks, up(chunks, splits))); }

constexpr int kMostCluster = 8;

/// The pipe's work: units are tiles, or pairs of them; blocks (or pairs) stay, as many as run at once.
struct PipeGrid {
  std::uint32_t pair, units, blocks;
};
PipeGrid pipe_grid(const GemmSetup& setup, const GemmPlan& plan, const Tile& tile, const GpuLimits& gpu) {
  const std::uint32_t pair = plan.cluster ? 2 : 1, resident = static_cast<std::uint32_t>(std::max(1, gpu.multiprocessors * tile.blocks)) / pair;
  const std::int64_t units = up(up(setup.params.rows, plan.rows), pair) * up(setup.params.columns, plan.columns);
  return {pair, static_cast<std::uint32_t>(units), std::min(static_cast<std::uint32_t>(units), std::max(1u, resident))};
}

/// The pipe's gather counts in 16-byte pieces in 31 bits and keeps a bit for every row and column of the window.
bool pipe_reaches(const GemmParams& p) {
  if (p.kernel_h > 16 || p.kernel_w > 16) return false;
  const std::int64_t images = (p.rows - 1) / static_cast<std::int64_t>(p.out_pixels.divisor) + 1;
  const std::int64_t reach =
      images * p.a_image + (static_cast<std::int64_t>(p.height) + p.pad_top) * p.a_row + (static_cast<std::int64_t>(p.width) + p.pad_left) * p.a_pixel;
  return reach / 8 < (std::int64_t{1} << 30);
}

/// How the copy engine can bring A, with the limits that its maps have.
MapKind map_kind(const GemmSetup& setup) {
  const GemmParams& p = setup.params;
  const int inner = static_cast<int>(p.batch_inner.divisor), outer = setup.items / inner;
  if (p.plain) return (inner == 1 || p.a_inner > 0) && (outer == 1 || p.a_outer > 0) ? kMapRows : kGathered;
  if (!p.chunk_major || outer != 1 || (inner > 1 && p.a_inner != p.channels)) return kGathered;
  const auto fits = [](std::int64_t extent, std::int64_t taps, std::int64_t stride, std::int64_t pad, std::int64_t dilation, std::int64_t outputs) {
    const std::int64_t upper = (outputs - 1) * stride + 1 - pad - extent;
    return stride <= 8 && pad <= 128 && upper >= -128 && upper <= 127 && (taps - 1) * dilation <= 255;
  };
  const std::int64_t ow = p.out_width.divisor, oh = p.out_pixels.divisor / ow;
  return fits(p.width, p.kernel_w, p.stride_w, p.pad_left, p.dilation_w, ow) && fits(p.height, p.kernel_h, p.stride_h, p.pad_top, p.dilation_h, oh) ? kMapImage
                                                                                                                                                    : kGathered;
}

}  // namespace

std::string describe(const GemmPlan& plan) {
  if (plan.core == GemmCore::kPipe) return fmt::format("pipe {}x{}{}{}", plan.rows, plan.columns, plan.cluster ? " pairs" : "", plan.splits > 1 ? " even" : "");
  return fmt::format("{} {}x{}{}", plan.core == GemmCore::kMma ? "mma" : "wgmma", plan.rows, plan.columns,
                     plan.splits == 1 ? "" : fmt::format(" /{}{}", plan.splits, plan.cluster ? "c" : ""));
}

bool plan_fits(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  const Tile* tile = find_tile(setup, plan, gpu);
  if (!tile || shared_bytes(*tile) + 1024 > gpu.shared_per_block) return false;
  if (plan.core == GemmCore::kPipe) {
    if (plan.splits < 1 || plan.splits > 2 || plan.cluster < 0 || plan.cluster > 1 || (plan.cluster && (!tile->even || setup.params.rows <= plan.rows)))
      return false;
    const PipeGrid grid = pipe_grid(setup, plan, *tile, gpu);
    const bool rounds = tile->even && grid.units >= grid.blocks && grid.units % grid.blocks != 0;
    return (plan.splits == 1 || (setup.items == 1 && rounds && setup.params.chunks >= 2)) && pipe_reaches(setup.params);
  }
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
        if (gpu.arch >= 90 && !cluster && splits > 1 && tile.core != GemmCore::kPipe) continue;
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

namespace {

/// The pipe: multiplying and loading go on at once, the end of a tile is the consumers' own. Constants fitted to an H200 (330 timings of the
/// products of four networks of batch 32, 11 % off on average).
double modelled_pipe_time(const GemmSetup& setup, const GemmPlan& plan, const Tile& tile, const GpuLimits& gpu) {
  const GemmParams& p = setup.params;
  const double elements = static_cast<double>(tile.rows) * tile.columns, chunks = p.chunks;
  const double compute = elements * 64 / 2540 + 345, end = (tile.even ? 4100 : 3000) + elements * 0.042;
  const double a_bytes = tile.rows * 128.0, b_bytes = tile.columns * 128.0 / (plan.cluster ? 2 : 1);
  double load = (a_bytes + b_bytes) / 40;
  if (map_kind(setup) == kGathered) load = std::max(load, a_bytes / 12.3);  // the threads' own copies are slower
  const PipeGrid grid = pipe_grid(setup, plan, tile, gpu);
  const double rounds = static_cast<double>(grid.units) * setup.items / grid.blocks;
  const double round = tile.blocks * chunks * std::max(compute, load), serial = tile.blocks * chunks * compute + end;
  const double cycles = (plan.splits > 1 ? rounds : std::ceil(rounds)) * std::max(round, serial) + end + (plan.splits > 1 ? 17800 : 0) + 2200;
  const double bytes =
      (static_cast<double>(p.rows) * p.columns + static_cast<double>(p.rows) * std::min<double>(p.channels, p.chunks * 64.0)) * 2 * setup.items;
  return std::max(cycles / 1.75e9, bytes / 2.8e12);
}

}  // namespace

double modelled_time(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  const Tile* tile = find_tile(setup, plan, gpu);
  if (!tile) return INFINITY;
  const GemmParams& p = setup.params;
  if (tile->core == GemmCore::kPipe) return modelled_pipe_time(setup, plan, *tile, gpu);
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
  // In the rounds after the first, ends stand in each other's way (large problems on an H200).
  const double crowded = std::max(0.0, per_sm - resident) * tile->rows * tile->columns * 0.3;
  return (std::max(throughput, serial) + crowded + 2200) / 1.7e9;
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
  static constexpr const char* kCores[] = {"mma", "wgmma", "pipe"};
  name.module = fmt::format("gemm_{}_{}", kCores[static_cast<int>(plan.core)], kTypes[setup.product]);
  name.kernel = fmt::format("{}_{}x{}_{}_{}", name.module, plan.rows, plan.columns, setup.a == kVectorA ? "vec" : "elem", kB[setup.b]);
  return name;
}

GemmGrid gemm_grid(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  const Tile* tile = find_tile(setup, plan, gpu);
  GemmGrid launch;
  PipeParams& p = launch.params;
  static_cast<GemmParams&>(p) = setup.params;
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
  if (plan.core == GemmCore::kPipe) {  // as many blocks as run at once, each with its share of the tiles
    const PipeGrid grid = pipe_grid(setup, plan, *tile, gpu);
    launch.grid[0] = grid.blocks;
    launch.grid[1] = launch.cluster_y = grid.pair;
    if (plan.splits > 1) {  // a place between every two neighbours, a counter for every warp of it
      const std::size_t tiles_between = static_cast<std::size_t>(grid.blocks) * grid.pair;
      launch.counters = tiles_between * static_cast<std::size_t>(tile->threads / 32 - 4);
      launch.partial_bytes = tiles_between * static_cast<std::size_t>(plan.rows) * static_cast<std::size_t>(plan.columns) * 4;
    }
    p.map_kind = map_kind(setup);
    launch.map_rows = plan.rows;
    return launch;
  }
  if (plan.splits > 1 && !plan.cluster) {
    launch.counters = static_cast<std::size_t>(tiles) * static_cast<std::size_t>(setup.items);
    launch.partial_bytes =
        launch.counters * static_cast<std::size_t>(plan.splits) * static_cast<std::size_t>(plan.rows) * static_cast<std::size_t>(plan.columns) * 4;
  }
  return launch;
}

GemmLaunch gemm_launch(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu) {
  return {gemm_kernel_name(setup, plan), gemm_grid(setup, plan, gpu)};
}

}  // namespace lathe::cuda
