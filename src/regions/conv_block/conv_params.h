// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The step parameters that conv_block's candidates write and its kernels read.

#include <limits>

#include "backend/cpu/conv.h"
#include "backend/cpu/epilogue_params.h"
#include "ops/conv/conv.h"
#include "plan/kernel.h"

namespace lathe::regions {

/// Window and weight extents are ONNX's attributes plus "weight_dims"; rank 3 runs as rank 4 with height 1.
/// Throws Error(kInvalidModel) when they do not fit the input.
inline cpu::ConvProblem conv_problem(const ir::Attrs& attrs, const Dims& input, const Dims& weight) {
  const ops::ConvGeometry g = ops::conv_geometry(attrs, input, weight);
  cpu::ConvProblem p;
  p.n = g.batch;
  p.cin = g.channels_in;
  p.cout = g.channels_out;
  p.groups = g.groups;
  const std::size_t last = g.input.size() - 1;
  p.w = g.input[last];
  p.kw = g.window.kernel[last];
  p.stride_w = g.window.strides[last];
  p.dilation_w = g.window.dilations[last];
  p.pad_left = g.window.pads_begin[last];
  p.pad_right = g.window.pads_end[last];
  if (last == 1) {
    p.h = g.input[0];
    p.kh = g.window.kernel[0];
    p.stride_h = g.window.strides[0];
    p.dilation_h = g.window.dilations[0];
    p.pad_top = g.window.pads_begin[0];
    p.pad_bottom = g.window.pads_end[0];
  }
  return p;
}

inline void write_plan(const cpu::ConvPlan& plan, ir::Attrs& params) {
  params.set("plan", std::vector<std::int64_t>{static_cast<std::int64_t>(plan.algorithm), plan.panel, plan.chunk, plan.rows, plan.panels, plan.patch, plan.flat,
                                               static_cast<std::int64_t>(plan.isa)});
}

inline cpu::ConvPlan read_plan(const ir::Attrs& params) {
  const auto v = params.get_ints("plan");
  const auto within = [&](std::size_t i, std::int64_t least, std::int64_t most) { return v[i] >= least && v[i] <= most; };
  constexpr std::int64_t kMost = std::numeric_limits<std::int32_t>::max();
  if (v.size() != 8 || !within(0, 0, 3) || (v[1] != 16 && v[1] != 32) || !within(2, 0, kMost) || v[2] % 16 != 0 || !within(3, 1, kMost) ||
      !within(4, 1, kMost) || !within(5, 0, 1) || !within(6, 0, 1) || !within(7, 0, static_cast<std::int64_t>(cpu::Isa::kNeon)))
    throw Error(Code::kCorruptFile, "the convolution plan of a step is not one that this version knows");
  cpu::ConvPlan plan;
  plan.algorithm = static_cast<cpu::ConvAlgorithm>(v[0]);
  plan.panel = static_cast<std::int32_t>(v[1]);
  plan.chunk = static_cast<std::int32_t>(v[2]);
  plan.rows = static_cast<std::int32_t>(v[3]);
  plan.panels = static_cast<std::int32_t>(v[4]);
  plan.patch = static_cast<std::int32_t>(v[5]);
  plan.flat = static_cast<std::int32_t>(v[6]);
  plan.isa = static_cast<cpu::Isa>(v[7]);
  return plan;
}

}  // namespace lathe::regions
