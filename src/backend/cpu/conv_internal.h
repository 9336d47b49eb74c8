// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// How a convolution's k range lies in memory: shared by planning, packing and running, so that the three cannot disagree.

#include "backend/cpu/conv.h"
#include "backend/cpu/tile_grid.h"

namespace lathe::cpu {

/// The three ways a tile reads its k range. kPlanar: NCHW patch, segments (channel, row), k along the row. kPixels: channels-last.
enum class KOrder { kPixels, kPlanar };

struct ConvShape {
  std::int64_t group_cin, group_cout, oh, ow;
  bool bf16;  ///< products in bf16
  KOrder order;
  std::int64_t element;        ///< bytes of an element of A as the tiles read it
  std::int64_t channels;       ///< of a pixel of A within a group, with the padding to a whole step
  std::int64_t chunk, chunks;  ///< channels summed at a time (kPlanar: all)
  std::int64_t last_chunk;
  std::int64_t taps_k;  ///< kPlanar: steps along a kernel row
  std::int64_t steps;   ///< k steps of a panel
  std::int64_t panels;  ///< of a group
};

inline ConvShape conv_shape(const ConvProblem& p, const ConvPlan& plan) noexcept {
  ConvShape s{};
  s.group_cin = p.cin / p.groups;
  s.group_cout = p.cout / p.groups;
  s.oh = p.oh();
  s.ow = p.ow();
  s.bf16 = p.weights == DType::kBFloat16;
  s.element = s.bf16 ? 2 : 4;
  const std::int64_t per_step = s.bf16 ? 2 : 1;
  // A planar patch is a plain copy of image rows; pairs along a row need an even kernel, else a pixel to the right would be
  // multiplied by a padding zero, and an infinity there would give NaN.
  s.order = p.src_nchw && p.groups == 1 && p.dilation_w == 1 && p.kw % per_step == 0 ? KOrder::kPlanar : KOrder::kPixels;
  s.channels = round_up(s.group_cin, per_step);
  if (s.order == KOrder::kPlanar) {
    s.chunk = s.last_chunk = s.group_cin;
    s.chunks = 1;
    s.taps_k = p.kw / per_step;
    s.steps = s.group_cin * p.kh * s.taps_k;
  } else {
    s.chunk = plan.chunk > 0 && plan.chunk < s.channels ? plan.chunk : s.channels;
    s.chunks = ceil_div(s.channels, s.chunk);
    s.last_chunk = s.channels - (s.chunks - 1) * s.chunk;
    s.steps = p.kh * p.kw * s.channels / per_step;
  }
  s.panels = ceil_div(s.group_cout, plan.panel);
  return s;
}

/// The zero-padded copy of the input that a task of `rows` output rows reads; byte strides.
struct PatchLayout {
  std::int64_t in_rows, in_cols;
  std::int64_t pixel, row, chunk;  ///< kPlanar: pixel = one element, chunk = one channel plane
  std::int64_t bytes;
};
inline PatchLayout patch_layout(const ConvProblem& p, const ConvShape& s, std::int64_t rows) noexcept {
  PatchLayout l{};
  l.in_rows = (rows - 1) * p.stride_h + (p.kh - 1) * p.dilation_h + 1;
  l.in_cols = (s.ow - 1) * p.stride_w + (p.kw - 1) * p.dilation_w + 1;
  if (s.order == KOrder::kPlanar) {
    l.pixel = s.element;
    l.row = round_up(l.in_cols * l.pixel, 4);
    l.chunk = l.row * l.in_rows;
    l.bytes = l.chunk * s.group_cin;
    return l;
  }
  l.pixel = s.chunk * s.element;
  // Pixels a multiple of 1 KiB apart would share a few cache sets: shift each by a line.
  if (l.pixel * p.stride_w % 1024 == 0) l.pixel += 64;
  l.row = l.pixel * l.in_cols;
  l.chunk = l.row * l.in_rows;
  l.bytes = l.chunk * s.chunks;
  return l;
}

// One function per algorithm; each gets checked arguments.
void run_conv_tiles(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept;
std::size_t conv_tiles_scratch(const ConvProblem& p, const ConvPlan& plan) noexcept;  ///< per worker
void run_conv_depthwise(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept;
std::size_t conv_depthwise_scratch(const ConvProblem& p) noexcept;
void run_conv_winograd(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept;
std::size_t conv_winograd_scratch(const ConvProblem& p, const ConvPlan& plan) noexcept;
std::size_t conv_winograd_weight_bytes(const ConvProblem& p, const ConvPlan& plan) noexcept;
void pack_conv_winograd(const ConvProblem& p, const ConvPlan& plan, const float* oihw, void* packed);

/// Output with any strides, for phases of a transposed convolution: like run_conv_tiles, the strides in bytes.
struct ConvOutput {
  char* dst;
  std::int64_t pixel, row, image;
  const char* residual;
  std::int64_t residual_pixel, residual_row, residual_image;
};
/// Rows and panels of a task, patch or in place, for output that has strides (so never one flat row). Pads may be negative, kernels empty.
ConvPlan plan_strided_tiles(const ConvPlan& plan, const ConvProblem& p, int threads);
void run_conv_tiles_to(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, const ConvOutput& out,
                       ThreadPool& pool) noexcept;

}  // namespace lathe::cpu
