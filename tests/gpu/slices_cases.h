// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of SortedSlices, whose kernels a GPU and, through tests/host_cuda, the CPU in a GPU's place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/op_def.h"
#include "ops/unique/unique_plan.h"

namespace lathe::testing_gpu {

struct SlicesCase {
  DType type = DType::kFloat32;
  Dims dims;
  std::int64_t axis = 0;
  int distinct = 3;  ///< how many different numbers there are
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} {} axis {} of {} numbers, extra {} shift {}", dtype_name(type), to_string(dims), axis, distinct, extra, shift);
  }
};

struct SlicesTensors {
  GuardedTensor x, order, begins;
  ir::Attrs params;
  Tensor wanted_order, wanted_begins;

  explicit SlicesTensors(const SlicesCase& c) {
    Tensor input(c.type, c.dims);
    std::uint64_t state = 3 + static_cast<std::uint64_t>(c.distinct);
    for (std::int64_t i = 0; i < input.size(); ++i) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const auto draw = static_cast<std::int64_t>(state >> 40) % c.distinct;
      if (is_float(c.type))
        input.set_from_double(i, draw == 0   ? 0.0
                                 : draw == 1 ? -0.0
                                 : draw == 2 ? std::nan("")
                                 : draw == 3 ? -INFINITY
                                             : 0.5 * static_cast<double>(draw - c.distinct / 2));
      else input.set_from_int64(i, c.type == DType::kBool ? draw % 2 : draw == 1 ? -1 : draw);
    }
    params.set("axis", c.axis);
    x = GuardedTensor(rows_desc(c.type, c.dims, c.extra), c.shift);
    x.fill(input);
    ir::Graph graph;
    ir::Value* in = graph.add_input("x", ir::Type::tensor(c.type, ir::Shape(c.dims.begin(), c.dims.end())));
    const ir::Node* node = graph.add_node(std::string(ops::kOwnDomain), "SortedSlices", {in}, {"order", "begins"}, params);
    const Tensor inputs[] = {input};
    const auto made = ops::evaluate_node(*node, inputs);
    wanted_order = made[0];
    wanted_begins = made[1];
    order = GuardedTensor(rows_desc(DType::kInt64, wanted_order.dims(), c.extra), c.shift);
    begins = GuardedTensor(rows_desc(DType::kBool, wanted_begins.dims(), c.extra), c.shift);
  }
  void compare() {
    const Tensor places = order.read(), marks = begins.read();
    for (std::int64_t i = 0; i < places.size(); ++i) {
      ASSERT_EQ(places.as_int64(i), wanted_order.as_int64(i)) << "place " << i;
      ASSERT_EQ(marks.as_int64(i), wanted_begins.as_int64(i)) << "mark " << i;
    }
    EXPECT_TRUE(order.is_intact() && begins.is_intact()) << "bytes beside the results were written";
  }
};

inline std::vector<SlicesCase> slices_cases(bool large) {
  std::vector<SlicesCase> cases;
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt8,   DType::kInt16, DType::kInt32,
                              DType::kInt64,   DType::kUint8,   DType::kUint16,   DType::kUint32,  DType::kUint64, DType::kBool};
  for (const DType type : kTypes) {
    cases.push_back({.type = type, .dims = {67, 3}});
    cases.push_back({.type = type, .dims = {3, 40, 2}, .axis = 1, .distinct = 5, .extra = 2, .shift = 1});
  }
  for (const std::int64_t n : {0, 1, 2, 3, 31, 256, 257, 1023, 1024, 1025, 2048, 3000, 5000})
    cases.push_back({.type = n % 2 ? DType::kFloat32 : DType::kInt64, .dims = {n, 4}, .distinct = n > 1000 ? 6 : 3});
  cases.push_back({.dims = {5, 2100}, .axis = -1, .distinct = 9});
  cases.push_back({.dims = {2, 3, 50, 2, 4}, .axis = 2, .distinct = 2, .extra = 1});
  cases.push_back({.dims = {2, 2, 3, 30, 1, 2, 2}, .axis = 3, .distinct = 4, .extra = 3, .shift = 2});
  cases.push_back({.dims = {50}, .distinct = 7});
  cases.push_back({.dims = {9, 0}});
  cases.push_back({.dims = {9, 300}, .distinct = 1});  // all equal
  if (large) {
    cases.push_back({.dims = {200003, 3}, .distinct = 40});
    cases.push_back({.type = DType::kInt64, .dims = {1000, 500}, .axis = 1, .distinct = 2});
    cases.push_back({.type = DType::kInt32, .dims = {50000, 64}, .distinct = 1000});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
