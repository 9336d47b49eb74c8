// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of ScatterElements and ScatterND, whose kernels a GPU, the CPU, and through tests/host_cuda the CPU in a GPU's place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/scatter/scatter_plan.h"

namespace lathe::testing_gpu {

struct ScatterCase {
  DType type = DType::kFloat32;
  Dims data, indices;
  std::int64_t axis = 0;  ///< negative: ScatterND
  std::string reduction = "none";
  DType out_type = DType::kUndefined, update_type = DType::kUndefined;  ///< as the data
  bool wide = true;
  std::int64_t extra = 0;
  std::size_t shift = 0;
  int targets = 1 << 20;  ///< at most so many different indices, so that some meet

  DType stored(DType other) const { return other == DType::kUndefined ? type : other; }
  std::string describe() const {
    return fmt::format("{} {} by {} {} axis {} {}{}{} extra {} shift {}", dtype_name(type), to_string(data), to_string(indices), reduction, axis,
                       wide ? "" : "int32 ", out_type == DType::kUndefined ? "" : "other result ", update_type == DType::kUndefined ? "" : "other updates ",
                       extra, shift);
  }
};

struct ScatterTensors {
  GuardedTensor data, indices, updates, out;
  ir::Attrs params;
  ops::Reduction reduction = ops::Reduction::kNone;
  std::int64_t axis = -1;
  Tensor wanted;

  explicit ScatterTensors(const ScatterCase& c) : axis(c.axis) {
    std::uint64_t state = 9 + static_cast<std::uint64_t>(element_count(c.data));
    const auto draw = [&](std::int64_t below) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      return static_cast<std::int64_t>(state >> 33) % std::max<std::int64_t>(below, 1);
    };
    const auto filled = [&](const Dims& dims) {
      Tensor t(c.type, dims);
      for (std::int64_t i = 0; i < t.size(); ++i) {
        const std::int64_t number = draw(40);
        if (is_float(c.type)) t.set_from_double(i, number == 0 ? std::nan("") : number == 1 ? -0.0 : 0.25 * static_cast<double>(number - 20));
        else t.set_from_int64(i, c.type == DType::kBool ? number % 2 : number == 0 ? -1 : number == 1 ? std::int64_t{1} << (dtype_bits(c.type) - 1) : number);
      }
      return t;
    };
    const bool nd = c.axis < 0;
    Dims updates_dims = c.indices;
    if (nd) {
      updates_dims.pop_back();
      updates_dims.insert(updates_dims.end(), c.data.begin() + c.indices.back(), c.data.end());
    }
    Tensor at(c.wide ? DType::kInt64 : DType::kInt32, c.indices);
    for (std::int64_t i = 0; i < at.size(); ++i) {
      const std::int64_t extent = nd ? c.data[static_cast<std::size_t>(i % c.indices.back())] : c.data[static_cast<std::size_t>(c.axis)];
      const std::int64_t index = draw(std::min<std::int64_t>(extent, c.targets));
      at.set_from_int64(i, draw(3) == 0 ? index - extent : index);
    }
    const Tensor values = filled(c.data), brought = filled(updates_dims);
    const auto rows = [&](DType type, const Dims& dims) { return dims.empty() ? plan::TensorDesc::row_major(type, dims) : rows_desc(type, dims, c.extra); };
    data = GuardedTensor(rows(c.type, c.data), c.shift);
    data.fill(values);
    indices = GuardedTensor(rows(at.dtype(), c.indices), c.shift);
    indices.fill(at);
    updates = GuardedTensor(rows(c.stored(c.update_type), updates_dims), c.shift);
    updates.fill(brought);
    out = GuardedTensor(rows(c.stored(c.out_type), c.data), c.shift);
    ir::Graph graph;
    ir::Attrs attrs;
    attrs.set("reduction", c.reduction);
    if (!nd) attrs.set("axis", c.axis);
    const auto input = [&](const char* name, const Tensor& t) {
      return graph.add_input(name, ir::Type::tensor(t.dtype(), ir::Shape(t.dims().begin(), t.dims().end())));
    };
    const ir::Node* node = graph.add_node("", nd ? "ScatterND" : "ScatterElements", {input("d", values), input("i", at), input("u", brought)}, {"y"}, attrs);
    const Tensor inputs[] = {values, at, brought};
    wanted = ops::evaluate_node(*node, inputs)[0].cast(c.stored(c.out_type));
    reduction = *ops::reduction_of(attrs);
    params.set("axis", c.axis);
    params.set("reduction", static_cast<std::int64_t>(reduction));
  }
  void compare() {
    const Tensor got = out.read();
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double a = got.as_double(i), b = wanted.as_double(i);
      ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << "element " << i << ": " << a << " instead of " << b;
    }
    EXPECT_TRUE(out.is_intact()) << "bytes beside the result were written";
  }
};

inline std::vector<ScatterCase> scatter_cases(bool large) {
  std::vector<ScatterCase> cases;
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt8,   DType::kInt16, DType::kInt32,
                              DType::kInt64,   DType::kUint8,   DType::kUint16,   DType::kUint32,  DType::kUint64, DType::kBool};
  for (const DType type : kTypes)
    for (const char* reduction : {"none", "add", "mul", "max", "min"}) {
      cases.push_back({.type = type, .data = {7, 5}, .indices = {9, 4}, .axis = 0, .reduction = reduction});
      cases.push_back({.type = type, .data = {4, 3, 5}, .indices = {6, 2}, .axis = -1, .reduction = reduction, .extra = 2, .shift = 1});
    }
  for (const char* reduction : {"none", "add"}) {
    for (const std::int64_t axis : {0, 1, 2, 3})
      cases.push_back({.data = {3, 4, 5, 6}, .indices = {2, 3, 4, 5}, .axis = axis, .reduction = reduction, .wide = axis % 2 == 0, .extra = axis});
    cases.push_back({.data = {300}, .indices = {4000}, .reduction = reduction, .targets = 3});
    cases.push_back({.data = {2, 300}, .indices = {2, 600}, .axis = 1, .reduction = reduction});
    cases.push_back({.data = {30, 40}, .indices = {50, 1}, .axis = -1, .reduction = reduction, .targets = 7});
    cases.push_back({.data = {30, 40}, .indices = {2, 25, 2}, .axis = -1, .reduction = reduction, .targets = 5});
    cases.push_back({.data = {6, 7}, .indices = {3, 0}, .axis = -1, .reduction = reduction});  // a tuple of nothing is the whole
    cases.push_back({.data = {6, 7}, .indices = {2}, .axis = -1, .reduction = reduction});
    cases.push_back({.data = {6, 7}, .indices = {0, 1}, .axis = -1, .reduction = reduction});
    cases.push_back({.data = {6, 0}, .indices = {3, 1}, .axis = -1, .reduction = reduction});
    cases.push_back({.data = {6, 7}, .indices = {0, 3}, .axis = 0, .reduction = reduction});
    cases.push_back({.data = {0, 7}, .indices = {0, 3}, .axis = 0, .reduction = reduction});
    cases.push_back({.data = {9, 8}, .indices = {20, 3}, .reduction = reduction, .out_type = DType::kFloat16});
    cases.push_back({.type = DType::kBFloat16, .data = {9, 8}, .indices = {5, 1}, .axis = -1, .out_type = DType::kFloat32, .update_type = DType::kFloat32});
  }
  cases.push_back({.data = {2, 1, 2, 1, 2, 1, 2, 3}, .indices = {2, 1, 2, 1, 2, 1, 2, 5}, .axis = 7, .extra = 1});
  if (large) {
    cases.push_back({.data = {1000, 256}, .indices = {900, 256}, .axis = 0});
    cases.push_back({.data = {1000, 256}, .indices = {900, 256}, .axis = 0, .reduction = "add"});
    cases.push_back({.data = {50000, 64}, .indices = {30000, 1}, .axis = -1, .targets = 20000});
    cases.push_back({.type = DType::kFloat16, .data = {500, 64}, .indices = {30000, 1}, .axis = -1, .reduction = "add"});
    cases.push_back({.type = DType::kInt64, .data = {3000000}, .indices = {3000000}, .reduction = "max"});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
