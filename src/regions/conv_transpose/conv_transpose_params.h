// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The convolution that a conv_transpose step describes: ONNX's attributes and the weight's extents at concrete input and output extents.

#include <algorithm>

#include <fmt/format.h>

#include "backend/cpu/conv_transpose.h"
#include "ir/attribute.h"
#include "lathe/status.h"

namespace lathe::regions {

namespace detail {

struct TransposeAxis {
  std::int64_t kernel = 1, stride = 1, dilation = 1, begin = 0, end = 0, output_pad = 0;
};

inline std::int64_t item(const std::vector<std::int64_t>& list, std::size_t i, std::int64_t fallback) { return i < list.size() ? list[i] : fallback; }

/// Pads follow from the output's extent where output_shape or SAME_* rule it: the odd one goes to the end for SAME_UPPER, else to the begin;
/// an output larger than all taps reach has zeros (and the bias) at its end.
inline TransposeAxis transpose_axis(const ir::Attrs& attrs, std::size_t axis, std::size_t rank, std::int64_t kernel, std::int64_t in, std::int64_t out) {
  const auto pads = attrs.get_ints("pads");
  TransposeAxis a;
  a.kernel = kernel;
  a.stride = item(attrs.get_ints("strides"), axis, 1);
  a.dilation = item(attrs.get_ints("dilations"), axis, 1);
  a.output_pad = item(attrs.get_ints("output_padding"), axis, 0);
  const std::int64_t natural = a.stride * (in - 1) + a.output_pad + a.dilation * (kernel - 1) + 1;
  const std::string automatic = attrs.get_string("auto_pad", "NOTSET");
  if (automatic.starts_with("SAME") || !attrs.get_ints("output_shape").empty()) {
    const std::int64_t total = natural - out, small = std::max<std::int64_t>(total, 0) / 2;
    const std::int64_t large = std::max<std::int64_t>(total, 0) - small;
    a.begin = automatic == "SAME_UPPER" ? small : large;
    a.end = automatic == "SAME_UPPER" ? large : small;
    if (total < 0) a.output_pad -= total;
  } else if (automatic != "VALID") {
    a.begin = item(pads, axis, 0);
    a.end = item(pads, axis + rank, 0);
  }
  return a;
}

}  // namespace detail

/// `weight` is [cin][cout / groups][kernel ...]; rank 3 runs as rank 4 with height 1. Throws Error(kInvalidModel) when the extents do not fit.
inline cpu::ConvTransposeProblem conv_transpose_problem(const ir::Attrs& attrs, const Dims& input, const Dims& weight, const Dims& output) {
  const std::size_t rank = input.size() - 2;
  cpu::ConvTransposeProblem p;
  p.groups = attrs.get_int("group", 1);
  if (weight.size() != input.size() || output.size() != input.size() || rank < 1 || rank > 2 || weight[0] != input[1] || output[1] != weight[1] * p.groups)
    throw Error(Code::kInvalidModel, fmt::format("a transposed convolution of {} with weights {} does not give {}", to_string(input), to_string(weight), to_string(output)));
  p.n = input[0];
  p.cin = input[1];
  p.cout = output[1];
  const std::size_t last = rank + 1;
  const auto x = detail::transpose_axis(attrs, rank - 1, rank, weight[last], input[last], output[last]);
  p.w = input[last];
  p.kw = x.kernel;
  p.stride_w = x.stride;
  p.dilation_w = x.dilation;
  p.pad_left = x.begin;
  p.pad_right = x.end;
  p.output_pad_w = x.output_pad;
  if (rank == 2) {
    const auto y = detail::transpose_axis(attrs, 0, rank, weight[2], input[2], output[2]);
    p.h = input[2];
    p.kh = y.kernel;
    p.stride_h = y.stride;
    p.dilation_h = y.dilation;
    p.pad_top = y.begin;
    p.pad_bottom = y.end;
    p.output_pad_h = y.output_pad;
  }
  if (p.ow() != output[last] || (rank == 2 && p.oh() != output[2]))
    throw Error(Code::kInvalidModel, fmt::format("a transposed convolution of {} with weights {} gives {}x{}, not {}", to_string(input), to_string(weight), p.oh(), p.ow(), to_string(output)));
  return p;
}

}  // namespace lathe::regions
