// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Planning of convolutions and the public entry points.
#include <algorithm>
#include <array>
#include <cmath>

#include "backend/cpu/conv_internal.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

bool is_depthwise(const ConvProblem& p) { return p.groups == p.cin && p.cin == p.cout && p.groups > 1 && !p.src_nchw; }

bool is_flat(const ConvProblem& p) {
  return !p.src_nchw && p.kh == 1 && p.kw == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_top == 0 && p.pad_left == 0 && p.pad_bottom == 0 &&
         p.pad_right == 0;
}

bool reads_in_place(const ConvProblem& p) {
  const bool padded = p.pad_top || p.pad_left || p.pad_bottom || p.pad_right;
  // Pairs of bf16 must not reach into the next pixel (odd channels), and groups must start on a pair.
  const bool pairs = p.weights != DType::kBFloat16 || (p.cin / p.groups) % 2 == 0;
  return !p.src_nchw && !padded && p.src == p.weights && pairs;
}

// Modelled cycles of the slowest worker: multiplies, epilogue, patch, weights from the third-level cache once a task and panel, or once
// a tile when panel and patch do not fit the second level together. Only the ratios between blockings matter.
double modelled_cycles(const ConvProblem& p, const ConvShape& s, const ConvPlan& plan, int threads) {
  const std::int64_t images = plan.flat ? 1 : p.n, extent = plan.flat ? p.n * s.oh * s.ow : s.oh;
  const std::int64_t rows = std::min<std::int64_t>(plan.rows, extent);
  const double pixels = static_cast<double>(rows) * (plan.flat ? 1 : s.ow);
  const double width = static_cast<double>(std::min<std::int64_t>(panels_side_by_side(kernel_table(plan.isa), plan.panel), plan.panels) * plan.panel),
               panel_bytes = static_cast<double>(s.steps) * width * 4;
  const double units = static_cast<double>(plan.panels) * plan.panel / 16;
  double a_bytes;
  double cycles = 400;
  if (plan.patch) {
    a_bytes = static_cast<double>(patch_layout(p, s, rows).bytes);
    cycles += a_bytes / 64 * 3;
  } else {
    a_bytes = pixels * static_cast<double>(s.channels * s.element);
    cycles += a_bytes / 64;
  }
  cycles += pixels * units * (static_cast<double>(s.steps) + 16);
  const bool fits = a_bytes + panel_bytes * (s.chunks > 1 ? 1.0 / static_cast<double>(s.chunks) : 1.0) < 0.7 * static_cast<double>(cache_sizes().l2);
  const double tiles = std::max(1.0, pixels / kMaxTileRows);
  cycles += plan.panels * plan.panel / width * panel_bytes * (fits ? 1.0 / 32 : tiles / 48);
  const double tasks = static_cast<double>(images * p.groups * ceil_div(extent, rows) * ceil_div(s.panels, plan.panels));
  return std::ceil(tasks / threads) * cycles;
}

// The blocking of least modelled cost; `skip` gives the next best that differs by half or more in its rows.
void block(const ConvProblem& p, int threads, ConvPlan& plan, int skip = 0) {
  const ConvShape s = conv_shape(p, plan);
  const std::int64_t extent = plan.flat ? p.n * s.oh * s.ow : s.oh;
  const std::int64_t smallest = plan.flat ? std::min<std::int64_t>(extent, kMaxTileRows) : 1;
  const std::int64_t largest = std::min<std::int64_t>(extent, plan.flat ? 1024 : std::max<std::int64_t>(1, 2048 / s.ow));
  std::array<std::int32_t, 8> taken{};  // offers are few, and planning for other extents must not allocate
  for (int round = 0; round <= skip; ++round) {
    double best = 0;
    ConvPlan winner = plan;
    for (std::int64_t blocks = ceil_div(extent, largest), last_rows = 0; blocks <= extent; blocks += 1 + blocks / 16) {
      const std::int64_t rows = ceil_div(extent, blocks);
      if (rows < smallest) break;
      if (rows == last_rows) continue;
      last_rows = rows;
      if (std::any_of(taken.begin(), taken.begin() + round, [&](std::int32_t t) { return rows * 3 > t * 2 && rows * 2 < t * 3; })) continue;
      for (std::int64_t parts = 1; parts <= std::min<std::int64_t>(s.panels, 4 * threads); ++parts) {
        ConvPlan now = plan;
        now.rows = static_cast<std::int32_t>(rows);
        now.panels = static_cast<std::int32_t>(round_up(ceil_div(s.panels, parts), panels_side_by_side(kernel_table(plan.isa), plan.panel)));
        const double cost = modelled_cycles(p, s, now, threads) * (1 + 1e-6 * static_cast<double>(parts));
        if (best == 0 || cost < best) {
          best = cost;
          winner = now;
        }
      }
    }
    if (best == 0) return;  // nothing further to offer
    plan = winner;
    taken[static_cast<std::size_t>(round)] = plan.rows;
  }
}

std::int64_t winograd_tiles(const ConvProblem& p, const ConvPlan& plan) {
  const std::int64_t m = plan.algorithm == ConvAlgorithm::kWinograd2 ? 2 : 4;
  return p.n * ceil_div(p.oh(), m) * ceil_div(p.ow(), m);
}

void block_winograd(const ConvProblem& p, int threads, ConvPlan& plan) {
  const std::int64_t m = plan.algorithm == ConvAlgorithm::kWinograd2 ? 2 : 4, planes = (m + 2) * (m + 2);
  const std::int64_t tiles = winograd_tiles(p, plan), panels = ceil_div(p.cout, plan.panel);
  const std::int64_t fit = cache_sizes().l2 * 5 / 8 / (planes * round_up(p.cin, 16) * 4);
  std::int64_t rows = std::clamp<std::int64_t>(fit, 8, 8 * kMaxTileRows);
  if (rows > kMaxTileRows) rows = rows / kMaxTileRows * kMaxTileRows;
  std::int64_t blocks = ceil_div(tiles, rows);
  if (threads > 1) blocks = round_up(blocks, threads);
  rows = ceil_div(tiles, blocks);
  blocks = ceil_div(tiles, rows);
  plan.rows = static_cast<std::int32_t>(rows);
  plan.panels = static_cast<std::int32_t>(blocks >= threads ? panels : std::max<std::int64_t>(1, panels / ceil_div(threads, blocks)));
}

bool winograd_fits(const ConvProblem& p) {
  return p.kh == 3 && p.kw == 3 && p.stride_h == 1 && p.stride_w == 1 && p.dilation_h == 1 && p.dilation_w == 1 && p.groups == 1 && !p.src_nchw &&
         (p.weights == DType::kFloat32 || p.src == DType::kBFloat16) && p.cin >= 16 && p.cout >= 16;
}

}  // namespace

std::string conv_unsupported(const ConvProblem& p) {
  auto real = [](DType t) { return t == DType::kFloat32 || t == DType::kBFloat16; };
  if (!real(p.src) || !real(p.dst) || !real(p.weights)) return "element types other than float32 and bfloat16";
  if (p.groups < 1 || p.cin % p.groups || p.cout % p.groups) return "channels are no multiple of the groups";
  if (p.n < 1 || p.h < 1 || p.w < 1 || p.cin < 1 || p.cout < 1) return "an empty tensor";
  if (p.kh < 1 || p.kw < 1 || p.stride_h < 1 || p.stride_w < 1 || p.dilation_h < 1 || p.dilation_w < 1) return "an empty kernel";
  if (p.pad_top < 0 || p.pad_left < 0 || p.pad_bottom < 0 || p.pad_right < 0) return "negative padding";
  if (p.oh() < 1 || p.ow() < 1 || p.h + p.pad_top + p.pad_bottom < p.dilation_h * (p.kh - 1) + 1 ||
      p.w + p.pad_left + p.pad_right < p.dilation_w * (p.kw - 1) + 1) {
    return "the kernel is larger than the padded input";
  }
  return "";
}

bool conv_plan_fits(const ConvProblem& p, const ConvPlan& plan) noexcept {
  if ((plan.panel != 16 && plan.panel != 32) || plan.chunk < 0 || plan.chunk % 16 != 0 || plan.rows < 1 || plan.panels < 1) return false;
  if ((plan.patch | plan.flat) & ~1) return false;
  switch (plan.algorithm) {
    case ConvAlgorithm::kTiles: {
      if (plan.flat && (plan.patch || !is_flat(p))) return false;
      if (!plan.patch && !reads_in_place(p)) return false;
      return plan.rows <= (plan.flat ? p.n * p.oh() * p.ow() : p.oh());
    }
    case ConvAlgorithm::kDepthwise: return is_depthwise(p);
    case ConvAlgorithm::kWinograd2:
    case ConvAlgorithm::kWinograd4: return winograd_fits(p) && plan.rows <= winograd_tiles(p, plan);
  }
  return false;
}

ConvPlan refit_conv_plan(const ConvPlan& old, const ConvProblem& p, int threads) {
  ConvPlan plan = old;
  if (plan.algorithm == ConvAlgorithm::kTiles) {
    if (!reads_in_place(p)) plan.patch = 1;
    plan.flat = is_flat(p) && !plan.patch;
    if (plan.rows < 1) plan.rows = 1;
    block(p, threads, plan);
  } else if (plan.fast()) {
    block_winograd(p, threads, plan);
  } else {
    plan.rows = 1;
  }
  return plan;
}

ConvPlan plan_strided_tiles(const ConvPlan& old, const ConvProblem& p, int threads) {
  ConvPlan plan = old;
  plan.flat = 0;
  const std::int64_t taps = p.kh * p.kw;
  plan.patch = taps == 0 || (taps == 1 && reads_in_place(p)) ? 0 : 1;
  block(p, threads, plan);
  return plan;
}

std::vector<ConvPlan> conv_plans(const ConvProblem& p, const CpuFeatures& features, int threads, bool exact) {
  std::vector<ConvPlan> plans;
  if (!conv_unsupported(p).empty()) return plans;
  ConvPlan plan;
  plan.isa = features.isa();
  if (is_depthwise(p)) {
    plan.algorithm = ConvAlgorithm::kDepthwise;
    plan.rows = 1;
    plans.push_back(plan);
  }
  plan.algorithm = ConvAlgorithm::kTiles;
  // A tile of two units reads both from one panel; smaller tiles want a step's weights to be one stream.
  plan.panel = p.cout / p.groups <= 16 || kernel_table(features.isa()).max_units == 1 ? 16 : 32;
  plan.patch = reads_in_place(p) && p.kh * p.kw == 1 ? 0 : 1;
  std::vector<ConvPlan> tiles;
  auto offer = [&](ConvPlan base, int count) {
    base.flat = is_flat(p) && !base.patch;
    for (int skip = 0; skip < count; ++skip) {
      ConvPlan now = base;
      block(p, threads, now, skip);
      const bool known = std::any_of(tiles.begin(), tiles.end(), [&](const ConvPlan& t) {
        return t.rows == now.rows && t.panels == now.panels && t.patch == now.patch && t.chunk == now.chunk;
      });
      if (!known) tiles.push_back(now);
    }
  };
  // Pixels whole 4 KiB apart meet in one cache set: copying them apart is cheaper when many channels come out.
  if (!plan.patch && p.cin * p.stride_w * element_bytes(p.src) % 4096 == 0 && p.cout / p.groups >= 64) {
    ConvPlan apart = plan;
    apart.patch = 1;
    offer(apart, 2);
  }
  offer(plan, 3);
  const std::int64_t channels = p.cin / p.groups;
  // Sums in chunks of channels: the weights of a chunk stay near while all tiles of a task use them.
  const std::int64_t step_bytes = p.kh * p.kw * std::min<std::int64_t>(16 * kernel_table(features.isa()).max_units, round_up(p.cout / p.groups, 16)) * 4;
  for (const std::int64_t bytes : {cache_sizes().l2 / 4, cache_sizes().l1d * 3 / 4}) {
    const std::int64_t chunk = std::clamp<std::int64_t>(bytes / step_bytes / 16 * 16, 32, 256);
    if (p.src_nchw || channels < 2 * chunk) continue;
    ConvPlan chunked = plan;
    chunked.chunk = static_cast<std::int32_t>(chunk);
    offer(chunked, 1);
  }
  if (!exact && winograd_fits(p)) {
    for (ConvAlgorithm algorithm : {ConvAlgorithm::kWinograd4, ConvAlgorithm::kWinograd2}) {
      ConvPlan fast;
      fast.isa = plan.isa;
      fast.algorithm = algorithm;
      fast.panel = plan.panel;
      plans.push_back(refit_conv_plan(fast, p, threads));
    }
    if (p.oh() * p.ow() < 16) std::swap(plans[plans.size() - 1], plans[plans.size() - 2]);
  }
  // Small images with many channels: all tiles at once, the panels shared out, so that the weights are read once.
  const std::size_t fast_plans = plans.size();
  for (std::size_t i = 0; i < fast_plans; ++i) {
    ConvPlan whole = plans[i];
    if (!whole.fast() || threads < 2 || winograd_tiles(p, whole) > 48 || whole.rows >= winograd_tiles(p, whole)) continue;
    whole.rows = static_cast<std::int32_t>(winograd_tiles(p, whole));
    whole.panels = static_cast<std::int32_t>(ceil_div(ceil_div(p.cout, whole.panel), threads));
    plans.push_back(whole);
  }
  plans.insert(plans.end(), tiles.begin(), tiles.end());
  return plans;
}

std::string describe(const ConvPlan& plan) {
  std::string text;
  switch (plan.algorithm) {
    case ConvAlgorithm::kTiles: text = "tiles"; break;
    case ConvAlgorithm::kDepthwise: return "depthwise";
    case ConvAlgorithm::kWinograd2: text = "winograd 2x2"; break;
    case ConvAlgorithm::kWinograd4: text = "winograd 4x4"; break;
  }
  text += " p" + std::to_string(plan.panel) + "x" + std::to_string(plan.panels) + " r" + std::to_string(plan.rows);
  if (plan.chunk) text += " k" + std::to_string(plan.chunk);
  if (plan.patch) text += " patch";
  if (plan.flat) text += " flat";
  return text;
}

std::size_t conv_scratch_bytes(const ConvProblem& p, const ConvPlan& plan, int threads) {
  std::size_t worker = 0;
  switch (plan.algorithm) {
    case ConvAlgorithm::kTiles: worker = conv_tiles_scratch(p, plan); break;
    case ConvAlgorithm::kDepthwise: worker = conv_depthwise_scratch(p); break;
    case ConvAlgorithm::kWinograd2:
    case ConvAlgorithm::kWinograd4: worker = conv_winograd_scratch(p, plan); break;
  }
  return static_cast<std::size_t>(round_up(static_cast<std::int64_t>(worker), 64)) * static_cast<std::size_t>(std::max(1, threads));
}

void run_conv(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept {
  switch (plan.algorithm) {
    case ConvAlgorithm::kTiles: return run_conv_tiles(p, plan, epilogue, args, pool);
    case ConvAlgorithm::kDepthwise: return run_conv_depthwise(p, plan, epilogue, args, pool);
    case ConvAlgorithm::kWinograd2:
    case ConvAlgorithm::kWinograd4: return run_conv_winograd(p, plan, epilogue, args, pool);
  }
}

}  // namespace lathe::cpu
