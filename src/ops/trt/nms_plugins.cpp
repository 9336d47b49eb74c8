// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Non-maximum suppression as TensorRT's plugins do it: boxes [images, boxes, 4] or [images, boxes, classes or 1, 4] and scores
// [images, boxes, classes] become a fixed number of rows an image, and how many of them count.
//
//   EfficientNMS_TRT   pairs (box, class) of all classes by falling score, the best 4096 of them; one is dropped when it overlaps one
//                      taken before, of its class or (class_agnostic) of any, by iou_threshold or more. Rows that do not count are zero.
//   BatchedNMS_TRT     each class by itself: its best topK, dropped when they overlap one taken before by more than iouThreshold; then the
//                      best keepTopK of all classes. Rows that do not count are zero, their class is -1.
#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "ops/ref_util.h"
#include "ops/shape_util.h"
#include "ops/trt/trt.h"
#include "ops/trt/trt_nms_plan.h"

namespace lathe::ops {
namespace {

constexpr std::int64_t kMostRows = std::int64_t{1} << 24;

/// The four outputs: counts, boxes, scores, classes.
void nms_infer(InferContext& ctx, std::int64_t rows, DType classes) {
  const auto &boxes = ctx.shape(0), &scores = ctx.shape(1);
  if (rows < 1 || rows > kMostRows) ctx.fail("asks for " + std::to_string(rows) + " boxes an image");
  if (boxes && ((boxes->size() != 3 && boxes->size() != 4) || boxes->back().constant().value_or(4) != 4))
    ctx.fail("boxes " + ir::to_string(*boxes) + " are neither [images, boxes, 4] nor [images, boxes, classes, 4]");
  if (scores && scores->size() != 3) ctx.fail("scores " + ir::to_string(*scores) + " are not [images, boxes, classes]");
  const Dim images = boxes ? (*boxes)[0] : scores ? (*scores)[0] : ctx.fresh_symbol();
  ctx.set(0, DType::kInt32, {images, Dim(1)});
  ctx.set(1, ctx.dtype(0), {images, Dim(rows), Dim(4)});
  ctx.set(2, ctx.dtype(1), {images, Dim(rows)});
  ctx.set(3, classes, {images, Dim(rows)});
}

/// Corners in any order.
struct Box {
  double a[4] = {};
  double low(int axis) const { return std::min(a[axis], a[axis + 2]); }
  double high(int axis) const { return std::max(a[axis], a[axis + 2]); }
};

/// `more` is added to each side: pixels that belong to the box.
double overlap(const Box& p, const Box& q, double more_common, double more) {
  double common = 1, first = 1, second = 1;
  for (int axis = 0; axis < 2; ++axis) {
    const double low = std::max(p.low(axis), q.low(axis)), high = std::min(p.high(axis), q.high(axis));
    if (!(high >= low) || !(high - low + more_common > 0)) return 0;
    common *= high - low + more_common;
    first *= p.high(axis) - p.low(axis) + more;
    second *= q.high(axis) - q.low(axis) + more;
  }
  const double all = first + second - common;
  return all > 0 ? common / all : 0;
}

struct Problem {
  std::int64_t images = 0, count = 0, classes = 0, box_classes = 1;
  std::vector<double> boxes, scores;

  explicit Problem(RefContext& ctx) {
    const Dims &b = ctx.input(0).dims(), &s = ctx.input(1).dims();
    const bool ranks = (b.size() == 3 || b.size() == 4) && s.size() == 3;
    if (!ranks || b.back() != 4 || b[0] != s[0] || b[1] != s[1] || (b.size() == 4 && b[2] != 1 && b[2] != s[2]))
      ctx.fail("boxes " + lathe::to_string(b) + " do not fit scores " + lathe::to_string(s));
    images = s[0];
    count = s[1];
    classes = s[2];
    if (b.size() == 4) box_classes = b[2];
    boxes = to_doubles(ctx.input(0));
    scores = to_doubles(ctx.input(1));
  }
  double score(std::int64_t image, std::int64_t box, std::int64_t c) const { return scores[static_cast<std::size_t>((image * count + box) * classes + c)]; }
  Box box(std::int64_t image, std::int64_t index, std::int64_t c) const {
    Box result;
    std::copy_n(boxes.begin() + ((image * count + index) * box_classes + (box_classes == 1 ? 0 : c)) * 4, 4, result.a);
    return result;
  }
};

struct Found {
  double key = 0;  // what is sorted by: the score, or what it is the sigmoid of
  std::int64_t index = 0, label = 0;
  Box box{};
  std::size_t place = 0;
};

/// The first `most` by falling score; equal ones as they came.
void sort_by_score(std::vector<Found>& found, std::int64_t most) {
  for (std::size_t i = 0; i < found.size(); ++i) found[i].place = i;
  const auto before = [](const Found& a, const Found& b) { return a.key != b.key ? a.key > b.key : a.place < b.place; };
  if (found.size() > static_cast<std::size_t>(most)) {
    std::nth_element(found.begin(), found.begin() + most, found.end(), before);
    found.resize(static_cast<std::size_t>(most));
  }
  std::sort(found.begin(), found.end(), before);
}

double sigmoid(double x) { return 1 / (1 + std::exp(-x)); }

TrtNmsHow how_of(const RefContext& ctx, bool efficient) {
  const TrtNmsHow how(ctx.attrs(), efficient);
  if (how.rows < 1 || how.rows > kMostRows) ctx.fail("asks for " + std::to_string(how.rows) + " boxes an image");
  if (how.each < 1) ctx.fail("topK is " + std::to_string(how.each));
  return how;
}

/// The outputs, filled image by image.
class Rows {
 public:
  Rows(const Problem& p, std::int64_t rows, double empty_class) : rows_(rows), images_(p.images) {
    const auto n = static_cast<std::size_t>(element_count({p.images, rows}));
    counts_.assign(static_cast<std::size_t>(p.images), 0);
    boxes_.assign(n * 4, 0);
    scores_.assign(n, 0);
    classes_.assign(n, empty_class);
  }
  bool full(std::int64_t image) const { return static_cast<std::int64_t>(counts_[static_cast<std::size_t>(image)]) >= rows_; }
  void add(std::int64_t image, const Found& f, const TrtNmsHow& how) {
    double& count = counts_[static_cast<std::size_t>(image)];
    const auto at = static_cast<std::size_t>(image * rows_) + static_cast<std::size_t>(count);
    for (std::size_t i = 0; i < 4; ++i) boxes_[at * 4 + i] = how.clip ? std::clamp(f.box.a[i], 0.0, 1.0) : f.box.a[i];
    scores_[at] = how.sigmoid ? sigmoid(f.key) : f.key;
    classes_[at] = static_cast<double>(f.label);
    ++count;
  }
  void finish(RefContext& ctx, DType classes) {
    ctx.set_output(0, from_doubles(DType::kInt32, {images_, 1}, counts_));
    ctx.set_output(1, from_doubles(ctx.input(0).dtype(), {images_, rows_, 4}, boxes_));
    ctx.set_output(2, from_doubles(ctx.input(1).dtype(), {images_, rows_}, scores_));
    ctx.set_output(3, from_doubles(classes, {images_, rows_}, classes_));
  }

 private:
  std::int64_t rows_, images_;
  std::vector<double> counts_, boxes_, scores_, classes_;
};

// EfficientNMS_TRT ----------------------------------------------------------------------------------------------------------------

void efficient_infer(InferContext& ctx) { nms_infer(ctx, ctx.attrs().get_int("max_output_boxes", 100), DType::kInt32); }

/// Anchors [1 or images, boxes, 4] in the boxes' coding, by which a network's raw boxes are decoded.
struct Anchors {
  const Tensor* tensor = nullptr;
  bool shared = true;
  std::vector<double> values;

  Anchors(RefContext& ctx, const Problem& p) {
    if (!ctx.has_input(2)) return;
    tensor = &ctx.input(2);
    const Dims& d = tensor->dims();
    if (d.size() != 3 || (d[0] != 1 && d[0] != p.images) || d[1] != p.count || d[2] != 4)
      ctx.fail("anchors " + lathe::to_string(d) + " do not fit " + std::to_string(p.count) + " boxes");
    shared = d[0] == 1;
    values = to_doubles(*tensor);
  }
  Box decoded(const Problem& p, std::int64_t image, std::int64_t index, Box box, bool centre) const {
    if (!tensor) return box;
    Box anchor;
    std::copy_n(values.begin() + ((shared ? 0 : image) * p.count + index) * 4, 4, anchor.a);
    if (!centre) {
      const Box raw = box;
      for (int i = 0; i < 2; ++i) {
        box.a[i] = raw.low(i) + anchor.low(i);
        box.a[i + 2] = raw.high(i) + anchor.high(i);
      }
      return box;
    }
    for (int i = 0; i < 2; ++i) {
      box.a[i] = box.a[i] * anchor.a[i + 2] + anchor.a[i];
      box.a[i + 2] = std::exp(box.a[i + 2]) * anchor.a[i + 2];
    }
    return box;
  }
};

Box corners_of(Box box) {
  Box corners;
  for (int i = 0; i < 2; ++i) {
    corners.a[i] = box.a[i] - box.a[i + 2] / 2;
    corners.a[i + 2] = box.a[i] + box.a[i + 2] / 2;
  }
  return corners;
}

void efficient_reference(RefContext& ctx) {
  const TrtNmsHow how = how_of(ctx, true);
  const Problem p(ctx);
  const Anchors anchors(ctx, p);
  Rows out(p, how.rows, 0);
  for (std::int64_t image = 0; image < p.images; ++image) {
    std::vector<Found> found;
    for (std::int64_t i = 0; i < p.count; ++i)
      for (std::int64_t c = 0; c < p.classes; ++c) {
        if (c == how.background) continue;
        const double raw = p.score(image, i, c);
        if ((how.sigmoid ? sigmoid(raw) : raw) >= how.least) found.push_back({raw, i, c});
      }
    sort_by_score(found, how.each);
    for (Found& f : found) {
      f.box = anchors.decoded(p, image, f.index, p.box(image, f.index, f.label), how.centre);
      if (how.centre) f.box = corners_of(f.box);
    }
    std::vector<const Found*> taken;
    for (const Found& f : found) {
      if (out.full(image)) break;
      const bool dropped = std::any_of(taken.begin(), taken.end(),
                                       [&](const Found* t) { return (how.agnostic || t->label == f.label) && overlap(f.box, t->box, 0, 0) >= how.iou; });
      if (dropped) continue;
      taken.push_back(&f);
      out.add(image, f, how);
    }
  }
  out.finish(ctx, DType::kInt32);
}

// BatchedNMS_TRT ------------------------------------------------------------------------------------------------------------------

void batched_infer(InferContext& ctx) { nms_infer(ctx, ctx.attrs().get_int("keepTopK", 0), ctx.dtype(0)); }

void batched_reference(RefContext& ctx) {
  const TrtNmsHow how = how_of(ctx, false);
  const Problem p(ctx);
  if (const std::int64_t classes = ctx.attrs().get_int("numClasses", p.classes); classes != p.classes)
    ctx.fail("numClasses is " + std::to_string(classes) + ", scores are of " + std::to_string(p.classes));
  Rows out(p, how.rows, -1);
  for (std::int64_t image = 0; image < p.images; ++image) {
    std::vector<Found> all;
    for (std::int64_t c = 0; c < p.classes; ++c) {
      if (c == how.background) continue;
      std::vector<Found> found;
      for (std::int64_t i = 0; i < p.count; ++i)
        if (const double score = p.score(image, i, c); score > how.least) found.push_back({score, i, c, p.box(image, i, c)});
      sort_by_score(found, how.each);
      const std::size_t first = all.size();
      for (const Found& f : found) {
        const auto of_class = all.begin() + static_cast<std::ptrdiff_t>(first);
        if (std::none_of(of_class, all.end(), [&](const Found& t) { return overlap(f.box, t.box, how.more_common, how.more) > how.iou; })) all.push_back(f);
      }
    }
    sort_by_score(all, how.rows);
    for (const Found& f : all) {
      if (out.full(image)) break;
      out.add(image, f, how);
    }
  }
  out.finish(ctx, ctx.input(0).dtype());
}

}  // namespace

std::vector<OpDef> nms_plugins() {
  constexpr std::string_view kBatched =
      "backgroundLabelId:int=-1 caffeSemantics:int=1 clipBoxes:int=1 iouThreshold:float isNormalized:int=1 keepTopK:int numClasses:int? "
      "plugin_namespace:string? plugin_version:string? scoreBits:int? scoreThreshold:float shareLocation:int=1 topK:int";
  const auto batched = [&](std::string_view name) -> OpDef {
    return {.name = name,
            .versions = {{1, "boxes:T scores:T -> num_detections:N nmsed_boxes?:T nmsed_scores?:T nmsed_classes?:T", kBatched, "T: float float16; N: int32"}},
            .infer = batched_infer,
            .reference = batched_reference,
            .doc = "non-maximum suppression of each class, then the best of all (TensorRT)"};
  };
  return {
      {.name = "EfficientNMS_TRT",
       .versions = {{1, "boxes:T scores:T anchors?:T -> num_detections:N detection_boxes?:T detection_scores?:T detection_classes?:N",
                     "background_class:int=-1 box_coding:int=0 class_agnostic:int=0 clip_boxes:int=0 iou_threshold:float=0.5 max_output_boxes:int=100 "
                     "plugin_namespace:string? plugin_version:string? score_activation:int=0 score_bits:int? score_threshold:float=0.25",
                     "T: float float16; N: int32"}},
       .infer = efficient_infer,
       .reference = efficient_reference,
       .doc = "non-maximum suppression of the best pairs of box and class (TensorRT)"},
      batched("BatchedNMS_TRT"),
      batched("BatchedNMSDynamic_TRT"),
  };
}

}  // namespace lathe::ops
