// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of the plain kernels of MatMul and Gemm, which a GPU and, through tests/host_cuda, the CPU in a GPU's place run: see kernel_cases.h.

#include "kernel_cases.h"
#include "regions/plain_matmul/plain_matmul_plan.h"

namespace lathe::testing_gpu {

struct PlainMatMulCase {
  Dims a, b;
  DType type = DType::kFloat64;
  DType b_type = DType::kUndefined, z_type = DType::kUndefined, y_type = DType::kUndefined;  ///< as `type`
  bool gemm = false, trans_a = false, trans_b = false;
  std::optional<Dims> z = {};
  float alpha = 1, beta = 1;
  bool columns = false;  ///< matrices lie by columns
  std::int64_t extra = 0;
  std::size_t shift = 0;
  std::string describe() const {
    return fmt::format("{} {} {}{} by {} {}{} plus {} {} to {}, {} {}{} extra {} shift {}", gemm ? "Gemm" : "MatMul", dtype_name(type), to_string(a),
                       trans_a ? "'" : "", dtype_name(b_type), to_string(b), trans_b ? "'" : "", dtype_name(z_type), z ? to_string(*z) : "nothing",
                       dtype_name(y_type), alpha, beta, columns ? " by columns" : "", extra, shift);
  }
};

struct PlainMatMulTensors {
  GuardedTensor a, b, z, y;
  ir::Attrs params;
  Tensor wanted;
  std::vector<GuardedTensor*> inputs() {
    std::vector<GuardedTensor*> list{&a, &b};
    if (z.desc.dtype != DType::kUndefined) list.push_back(&z);
    return list;
  }

  explicit PlainMatMulTensors(const PlainMatMulCase& c) {
    const auto or_type = [&](DType type) { return type == DType::kUndefined ? c.type : type; };
    std::uint64_t state = 11;
    // Whole numbers whose sums are exact in any order; of integers whatever there is, so that they wrap.
    const auto fill = [&](DType type, const Dims& dims) {
      Tensor t(type, dims);
      for (std::int64_t i = 0; i < t.size(); ++i) {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        const auto draw = static_cast<std::int64_t>(state >> 33);
        // The definition of Gemm adds integers up in double precision, and factors meet what is no whole number: those stay small.
        if (is_float(type) || c.alpha != 1 || c.beta != 1)
          t.set_from_double(i, static_cast<double>(is_float(type) || is_signed_integer(type) ? draw % 5 - 2 : draw % 5));
        else t.set_from_int64(i, c.gemm ? draw % 200000 - (is_signed_integer(type) ? 100000 : 0) : draw * (draw % 7 - 3));
      }
      return t;
    };
    const auto place = [&](GuardedTensor& into, DType type, const Dims& dims) {
      plan::TensorDesc desc = rows_desc(type, dims, c.extra);
      if (const std::size_t rank = dims.size(); c.columns && rank >= 2) {
        Dims turned = dims;
        std::swap(turned[rank - 1], turned[rank - 2]);
        desc.strides = rows_desc(type, turned, c.extra).strides;
        std::swap(desc.strides[rank - 1], desc.strides[rank - 2]);
      }
      into = GuardedTensor(std::move(desc), c.shift);
    };
    const Tensor left = fill(c.type, c.a), right = fill(or_type(c.b_type), c.b), third = c.z ? fill(or_type(c.z_type), *c.z) : Tensor();
    place(a, c.type, c.a);
    a.fill(left);
    place(b, right.dtype(), c.b);
    b.fill(right);
    if (c.z) {
      place(z, third.dtype(), *c.z);
      z.fill(third);
    }
    // The definition, of floating-point numbers in double precision.
    const DType defined = is_float(c.type) ? DType::kFloat64 : c.type;
    ir::Graph graph;
    ir::Attrs attrs;
    std::vector<Tensor> tensors{left.cast(defined), right.cast(defined)};
    if (c.z) tensors.push_back(third.cast(defined));
    std::vector<ir::Value*> values;
    for (const Tensor& t : tensors)
      values.push_back(graph.add_input(fmt::format("in{}", values.size()), ir::Type::tensor(defined, ir::Shape(t.dims().begin(), t.dims().end()))));
    if (c.gemm) {
      attrs.set("alpha", c.alpha);
      attrs.set("beta", c.beta);
      attrs.set("transA", std::int64_t{c.trans_a});
      attrs.set("transB", std::int64_t{c.trans_b});
    }
    const ir::Node* node = graph.add_node("", c.gemm ? "Gemm" : "MatMul", values, {"y"}, attrs);
    wanted = ops::evaluate_node(*node, tensors)[0].cast(or_type(c.y_type));
    place(y, or_type(c.y_type), wanted.dims());
    if (c.trans_a) params.set("perm_a", std::vector<std::int64_t>{1, 0});
    if (c.trans_b) params.set("perm_b", std::vector<std::int64_t>{1, 0});
    params.set("scale", c.alpha);
    params.set("c_scale", c.beta);
  }
  void compare() {
    const Tensor got = y.read();
    for (std::int64_t i = 0; i < got.size(); ++i) {
      const bool same = is_float(got.dtype()) ? got.as_double(i) == wanted.as_double(i) : got.as_int64(i) == wanted.as_int64(i);
      ASSERT_TRUE(same) << "element " << i << ": " << got.as_double(i) << " instead of " << wanted.as_double(i);
    }
    EXPECT_TRUE(y.is_intact()) << "bytes beside the result were written";
  }
};

inline std::vector<PlainMatMulCase> plain_matmul_cases(bool large) {
  constexpr DType kAll[] = {DType::kFloat64, DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kInt32, DType::kUint32, DType::kInt64, DType::kUint64};
  std::vector<PlainMatMulCase> cases;
  for (const DType type : kAll) {
    for (const bool columns : {false, true}) {
      cases.push_back({.a = {3, 17, 33}, .b = {3, 33, 19}, .type = type, .columns = columns, .extra = 3, .shift = 1});
      cases.push_back({.a = {5, 40}, .b = {7, 40}, .type = type, .gemm = true, .trans_b = true, .z = Dims{5, 1}, .alpha = 2, .beta = 3, .columns = columns});
    }
    cases.push_back({.a = {21, 18}, .b = {21, 30}, .type = type, .gemm = true, .trans_a = true, .z = Dims{}, .shift = 1});
    cases.push_back({.a = {530, 20}, .b = {20, 530}, .type = type});
    cases.push_back({.a = {2, 9}, .b = {9, 3}, .type = type, .gemm = true, .z = Dims{3}, .alpha = 0.5F, .beta = 0.5F});
  }
  for (const std::int64_t m : {1, 15, 16, 17})
    for (const std::int64_t k : {0, 1, 15, 16, 33})
      for (const std::int64_t n : {1, 16, 31}) {
        cases.push_back({.a = {m, k}, .b = {k, n}, .type = k % 2 ? DType::kInt64 : DType::kFloat32});
        cases.push_back({.a = {m, k}, .b = {k, n}, .gemm = true, .z = n % 2 ? Dims{1, 1} : Dims{1, n}, .beta = 0.25F});
      }
  for (const Dims& a : {Dims{0, 4}, Dims{7, 4}, Dims{2, 0, 4}, Dims{4}, Dims{3, 1, 5, 4}, Dims{6, 1, 4}})
    for (const Dims& b : {Dims{4, 3}, Dims{4, 0}, Dims{4}, Dims{1, 4, 3}, Dims{2, 4, 3}}) {
      const bool fits = a.size() < 3 || b.size() < 3 || b[0] == 1 || a[a.size() - 3] == 1 || a[a.size() - 3] == b[0];
      if (fits) cases.push_back({.a = a, .b = b, .extra = 1});
    }
  cases.push_back({.a = {2, 1, 3, 1, 4, 6}, .b = {5, 1, 2, 6, 3}});
  cases.push_back({.a = {2, 2, 1, 2, 1, 2, 3, 6}, .b = {2, 1, 2, 1, 2, 1, 6, 3}, .type = DType::kInt32});
  cases.push_back({.a = {12, 20}, .b = {20, 9}, .type = DType::kFloat16, .b_type = DType::kFloat32, .y_type = DType::kFloat32});
  cases.push_back({.a = {12, 20}, .b = {20, 9}, .type = DType::kBFloat16, .b_type = DType::kFloat64, .y_type = DType::kFloat16});
  cases.push_back({.a = {12, 20}, .b = {20, 9}, .type = DType::kFloat32, .z_type = DType::kFloat16, .gemm = true, .z = Dims{12, 9}});
  if (large) {
    for (const DType type : kAll) {
      cases.push_back({.a = {4, 700, 900}, .b = {4, 900, 500}, .type = type, .extra = 1});
      cases.push_back({.a = {1, 20000}, .b = {20000, 300}, .type = type});
    }
    cases.push_back({.a = {70000, 1, 3}, .b = {70000, 3, 2}});
    cases.push_back({.a = {300000, 3}, .b = {3, 2}, .type = DType::kInt64});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
