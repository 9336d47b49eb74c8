// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates and kernels of NonMaxSuppressionPadded share, and the tests without a GPU.

#include <algorithm>
#include <cstdint>
#include <span>
#include <string>

#include "ops/nms/nms_params.h"
#include "plan/extents.h"

namespace lathe::ops {

/// Of a step: boxes, scores, most, IoU, least score; without type where left out.
inline constexpr std::size_t kNmsInputs = 5;

inline bool nms_is_given(const plan::TensorDesc& desc) { return desc.dtype != DType::kUndefined && desc.elements() > 0; }

/// Extents, and strides of what is walked; addresses are the caller's to fill in.
struct NmsPlan {
  cuda::NmsParams params;
  plan::TensorDesc order;  ///< [images, classes, boxes], int64
  std::size_t items = 0;   ///< images times classes

  std::size_t order_bytes() const noexcept { return items * static_cast<std::size_t>(params.count) * sizeof(std::int64_t); }
  std::size_t corner_bytes() const noexcept { return items * static_cast<std::size_t>(params.room) * 4 * sizeof(float); }
  std::size_t taken_bytes() const noexcept { return items * static_cast<std::size_t>(params.room) * sizeof(int); }
  std::size_t count_bytes() const noexcept { return items * sizeof(int); }
};

/// False, and in `why` the reason, when no kernel can run it. `most` as the op's attribute, negative without one.
inline bool nms_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, std::int64_t most, bool centre, NmsPlan& into,
                     std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  if (inputs.size() != kNmsInputs || outputs.size() != 2) return refuse("another number of tensors than it takes");
  const plan::TensorDesc &boxes = inputs[0], &scores = inputs[1], &rows = outputs[0], &count = outputs[1];
  if (boxes.dims.size() != 3 || scores.dims.size() != 3 || boxes.dims[2] != 4 || boxes.dims[0] != scores.dims[0] || boxes.dims[1] != scores.dims[2])
    return refuse("boxes and scores that do not fit each other");
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  std::int64_t items = 0;
  if (scores.dims[2] > kMost || __builtin_mul_overflow(scores.dims[0], scores.dims[1], &items) || items > kMost) return refuse("too many boxes or classes");
  const std::int64_t room = most < 0 ? scores.dims[2] : std::min(most, scores.dims[2]);
  if (std::max<std::int64_t>(items, 1) * std::max<std::int64_t>(room, 1) > kMost) return refuse("too many boxes or classes");
  if (rows.dtype != DType::kInt64 || !plan::has_extents(rows, {items * room, 3}) || count.dtype != DType::kInt64 || !plan::has_extents(count, {1}))
    return refuse("results of other extents");
  for (const std::size_t i : {std::size_t{0}, std::size_t{1}, std::size_t{3}, std::size_t{4}})
    if (nms_is_given(inputs[i]) && !is_float(inputs[i].dtype)) return refuse("boxes, scores and thresholds that are no floating-point numbers");
  if (nms_is_given(inputs[2]) && inputs[2].dtype != DType::kInt64) return refuse("a limit that is not int64");
  cuda::NmsParams& p = into.params;
  p = {};
  p.box_image = boxes.strides[0], p.box_row = boxes.strides[1], p.box_side = boxes.strides[2];
  p.score_image = scores.strides[0], p.score_class = scores.strides[1], p.score_along = scores.strides[2];
  p.images = static_cast<int>(scores.dims[0]);
  p.classes = static_cast<int>(scores.dims[1]);
  p.count = static_cast<int>(scores.dims[2]);
  p.room = static_cast<int>(nms_is_given(inputs[2]) ? room : 0);  // without a limit none is taken
  p.centre = centre;
  p.row_step = rows.strides[0], p.column_step = rows.strides[1];
  into.items = static_cast<std::size_t>(items);
  plan::set_row_major(into.order, DType::kInt64, {scores.dims[0], scores.dims[1], scores.dims[2]});
  return true;
}

}  // namespace lathe::ops
