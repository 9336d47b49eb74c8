// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The convolution that a conv_transpose step describes: ONNX's attributes and the weight's extents at concrete input and output extents.

#include <algorithm>
#include <array>

#include <fmt/format.h>

#include "backend/cpu/conv_transpose.h"
#include "ir/attribute.h"
#include "lathe/status.h"

namespace lathe::regions {

/// ONNX's attributes and the weight's extents, read once; problem() then allocates nothing.
class TransposeGeometry {
 public:
  TransposeGeometry() = default;
  /// `weight` is [cin][cout / groups][kernel ...].
  TransposeGeometry(const ir::Attrs& attrs, const Dims& weight) : weight_(weight) {
    base_.groups = attrs.get_int("group", 1);
    const std::string automatic = attrs.get_string("auto_pad", "NOTSET");
    same_upper_ = automatic == "SAME_UPPER";
    pads_from_output_ = automatic.starts_with("SAME") || !attrs.get_ints("output_shape").empty();
    const std::size_t rank = weight.size() < 2 ? 0 : weight.size() - 2;
    if (rank > 2) return;  // problem() refuses it
    const auto item = [](const std::vector<std::int64_t>& list, std::size_t i, std::int64_t fallback) { return i < list.size() ? list[i] : fallback; };
    const auto pads = attrs.get_ints("pads"), strides = attrs.get_ints("strides"), dilations = attrs.get_ints("dilations"),
               padding = attrs.get_ints("output_padding");
    for (std::size_t axis = 0; axis < rank; ++axis) {
      Axis& a = axes_[axis];
      a.kernel = weight[axis + 2];
      a.stride = item(strides, axis, 1);
      a.dilation = item(dilations, axis, 1);
      a.output_pad = item(padding, axis, 0);
      if (pads_from_output_ || automatic == "VALID") continue;
      a.begin = item(pads, axis, 0);
      a.end = item(pads, axis + rank, 0);
    }
    // The file may hold any numbers; sums and products of these do not overflow.
    bool sane = base_.groups > 0 && base_.groups < kLargest;
    for (const std::int64_t extent : weight) sane &= extent >= 0 && extent < kLargest;
    for (const Axis& a : axes_)
      for (const std::int64_t number : {a.kernel, a.stride, a.dilation, a.begin, a.end, a.output_pad}) sane &= number > -kLargest && number < kLargest;
    if (!sane)
      throw Error(Code::kInvalidModel, fmt::format("a transposed convolution with weights {} has attributes out of all proportion", to_string(weight)));
  }

  /// Rank 3 runs as rank 4 with height 1. Throws Error(kInvalidModel) when the extents do not fit.
  cpu::ConvTransposeProblem problem(const Dims& input, const Dims& output) const {
    const std::size_t rank = input.size() - 2;
    cpu::ConvTransposeProblem p = base_;
    if (weight_.size() != input.size() || output.size() != input.size() || rank < 1 || rank > 2 || weight_[0] != input[1] || output[0] != input[0] ||
        output[1] != weight_[1] * p.groups)
      throw Error(Code::kInvalidModel,
                  fmt::format("a transposed convolution of {} with weights {} does not give {}", to_string(input), to_string(weight_), to_string(output)));
    p.n = input[0];
    p.cin = input[1];
    p.cout = output[1];
    const std::size_t last = rank + 1;
    const Axis x = settled(axes_[rank - 1], input[last], output[last]);
    p.w = input[last];
    p.kw = x.kernel;
    p.stride_w = x.stride;
    p.dilation_w = x.dilation;
    p.pad_left = x.begin;
    p.pad_right = x.end;
    p.output_pad_w = x.output_pad;
    if (rank == 2) {
      const Axis y = settled(axes_[0], input[2], output[2]);
      p.h = input[2];
      p.kh = y.kernel;
      p.stride_h = y.stride;
      p.dilation_h = y.dilation;
      p.pad_top = y.begin;
      p.pad_bottom = y.end;
      p.output_pad_h = y.output_pad;
    }
    if (p.ow() != output[last] || (rank == 2 && p.oh() != output[2]))
      throw Error(Code::kInvalidModel, fmt::format("a transposed convolution of {} with weights {} gives {}x{}, not {}", to_string(input), to_string(weight_),
                                                   p.oh(), p.ow(), to_string(output)));
    return p;
  }

 private:
  struct Axis {
    std::int64_t kernel = 1, stride = 1, dilation = 1, begin = 0, end = 0, output_pad = 0;
  };

  /// Pads follow from the output's extent where output_shape or SAME_* rule it: the odd one goes to the end for SAME_UPPER, else to the
  /// begin; an output larger than all taps reach has zeros (and the bias) at its end.
  Axis settled(Axis a, std::int64_t in, std::int64_t out) const {
    if (!pads_from_output_) return a;
    const std::int64_t total = a.stride * (in - 1) + a.output_pad + a.dilation * (a.kernel - 1) + 1 - out;
    const std::int64_t small = std::max<std::int64_t>(total, 0) / 2, large = std::max<std::int64_t>(total, 0) - small;
    a.begin = same_upper_ ? small : large;
    a.end = same_upper_ ? large : small;
    if (total < 0) a.output_pad -= total;
    return a;
  }

  static constexpr std::int64_t kLargest = std::int64_t{1} << 30;

  Dims weight_;
  cpu::ConvTransposeProblem base_;  // groups alone
  std::array<Axis, 2> axes_;
  bool pads_from_output_ = false, same_upper_ = false;
};

inline cpu::ConvTransposeProblem conv_transpose_problem(const ir::Attrs& attrs, const Dims& input, const Dims& weight, const Dims& output) {
  return TransposeGeometry(attrs, weight).problem(input, output);
}

}  // namespace lathe::regions
