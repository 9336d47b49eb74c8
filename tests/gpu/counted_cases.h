// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of NonZeroPadded and NonMaxSuppressionPadded, whose kernels a GPU, the CPU, and through tests/host_cuda the CPU in a GPU's place run: see
// kernel_cases.h.

#include "kernel_cases.h"
#include "ops/nms/nms_plan.h"
#include "ops/nonzero/nonzero_plan.h"

namespace lathe::testing_gpu {

/// The first elements of `got` along axis 0 (or 1) are those of `wanted`, and nothing beside the tensors was written.
inline void compare_first(GuardedTensor& got, const Tensor& wanted, std::int64_t count, std::size_t axis) {
  const Tensor read = got.read();
  ASSERT_EQ(read.dims(), wanted.dims());
  for (std::int64_t i = 0; i < read.size(); ++i) {
    const std::int64_t at = axis == 0 ? i / read.dims()[1] : i % read.dims()[1];
    ASSERT_TRUE(at >= count || read.as_int64(i) == wanted.as_int64(i))
        << "element " << i << " of " << to_string(read.dims()) << ": " << read.as_int64(i) << " instead of " << wanted.as_int64(i);
  }
  EXPECT_TRUE(got.is_intact()) << "bytes beside the results were written";
}

// ---- NonZeroPadded ----

struct NonZeroCase {
  DType type = DType::kBool;
  Dims dims;
  int percent = 30;  ///< about so many are not zero
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const { return fmt::format("{} {} {} % extra {} shift {}", dtype_name(type), to_string(dims), percent, extra, shift); }
};

struct NonZeroTensors {
  GuardedTensor x, places, count;
  Tensor wanted_places, wanted_count;

  explicit NonZeroTensors(const NonZeroCase& c) {
    Tensor input(c.type, c.dims);
    std::uint64_t state = 11 + static_cast<std::uint64_t>(c.percent);
    for (std::int64_t i = 0; i < input.size(); ++i) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const auto draw = static_cast<int>(state >> 40) % 100;
      if (draw < c.percent) {
        if (is_float(c.type)) input.set_from_double(i, draw % 5 == 0 && c.type != DType::kFloat8E8M0 ? std::nan("") : draw % 5 == 1 ? -2 : 0.5);
        else
          input.set_from_int64(i, c.type == DType::kBool ? 1 : draw % 3 == 0 && is_signed_integer(c.type) ? -1 : std::int64_t{1} << (dtype_bits(c.type) - 2));
      } else if (is_float(c.type) && draw % 2 == 0) {
        input.set_from_double(i, -0.0);
      }
    }
    x = GuardedTensor(rows_desc(c.type, c.dims, c.extra), c.shift);
    x.fill(input);
    const Dims results{static_cast<std::int64_t>(c.dims.size()), input.size()};
    places = GuardedTensor(rows_desc(DType::kInt64, results, c.extra), c.shift);
    count = GuardedTensor(plan::TensorDesc::row_major(DType::kInt64, {1}), c.shift);
    ir::Graph graph;
    ir::Value* in = graph.add_input("x", ir::Type::tensor(c.type, ir::Shape(c.dims.begin(), c.dims.end())));
    const ir::Node* node = graph.add_node(std::string(ops::kOwnDomain), "NonZeroPadded", {in}, {"places", "count"});
    const Tensor inputs[] = {input};
    const auto made = ops::evaluate_node(*node, inputs);
    wanted_places = made[0];
    wanted_count = made[1];
  }
  void compare() {
    ASSERT_EQ(count.read().as_int64(0), wanted_count.as_int64(0));
    EXPECT_TRUE(count.is_intact());
    compare_first(places, wanted_places, wanted_count.as_int64(0), 1);
  }
};

/// `large`: what a CPU which plays a GPU takes long for, too.
inline std::vector<NonZeroCase> non_zero_cases(bool large) {
  std::vector<NonZeroCase> cases;
  constexpr DType kTypes[] = {DType::kBool,         DType::kFloat32,    DType::kFloat16, DType::kBFloat16,       DType::kFloat64,       DType::kInt8,
                              DType::kInt16,        DType::kInt32,      DType::kInt64,   DType::kUint8,          DType::kUint16,        DType::kUint32,
                              DType::kFloat8E4M3FN, DType::kFloat8E5M2, DType::kUint64,  DType::kFloat8E4M3FNUZ, DType::kFloat8E5M2FNUZ};
  for (const DType type : kTypes) {
    cases.push_back({.type = type, .dims = {3, 33}});
    cases.push_back({.type = type, .dims = {2, 3, 70}, .extra = 3, .shift = 1});
  }
  for (const int percent : {0, 1, 100})
    for (const std::int64_t n : {1, 31, 32, 33, 255, 256, 257, 4095, 4097, 9000}) cases.push_back({.dims = {n}, .percent = percent});
  cases.push_back({.dims = {}});
  cases.push_back({.dims = {}, .percent = 100});
  cases.push_back({.dims = {0}});
  cases.push_back({.dims = {3, 0, 2}});
  cases.push_back({.dims = {2, 3, 1, 2, 5, 1, 2, 3}, .extra = 1});
  cases.push_back({.type = DType::kFloat32, .dims = {7, 1, 900}, .percent = 2, .shift = 3});
  if (large) {
    cases.push_back({.dims = {3000, 1001}, .percent = 1});
    cases.push_back({.type = DType::kFloat32, .dims = {20, 300, 301}, .percent = 60, .extra = 2});
    cases.push_back({.dims = {20000003}, .percent = 3});
  }
  return cases;
}

// ---- NonMaxSuppressionPadded ----

struct NmsCase {
  std::int64_t images = 1, classes = 1, boxes = 10, most = 5;
  bool fixed = true;  ///< `most` is an attribute too
  float iou = 0.5F, least = 0.3F;
  bool gives_most = true, gives_iou = true, gives_least = true, centre = false;
  bool clustered = true;  ///< many overlap
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} images, {} classes, {} boxes; {}{} {}{} {}{} {}{} extra {} shift {}", images, classes, boxes, gives_most ? "most " : "no ", most,
                       gives_iou ? "iou " : "no ", iou, gives_least ? "least " : "no ", least, fixed ? "fixed " : "", centre ? "centre" : "", extra, shift);
  }
};

struct NmsTensors {
  std::array<GuardedTensor, ops::kNmsInputs> inputs;
  GuardedTensor rows, count;
  ir::Attrs params;
  Tensor wanted_rows, wanted_count;

  explicit NmsTensors(const NmsCase& c) {
    std::array<Tensor, ops::kNmsInputs> values;
    std::uint64_t state = 5 + static_cast<std::uint64_t>(c.boxes);
    const auto draw = [&](int below) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      return static_cast<int>(state >> 40) % below;
    };
    values[0] = Tensor(DType::kFloat32, {c.images, c.boxes, 4});
    const int field = c.clustered ? 40 : 4000;
    for (std::int64_t i = 0; i < values[0].size(); i += 4) {
      const float x = static_cast<float>(draw(field)), y = static_cast<float>(draw(field)), w = 0.37F * static_cast<float>(draw(40)),
                  h = 0.53F * static_cast<float>(draw(40));
      const bool turned = draw(3) == 0;  // the corners the other way round
      const float sides[] = {c.centre ? x : turned ? y + h : y, c.centre ? y : x, c.centre ? w : turned ? y : y + h, c.centre ? h : x + w};
      for (std::int64_t s = 0; s < 4; ++s) values[0].set_from_double(i + s, draw(60) == 0 ? std::nan("") : static_cast<double>(sides[s]));
    }
    values[1] = Tensor(DType::kFloat32, {c.images, c.classes, c.boxes});
    for (std::int64_t i = 0; i < values[1].size(); ++i) {
      const int number = draw(200);  // many are equal
      values[1].set_from_double(i, number == 0 ? std::nan("") : number == 1 ? -0.0 : number == 2 ? INFINITY : number == 3 ? -INFINITY : number * 0.005);
    }
    const std::int64_t most[] = {c.most};
    if (c.gives_most) values[2] = Tensor::vector(most);
    const float iou[] = {c.iou}, least[] = {c.least};
    if (c.gives_iou) values[3] = Tensor::from<float>(DType::kFloat32, {1}, iou);
    if (c.gives_least) values[4] = Tensor::from<float>(DType::kFloat32, {}, least);
    ir::Graph graph;
    params.set("center_point_box", std::int64_t{c.centre});
    if (c.fixed) params.set("most", c.gives_most ? std::max<std::int64_t>(c.most, 0) : 0);
    std::vector<ir::Value*> given;
    for (std::size_t i = 0; i < values.size(); ++i) {
      if (!values[i].defined()) {
        given.push_back(nullptr);
        continue;
      }
      const Dims& dims = values[i].dims();
      given.push_back(graph.add_input("in" + std::to_string(i), ir::Type::tensor(values[i].dtype(), ir::Shape(dims.begin(), dims.end()))));
      inputs[i] = GuardedTensor(rows_desc(values[i].dtype(), dims, i < 2 ? c.extra : 0), c.shift);
      inputs[i].fill(values[i]);
    }
    const ir::Node* node = graph.add_node(std::string(ops::kOwnDomain), "NonMaxSuppressionPadded", given, {"rows", "count"}, params);
    const auto made = ops::evaluate_node(*node, values);
    wanted_rows = made[0];
    wanted_count = made[1];
    rows = GuardedTensor(rows_desc(DType::kInt64, wanted_rows.dims(), c.extra), c.shift);
    count = GuardedTensor(plan::TensorDesc::row_major(DType::kInt64, {1}), c.shift);
  }
  std::vector<GuardedTensor*> input_list() {
    std::vector<GuardedTensor*> list;
    for (GuardedTensor& t : inputs) list.push_back(&t);
    return list;
  }
  void compare() {
    ASSERT_EQ(count.read().as_int64(0), wanted_count.as_int64(0));
    EXPECT_TRUE(count.is_intact());
    compare_first(rows, wanted_rows, wanted_count.as_int64(0), 0);
  }
};

inline std::vector<NmsCase> nms_cases(bool large) {
  std::vector<NmsCase> cases;
  for (const std::int64_t boxes : {0, 1, 2, 31, 33, 255, 256, 257, 600})
    for (const bool clustered : {true, false}) cases.push_back({.boxes = boxes, .most = 1000, .clustered = clustered});
  for (const std::int64_t most : {-1, 0, 1, 7, 200})
    for (const bool fixed : {true, false}) cases.push_back({.images = 2, .classes = 3, .boxes = 300, .most = most, .fixed = fixed, .clustered = most == 7});
  for (const float iou : {-1.0F, 0.0F, 0.2F, 0.9F, 1.0F, 2.0F}) cases.push_back({.boxes = 120, .most = 100, .iou = iou});
  for (const float least : {-INFINITY, 0.0F, 0.95F, INFINITY}) cases.push_back({.images = 1, .classes = 2, .boxes = 290, .most = 50, .least = least});
  cases.push_back({.boxes = 100, .most = 20, .gives_most = false});
  cases.push_back({.boxes = 100, .most = 100, .gives_iou = false});
  cases.push_back({.classes = 2, .boxes = 300, .most = 100, .gives_least = false});
  cases.push_back({.images = 2, .classes = 2, .boxes = 300, .most = 60, .fixed = false, .gives_iou = false, .gives_least = false, .centre = true});
  cases.push_back({.images = 3, .classes = 2, .boxes = 77, .most = 30, .centre = true, .extra = 3, .shift = 1});
  cases.push_back({.images = 0, .classes = 2, .boxes = 7});
  cases.push_back({.images = 2, .classes = 0, .boxes = 7});
  cases.push_back({.images = 1, .classes = 300, .boxes = 9, .most = 3, .clustered = false});
  if (large) {
    cases.push_back({.images = 2, .classes = 80, .boxes = 8400, .most = 100, .least = 0.8F});
    cases.push_back({.classes = 80, .boxes = 25200, .most = 300, .fixed = false, .iou = 0.6F, .least = 0.25F, .clustered = false});
    cases.push_back({.boxes = 30011, .most = 30011, .iou = 0.7F, .gives_least = false, .clustered = false});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
