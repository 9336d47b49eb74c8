// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the tensors of a Conv or ConvTranspose to the launch of its plain kernel: what the candidate, the kernel and the tests without a GPU share.

#include <array>
#include <optional>
#include <string>
#include <string_view>

#include "ir/attribute.h"
#include "plan/kernel.h"
#include "regions/plain_conv/plain_conv_params.h"
#include "regions/plain_types.h"

namespace lathe::regions {

/// What the attributes say, read once.
struct PlainConvSpec {
  enum class Pads : std::uint8_t { kGiven, kSameUpper, kSameLower };
  struct Axis {
    std::int64_t stride = 1, dilation = 1, begin = 0, end = 0, output_padding = 0;
    std::int64_t output = -1, kernel = -1;  ///< -1: not given
  };
  bool transposed = false;
  Pads pads = Pads::kGiven;
  std::size_t rank = 0;  ///< spatial axes
  std::int64_t groups = 1;
  std::array<Axis, cuda::kPlainConvAxes> axes;
};

/// nullopt, and in `why` the reason, where the attributes make no sense or there are more axes than the kernels walk.
std::optional<PlainConvSpec> plain_conv_spec(const ir::Attrs& attrs, bool transposed, std::size_t spatial_rank, std::string& why);

struct PlainConvPlan {
  cuda::PlainConvParams params;
  std::uint32_t grid = 0;
  bool wide = false;  ///< float64 takes part
  double flops = 0;
  std::string_view kernel() const noexcept { return wide ? "plain_conv_double" : "plain_conv_float"; }
};

/// `b` may be nullptr. False, and in `why` the reason, when no kernel can run it. Allocates nothing but the reason.
bool plain_conv_plan(const PlainConvSpec& spec, const plan::TensorDesc& x, const plan::TensorDesc& w, const plan::TensorDesc* b, const plan::TensorDesc& y,
                     PlainConvPlan& into, std::string& why);

}  // namespace lathe::regions
