// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NonMaxSuppression: of boxes that overlap more than a threshold, those with the best score, for each image and class.
//
// Boxes are taken by falling score, equal scores by rising index. The rows of the result are (image, class, box), in the order in which
// they were taken. Where it runs it is NonMaxSuppressionPadded and First (see nonzero/nonzero.cpp); the kernels are in nms_cpu.cpp and nms.cu.
#include <algorithm>
#include <limits>

#include "ops/expand_util.h"
#include "ops/nms/nms_box.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

void check_extents(InferContext& ctx) {
  const auto &boxes = ctx.shape(0), &scores = ctx.shape(1);
  if (boxes && (boxes->size() != 3 || (*boxes)[2].constant().value_or(4) != 4)) ctx.fail("boxes " + ir::to_string(*boxes) + " are not [images, boxes, 4]");
  if (scores && scores->size() != 3) ctx.fail("scores " + ir::to_string(*scores) + " are not [images, classes, boxes]");
  if (boxes && scores) {
    const auto a = (*boxes)[1].constant(), b = (*scores)[2].constant();
    if (a && b && *a != *b) ctx.fail("there are " + std::to_string(*a) + " boxes, but scores of " + std::to_string(*b));
  }
}

void nms_infer(InferContext& ctx) {
  check_extents(ctx);
  ctx.set(0, DType::kInt64, {ctx.fresh_symbol(), Dim(3)});
}

/// The rows in their order, (image, class, box) each.
std::vector<std::int64_t> selected_rows(RefContext& ctx) {
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
        const float* b = box_data.data() + (image * count + i) * 4;
        const Box box = box_of(b[0], b[1], b[2], b[3], centre);
        if (std::any_of(taken.begin(), taken.end(), [&](const Box& other) { return overlaps(box, other, iou); })) continue;
        taken.push_back(box);
        rows.insert(rows.end(), {image, c, i});
      }
    }
  return rows;
}

void nms_reference(RefContext& ctx) {
  const std::vector<std::int64_t> rows = selected_rows(ctx);
  ctx.set_output(0, from_int64s(DType::kInt64, {static_cast<std::int64_t>(rows.size() / 3), 3}, rows));
}

bool nms_expand(ExpandContext& ctx) {
  const Value *boxes = ctx.node.input(0), *scores = ctx.node.input(1), *most = ctx.node.input(2);
  if (!boxes->has_shape() || !scores->has_shape() || (boxes->is_constant() && scores->is_constant())) return false;
  Attrs attrs = some_attrs(ctx.attrs(), {"center_point_box"});
  if (!most || (most->is_constant() && most->constant.size() == 0)) attrs.set("most", std::int64_t{0});
  else if (most->is_constant()) attrs.set("most", std::max<std::int64_t>(most->constant.as_int64(0), 0));
  const Node* padded = ctx.add_node("NonMaxSuppressionPadded", ctx.node.inputs, 2, std::move(attrs), kOwnDomain);
  ctx.replace(0, ctx.add("First", {padded->output(0), padded->output(1)}, attrs_of({{"axis", ir::Attribute(std::int64_t{0})}}), {}, kOwnDomain));
  return true;
}

// NonMaxSuppressionPadded --------------------------------------------------------------------------------------------

void padded_infer(InferContext& ctx) {
  check_extents(ctx);
  const auto &boxes = ctx.shape(0), &scores = ctx.shape(1);
  Dim rows = ctx.fresh_symbol();
  if (boxes && scores) {
    const Dim& count = (*scores)[2];
    rows = (*scores)[0] * (*scores)[1] * (ctx.attrs().has("most") ? Dim::min(count, Dim(ctx.attrs().get_int("most", 0))) : count);
  }
  ctx.set(0, DType::kInt64, {rows, Dim(3)});
  ctx.set(1, DType::kInt64, {Dim(1)});
  ctx.set_content(1, {ctx.fresh_symbol()});
}

void padded_reference(RefContext& ctx) {
  std::vector<std::int64_t> rows = selected_rows(ctx);
  const std::int64_t counts[] = {static_cast<std::int64_t>(rows.size() / 3)};
  const Dims& scores = ctx.input(1).dims();
  const std::int64_t room = scores[0] * scores[1] * std::min(scores[2], ctx.attrs().get_int("most", scores[2]));
  rows.resize(static_cast<std::size_t>(std::max(room * 3, counts[0] * 3)));
  ctx.set_output(0, from_int64s(DType::kInt64, {static_cast<std::int64_t>(rows.size() / 3), 3}, rows));
  ctx.set_output(1, Tensor::vector(counts));
}

}  // namespace

std::span<const OpDef> ops_nms() {
  constexpr std::string_view kIo =
      "boxes:float scores:float max_output_boxes_per_class?:int64 iou_threshold?:float score_threshold?:float -> selected_indices:int64";
  constexpr std::string_view kPadded =
      "boxes:float scores:float max_output_boxes_per_class?:int64 iou_threshold?:float score_threshold?:float -> rows:int64 count:int64";
  static const std::vector<OpDef> ops{
      {.name = "NonMaxSuppression",
       .versions = {{10, kIo, "center_point_box:int=0", ""}, {11, kIo, "center_point_box:int=0", ""}},
       .infer = nms_infer,
       .reference = nms_reference,
       .expand = nms_expand,
       .doc = "the best of boxes that overlap, for each image and class"},
      {.domain = kOwnDomain,
       .name = "NonMaxSuppressionPadded",
       .versions = {{1, kPadded, "center_point_box:int=0 most:int?", ""}},
       .infer = padded_infer,
       .reference = padded_reference,
       .doc = "NonMaxSuppression with as many rows as there could be (`most`: of a class), and how many of them are meant; the others hold anything"},
  };
  return ops;
}

}  // namespace lathe::ops
