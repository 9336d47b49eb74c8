// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of RoiAlign on the CPU. The samples of a region form a grid: their pixels and weights are computed once per axis, in double precision as the
// reference does, and serve all channels. A task is some channels of a region.

#include <algorithm>
#include <array>
#include <atomic>
#include <cmath>
#include <limits>

#include <fmt/format.h>

#include "base/half.h"
#include "base/thread_pool.h"
#include "ops/roi/roi_plan.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

constexpr int kTaskChannels = 64;

float load(const void* data, std::int64_t at, DType dtype) noexcept {
  if (dtype == DType::kFloat32) return static_cast<const float*>(data)[at];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[at];
  return dtype == DType::kFloat16 ? half_to_float(bits) : bfloat16_to_float(bits);
}
void store(void* data, std::int64_t at, DType dtype, float value) noexcept {
  if (dtype == DType::kFloat32) static_cast<float*>(data)[at] = value;
  else static_cast<std::uint16_t*>(data)[at] = dtype == DType::kFloat16 ? float_to_half(value) : float_to_bfloat16(value);
}

/// A sample along one axis: offsets of its two pixels, and their weights; all 0 where it lies outside.
struct Place {
  std::int64_t low = 0, high = 0;
  float low_weight = 0, high_weight = 0;
};

class RoiKernel final : public Kernel {
 public:
  explicit RoiKernel(const BindRequest& request) : how_(request.params) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return each_ * static_cast<std::size_t>(threads_); }

  Status run(const KernelIo& io) const noexcept override {
    const cuda::RoiParams& p = p_;
    const std::int64_t groups = (p.channels + kTaskChannels - 1) / kTaskChannels;
    std::atomic<std::int64_t> wrong{-1};
    if (p.rows > 0 && p.columns > 0)
      io.pool->parallel_for(p.regions * groups, [&](std::int64_t task, int worker) {
        const std::int64_t region = task / groups;
        const std::int64_t image = static_cast<const std::int64_t*>(io.inputs[2])[region * p.batch_step];
        if (image < 0 || image >= p.images) wrong.store(region, std::memory_order_relaxed);
        else
          align(io, region, image, static_cast<int>(task % groups) * kTaskChannels,
                static_cast<std::byte*>(io.scratch) + each_ * static_cast<std::size_t>(worker));
      });
    const std::int64_t region = wrong.load();
    if (region < 0) return Status::ok();
    char text[120];
    const auto end = fmt::format_to_n(text, sizeof text, "batch index {} is out of bounds for {} images",
                                      static_cast<const std::int64_t*>(io.inputs[2])[region * p.batch_step], p.images);
    return {Code::kInvalidArgument, std::string_view(text, std::min(end.size, sizeof text))};
  }

 private:
  void fit(const BindRequest& request) {
    if (request.inputs.size() != 3 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a RoiAlign step with the wrong number of tensors");
    std::string why;
    if (!ops::roi_plan(request.inputs[0], request.inputs[1], request.inputs[2], request.outputs[0], how_, p_, why))
      throw Error(why == "the feature maps are empty" ? Code::kInvalidArgument : Code::kUnsupported, "a RoiAlign step: " + why);
    types_ = {request.inputs[0].dtype, request.inputs[1].dtype, request.outputs[0].dtype};
    threads_ = std::max(request.threads, 1);
    // A bin has at most so many samples along an axis (see samples()).
    const auto most = [&](int bins, int extent) {
      return static_cast<std::size_t>(bins) * (p_.ratio > 0 ? static_cast<std::size_t>(p_.ratio) : 16 * static_cast<std::size_t>(extent) + 16);
    };
    each_ = ((most(p_.rows, p_.height) + most(p_.columns, p_.width)) * sizeof(Place) + 63) / 64 * 64;
  }

  int samples(double bin, int extent) const noexcept {
    if (p_.ratio > 0) return p_.ratio;
    const double wanted = std::ceil(bin);
    return wanted > 0 ? static_cast<int>(std::min(wanted, 16.0 * extent + 16)) : 0;
  }

  static void fill(Place* places, int bins, int count, double first, double bin, int extent, std::int64_t step) noexcept {
    for (int b = 0; b < bins; ++b)
      for (int i = 0; i < count; ++i) {
        const double at = first + (b + (i + 0.5) / count) * bin;
        Place& place = *places++;
        place = {};
        if (!(at >= -1 && at <= extent)) continue;
        const double from_zero = std::max(at, 0.0);
        const int low = static_cast<int>(from_zero);
        if (low >= extent - 1) {
          place.low = place.high = (extent - 1) * step;
          place.low_weight = 1;
        } else {
          place.low = low * step;
          place.high = (low + 1) * step;
          place.high_weight = static_cast<float>(from_zero - low);
          place.low_weight = static_cast<float>(1 - (from_zero - low));
        }
      }
  }

  void align(const KernelIo& io, std::int64_t region, std::int64_t image, int first_channel, std::byte* scratch) const noexcept {
    const cuda::RoiParams& p = p_;
    double box[4];
    for (int side = 0; side < 4; ++side)
      box[side] = static_cast<double>(load(io.inputs[1], region * p.roi_step[0] + side * p.roi_step[1], types_[1])) * p.scale - (p.half_pixel ? 0.5 : 0);
    double width = box[2] - box[0], height = box[3] - box[1];
    if (!p.half_pixel) {
      width = std::max(width, 1.0);
      height = std::max(height, 1.0);
    }
    const double bin_height = height / p.rows, bin_width = width / p.columns;
    const int high = samples(bin_height, p.height), wide = samples(bin_width, p.width);
    auto* down = reinterpret_cast<Place*>(scratch);
    Place* across = down + static_cast<std::ptrdiff_t>(p.rows) * high;
    fill(down, p.rows, high, box[1], bin_height, p.height, p.x_step[2]);
    fill(across, p.columns, wide, box[0], bin_width, p.width, p.x_step[3]);
    const Grid grid{down, across, high, wide, p.average ? static_cast<float>(std::max(1.0, static_cast<double>(high) * wide)) : 1};
    for (int c = first_channel; c < std::min(p.channels, first_channel + kTaskChannels); ++c) {
      const std::int64_t map = image * p.x_step[0] + c * p.x_step[1], out = region * p.y_step[0] + c * p.y_step[1];
      if (types_[0] == DType::kFloat32) {
        const float* pixels = static_cast<const float*>(io.inputs[0]) + map;
        const auto pixel = [pixels](std::int64_t offset) { return pixels[offset]; };
        if (high == 2 && wide == 2 && p.average) one_channel<2>(io, grid, out, pixel);
        else one_channel<0>(io, grid, out, pixel);
      } else {
        one_channel<0>(io, grid, out, [&](std::int64_t offset) { return load(io.inputs[0], map + offset, types_[0]); });
      }
    }
  }

  /// All samples of a region: `high` a bin in a row of `down`, `wide` in one of `across`.
  struct Grid {
    const Place *down, *across;
    int high, wide;
    float count;
  };

  /// `kSamples` a bin along each axis, averaged; 0: what the grid and the parameters say.
  template <int kSamples, class Pixel>
  void one_channel(const KernelIo& io, const Grid& grid, std::int64_t out, const Pixel& pixel) const noexcept {
    const cuda::RoiParams& p = p_;
    const int high = kSamples > 0 ? kSamples : grid.high, wide = kSamples > 0 ? kSamples : grid.wide;
    const bool average = kSamples > 0 || p.average;
    for (int row = 0; row < p.rows; ++row)
      for (int column = 0; column < p.columns; ++column) {
        const Place *y = grid.down + static_cast<std::ptrdiff_t>(row) * high, *first = grid.across + static_cast<std::ptrdiff_t>(column) * wide;
        float sum = 0, largest = high > 0 && wide > 0 ? -std::numeric_limits<float>::infinity() : 0;
        for (int i = 0; i < high; ++i, ++y) {
          const Place* x = first;
          for (int j = 0; j < wide; ++j, ++x) {
            const float parts[] = {y->low_weight * x->low_weight * pixel(y->low + x->low), y->low_weight * x->high_weight * pixel(y->low + x->high),
                                   y->high_weight * x->low_weight * pixel(y->high + x->low), y->high_weight * x->high_weight * pixel(y->high + x->high)};
            sum += (parts[0] + parts[1]) + (parts[2] + parts[3]);
            if (!average)
              for (const float part : parts) largest = std::max(largest, part);
          }
        }
        store(io.outputs[0], out + row * p.y_step[2] + column * p.y_step[3], types_[2], average ? sum / grid.count : largest);
      }
  }

  ops::RoiHow how_;
  cuda::RoiParams p_;
  std::array<DType, 3> types_{};
  int threads_ = 1;
  std::size_t each_ = 0;
};

std::unique_ptr<Kernel> bind_roi_align(const BindRequest& request) { return std::make_unique<RoiKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.roi_align", bind_roi_align, ""}}};

}  // namespace

KernelSet kernels_roi() { return {kKernels, {}}; }

}  // namespace lathe::plan
