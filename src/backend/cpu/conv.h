// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// 2-D convolution on channels-last activations (NHWC, pixel strides may exceed the channels, so a channel slice of a wider buffer
// is read and a slice of a concat buffer is written for free). The steps: list plans (plain data; the builder times them), pack
// the weights once for a plan, run any number of times. run_conv does not allocate, throw or keep state.
//
// Layout class *exact*: kTiles and kDepthwise add fp32 products in a fixed order. Class *fast*: the Winograd plans, see error_class.

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

#include "backend/cpu/epilogue.h"
#include "backend/cpu/features.h"
#include "lathe/dtype.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::cpu {

/// Types are kFloat32 or kBFloat16, in any mix. The weights' type is the type that is multiplied; sums are fp32 always.
struct ConvProblem {
  std::int64_t n = 1, h = 1, w = 1;  ///< input
  std::int64_t cin = 1, cout = 1;    ///< all groups together
  std::int64_t kh = 1, kw = 1;
  std::int64_t stride_h = 1, stride_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0;
  std::int64_t dilation_h = 1, dilation_w = 1;
  std::int64_t groups = 1;
  DType src = DType::kFloat32, weights = DType::kFloat32, dst = DType::kFloat32;
  bool src_nchw = false;  ///< the source is dense NCHW (meant for a network's first layer: no reorder step)

  std::int64_t oh() const noexcept { return (h + pad_top + pad_bottom - dilation_h * (kh - 1) - 1) / stride_h + 1; }
  std::int64_t ow() const noexcept { return (w + pad_left + pad_right - dilation_w * (kw - 1) - 1) / stride_w + 1; }
  double flops() const noexcept { return 2.0 * n * oh() * ow() * cout * (cin / groups) * kh * kw; }
};

enum class ConvAlgorithm : std::int32_t { kTiles = 0, kDepthwise = 1, kWinograd2 = 2, kWinograd4 = 3 };

/// Plain data, stored in the engine field by field. `algorithm`, `panel` and `chunk` fix the packed weights' layout; the rest may be
/// recomputed for other image sizes by refit_conv_plan without packing again.
struct ConvPlan {
  ConvAlgorithm algorithm = ConvAlgorithm::kTiles;
  std::int32_t panel = 32;  ///< output channels in a weight panel: 16 or 32
  std::int32_t chunk = 0;   ///< input channels of a group summed at a time (a multiple of 16, or all of them)
  std::int32_t rows = 1;    ///< kTiles: output rows of a task (flat plans: pixels); Winograd: tiles of a task
  std::int32_t panels = 1;  ///< weight panels of a task
  std::int32_t patch = 0;   ///< 1: a task copies its input patch, zero-padded, to scratch first; 0: reads the source in place
  std::int32_t flat = 0;    ///< 1: 1x1 stride 1, all pixels are one row
  Isa isa = Isa::kGeneric;  ///< level it was planned for; a smaller machine runs the same plan on its best level
  bool fast() const noexcept { return algorithm == ConvAlgorithm::kWinograd2 || algorithm == ConvAlgorithm::kWinograd4; }
};

struct ConvArgs {
  const void* src = nullptr;
  std::int64_t src_pixel_stride = 0;  ///< elements; 0 = cin. Not used for an NCHW source
  const void* weights = nullptr;      ///< what pack_conv_weights wrote, 64-byte aligned
  const float* bias = nullptr;        ///< cout values or nullptr
  const void* residual = nullptr;     ///< same extent as dst, or nullptr. May be dst itself
  std::int64_t residual_pixel_stride = 0;
  DType residual_type = DType::kFloat32;
  void* dst = nullptr;                ///< must not overlap src
  std::int64_t dst_pixel_stride = 0;  ///< elements; 0 = cout
  void* scratch = nullptr;            ///< conv_scratch_bytes(), 64-byte aligned
};

/// "" when the problem can be run, else the reason why not.
std::string conv_unsupported(const ConvProblem& problem);
/// Plans worth timing, the best guess first; never empty for a supported problem. `exact` leaves out class fast.
std::vector<ConvPlan> conv_plans(const ConvProblem& problem, const CpuFeatures& features, int threads, bool exact);
/// Could the plan have come from conv_plans() for this problem? Engine files come from strangers, and a plan that does not fit reads past its buffers.
bool conv_plan_fits(const ConvProblem& problem, const ConvPlan& plan) noexcept;
/// The same packed weights for another image size, batch or thread count.
ConvPlan refit_conv_plan(const ConvPlan& plan, const ConvProblem& problem, int threads);
std::string describe(const ConvPlan& plan);  ///< "tiles p32 r4 patch", for --explain

/// Recipe of the packed blob (a pure function of problem channels/kernel/groups/weight type and plan algorithm/panel/chunk):
/// kTiles: [group][panel][chunk][row][column][channel][panel width] (NCHW source: [group][panel][channel][row][column][panel
/// width]); the last panel is as narrow as 16 when that suffices; channels past cout are zero. bf16 keeps pairs of consecutive k
/// (channels; NCHW: columns) together: [...][k/2][panel width][2], odd ends padded with zero.
/// kDepthwise: [row][column][channel], fp32. Winograd: [panel][tile element][channel][panel width] of the
/// transformed weights, channels padded to 16.
std::size_t conv_weight_bytes(const ConvProblem& problem, const ConvPlan& plan);
void pack_conv_weights(const ConvProblem& problem, const ConvPlan& plan, const float* oihw, void* packed);

std::size_t conv_scratch_bytes(const ConvProblem& problem, const ConvPlan& plan, int threads);
void run_conv(const ConvProblem& problem, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept;

}  // namespace lathe::cpu
