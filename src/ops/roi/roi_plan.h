// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates and kernels of RoiAlign and MaxRoiPool share, and the tests without a GPU.

#include <cstdint>
#include <string>

#include "ir/attribute.h"
#include "ops/roi/roi_params.h"
#include "plan/extents.h"

namespace lathe::ops {

/// What the attributes say.
struct RoiHow {
  std::int64_t rows = 1, columns = 1, ratio = 0;
  bool half_pixel = true, average = true;
  double scale = 1;

  explicit RoiHow(const ir::Attrs& attrs)
      : rows(attrs.get_int("output_height", 1)),
        columns(attrs.get_int("output_width", 1)),
        ratio(attrs.get_int("sampling_ratio", 0)),
        half_pixel(attrs.get_string("coordinate_transformation_mode", "half_pixel") == "half_pixel"),
        average(attrs.get_string("mode", "avg") == "avg"),
        scale(static_cast<double>(attrs.get_float("spatial_scale", 1))) {}
  /// What those of MaxRoiPool say.
  static RoiHow max_pool(const ir::Attrs& attrs) {
    RoiHow how(attrs);
    const auto pooled = attrs.get_ints("pooled_shape");
    how.rows = pooled.size() == 2 ? pooled[0] : 0;
    how.columns = pooled.size() == 2 ? pooled[1] : 0;
    return how;
  }
};

/// What the two ops have in common of their extents; `sides`: columns of rois. False, and in `why` the reason, when no kernel can run it.
inline bool roi_extents(const plan::TensorDesc& x, const plan::TensorDesc& rois, const plan::TensorDesc& y, const RoiHow& how, std::int64_t sides,
                        cuda::RoiParams& p, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  p = {};
  for (const plan::TensorDesc* t : {&x, &rois, &y})
    if (t->dtype != DType::kFloat32 && t->dtype != DType::kFloat16 && t->dtype != DType::kBFloat16) return refuse("no kernel reads this element type");
  if (x.dims.size() != 4 || rois.dims.size() != 2 || rois.dims[1] != sides) return refuse("feature maps and rois that do not fit");
  constexpr std::int64_t kMost = (std::int64_t{1} << 30) - 1;
  if (!plan::has_extents(y, {rois.dims[0], x.dims[1], how.rows, how.columns})) return refuse("a result of other extents");
  for (const std::int64_t extent : x.dims)
    if (extent > kMost) return refuse("more elements than the kernels count");
  if (rois.dims[0] > kMost || how.rows < 0 || how.columns < 0 || how.rows > 65535 || how.columns > 65535 || how.ratio < 0 || how.ratio > 65535 ||
      how.rows * how.columns > (std::int64_t{1} << 27))
    return refuse("more bins or samples than the kernels count");
  for (std::size_t i = 0; i < 4; ++i) p.x_step[i] = x.strides[i], p.y_step[i] = y.strides[i];
  p.roi_step[0] = rois.strides[0], p.roi_step[1] = rois.strides[1];
  p.images = static_cast<int>(x.dims[0]);
  p.channels = static_cast<int>(x.dims[1]);
  p.height = static_cast<int>(x.dims[2]);
  p.width = static_cast<int>(x.dims[3]);
  p.regions = static_cast<int>(rois.dims[0]);
  p.rows = static_cast<int>(how.rows);
  p.columns = static_cast<int>(how.columns);
  p.ratio = static_cast<int>(how.ratio);
  p.half_pixel = how.half_pixel;
  p.average = how.average;
  p.scale = how.scale;
  return true;
}

/// RoiAlign: all but addresses and element types.
inline bool roi_plan(const plan::TensorDesc& x, const plan::TensorDesc& rois, const plan::TensorDesc& batch, const plan::TensorDesc& y, const RoiHow& how,
                     cuda::RoiParams& p, std::string& why) {
  if (!roi_extents(x, rois, y, how, 4, p, why)) return false;
  if (batch.dtype != DType::kInt64) why = "batch indices that are not int64";
  else if (!plan::has_extents(batch, {rois.dims[0]})) why = "feature maps and rois that do not fit";
  else if (y.elements() > 0 && (x.dims[2] == 0 || x.dims[3] == 0)) why = "the feature maps are empty";
  if (!why.empty()) return false;
  p.batch_step = batch.strides[0];
  return true;
}

/// MaxRoiPool: the same.
inline bool max_roi_plan(const plan::TensorDesc& x, const plan::TensorDesc& rois, const plan::TensorDesc& y, const RoiHow& how, cuda::RoiParams& p,
                         std::string& why) {
  if (!roi_extents(x, rois, y, how, 5, p, why)) return false;
  if (how.rows < 1 || how.columns < 1) why = "no bins";
  else if (how.rows * how.columns > std::int64_t{1} << 27) why = "more bins or samples than the kernels count";
  return why.empty();
}

}  // namespace lathe::ops
