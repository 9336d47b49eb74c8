// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of CumSum and CumProd, whose kernels a GPU and, through tests/host_cuda, the CPU in a GPU's place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/reduce/cumulative_plan.h"

namespace lathe::testing_gpu {

struct CumulativeCase {
  Dims dims;
  std::int64_t axis = -1;
  bool product = false, exclusive = false, reverse = false;
  DType type = DType::kFloat32;
  DType y_type = DType::kUndefined;  ///< as the input
  std::int64_t extra = 0;
  std::size_t shift = 0;
  int drift = 0;         ///< of a product of floating-point numbers: by how many bits an element makes it larger on the average
  bool strange = false;  ///< a zero, an infinity and NaN, far behind each other
  bool rounded = false;  ///< elements around 1 that are no powers of two
  std::string describe() const {
    return fmt::format("{} of {} {} axis {}{}{} to {} extra {} shift {} drift {}{}{}", product ? "CumProd" : "CumSum", dtype_name(type), to_string(dims), axis,
                       exclusive ? " exclusive" : "", reverse ? " reverse" : "", dtype_name(y_type), extra, shift, drift, strange ? " strange" : "",
                       rounded ? " rounded" : "");
  }
};

struct CumulativeTensors {
  GuardedTensor x, y;
  ir::Attrs params;
  Tensor wanted;
  bool rounded;

  explicit CumulativeTensors(const CumulativeCase& c) : rounded(c.rounded) {
    Tensor input(c.type, c.dims);
    std::uint64_t state = 3 + static_cast<std::uint64_t>(input.size());
    for (std::int64_t i = 0; i < input.size(); ++i) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      const auto draw = static_cast<std::int64_t>(state >> 33);
      // Whole numbers, whose sums are exact in any order; of integers whatever there is, so that they wrap.
      // Powers of two, of whose products the same holds; that drift, turn and come back.
      if (is_float(c.type) && c.product) {
        const std::int64_t way = i / 900 % 3 == 2 ? -c.drift : c.drift;
        const double size = c.rounded ? 1 + static_cast<double>(draw % 2001 - 1000) / 5000 : std::ldexp(1.0, static_cast<int>(draw % 5 - 2 + way));
        const bool special = c.strange && draw % 3001 == 7;
        input.set_from_double(i, special ? (draw % 3 == 0 ? 0.0 : draw % 3 == 1 ? INFINITY : std::nan("")) : draw / 16 % 3 == 0 ? -size : size);
      } else if (!is_float(c.type)) input.set_from_int64(i, c.product ? 2 * (draw % 50) + 1 : draw * (draw % 7 - 3));
      else {
        input.set_from_double(i, static_cast<double>(draw % 9 - 4));
      }
    }
    x = GuardedTensor(rows_desc(c.type, c.dims, c.extra), c.shift);
    x.fill(input);
    params.set("exclusive", c.exclusive);
    params.set("reverse", c.reverse);
    ir::Graph graph;
    ir::Value* in = graph.add_input("x", ir::Type::tensor(c.type, ir::Shape(c.dims.begin(), c.dims.end())));
    const std::int64_t axis[] = {c.axis};
    const Tensor inputs[] = {input, Tensor::vector(axis).reshaped({})};
    ir::Value* along = graph.add_input("axis", ir::Type::tensor(DType::kInt64, {}));
    const ir::Node* node = graph.add_node("", c.product ? "CumProd" : "CumSum", {in, along}, {"y"}, params);
    const DType stored = c.y_type == DType::kUndefined ? c.type : c.y_type;
    wanted = ops::evaluate_node(*node, inputs)[0].cast(stored);
    y = GuardedTensor(rows_desc(stored, c.dims, c.extra), c.shift);
    params.set("axis", c.axis);
    params.set("product", c.product);
  }
  void compare() {
    const Tensor got = y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double a = got.as_double(i), b = wanted.as_double(i);
      const double unit = !rounded                         ? 0
                          : got.dtype() == DType::kFloat64 ? 1e-11
                          : got.dtype() == DType::kFloat32 ? 3e-7
                          : got.dtype() == DType::kFloat16 ? 2e-3
                                                           : 1e-2;
      const bool same = !is_float(got.dtype()) ? got.as_int64(i) == wanted.as_int64(i)
                        : a == b               ? std::signbit(a) == std::signbit(b)
                                               : (std::isnan(a) && std::isnan(b)) || std::abs(a - b) <= unit * std::abs(b);
      ASSERT_TRUE(same) << "element " << i << ": " << got.as_double(i) << " instead of " << wanted.as_double(i);
    }
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }
};

inline std::vector<CumulativeCase> cumulative_cases(bool large) {
  std::vector<CumulativeCase> cases;
  for (const std::int64_t n : {0, 1, 7, 8, 9, 2047, 2048, 2049, 6000})
    for (const bool reverse : {false, true})
      for (const bool exclusive : {false, true})
        cases.push_back({.dims = {n}, .exclusive = exclusive, .reverse = reverse, .type = n % 2 ? DType::kInt64 : DType::kFloat32});
  for (const DType type : {DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt32, DType::kUint32, DType::kInt64, DType::kUint64})
    for (const bool product : {false, true}) {
      if (product && is_float(type)) continue;
      // Few enough that halves hold every sum.
      const std::int64_t n = type == DType::kFloat16 || type == DType::kBFloat16 ? 30 : 2500;
      cases.push_back({.dims = {3, n}, .product = product, .reverse = product, .type = type, .extra = 3, .shift = 1});
      cases.push_back({.dims = {2, n, 3}, .axis = 1, .product = product, .exclusive = true, .type = type});
    }
  cases.push_back({.dims = {2, 3, 40, 2, 2}, .axis = 2, .extra = 1});
  cases.push_back({.dims = {5, 0, 3}, .axis = 0});
  cases.push_back({.dims = {4, 0}, .axis = 1});
  cases.push_back({.dims = {30, 4}, .axis = 0, .type = DType::kFloat16, .y_type = DType::kFloat32});
  for (const DType type : {DType::kFloat32, DType::kFloat64, DType::kFloat16, DType::kBFloat16})
    for (const bool other : {false, true}) {
      cases.push_back({.dims = {3, 2500}, .product = true, .exclusive = other, .reverse = other, .type = type, .extra = 3, .shift = 1});
      cases.push_back({.dims = {2, 5000, 2}, .axis = 1, .product = true, .reverse = other, .type = type, .strange = other, .rounded = true});
    }
  // Out of range and back, as the definition has it: infinite or zero once and for all, or few bits and then more.
  for (const int drift : {-9, -3, -1, 1, 3, 9})
    for (const DType type : {DType::kFloat32, DType::kFloat64})
      for (const bool strange : {false, true})
        cases.push_back({.dims = {4, 7000}, .product = true, .exclusive = strange, .reverse = drift == 3, .type = type, .drift = drift, .strange = strange});
  for (const std::int64_t n : {0, 1, 8, 9, 2048, 2049}) cases.push_back({.dims = {n}, .product = true, .exclusive = n % 2 == 0, .drift = 1});
  cases.push_back({.dims = {30, 4}, .axis = 0, .product = true, .type = DType::kFloat16, .y_type = DType::kFloat32});
  if (large) {
    cases.push_back({.dims = {1000003}, .product = true, .type = DType::kFloat32, .rounded = true});
    cases.push_back({.dims = {3, 700001}, .product = true, .type = DType::kFloat64, .drift = 0, .strange = true});
    cases.push_back({.dims = {1100000}, .product = true, .reverse = true, .type = DType::kFloat32});
    cases.push_back({.dims = {3000001}, .type = DType::kInt64});
    cases.push_back({.dims = {2000003}, .product = true, .reverse = true, .type = DType::kInt32});
    cases.push_back({.dims = {700, 5000}, .axis = 0, .exclusive = true, .type = DType::kInt32});
    cases.push_back({.dims = {700, 5000}, .axis = 1, .extra = 2});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
