// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// TensorRT's NMS plugins: what their attributes say, and from tensors to the launches of their kernels; for the reference, the candidate, the kernel and
// the tests without a GPU.

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <span>
#include <string>

#include "ir/attribute.h"
#include "ops/trt/trt_nms_params.h"
#include "plan/extents.h"

namespace lathe::ops {

/// Both kinds in one form.
struct TrtNmsHow {
  static constexpr std::int64_t kMostCandidates = 4096;  ///< pairs that EfficientNMS_TRT looks at
  bool efficient;
  std::int64_t rows, each, background;  ///< rows of an image, candidates of a group, the class that does not count
  double least, iou;                    ///< scores and overlaps from here on, or (BatchedNMS_TRT) beyond
  bool sigmoid, agnostic, centre, clip;
  double more_common, more;  ///< of boxes in pixels a side of two pixels counts both

  TrtNmsHow(const ir::Attrs& attrs, bool is_efficient) : efficient(is_efficient) {
    const auto flag = [&](std::string_view name, std::int64_t otherwise) { return attrs.get_int(name, otherwise) != 0; };
    rows = attrs.get_int(efficient ? "max_output_boxes" : "keepTopK", efficient ? 100 : 0);
    each = efficient ? kMostCandidates : attrs.get_int("topK", 0);
    background = attrs.get_int(efficient ? "background_class" : "backgroundLabelId", -1);
    least = static_cast<double>(attrs.get_float(efficient ? "score_threshold" : "scoreThreshold", efficient ? 0.25f : 0));
    iou = static_cast<double>(attrs.get_float(efficient ? "iou_threshold" : "iouThreshold", 0.5f));
    sigmoid = efficient && flag("score_activation", 0);
    agnostic = efficient && flag("class_agnostic", 0);
    centre = efficient && attrs.get_int("box_coding", 0) == 1;
    clip = efficient ? flag("clip_boxes", 0) : flag("clipBoxes", 1);
    const bool normalised = efficient || flag("isNormalized", 1), caffe = !efficient && flag("caffeSemantics", 1);
    more = normalised ? 0 : 1;
    more_common = normalised || !caffe ? 0 : 1;
  }
};

inline constexpr std::size_t kTrtNmsInputs = 3, kTrtNmsOutputs = 4;

/// Extents, and strides of what is walked; addresses and types are the caller's to fill in.
struct TrtNmsPlan {
  cuda::TrtNmsParams params;
  std::size_t items = 0;              ///< groups of all images
  plan::TensorDesc keys, order;       ///< [images, groups, boxes or pairs], [images, groups, each]
  plan::TensorDesc taken_keys, best;  ///< [images, groups * room], [images, found]
  bool sorts() const noexcept { return items > 0 && params.each > 0; }
  bool sorts_taken() const noexcept { return sorts() && params.groups > 1 && params.found > 0; }
  std::size_t key_bytes() const noexcept { return static_cast<std::size_t>(keys.elements()) * sizeof(float); }
  std::size_t order_bytes() const noexcept { return static_cast<std::size_t>(order.elements()) * sizeof(std::int64_t); }
  std::size_t corner_bytes() const noexcept { return taken_bytes() * 8; }
  std::size_t taken_bytes() const noexcept { return items * static_cast<std::size_t>(params.room) * sizeof(int); }
  std::size_t best_bytes() const noexcept { return static_cast<std::size_t>(best.elements()) * sizeof(std::int64_t); }
};

/// False, and in `why` the reason, when no kernel can run it.
inline bool trt_nms_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, const TrtNmsHow& how, TrtNmsPlan& into,
                         std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  if (inputs.size() != kTrtNmsInputs || outputs.size() != kTrtNmsOutputs) return refuse("another number of tensors than it takes");
  const plan::TensorDesc &boxes = inputs[0], &scores = inputs[1], &anchors = inputs[2];
  const Dims &b = boxes.dims, &s = scores.dims;
  if ((b.size() != 3 && b.size() != 4) || s.size() != 3 || b.back() != 4 || b[0] != s[0] || b[1] != s[1] || (b.size() == 4 && b[2] != 1 && b[2] != s[2]))
    return refuse("boxes and scores that do not fit each other");
  const bool anchored = anchors.dtype != DType::kUndefined;
  if (anchored && (anchors.dims.size() != 3 || (anchors.dims[0] != 1 && anchors.dims[0] != s[0]) || !plan::has_extents(anchors, {anchors.dims[0], s[1], 4})))
    return refuse("anchors that do not fit the boxes");
  constexpr std::int64_t kMost = std::int64_t{1} << 28;
  if (how.rows < 1 || how.each < 1 || how.rows > kMost || how.each > kMost) return refuse("a number of boxes out of its range");
  if (!std::isfinite(how.least) || !std::isfinite(how.iou)) return refuse("a threshold that is not finite");
  std::int64_t scored = 0;
  if (__builtin_mul_overflow(s[1], s[2], &scored) || __builtin_mul_overflow(scored, s[0], &scored) || scored > kMost || s[0] > kMost || s[1] > kMost ||
      s[2] > kMost)
    return refuse("too many boxes or classes");
  const std::int64_t groups = how.efficient ? 1 : s[2], size = how.efficient ? s[1] * s[2] : s[1];
  const std::int64_t each = std::min(how.each, size), room = std::min(each, how.rows), found = std::min(how.rows, groups * room);
  if (s[0] * how.rows > kMost || s[0] * groups * room > kMost) return refuse("too many rows");
  const plan::TensorDesc &count_out = outputs[0], &box_out = outputs[1], &score_out = outputs[2], &class_out = outputs[3];
  const auto given = [](const plan::TensorDesc& desc) { return desc.dtype != DType::kUndefined; };
  if ((given(count_out) && (count_out.dtype != DType::kInt32 || !plan::has_extents(count_out, {s[0], 1}))) ||
      (given(box_out) && !plan::has_extents(box_out, {s[0], how.rows, 4})) || (given(score_out) && !plan::has_extents(score_out, {s[0], how.rows})) ||
      (given(class_out) && (!plan::has_extents(class_out, {s[0], how.rows}) || (how.efficient && class_out.dtype != DType::kInt32))))
    return refuse("results of other extents or types");
  cuda::TrtNmsParams& p = into.params;
  p = {};
  p.box_image = boxes.strides[0], p.box_row = boxes.strides[1], p.box_side = boxes.strides.back();
  p.box_class = b.size() == 4 && b[2] > 1 ? boxes.strides[2] : 0;
  p.score_image = scores.strides[0], p.score_row = scores.strides[1], p.score_class = scores.strides[2];
  if (anchored) p.anchor_image = anchors.dims[0] == 1 ? 0 : anchors.strides[0], p.anchor_row = anchors.strides[1], p.anchor_side = anchors.strides[2];
  if (given(count_out)) p.count_out_image = count_out.strides[0];
  if (given(box_out)) p.box_out_image = box_out.strides[0], p.box_out_row = box_out.strides[1], p.box_out_side = box_out.strides[2];
  if (given(score_out)) p.score_out_image = score_out.strides[0], p.score_out_row = score_out.strides[1];
  if (given(class_out)) p.class_out_image = class_out.strides[0], p.class_out_row = class_out.strides[1];
  p.images = static_cast<int>(s[0]), p.count = static_cast<int>(s[1]), p.classes = static_cast<int>(s[2]);
  p.groups = static_cast<int>(groups), p.each = static_cast<int>(each), p.room = static_cast<int>(room);
  p.rows = static_cast<int>(how.rows), p.found = static_cast<int>(found);
  p.background = how.background < 0 || how.background >= s[2] ? -1 : static_cast<int>(how.background);
  p.efficient = how.efficient, p.sigmoid = how.sigmoid, p.agnostic = how.agnostic, p.centre = how.centre, p.clip = how.clip;
  p.least = how.least, p.iou = how.iou, p.more_common = how.more_common, p.more = how.more;
  into.items = static_cast<std::size_t>(s[0] * groups);
  plan::set_row_major(into.keys, DType::kFloat32, {s[0], groups, size});
  plan::set_row_major(into.order, DType::kInt64, {s[0], groups, each});
  plan::set_row_major(into.taken_keys, DType::kFloat32, {s[0], groups * room});
  plan::set_row_major(into.best, DType::kInt64, {s[0], found});
  return true;
}

}  // namespace lathe::ops
