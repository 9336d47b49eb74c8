// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Planning of convolutions and the public entry points.
#include <algorithm>

#include "backend/cpu/conv_internal.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

bool is_depthwise(const ConvProblem& p) { return p.groups == p.cin && p.cin == p.cout && p.groups > 1 && !p.src_nchw; }

bool is_flat(const ConvProblem& p) {
  return !p.src_nchw && p.kh == 1 && p.kw == 1 && p.stride_h == 1 && p.stride_w == 1 && p.pad_top == 0 && p.pad_left == 0 &&
         p.pad_bottom == 0 && p.pad_right == 0;
}

bool reads_in_place(const ConvProblem& p) {
  const bool padded = p.pad_top || p.pad_left || p.pad_bottom || p.pad_right;
  // Pairs of bf16 must not reach into the next pixel (odd channels), and groups must start on a pair.
  const bool pairs = p.weights != DType::kBFloat16 || (p.cin / p.groups) % 2 == 0;
  return !p.src_nchw && !padded && p.src == p.weights && pairs;
}

// Rows (or flat pixels) and panels of a task: the patch and one weight panel should share the second-level cache, and there should be
// enough tasks for an even end.
void block(const ConvProblem& p, int threads, ConvPlan& plan) {
  const ConvShape s = conv_shape(p, plan);
  const std::int64_t l2 = cache_sizes().l2, images = plan.flat ? 1 : p.n;
  const std::int64_t extent = plan.flat ? p.n * s.oh * s.ow : s.oh;
  const std::int64_t budget = l2 * 3 / 8;
  const std::int64_t want_tasks = threads == 1 ? 1 : 4 * threads;
  std::int64_t rows = 1;
  if (plan.flat && !plan.patch) {
    const std::int64_t pixel = s.channels * s.element;
    rows = std::clamp<std::int64_t>(budget / pixel / kMaxTileRows * kMaxTileRows, kMaxTileRows * 2, 1024 / kMaxTileRows * kMaxTileRows);
  } else {
    while (rows < extent && (plan.patch ? patch_layout(p, s, rows + 1).bytes : (rows + 1) * p.stride_h * p.w * s.channels * s.element) <= budget &&
           (rows + 1) * s.ow <= 2048) {
      ++rows;
    }
  }
  rows = std::min(rows, extent);
  const std::int64_t per_image = std::max<std::int64_t>(1, ceil_div(want_tasks, images * p.groups));
  // Enough tasks from rows where a block keeps a few tiles, the rest from panels.
  const std::int64_t unit = plan.flat ? kMaxTileRows : 1;
  const std::int64_t min_rows = plan.flat ? 4 * kMaxTileRows : std::max<std::int64_t>(1, std::min<std::int64_t>(p.kh, ceil_div(56, s.ow)));
  std::int64_t blocks = ceil_div(extent, rows);
  if (blocks < per_image) {
    rows = std::max(std::min(min_rows, rows), round_up(ceil_div(extent, per_image), unit));
    rows = std::min(rows, extent);
    blocks = ceil_div(extent, rows);
  }
  rows = std::min(extent, round_up(ceil_div(extent, blocks), unit));   // equal blocks
  blocks = ceil_div(extent, rows);
  std::int64_t panels = s.panels;
  if (blocks < per_image) panels = std::max<std::int64_t>(1, s.panels / ceil_div(per_image, blocks));
  plan.rows = static_cast<std::int32_t>(rows);
  plan.panels = static_cast<std::int32_t>(panels);
}

void block_winograd(const ConvProblem& p, int threads, ConvPlan& plan) {
  const std::int64_t m = plan.algorithm == ConvAlgorithm::kWinograd2 ? 2 : 4, planes = (m + 2) * (m + 2);
  const std::int64_t tiles = p.n * ceil_div(p.oh(), m) * ceil_div(p.ow(), m);
  const std::int64_t fit = cache_sizes().l2 * 5 / 8 / (planes * round_up(p.cin, 16) * 4);
  std::int64_t rows = std::clamp<std::int64_t>(fit, 8, 8 * kMaxTileRows);
  if (rows > kMaxTileRows) rows = rows / kMaxTileRows * kMaxTileRows;
  std::int64_t blocks = ceil_div(tiles, rows);
  if (threads > 1) blocks = round_up(blocks, threads);
  rows = ceil_div(tiles, blocks);
  blocks = ceil_div(tiles, rows);
  const std::int64_t panels = ceil_div(p.cout, plan.panel);
  plan.rows = static_cast<std::int32_t>(rows);
  plan.panels = static_cast<std::int32_t>(blocks >= threads ? panels : std::max<std::int64_t>(1, panels / ceil_div(threads, blocks)));
}

bool winograd_fits(const ConvProblem& p) {
  return p.kh == 3 && p.kw == 3 && p.stride_h == 1 && p.stride_w == 1 && p.dilation_h == 1 && p.dilation_w == 1 && p.groups == 1 &&
         !p.src_nchw && p.weights == DType::kFloat32 && p.cin >= 16 && p.cout >= 16;
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

ConvPlan refit_conv_plan(const ConvPlan& old, const ConvProblem& p, int threads) {
  ConvPlan plan = old;
  if (plan.algorithm == ConvAlgorithm::kTiles) {
    if (!reads_in_place(p)) plan.patch = 1;
    plan.flat = is_flat(p) && !plan.patch;
    block(p, threads, plan);
  } else if (plan.fast()) {
    block_winograd(p, threads, plan);
  } else {
    plan.rows = 1;
  }
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
  plan.panel = p.cout / p.groups <= 16 ? 16 : 32;
  plan.patch = reads_in_place(p) && p.kh * p.kw == 1 ? 0 : 1;
  // Pixels whole KiB apart meet in few cache sets: copying them apart is cheaper when many channels come out.
  if (!plan.patch && p.cin / p.groups * element_bytes(p.src) % 2048 == 0 && p.cout / p.groups >= 128 && !is_flat(p)) plan.patch = 1;
  std::vector<ConvPlan> tiles;
  tiles.push_back(refit_conv_plan(plan, p, threads));
  const std::int64_t channels = p.cin / p.groups;
  if (!p.src_nchw && channels * p.kh * p.kw > 1152 && channels > 128) {
    ConvPlan chunked = plan;
    chunked.chunk = 128;
    tiles.push_back(refit_conv_plan(chunked, p, threads));
  }
  if (tiles[0].rows > 1) {
    ConvPlan half = tiles[0];
    half.rows = std::max(1, half.rows / 2);
    tiles.push_back(half);
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
