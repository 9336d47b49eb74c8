// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of RoiAlign and MaxRoiPool, whose kernels a GPU, the CPU, and through tests/host_cuda the CPU in a GPU's place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/roi/roi_plan.h"

namespace lathe::testing_gpu {

struct RoiCase {
  Dims x{2, 3, 11, 13};
  std::int64_t regions = 5, rows = 3, columns = 4, ratio = 2;
  bool half_pixel = true, average = true;
  float scale = 0.5F;
  DType x_type = DType::kFloat32, roi_type = DType::kFloat32, y_type = DType::kFloat32;
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} {} regions {} by {} ratio {} {}{}scale {} {} {} {} extra {} shift {}", to_string(x), regions, rows, columns, ratio,
                       half_pixel ? "half pixel " : "", average ? "average " : "max ", scale, dtype_name(x_type), dtype_name(roi_type), dtype_name(y_type),
                       extra, shift);
  }
};

struct RoiTensors {
  GuardedTensor x, rois, batch, y;
  ir::Attrs params;
  Tensor wanted;

  explicit RoiTensors(const RoiCase& c) {
    Tensor map(DType::kFloat32, c.x), boxes(DType::kFloat32, {c.regions, 4}), images(DType::kInt64, {c.regions});
    for (std::int64_t i = 0; i < map.size(); ++i) map.set_from_double(i, std::sin(1.7 * static_cast<double>(i)) + 0.1 * static_cast<double>(i % 7));
    map = map.cast(c.x_type).cast(DType::kFloat32);  // as the kernels read it
    const double height = static_cast<double>(c.x[2]) / c.scale, width = static_cast<double>(c.x[3]) / c.scale;
    for (std::int64_t n = 0; n < c.regions; ++n) {
      const double a = std::abs(std::sin(2.1 * static_cast<double>(n) + 0.3)), b = std::abs(std::cos(1.3 * static_cast<double>(n)));
      double box[] = {a * width - 3, b * height - 3, a * width + b * width, b * height + a * height / 2};
      if (n % 7 == 3) std::swap(box[0], box[2]);                // of a negative width
      if (n % 7 == 4) box[3] = box[1];                          // of no height
      if (n % 7 == 5) box[0] = -3 * width, box[2] = 4 * width;  // far beyond the map
      if (n % 7 == 6) box[1] = std::nan("");
      for (std::int64_t side = 0; side < 4; ++side) boxes.set_from_double(n * 4 + side, box[side]);
      images.set_from_int64(n, n % c.x[0]);
    }
    boxes = boxes.cast(c.roi_type).cast(DType::kFloat32);
    params.set("coordinate_transformation_mode", std::string(c.half_pixel ? "half_pixel" : "output_half_pixel"));
    params.set("mode", std::string(c.average ? "avg" : "max"));
    params.set("output_height", c.rows);
    params.set("output_width", c.columns);
    params.set("sampling_ratio", c.ratio);
    params.set("spatial_scale", c.scale);
    x = GuardedTensor(rows_desc(c.x_type, c.x, c.extra), c.shift);
    x.fill(map);
    rois = GuardedTensor(rows_desc(c.roi_type, boxes.dims(), c.extra), c.shift);
    rois.fill(boxes);
    batch = GuardedTensor(plan::TensorDesc::row_major(DType::kInt64, images.dims()), c.shift);
    batch.fill(images);
    y = GuardedTensor(rows_desc(c.y_type, {c.regions, c.x[1], c.rows, c.columns}, c.extra), c.shift);
    ir::Graph graph;
    const auto input = [&](const char* name, const Tensor& t) {
      return graph.add_input(name, ir::Type::tensor(t.dtype(), ir::Shape(t.dims().begin(), t.dims().end())));
    };
    const ir::Node* node = graph.add_node("", "RoiAlign", {input("x", map), input("r", boxes), input("b", images)}, {"y"}, params);
    const Tensor inputs[] = {map, boxes, images};
    wanted = ops::evaluate_node(*node, inputs)[0];
  }
  void compare() {
    const Tensor got = y.read();
    const double bound = got.dtype() == DType::kFloat32 ? 4e-6 : got.dtype() == DType::kFloat16 ? 2e-3 : 1e-2;
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double a = got.as_double(i), b = wanted.as_double(i);
      ASSERT_TRUE(std::abs(a - b) <= bound * (1 + std::abs(b)) || (std::isnan(a) && std::isnan(b)) || a == b)
          << "element " << i << ": " << a << " instead of " << b;
    }
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }
};

inline std::vector<RoiCase> roi_cases(bool large) {
  std::vector<RoiCase> cases;
  for (const std::int64_t ratio : {0, 1, 2, 3})
    for (const bool half_pixel : {true, false})
      for (const bool average : {true, false})
        cases.push_back(
            {.regions = 15, .ratio = ratio, .half_pixel = half_pixel, .average = average, .extra = ratio, .shift = static_cast<std::size_t>(ratio % 2)});
  cases.push_back({.x = {1, 17, 6, 5}, .regions = 7, .rows = 7, .columns = 7, .ratio = 0, .scale = 0.25F});
  cases.push_back({.x = {3, 8, 1, 1}, .regions = 7, .rows = 1, .columns = 1, .ratio = 2, .scale = 1});
  cases.push_back({.x = {1, 2, 20, 20}, .regions = 3, .rows = 17, .columns = 18, .ratio = 2});
  cases.push_back({.regions = 0});
  cases.push_back({.x = {2, 0, 4, 4}});
  cases.push_back({.rows = 0});
  for (const DType type : {DType::kFloat16, DType::kBFloat16}) {
    cases.push_back({.x_type = type, .roi_type = DType::kFloat32, .y_type = type});
    cases.push_back({.ratio = 0, .x_type = type, .roi_type = type, .y_type = DType::kFloat32});
  }
  if (large) {
    cases.push_back({.x = {1, 256, 50, 68}, .regions = 300, .rows = 7, .columns = 7, .ratio = 2, .scale = 0.0625F});
    cases.push_back({.x = {2, 96, 100, 100}, .regions = 100, .rows = 14, .columns = 14, .ratio = 0, .scale = 0.125F});
  }
  return cases;
}

// ---- MaxRoiPool ----

struct MaxRoiCase {
  Dims x{2, 3, 11, 13};
  std::int64_t regions = 11, rows = 3, columns = 4;
  float scale = 0.5F;
  DType type = DType::kFloat32, roi_type = DType::kFloat32, y_type = DType::kFloat32;
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} {} regions {} by {} scale {} {} {} {} extra {} shift {}", to_string(x), regions, rows, columns, scale, dtype_name(type),
                       dtype_name(roi_type), dtype_name(y_type), extra, shift);
  }
};

struct MaxRoiTensors {
  GuardedTensor x, rois, y;
  ir::Attrs params;
  Tensor wanted;

  explicit MaxRoiTensors(const MaxRoiCase& c) {
    Tensor map(DType::kFloat32, c.x), boxes(DType::kFloat32, {c.regions, 5});
    for (std::int64_t i = 0; i < map.size(); ++i)
      map.set_from_double(i, i % 37 == 5 ? std::nan("") : i % 53 == 7 ? -INFINITY : std::sin(1.7 * static_cast<double>(i)) - 0.5);
    map = map.cast(c.type).cast(DType::kFloat32);  // as the kernels read it
    const double height = static_cast<double>(c.x[2]) / c.scale, width = static_cast<double>(c.x[3]) / c.scale;
    for (std::int64_t n = 0; n < c.regions; ++n) {
      const double a = std::abs(std::sin(2.1 * static_cast<double>(n) + 0.3)), b = std::abs(std::cos(1.3 * static_cast<double>(n)));
      double box[] = {static_cast<double>(n % c.x[0]), a * width - 3, b * height - 3, a * width + b * width, b * height + a * height / 2};
      if (n % 11 == 3) std::swap(box[1], box[3]);                                                                       // of a negative width
      if (n % 11 == 4) box[4] = box[2];                                                                                 // of no height
      if (n % 11 == 5) box[1] = -3 * width, box[3] = 4 * width;                                                         // far beyond the map
      if (n % 11 == 6) box[2] = 2 * height, box[4] = 3 * height;                                                        // below it
      if (n % 11 == 7) box[1] = -5e12, box[3] = INFINITY;                                                               // beyond what is counted
      if (n % 11 == 8) box[0] += 0.75;                                                                                  // of the same image
      if (n % 11 == 9) box[1] = 0.5 / c.scale, box[2] = 1.5 / c.scale, box[3] = 2.5 / c.scale, box[4] = 5.5 / c.scale;  // halves of pixels
      if (n % 11 == 10) box[1] = -1.5 / c.scale, box[2] = -0.5 / c.scale;
      for (std::int64_t side = 0; side < 5; ++side) boxes.set_from_double(n * 5 + side, box[side]);
    }
    boxes = boxes.cast(c.roi_type).cast(DType::kFloat32);
    params.set("pooled_shape", std::vector<std::int64_t>{c.rows, c.columns});
    params.set("spatial_scale", c.scale);
    x = GuardedTensor(rows_desc(c.type, c.x, c.extra), c.shift);
    x.fill(map);
    rois = GuardedTensor(rows_desc(c.roi_type, boxes.dims(), c.extra), c.shift);
    rois.fill(boxes);
    y = GuardedTensor(rows_desc(c.y_type, {c.regions, c.x[1], c.rows, c.columns}, c.extra), c.shift);
    ir::Graph graph;
    const auto input = [&](const char* name, const Tensor& t) {
      return graph.add_input(name, ir::Type::tensor(t.dtype(), ir::Shape(t.dims().begin(), t.dims().end())));
    };
    const ir::Node* node = graph.add_node("", "MaxRoiPool", {input("x", map), input("r", boxes)}, {"y"}, params);
    const Tensor inputs[] = {map, boxes};
    wanted = ops::evaluate_node(*node, inputs)[0].cast(c.y_type);
  }
  void compare() {
    const Tensor got = y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) ASSERT_EQ(got.as_double(i), wanted.as_double(i)) << "element " << i;
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }
};

inline std::vector<MaxRoiCase> max_roi_cases(bool large) {
  std::vector<MaxRoiCase> cases;
  for (const float scale : {0.25F, 0.5F, 1.0F, 0.3F})
    for (const std::int64_t rows : {1, 2, 3, 7}) cases.push_back({.regions = 33, .rows = rows, .columns = 8 - rows, .scale = scale});
  cases.push_back({.regions = 22, .rows = 5, .columns = 3, .extra = 3, .shift = 1});
  cases.push_back({.x = {1, 17, 40, 37}, .rows = 7, .columns = 7});
  cases.push_back({.x = {3, 8, 1, 1}, .rows = 2, .columns = 2, .scale = 1});
  cases.push_back({.x = {1, 2, 20, 20}, .rows = 17, .columns = 31});
  cases.push_back({.x = {1, 1, 9, 9}, .regions = 3, .rows = 1, .columns = 1});
  cases.push_back({.regions = 0});
  cases.push_back({.x = {2, 0, 4, 4}});
  cases.push_back({.x = {2, 3, 0, 4}});
  for (const DType type : {DType::kFloat16, DType::kBFloat16}) {
    cases.push_back({.type = type, .roi_type = DType::kFloat32, .y_type = type});
    cases.push_back({.type = type, .roi_type = type, .y_type = DType::kFloat32});
  }
  if (large) {
    cases.push_back({.x = {1, 256, 50, 68}, .regions = 300, .rows = 7, .columns = 7, .scale = 0.0625F});
    cases.push_back({.x = {2, 96, 100, 100}, .regions = 100, .rows = 14, .columns = 14, .scale = 0.125F});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
