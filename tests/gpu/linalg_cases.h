// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of Det and Inverse, whose kernels a GPU and, through tests/host_cuda, the CPU in a GPU's place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "ops/linalg/linalg_plan.h"

namespace lathe::testing_gpu {

enum class MatrixKind { kMixed, kTies, kSingular, kNotANumber };

struct MatrixCase {
  Dims dims;
  bool inverse = false;
  MatrixKind kind = MatrixKind::kMixed;
  DType type = DType::kFloat32;
  DType y_type = DType::kUndefined;  ///< as the input
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} of {} {} kind {} to {} extra {} shift {}", inverse ? "Inverse" : "Det", dtype_name(type), to_string(dims), static_cast<int>(kind),
                       dtype_name(y_type), extra, shift);
  }
};

struct MatrixTensors {
  GuardedTensor x, y;
  Tensor wanted;

  explicit MatrixTensors(const MatrixCase& c) {
    Tensor input(c.type, c.dims);
    const std::int64_t n = c.dims.back();
    for (std::int64_t i = 0; i < input.size(); ++i) {
      const std::int64_t item = i / (n * n), row = i / n % n, column = i % n;
      double value = std::sin(1.7 * static_cast<double>(i)) + 0.1 * static_cast<double>(i % 7);
      if (c.kind == MatrixKind::kTies) value = static_cast<double>((i * 7 + i / 5) % 3) - 1 + (row == (column + 2) % n ? 3 : 0);
      if (c.kind == MatrixKind::kSingular) {
        if (item % 3 == 0 && column == n / 2) value = 0;  // a column of zeros
        if (item % 3 == 1) value = 0.25 * static_cast<double>(row + 1) * static_cast<double>(column % 4 - 1);
        if (item % 3 == 2) value = 0;
      }
      if (c.kind == MatrixKind::kNotANumber && row == item % n && column == (item + 1) % n) value = item % 2 ? INFINITY : std::nan("");
      input.set_from_double(i, value);
    }
    x = GuardedTensor(rows_desc(c.type, c.dims, c.extra), c.shift);
    x.fill(input);
    const DType stored = c.y_type == DType::kUndefined ? c.type : c.y_type;
    if (stored == DType::kFloat32) input = input.cast(stored);  // the result is not rounded to a narrow input's type
    ir::Graph graph;
    ir::Value* in = graph.add_input("x", ir::Type::tensor(input.dtype(), ir::Shape(c.dims.begin(), c.dims.end())));
    const ir::Node* node = graph.add_node(c.inverse ? "com.microsoft" : "", c.inverse ? "Inverse" : "Det", {in}, {"y"});
    const Tensor inputs[] = {input};
    wanted = ops::evaluate_node(*node, inputs)[0].cast(stored);
    y = GuardedTensor(rows_desc(stored, wanted.dims(), c.extra), c.shift);
  }
  void compare() {
    const Tensor got = y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const double a = got.as_double(i), b = wanted.as_double(i);
      ASSERT_TRUE(a == b || (std::isnan(a) && std::isnan(b))) << "element " << i << ": " << a << " instead of " << b;
    }
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }
};

inline std::vector<MatrixCase> matrix_cases(bool large) {
  std::vector<MatrixCase> cases;
  for (const bool inverse : {false, true}) {
    for (const std::int64_t n : {0, 1, 2, 3, 5, 17, 31, 32, 33, 64})
      for (const MatrixKind kind : {MatrixKind::kMixed, MatrixKind::kTies, MatrixKind::kSingular, MatrixKind::kNotANumber})
        if (kind == MatrixKind::kMixed || (n > 0 && (n < 40 || large))) cases.push_back({.dims = {n > 40 ? 2 : 7, n, n}, .inverse = inverse, .kind = kind});
    for (const DType type : {DType::kFloat16, DType::kBFloat16, DType::kFloat64}) {
      cases.push_back({.dims = {2, 3, 9, 9}, .inverse = inverse, .type = type});
      cases.push_back({.dims = {5, 6, 6}, .inverse = inverse, .kind = MatrixKind::kSingular, .type = type, .extra = 3, .shift = 1});
    }
    cases.push_back({.dims = {3, 8, 8}, .inverse = inverse, .type = DType::kFloat16, .y_type = DType::kFloat32});
    cases.push_back({.dims = {11, 11}, .inverse = inverse});
    cases.push_back({.dims = {2, 1, 2, 1, 3, 2, 5, 5}, .inverse = inverse, .extra = 2, .shift = 3});
    cases.push_back({.dims = {0, 5, 5}, .inverse = inverse});
    cases.push_back({.dims = {2, 0, 1, 1}, .inverse = inverse});
    if (!inverse || large) cases.push_back({.dims = {1, 80, 80}, .inverse = inverse, .extra = 5});
    if (large) {
      cases.push_back({.dims = {5000, 7, 7}, .inverse = inverse});
      cases.push_back({.dims = {40, 131, 131}, .inverse = inverse});
      cases.push_back({.dims = {2, 500, 500}, .inverse = inverse, .kind = MatrixKind::kTies});
    }
  }
  return cases;
}

}  // namespace lathe::testing_gpu
