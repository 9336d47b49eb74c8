// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of TensorRT's NMS plugins, whose kernels a GPU and, through tests/host_cuda, the CPU in its place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/trt/trt_nms_plan.h"

namespace lathe::testing_gpu {

struct TrtNmsCase {
  bool efficient = true;
  std::int64_t images = 1, boxes = 60, classes = 3, rows = 20, each = 50;
  bool own_boxes = false;  ///< each class has its own
  int anchors = 0;         ///< 0: none, 1: for all images, 2: for each
  bool sigmoid = false, agnostic = false, centre = false, clip = false, pixels = false, caffe = true;
  std::int64_t background = -1;
  float least = 0.25F, iou = 0.5F;
  DType type = DType::kFloat32;
  bool all_results = true;
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} {} images {} boxes {} classes rows {} of {}{} anchors {}{}{}{}{}{}{} background {} least {} iou {} {} extra {} shift {}",
                       efficient ? "efficient" : "batched", images, boxes, classes, rows, each, own_boxes ? " own" : "", anchors, sigmoid ? " sigmoid" : "",
                       agnostic ? " agnostic" : "", centre ? " centre" : "", clip ? " clip" : "", pixels ? " pixels" : "", caffe ? " caffe" : "", background,
                       least, iou, dtype_name(type), extra, shift);
  }
};

struct TrtNmsTensors {
  std::array<GuardedTensor, ops::kTrtNmsInputs> inputs;
  std::array<GuardedTensor, ops::kTrtNmsOutputs> outputs;
  ir::Attrs params;
  std::vector<Tensor> wanted;

  explicit TrtNmsTensors(const TrtNmsCase& c) {
    std::uint64_t state = 5 + static_cast<std::uint64_t>(c.boxes);
    const auto draw = [&](int below) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      return static_cast<int>(state >> 40) % below;
    };
    std::array<Tensor, ops::kTrtNmsInputs> values;
    values[0] = Tensor(DType::kFloat32, c.own_boxes   ? Dims{c.images, c.boxes, c.classes, 4}
                                        : c.boxes % 2 ? Dims{c.images, c.boxes, 1, 4}
                                                      : Dims{c.images, c.boxes, 4});
    // Few places and sizes, so that many overlap, some by the threshold itself.
    const double unit = c.pixels ? 1 : 1.0 / 32;
    for (std::int64_t i = 0; i < values[0].size(); i += 4) {
      const double x = draw(30) * unit - 2 * unit, y = draw(30) * unit, w = draw(9) * unit, h = draw(9) * unit;
      const bool turned = draw(5) == 0, sizes = c.centre || c.anchors;
      const double sides[] = {turned ? x + w : x, y, sizes ? (c.centre && c.anchors ? w - 4 * unit : w) : turned ? x : x + w, sizes ? h : y + h};
      for (std::int64_t s = 0; s < 4; ++s) values[0].set_from_double(i + s, draw(150) == 0 ? std::nan("") : sides[s]);
    }
    values[1] = Tensor(DType::kFloat32, {c.images, c.boxes, c.classes});
    for (std::int64_t i = 0; i < values[1].size(); ++i) {
      const int number = draw(120);  // many are equal
      const double score = c.sigmoid ? (number - 60) * 0.125 : number * 0.0078125;
      values[1].set_from_double(i, number == 0 ? std::nan("") : number == 1 ? INFINITY : number == 2 ? -INFINITY : score);
    }
    if (c.anchors) {
      values[2] = Tensor(DType::kFloat32, {c.anchors == 1 ? 1 : c.images, c.boxes, 4});
      for (std::int64_t i = 0; i < values[2].size(); ++i) values[2].set_from_double(i, (i % 4 < 2 ? draw(20) : draw(6) + 1) * unit);
    }
    if (c.efficient) {
      params.set("max_output_boxes", c.rows);
      params.set("score_threshold", c.least);
      params.set("iou_threshold", c.iou);
      params.set("score_activation", c.sigmoid);
      params.set("class_agnostic", c.agnostic);
      params.set("box_coding", c.centre);
      params.set("clip_boxes", c.clip);
      params.set("background_class", c.background);
    } else {
      params.set("keepTopK", c.rows);
      params.set("topK", c.each);
      params.set("scoreThreshold", c.least);
      params.set("iouThreshold", c.iou);
      params.set("clipBoxes", c.clip);
      params.set("isNormalized", !c.pixels);
      params.set("caffeSemantics", c.caffe);
      params.set("backgroundLabelId", c.background);
    }
    ir::Graph graph;
    std::vector<ir::Value*> given;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!values[i].defined()) continue;
      values[i] = values[i].cast(c.type);
      const Dims& dims = values[i].dims();
      given.push_back(graph.add_input("in" + std::to_string(i), ir::Type::tensor(c.type, ir::Shape(dims.begin(), dims.end()))));
      inputs[i] = GuardedTensor(rows_desc(c.type, dims, c.extra), c.shift);
      inputs[i].fill(values[i]);
    }
    const ir::Node* node = graph.add_node("", c.efficient ? "EfficientNMS_TRT" : "BatchedNMS_TRT", given, {"count", "boxes", "scores", "classes"}, params);
    wanted = ops::evaluate_node(*node, std::span(values).first(given.size()));
    for (std::size_t i = 0; i < outputs.size(); ++i)
      if (c.all_results || i == 1) outputs[i] = GuardedTensor(rows_desc(wanted[i].dtype(), wanted[i].dims(), c.extra), c.shift);
    params.set("efficient", c.efficient);
  }
  template <std::size_t kCount>
  static std::vector<GuardedTensor*> list(std::array<GuardedTensor, kCount>& tensors) {
    std::vector<GuardedTensor*> result;
    for (GuardedTensor& t : tensors) result.push_back(&t);
    return result;
  }
  void compare() {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].desc.dtype == DType::kUndefined) continue;
      const Tensor got = outputs[i].read();
      const double bound = got.dtype() == DType::kFloat32 ? 1e-6 : 1e-3;
      ASSERT_EQ(got.dims(), wanted[i].dims());
      for (std::int64_t at = 0; at < got.size(); ++at) {
        const double a = got.as_double(at), b = wanted[i].as_double(at);
        ASSERT_TRUE(std::abs(a - b) <= (is_float(got.dtype()) ? bound * (1 + std::abs(b)) : 0) || a == b || (std::isnan(a) && std::isnan(b)))
            << "result " << i << ", element " << at << " of " << to_string(got.dims()) << ": " << a << " instead of " << b;
      }
      EXPECT_TRUE(outputs[i].is_intact()) << "bytes beside result " << i << " were written";
    }
  }
};

inline std::vector<TrtNmsCase> trt_nms_cases(bool large) {
  std::vector<TrtNmsCase> cases;
  for (const std::int64_t boxes : {0, 1, 2, 85, 86, 300})
    for (const bool efficient : {true, false})
      for (const std::int64_t rows : {1, 20, 400}) cases.push_back({.efficient = efficient, .images = 2, .boxes = boxes, .rows = rows, .least = 0.1F});
  for (const int anchors : {0, 1, 2})
    for (const bool centre : {true, false})
      for (const bool agnostic : {true, false})
        cases.push_back(
            {.images = 2, .boxes = 130, .rows = 70, .anchors = anchors, .sigmoid = agnostic, .agnostic = agnostic, .centre = centre, .clip = centre});
  for (const float iou : {-0.5F, 0.0F, 0.25F, 0.999F, 1.0F})
    for (const bool efficient : {true, false}) cases.push_back({.efficient = efficient, .boxes = 90, .rows = 200, .iou = iou});
  cases.push_back({.boxes = 90, .rows = 300, .sigmoid = true, .least = 0.0F, .iou = 0.9F});  // -inf is the score 0
  for (const float least : {-10.0F, 0.0F, 0.96F, 5.0F})
    for (const bool efficient : {true, false}) cases.push_back({.efficient = efficient, .boxes = 90, .rows = 200, .least = least});
  for (const bool efficient : {true, false}) {
    cases.push_back({.efficient = efficient, .images = 2, .boxes = 70, .classes = 5, .own_boxes = true, .background = 2});
    cases.push_back({.efficient = efficient, .boxes = 71, .classes = 1, .own_boxes = true, .clip = true, .background = 0});
    cases.push_back({.efficient = efficient, .boxes = 70, .background = 9, .type = DType::kFloat16, .extra = 3, .shift = 1});
    cases.push_back({.efficient = efficient, .images = 3, .boxes = 33, .all_results = false, .extra = 1, .shift = 5});
    cases.push_back({.efficient = efficient, .images = 0, .boxes = 7});
    cases.push_back({.efficient = efficient, .images = 2, .boxes = 7, .classes = 0});
    cases.push_back({.efficient = efficient, .boxes = 1500, .classes = 7, .rows = 300, .least = 0.0F, .iou = 0.9F});  // more pairs than EfficientNMS looks at
  }
  for (const bool caffe : {true, false}) cases.push_back({.efficient = false, .boxes = 200, .rows = 150, .pixels = true, .caffe = caffe, .least = 0.1F});
  for (const std::int64_t each : {1, 7, 200}) cases.push_back({.efficient = false, .boxes = 200, .rows = 60, .each = each, .least = 0.0F});
  if (large) {
    for (const bool efficient : {true, false}) {
      cases.push_back({.efficient = efficient, .images = 2, .boxes = 8400, .classes = 80, .rows = 100, .each = 1000, .least = 0.8F});
      cases.push_back({.efficient = efficient, .images = 1, .boxes = 25200, .classes = 80, .rows = 300, .each = 4096, .type = DType::kFloat16});
    }
  }
  return cases;
}

}  // namespace lathe::testing_gpu
