// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NonMaxSuppression: of boxes that overlap more than a threshold, those with the best score, for each image and class.
//
// Boxes are taken by falling score, equal scores by rising index. The rows of the result are (image, class, box), in the order in which
// they were taken.
#include <algorithm>
#include <limits>

#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void nms_infer(InferContext& ctx) {
  const auto &boxes = ctx.shape(0), &scores = ctx.shape(1);
  if (boxes && (boxes->size() != 3 || (*boxes)[2].constant().value_or(4) != 4)) ctx.fail("boxes " + ir::to_string(*boxes) + " are not [images, boxes, 4]");
  if (scores && scores->size() != 3) ctx.fail("scores " + ir::to_string(*scores) + " are not [images, classes, boxes]");
  if (boxes && scores) {
    const auto a = (*boxes)[1].constant(), b = (*scores)[2].constant();
    if (a && b && *a != *b) ctx.fail("there are " + std::to_string(*a) + " boxes, but scores of " + std::to_string(*b));
  }
  ctx.set(0, DType::kInt64, {ctx.fresh_symbol(), Dim(3)});
}

struct Box {
  float x1, y1, x2, y2;
  float area() const { return (x2 - x1) * (y2 - y1); }
};

Box box_at(const float* b, bool centre) {
  if (centre) return {b[0] - b[2] / 2, b[1] - b[3] / 2, b[0] + b[2] / 2, b[1] + b[3] / 2};
  // [y1, x1, y2, x2], any two opposite corners.
  return {std::min(b[1], b[3]), std::min(b[0], b[2]), std::max(b[1], b[3]), std::max(b[0], b[2])};
}

bool overlaps(const Box& a, const Box& b, float threshold) {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (!(width > 0) || !(height > 0)) return false;
  const float common = width * height, total = a.area() + b.area() - common;
  if (!(a.area() > 0) || !(b.area() > 0) || !(total > 0)) return false;
  return common / total > threshold;
}

void nms_reference(RefContext& ctx) {
  const Tensor boxes = ctx.input(0).make_aligned(), scores = ctx.input(1).make_aligned();
  const bool fits =
      boxes.rank() == 3 && scores.rank() == 3 && boxes.dims()[2] == 4 && boxes.dims()[0] == scores.dims()[0] && boxes.dims()[1] == scores.dims()[2];
  if (!fits)
    ctx.fail("boxes " + lathe::to_string(boxes.dims()) + " and scores " + lathe::to_string(scores.dims()) +
             " are not [images, boxes, 4] and [images, classes, boxes]");
  const auto given = [&](std::size_t i) { return ctx.has_input(i) && ctx.input(i).size() > 0; };
  const std::int64_t most = given(2) ? std::max<std::int64_t>(ctx.input(2).as_int64(0), 0) : 0;
  const auto iou = static_cast<float>(given(3) ? ctx.input(3).as_double(0) : 0.0);
  const float least = given(4) ? static_cast<float>(ctx.input(4).as_double(0)) : -std::numeric_limits<float>::infinity();
  const bool centre = ctx.attrs().get_int("center_point_box", 0) != 0, by_score = given(4);
  const std::int64_t images = boxes.dims()[0], count = boxes.dims()[1], classes = scores.dims()[1];
  const auto box_data = boxes.data<float>(), score_data = scores.data<float>();
  std::vector<std::int64_t> rows, order;
  std::vector<Box> taken;
  for (std::int64_t image = 0; image < images && most > 0; ++image)
    for (std::int64_t c = 0; c < classes; ++c) {
      const float* score = score_data.data() + (image * classes + c) * count;
      order.clear();
      for (std::int64_t i = 0; i < count; ++i)
        if (by_score ? score[i] > least : score[i] == score[i]) order.push_back(i);
      std::sort(order.begin(), order.end(), [&](std::int64_t a, std::int64_t b) { return score[a] > score[b] || (score[a] == score[b] && a < b); });
      taken.clear();
      for (const std::int64_t i : order) {
        if (static_cast<std::int64_t>(taken.size()) >= most) break;
        const Box box = box_at(box_data.data() + (image * count + i) * 4, centre);
        if (std::any_of(taken.begin(), taken.end(), [&](const Box& other) { return overlaps(box, other, iou); })) continue;
        taken.push_back(box);
        rows.insert(rows.end(), {image, c, i});
      }
    }
  ctx.set_output(0, from_int64s(DType::kInt64, {static_cast<std::int64_t>(rows.size() / 3), 3}, rows));
}

}  // namespace

std::span<const OpDef> ops_nms() {
  constexpr std::string_view kIo =
      "boxes:float scores:float max_output_boxes_per_class?:int64 iou_threshold?:float score_threshold?:float -> selected_indices:int64";
  static const std::vector<OpDef> ops{
      {.name = "NonMaxSuppression",
       .versions = {{10, kIo, "center_point_box:int=0", ""}, {11, kIo, "center_point_box:int=0", ""}},
       .infer = nms_infer,
       .reference = nms_reference,
       .doc = "the best of boxes that overlap, for each image and class"},
  };
  return ops;
}

}  // namespace lathe::ops
