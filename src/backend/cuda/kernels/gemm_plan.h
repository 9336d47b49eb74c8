// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Host side of the product kernels: from a convolution or matrix product to kernel, launch shape and parameters. Pure functions, no
// driver. The steps: set up (what is computed, how operands lie), list plans (tile, split; the builder times them), pack constant weights
// once (the same for every plan and architecture), launch.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/kernels/gemm_params.h"

namespace lathe::cuda {

FastDivisor fast_divisor(std::uint32_t divisor) noexcept;

struct GpuLimits {
  int arch = 90;  ///< 90 = compute capability 9.0
  int multiprocessors = 132;
  std::size_t shared_per_block = 232448, shared_per_multiprocessor = 233472;
};

struct ConvShape {
  std::int64_t n = 1, h = 1, w = 1, cin = 1, cout = 1, kh = 1, kw = 1, stride_h = 1, stride_w = 1;
  std::int64_t pad_top = 0, pad_left = 0, pad_bottom = 0, pad_right = 0, dilation_h = 1, dilation_w = 1, groups = 1;
  std::int64_t oh() const noexcept { return (h + pad_top + pad_bottom - dilation_h * (kh - 1) - 1) / stride_h + 1; }
  std::int64_t ow() const noexcept { return (w + pad_left + pad_right - dilation_w * (kw - 1) - 1) / stride_w + 1; }
  double flops() const noexcept { return 2.0 * n * oh() * ow() * cout * (cin / groups) * kh * kw; }
};

/// Types and places of the operands; strides in elements, 0 = dense NHWC. Strides that are multiples of 8 are worth having even where channel
/// counts are not: rows of 255 channels 256 apart are read and written by wide accesses, 255 apart one by one.
struct ConvOperands {
  ProductType product = kProductF16;
  ElementType src = kElementFloat16, stored = kElementFloat16;  ///< stored: of dst and residual
  std::int64_t src_pixel = 0, dst_pixel = 0, residual_pixel = 0;
  bool src_planar = false;  ///< the source is dense NCHW
  bool residual = false;
  int src_alignment = 16, dst_alignment = 16;  ///< bytes that the addresses of src; of dst and residual are known to be multiples of
  /// Two convolutions of one source: the output channels from this one on, a multiple of kSiblingColumns, go to a destination of their own. 0: none do.
  std::int64_t first_columns = 0, second_pixel = 0;
};
constexpr std::int64_t kSiblingColumns = 32;  ///< of the narrowest tile

struct MatMulShape {
  std::int64_t rows = 1, columns = 1, depth = 1;
  std::int64_t outer = 1, inner = 1;  ///< two batch dimensions
};

struct MatMulOperands {
  ProductType product = kProductF16;
  ElementType a_type = kElementFloat16, stored = kElementFloat16;  ///< B not packed has the product's type
  std::int64_t a_row = 0, a_column = 1, a_outer = 0, a_inner = 0;  ///< elements; a_row 0 = dense
  bool packed_b = true;
  bool b_across = false;                             ///< B is stored [depth][columns], else [columns][depth]
  std::int64_t b_row = 0, b_outer = 0, b_inner = 0;  ///< packed: 0 or 1, one packed matrix per batch item or one for all
  std::int64_t c_row = 0, c_outer = 0, c_inner = 0;
  bool residual = false;
  std::int64_t residual_row = 0, residual_outer = 0, residual_inner = 0;
  int a_alignment = 16, b_alignment = 16, c_alignment = 16;
};

/// A first layer of at most 4 channels and even stride along x, on an image stored with 4 channels a pixel (the surplus ones finite), is
/// a convolution of pairs of pixels: 8 channels, half the width, so that 16-byte copies serve it. False when it is not of this kind.
bool pairs_pixels(const ConvShape& shape) noexcept;
/// The convolution of pairs; its source has 8 elements a pixel.
ConvShape paired_shape(const ConvShape& shape) noexcept;
/// OIHW weights of the convolution of pairs.
std::vector<float> paired_weights(const ConvShape& shape, const float* oihw);

/// What is computed, with every parameter that no plan changes. Pointers, epilogue (but `vectors` and `stored_type`) and splits are empty.
struct GemmSetup {
  GemmParams params;
  ProductType product = kProductF16;
  OperandA a = kVectorA;
  OperandB b = kPackedB;
  int items = 1;         ///< groups or batch
  int packed_items = 1;  ///< matrices in the packed weights
  double flops = 0;
};

/// "" when the kernels can compute it, else the reason why not.
std::string conv_unsupported(const ConvShape& shape, const ConvOperands& operands);
std::string matmul_unsupported(const MatMulShape& shape, const MatMulOperands& operands);
/// Of supported problems only.
GemmSetup conv_setup(const ConvShape& shape, const ConvOperands& operands);
GemmSetup matmul_setup(const MatMulShape& shape, const MatMulOperands& operands);

/// kPipe: warp groups with roles on blocks that stay and walk over tiles, for large products.
enum class GemmCore : std::int32_t { kMma = 0, kWgmma = 1, kPipe = 2 };
/// Plain data, stored in the engine field by field.
struct GemmPlan {
  GemmCore core = GemmCore::kMma;
  std::int32_t rows = 64, columns = 64;  ///< tile
  /// Of the depth. kPipe: 2 = the depth of the tiles of the last rounds is dealt out evenly, so that no multiprocessor idles at the end.
  std::int32_t splits = 1;
  /// 1: the splits of a tile are a cluster (compute capability 9.0 and later). kPipe: two neighbouring row tiles are, and share their B.
  std::int32_t cluster = 0;
  bool operator==(const GemmPlan&) const = default;
};
std::string describe(const GemmPlan& plan);  ///< "wgmma 128x64 /4c", "pipe 128x256 pairs", for --explain

/// Every plan worth trying.
std::vector<GemmPlan> all_gemm_plans(const GemmSetup& setup, const GpuLimits& gpu);
/// Modelled time in seconds: good enough to leave out most plans before any is timed.
double modelled_time(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu);
/// The `count` best by the model, best first. Empty where the GPU has no kernel for the problem: before sm_80 there are float16 products by
/// 16-byte copies and packed weights only.
std::vector<GemmPlan> gemm_plans(const GemmSetup& setup, const GpuLimits& gpu, std::size_t count);
/// True when `plan` names a kernel that exists for the setup on this GPU and a legal split.
bool plan_fits(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu);
/// The best by the model; splits 0 where there is none. Allocates nothing.
GemmPlan best_gemm_plan(const GemmSetup& setup, const GpuLimits& gpu);
/// The plan itself or, where other extents no longer suit its split, the same tile with one that does. Allocates nothing.
GemmPlan refit_gemm_plan(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu);

struct GemmKernelName {
  std::string module, kernel;  ///< "gemm_mma_f16", "gemm_mma_f16_64x64_vec_packed"
};
GemmKernelName gemm_kernel_name(const GemmSetup& setup, const GemmPlan& plan);

struct GemmGrid {
  std::uint32_t grid[3] = {1, 1, 1}, block = 128, cluster_y = 1;
  std::uint32_t shared_bytes = 0;
  PipeParams params;                            ///< pointers, epilogue and map are the caller's to fill in
  int map_rows = 0;                             ///< of a tile of A, where params.map_kind asks for a map
  std::size_t partial_bytes = 0, counters = 0;  ///< device memory for the splits; counters are zero at first
};
/// Of a plan that fits `gpu`. Allocates nothing.
GemmGrid gemm_grid(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu);

struct GemmLaunch : GemmKernelName, GemmGrid {};
GemmLaunch gemm_launch(const GemmSetup& setup, const GemmPlan& plan, const GpuLimits& gpu);

/// Where B's element (item, column, ky, kx, channel) stands in a float32 array: the strides of a weight in any order.
struct WeightStrides {
  std::int64_t item = 0, column = 0, ky = 0, kx = 0, channel = 0;
};
WeightStrides oihw_strides(const ConvShape& shape) noexcept;
std::size_t packed_bytes(const GemmSetup& setup) noexcept;
void pack_weights(const GemmSetup& setup, const float* weights, const WeightStrides& strides, std::span<std::byte> packed);

}  // namespace lathe::cuda
