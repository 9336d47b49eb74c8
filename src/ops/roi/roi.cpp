// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// RoiAlign and MaxRoiPool: a region of a feature map, given by a box, brought to a fixed size.
#include "ops/roi/roi.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

// RoiAlign: bilinear samples at regular points of each bin, averaged or maximised (He et al., Mask R-CNN, 2017) ------------------

void roi_align_infer(InferContext& ctx) {
  const auto &x = ctx.shape(0), &rois = ctx.shape(1), &batch = ctx.shape(2);
  if (x && x->size() != 4) ctx.fail("takes feature maps of rank 4, got " + ir::to_string(*x));
  if (rois && rois->size() != 2) ctx.fail("rois " + ir::to_string(*rois) + " are not [regions, 4]");
  if (rois && (*rois)[1].constant().value_or(4) != 4) ctx.fail("rois " + ir::to_string(*rois) + " are not [regions, 4]");
  const std::int64_t height = ctx.attrs().get_int("output_height", 1), width = ctx.attrs().get_int("output_width", 1);
  if (height < 0 || width < 0) ctx.fail("output_height and output_width must not be negative");
  const std::string mode = ctx.attrs().get_string("mode", "avg"), coordinates = ctx.attrs().get_string("coordinate_transformation_mode", "half_pixel");
  if (mode != "avg" && mode != "max") ctx.fail("the mode '" + mode + "' is neither avg nor max");
  if (coordinates != "half_pixel" && coordinates != "output_half_pixel")
    ctx.fail("the coordinate_transformation_mode '" + coordinates + "' is neither half_pixel nor output_half_pixel");
  Dim count = ctx.fresh_symbol();
  if (rois) count = (*rois)[0];
  else if (batch && batch->size() == 1) count = (*batch)[0];
  ctx.set(0, ctx.dtype(0), {count, x ? (*x)[1] : ctx.fresh_symbol(), Dim(height), Dim(width)});
}

/// A bilinear sample: 4 pixels and their weights; weights of 0 outside the map.
struct Sample {
  std::int64_t offset[4] = {};
  double weight[4] = {};
};

Sample sample_at(double y, double x, std::int64_t height, std::int64_t width) {
  Sample s;
  const auto h = static_cast<double>(height), w = static_cast<double>(width);
  if (!(y >= -1 && y <= h && x >= -1 && x <= w)) return s;  // NaN too
  const auto split = [](double v, std::int64_t extent, std::int64_t& low, std::int64_t& high) {
    v = std::max(v, 0.0);
    low = static_cast<std::int64_t>(v);
    if (low >= extent - 1) {
      low = high = extent - 1;
      return 0.0;
    }
    high = low + 1;
    return v - static_cast<double>(low);
  };
  std::int64_t top, bottom, left, right;
  const double ly = split(y, height, top, bottom), lx = split(x, width, left, right);
  s = {{top * width + left, top * width + right, bottom * width + left, bottom * width + right}, {(1 - ly) * (1 - lx), (1 - ly) * lx, ly * (1 - lx), ly * lx}};
  return s;
}

void roi_align_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &rois = ctx.input(1), &batch = ctx.input(2);
  if (x.rank() != 4 || rois.rank() != 2 || rois.dims()[1] != 4 || batch.size() != rois.dims()[0])
    ctx.fail("feature maps " + lathe::to_string(x.dims()) + ", rois " + lathe::to_string(rois.dims()) + " and " + std::to_string(batch.size()) +
             " batch indices do not fit");
  const std::int64_t count = rois.dims()[0], channels = x.dims()[1], height = x.dims()[2], width = x.dims()[3];
  const std::int64_t rows = ctx.attrs().get_int("output_height", 1), columns = ctx.attrs().get_int("output_width", 1),
                     ratio = ctx.attrs().get_int("sampling_ratio", 0);
  const bool half_pixel = ctx.attrs().get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel";
  const bool average = ctx.attrs().get_string("mode", "avg") == "avg";
  const double scale = static_cast<double>(ctx.attrs().get_float("spatial_scale", 1)), shift = half_pixel ? 0.5 : 0;
  if (height == 0 || width == 0) ctx.fail("the feature maps " + lathe::to_string(x.dims()) + " are empty");
  const auto pixels = to_doubles(x), boxes = to_doubles(rois);
  std::vector<double> result;
  for (std::int64_t n = 0; n < count; ++n) {
    const std::int64_t image = batch.as_int64(n);
    if (image < 0 || image >= x.dims()[0])
      ctx.fail("batch index " + std::to_string(image) + " is out of bounds for " + std::to_string(x.dims()[0]) + " images");
    const double* box = boxes.data() + n * 4;
    const double left = box[0] * scale - shift, top = box[1] * scale - shift;
    double box_width = box[2] * scale - shift - left, box_height = box[3] * scale - shift - top;
    if (!half_pixel) {
      box_width = std::max(box_width, 1.0);
      box_height = std::max(box_height, 1.0);
    }
    const double bin_height = box_height / static_cast<double>(rows), bin_width = box_width / static_cast<double>(columns);
    // Points per bin and axis; a box of the whole number range would ask for more than any map has.
    const auto points = [&](double bin, std::int64_t extent) {
      if (ratio > 0) return ratio;
      const double wanted = std::ceil(bin);
      return wanted > 0 ? static_cast<std::int64_t>(std::min(wanted, 16.0 * static_cast<double>(extent) + 16)) : std::int64_t{0};
    };
    const std::int64_t high = points(bin_height, height), wide = points(bin_width, width);
    const std::size_t per_bin = static_cast<std::size_t>(high * wide);
    std::vector<Sample> samples;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c)
        for (std::int64_t i = 0; i < high; ++i)
          for (std::int64_t j = 0; j < wide; ++j)
            samples.push_back(sample_at(top + (static_cast<double>(r) + (static_cast<double>(i) + 0.5) / static_cast<double>(high)) * bin_height,
                                        left + (static_cast<double>(c) + (static_cast<double>(j) + 0.5) / static_cast<double>(wide)) * bin_width, height,
                                        width));
    for (std::int64_t channel = 0; channel < channels; ++channel) {
      const double* map = pixels.data() + (image * channels + channel) * height * width;
      for (std::int64_t bin = 0; bin < rows * columns; ++bin) {
        double sum = 0, largest = 0;
        for (std::size_t p = 0; p < per_bin; ++p) {
          const Sample& s = samples[static_cast<std::size_t>(bin) * per_bin + p];
          double value = 0, greatest = -std::numeric_limits<double>::infinity();
          for (int k = 0; k < 4; ++k) {
            const double part = s.weight[k] * map[s.offset[k]];
            value += part;
            greatest = std::max(greatest, part);
          }
          sum += value;
          largest = p == 0 ? greatest : std::max(largest, greatest);  // the format's "max" is over the weighted pixels
        }
        result.push_back(average ? sum / static_cast<double>(std::max<std::size_t>(per_bin, 1)) : largest);
      }
    }
  }
  ctx.set_output(0, from_doubles(x.dtype(), {count, channels, rows, columns}, result));
}

// MaxRoiPool: the largest pixel of each bin, bins rounded to whole pixels (Girshick, Fast R-CNN, 2015) ------------------------------

void max_roi_infer(InferContext& ctx) {
  const auto &x = ctx.shape(0), &rois = ctx.shape(1);
  const auto pooled = ctx.attrs().get_ints("pooled_shape");
  if (pooled.size() != 2 || pooled[0] < 1 || pooled[1] < 1) ctx.fail("pooled_shape must be two positive numbers");
  if (x && x->size() != 4) ctx.fail("takes feature maps of rank 4, got " + ir::to_string(*x));
  if (rois && (rois->size() != 2 || (*rois)[1].constant().value_or(5) != 5)) ctx.fail("rois " + ir::to_string(*rois) + " are not [regions, 5]");
  ctx.set(0, ctx.dtype(0), {rois ? (*rois)[0] : ctx.fresh_symbol(), x ? (*x)[1] : ctx.fresh_symbol(), Dim(pooled[0]), Dim(pooled[1])});
}

void max_roi_reference(RefContext& ctx) {
  const Tensor &x = ctx.input(0), &rois = ctx.input(1);
  const auto pooled = ctx.attrs().get_ints("pooled_shape");
  if (x.rank() != 4 || rois.rank() != 2 || rois.dims()[1] != 5 || pooled.size() != 2)
    ctx.fail("feature maps " + lathe::to_string(x.dims()) + " and rois " + lathe::to_string(rois.dims()) + " do not fit");
  const std::int64_t channels = x.dims()[1], height = x.dims()[2], width = x.dims()[3];
  const double scale = static_cast<double>(ctx.attrs().get_float("spatial_scale", 1));
  const auto pixels = to_doubles(x), boxes = to_doubles(rois);
  std::vector<double> result;
  for (std::int64_t n = 0; n < rois.dims()[0]; ++n) {
    const double* roi = boxes.data() + n * 5;
    if (!(roi[0] >= 0 && roi[0] < static_cast<double>(x.dims()[0]))) ctx.fail("a region names an image that is not there");
    const auto image = static_cast<std::int64_t>(roi[0]);
    const auto pixel = [&](double v) { return static_cast<std::int64_t>(std::clamp(std::round(v * scale), -1e9, 1e9)); };
    const std::int64_t left = pixel(roi[1]), top = pixel(roi[2]), right = pixel(roi[3]), bottom = pixel(roi[4]);
    const double bin_height = static_cast<double>(std::max<std::int64_t>(bottom - top + 1, 1)) / static_cast<double>(pooled[0]);
    const double bin_width = static_cast<double>(std::max<std::int64_t>(right - left + 1, 1)) / static_cast<double>(pooled[1]);
    const auto bounds = [](std::int64_t i, double bin, std::int64_t start, std::int64_t extent) {
      const auto first = static_cast<std::int64_t>(std::floor(static_cast<double>(i) * bin)) + start;
      const auto last = static_cast<std::int64_t>(std::ceil(static_cast<double>(i + 1) * bin)) + start;
      return std::pair{std::clamp<std::int64_t>(first, 0, extent), std::clamp<std::int64_t>(last, 0, extent)};
    };
    for (std::int64_t c = 0; c < channels; ++c)
      for (std::int64_t r = 0; r < pooled[0]; ++r)
        for (std::int64_t k = 0; k < pooled[1]; ++k) {
          const auto [y1, y2] = bounds(r, bin_height, top, height);
          const auto [x1, x2] = bounds(k, bin_width, left, width);
          double best = y1 < y2 && x1 < x2 ? -std::numeric_limits<double>::infinity() : 0;
          for (std::int64_t y = y1; y < y2; ++y)
            for (std::int64_t at = x1; at < x2; ++at)
              best = std::max(best, pixels[static_cast<std::size_t>(((image * channels + c) * height + y) * width + at)]);
          result.push_back(best);
        }
  }
  ctx.set_output(0, from_doubles(x.dtype(), {rois.dims()[0], channels, pooled[0], pooled[1]}, result));
}

// Versions below 16 had no half pixel.
void roi_align_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version < 16) ctx.node.attrs.set("coordinate_transformation_mode", "output_half_pixel");
}

}  // namespace

std::span<const OpDef> ops_roi() {
  constexpr std::string_view kIo = "X:T1 rois:T1 batch_indices:T2 -> Y:T1";
  constexpr std::string_view kAttrs =
      "coordinate_transformation_mode:string=half_pixel mode:string=avg output_height:int=1 output_width:int=1 sampling_ratio:int=0 spatial_scale:float=1";
  static const std::vector<OpDef> ops{
      {.name = "RoiAlign",
       .versions = {{10, kIo, "mode:string=avg output_height:int=1 output_width:int=1 sampling_ratio:int=0 spatial_scale:float=1", "T1: @float; T2: int64"},
                    {16, kIo, kAttrs, "T1: @float; T2: int64"},
                    {22, kIo, kAttrs, "T1: @float13; T2: int64"}},
       .upgrade = roi_align_upgrade,
       .infer = roi_align_infer,
       .reference = roi_align_reference,
       .tolerance = {.relative = 2e-6, .absolute = 1e-6},
       .lower = roi_align_lower,
       .doc = "boxes of a feature map brought to one size by bilinear samples"},
      {.name = "MaxRoiPool",
       .versions = {{1, "X:T rois:T -> Y:T", "pooled_shape:ints spatial_scale:float=1", "T: @float"},
                    {22, "X:T rois:T -> Y:T", "pooled_shape:ints spatial_scale:float=1", "T: @float13"}},
       .infer = max_roi_infer,
       .reference = max_roi_reference,
       .lower = max_roi_lower,
       .doc = "the largest pixels of the bins of boxes"},
  };
  return ops;
}

}  // namespace lathe::ops
