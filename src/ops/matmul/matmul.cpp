// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// MatMul (NumPy's matmul: stacks of matrices with broadcast leading axes) and Gemm (alpha A' B' + beta C).

#include <fmt/format.h>

#include <algorithm>

#include "ops/oracle_gemm.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

// MatMul -----------------------------------------------------------------------------------------------------------------

void matmul_infer(InferContext& ctx) {
  const auto &a = ctx.shape(0), &b = ctx.shape(1);
  if (!a || !b) return ctx.set_unknown(0, ctx.dtype(0));
  if (a->empty() || b->empty()) ctx.fail("MatMul takes tensors of rank 1 or more, one is a scalar");
  Shape left = *a, right = *b;
  const bool row = left.size() == 1, column = right.size() == 1;
  if (row) left.insert(left.begin(), Dim(1));
  if (column) right.push_back(Dim(1));
  const Dim &k = left.back(), &k2 = right[right.size() - 2];
  if (const auto x = k.constant(), y = k2.constant(); x && y && *x != *y)
    ctx.fail(fmt::format("the inner extents differ: {} times {}", ir::to_string(*a), ir::to_string(*b)));
  Shape shape = broadcast_shape(ctx, Shape(left.begin(), left.end() - 2), Shape(right.begin(), right.end() - 2));
  if (!row) shape.push_back(left[left.size() - 2]);
  if (!column) shape.push_back(right.back());
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

/// The stack of products as extents: batch index -> offsets of the two matrices.
struct Stack {
  std::int64_t m = 1, n = 1, k = 1, count = 1;
  std::vector<std::int64_t> a_offset, b_offset;  // in matrices' elements, per product
  Dims out;
};

Stack stack_of(RefContext& ctx) {
  Dims a = ctx.input(0).dims(), b = ctx.input(1).dims();
  if (a.empty() || b.empty()) ctx.fail("MatMul takes tensors of rank 1 or more, one is a scalar");
  const bool row = a.size() == 1, column = b.size() == 1;
  if (row) a.insert(a.begin(), 1);
  if (column) b.push_back(1);
  Stack s;
  s.m = a[a.size() - 2];
  s.k = a.back();
  s.n = b.back();
  if (b[b.size() - 2] != s.k) ctx.fail(fmt::format("the inner extents differ: {} times {}", to_string(ctx.input(0).dims()), to_string(ctx.input(1).dims())));
  const std::size_t rank = std::max(a.size(), b.size()) - 2;
  Dims batch(rank), a_batch(rank, 1), b_batch(rank, 1);
  std::copy(a.begin(), a.end() - 2, a_batch.end() - static_cast<std::ptrdiff_t>(a.size() - 2));
  std::copy(b.begin(), b.end() - 2, b_batch.end() - static_cast<std::ptrdiff_t>(b.size() - 2));
  for (std::size_t i = 0; i < rank; ++i) {
    if (a_batch[i] != b_batch[i] && a_batch[i] != 1 && b_batch[i] != 1)
      ctx.fail(fmt::format("the leading extents do not broadcast: {} times {}", to_string(ctx.input(0).dims()), to_string(ctx.input(1).dims())));
    batch[i] = a_batch[i] == 1 ? b_batch[i] : a_batch[i];
  }
  const Dims a_strides = strides_of(a_batch), b_strides = strides_of(b_batch);
  for_each_index(batch, [&](const Dims& at) {
    std::int64_t x = 0, y = 0;
    for (std::size_t i = 0; i < rank; ++i) {
      x += a_batch[i] == 1 ? 0 : at[i] * a_strides[i];
      y += b_batch[i] == 1 ? 0 : at[i] * b_strides[i];
    }
    s.a_offset.push_back(x * s.m * s.k);
    s.b_offset.push_back(y * s.k * s.n);
  });
  s.count = static_cast<std::int64_t>(s.a_offset.size());
  s.out = batch;
  if (!row) s.out.push_back(s.m);
  if (!column) s.out.push_back(s.n);
  return s;
}

/// C = A B for row-major matrices, sums in order of k.
template <class T>
void multiply(const T* a, const T* b, T* c, std::int64_t m, std::int64_t n, std::int64_t k) {
  for (std::int64_t i = 0; i < m; ++i)
    for (std::int64_t p = 0; p < k; ++p)
      for (std::int64_t j = 0; j < n; ++j) c[i * n + j] += a[i * k + p] * b[p * n + j];
}

void matmul_reference(RefContext& ctx) {
  const Stack s = stack_of(ctx);
  const DType dtype = ctx.input(0).dtype();
  const auto each = [&](auto a, auto b, auto& c) {
    for (std::int64_t i = 0; i < s.count; ++i)
      multiply(a.data() + s.a_offset[static_cast<std::size_t>(i)], b.data() + s.b_offset[static_cast<std::size_t>(i)], c.data() + i * s.m * s.n, s.m, s.n, s.k);
  };
  const auto size = static_cast<std::size_t>(s.count * s.m * s.n);
  if (is_float(dtype)) {
    std::vector<double> c(size, 0.0);
    each(to_doubles(ctx.input(0)), to_doubles(ctx.input(1)), c);
    return ctx.set_output(0, from_doubles(dtype, s.out, c));
  }
  // Integers wrap; unsigned arithmetic makes that defined.
  const auto bits = [](const std::vector<std::int64_t>& v) { return std::vector<std::uint64_t>(v.begin(), v.end()); };
  std::vector<std::uint64_t> c(size, 0);
  each(bits(to_int64s(ctx.input(0))), bits(to_int64s(ctx.input(1))), c);
  ctx.set_output(0, from_int64s(dtype, s.out, std::vector<std::int64_t>(c.begin(), c.end())));
}

/// c[m, n] = scale * a * b through the blocked product; `a` and `b` by element strides.
struct Strided {
  const double* data;
  std::int64_t row, column;
};
void product(Strided a, Strided b, double* c, std::int64_t m, std::int64_t n, std::int64_t k, double scale) {
  oracle_product(
      m, n, k,
      [&](std::int64_t row, std::int64_t rows, double* to) {
        for (std::int64_t i = 0; i < rows; ++i)
          for (std::int64_t p = 0; p < k; ++p) to[i * k + p] = a.data[(row + i) * a.row + p * a.column];
      },
      [&](std::int64_t column, std::int64_t columns, double* to) {
        for (std::int64_t p = 0; p < k; ++p)
          for (std::int64_t j = 0; j < columns; ++j) to[p * columns + j] = b.data[p * b.row + (column + j) * b.column];
      },
      [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, const double* block) {
        for (std::int64_t i = 0; i < rows; ++i)
          for (std::int64_t j = 0; j < columns; ++j) c[(row + i) * n + column + j] = scale * block[i * columns + j];
      });
}

void matmul_oracle(RefContext& ctx) {
  const DType dtype = ctx.input(0).dtype();
  if (!is_float(dtype)) return matmul_reference(ctx);
  const Stack s = stack_of(ctx);
  const auto a = to_doubles(ctx.input(0)), b = to_doubles(ctx.input(1));
  std::vector<double> c(static_cast<std::size_t>(s.count * s.m * s.n), 0.0);
  for (std::int64_t i = 0; i < s.count && !c.empty(); ++i)
    product({a.data() + s.a_offset[static_cast<std::size_t>(i)], s.k, 1}, {b.data() + s.b_offset[static_cast<std::size_t>(i)], s.n, 1},
            c.data() + i * s.m * s.n, s.m, s.n, s.k, 1.0);
  ctx.set_output(0, from_doubles(dtype, s.out, c));
}

// Gemm -------------------------------------------------------------------------------------------------------------------

void gemm_infer(InferContext& ctx) {
  const auto &a = ctx.shape(0), &b = ctx.shape(1);
  if ((a && a->size() != 2) || (b && b->size() != 2)) ctx.fail("Gemm takes matrices: A and B must have rank 2");
  const bool ta = ctx.attrs().get_int("transA", 0) != 0, tb = ctx.attrs().get_int("transB", 0) != 0;
  Shape shape = fresh_shape(ctx, 2);
  if (a) shape[0] = (*a)[ta ? 1 : 0];
  if (b) shape[1] = (*b)[tb ? 0 : 1];
  if (a && b) {
    if (const auto x = (*a)[ta ? 0 : 1].constant(), y = (*b)[tb ? 1 : 0].constant(); x && y && *x != *y)
      ctx.fail(
          fmt::format("the inner extents differ: {}{} times {}{}", ir::to_string(*a), ta ? " transposed" : "", ir::to_string(*b), tb ? " transposed" : ""));
  }
  if (ctx.has_input(2) && ctx.shape(2)) {
    const Shape& c = *ctx.shape(2);
    bool fits = c.size() <= 2;
    for (std::size_t i = 0; fits && i < c.size(); ++i) {
      const auto have = c[c.size() - 1 - i].constant(), want = shape[1 - i].constant();
      fits = !have || !want || *have == 1 || *have == *want;
    }
    if (!fits) ctx.fail(fmt::format("C of shape {} does not broadcast to the product's {}", ir::to_string(c), ir::to_string(shape)));
  }
  ctx.set(0, ctx.dtype(0), std::move(shape));
}

struct GemmProblem {
  std::int64_t m, n, k;
  bool ta, tb;
  double alpha, beta;
};

GemmProblem gemm_problem(RefContext& ctx) {
  const Dims &a = ctx.input(0).dims(), &b = ctx.input(1).dims();
  if (a.size() != 2 || b.size() != 2) ctx.fail("Gemm takes matrices: A and B must have rank 2");
  GemmProblem g{};
  g.ta = ctx.attrs().get_int("transA", 0) != 0;
  g.tb = ctx.attrs().get_int("transB", 0) != 0;
  g.alpha = ctx.attrs().get_float("alpha", 1);
  g.beta = ctx.attrs().get_float("beta", 1);
  g.m = a[g.ta ? 1 : 0];
  g.k = a[g.ta ? 0 : 1];
  g.n = b[g.tb ? 0 : 1];
  if (b[g.tb ? 1 : 0] != g.k) ctx.fail(fmt::format("the inner extents differ: {} times {}", to_string(a), to_string(b)));
  return g;
}

void finish_gemm(RefContext& ctx, const GemmProblem& g, std::vector<double>& y) {
  if (ctx.has_input(2)) {
    const auto c = to_doubles(ctx.input(2));
    Dims dims = ctx.input(2).dims();
    while (dims.size() < 2) dims.insert(dims.begin(), 1);
    if (dims.size() > 2 || (dims[0] != 1 && dims[0] != g.m) || (dims[1] != 1 && dims[1] != g.n))
      ctx.fail(fmt::format("C of shape {} does not broadcast to the product's {}x{}", to_string(ctx.input(2).dims()), g.m, g.n));
    for (std::int64_t i = 0; i < g.m; ++i)
      for (std::int64_t j = 0; j < g.n; ++j)
        y[static_cast<std::size_t>(i * g.n + j)] += g.beta * c[static_cast<std::size_t>((dims[0] == 1 ? 0 : i) * dims[1] + (dims[1] == 1 ? 0 : j))];
  }
  const DType dtype = ctx.input(0).dtype();
  if (is_float(dtype)) return ctx.set_output(0, from_doubles(dtype, {g.m, g.n}, y));
  ctx.set_output(0, from_int64s(dtype, {g.m, g.n}, std::vector<std::int64_t>(y.begin(), y.end())));
}

void gemm_reference(RefContext& ctx) {
  const GemmProblem g = gemm_problem(ctx);
  const auto a = to_doubles(ctx.input(0)), b = to_doubles(ctx.input(1));
  std::vector<double> y(static_cast<std::size_t>(g.m * g.n), 0.0);
  for (std::int64_t i = 0; i < g.m; ++i)
    for (std::int64_t j = 0; j < g.n; ++j) {
      double sum = 0;
      for (std::int64_t p = 0; p < g.k; ++p)
        sum += a[static_cast<std::size_t>(g.ta ? p * g.m + i : i * g.k + p)] * b[static_cast<std::size_t>(g.tb ? j * g.k + p : p * g.n + j)];
      y[static_cast<std::size_t>(i * g.n + j)] = g.alpha * sum;
    }
  finish_gemm(ctx, g, y);
}

void gemm_oracle(RefContext& ctx) {
  const GemmProblem g = gemm_problem(ctx);
  const auto a = to_doubles(ctx.input(0)), b = to_doubles(ctx.input(1));
  std::vector<double> y(static_cast<std::size_t>(g.m * g.n), 0.0);
  if (!y.empty())
    product(g.ta ? Strided{a.data(), 1, g.m} : Strided{a.data(), g.k, 1}, g.tb ? Strided{b.data(), 1, g.k} : Strided{b.data(), g.n, 1}, y.data(), g.m, g.n, g.k,
            g.alpha);
  finish_gemm(ctx, g, y);
}

/// Before version 7 `broadcast` said whether C may be smaller; now it always may.
void gemm_upgrade(UpgradeContext& context) {
  if (context.from_version < 7) context.node.attrs.erase("broadcast");
}

constexpr std::string_view kGemm1 = "alpha:float=1 beta:float=1 broadcast:int=0 transA:int=0 transB:int=0";
constexpr std::string_view kGemm7 = "alpha:float=1 beta:float=1 transA:int=0 transB:int=0";

}  // namespace

std::span<const OpDef> ops_matmul() {
  static const OpDef ops[] = {
      {.name = "MatMul",
       .versions = {{1, "A:T B:T -> Y:T", "", "T: @float"}, {9, "A:T B:T -> Y:T", "", "T: @high"}, {13, "A:T B:T -> Y:T", "", "T: @high13"}},
       .infer = matmul_infer,
       .reference = matmul_reference,
       .oracle = matmul_oracle,
       .tolerance = {.contraction = true},
       .doc = "Matrix product of the last two axes, leading axes broadcast."},
      {.name = "Gemm",
       .versions = {{1, "A:T B:T C:T -> Y:T", kGemm1, "T: @float"},
                    {6, "A:T B:T C:T -> Y:T", kGemm1, "T: @float"},
                    {7, "A:T B:T C:T -> Y:T", kGemm7, "T: @float"},
                    {9, "A:T B:T C:T -> Y:T", kGemm7, "T: @high"},
                    {11, "A:T B:T C?:T -> Y:T", kGemm7, "T: @high"},
                    {13, "A:T B:T C?:T -> Y:T", kGemm7, "T: @high13"}},
       .upgrade = gemm_upgrade,
       .infer = gemm_infer,
       .reference = gemm_reference,
       .oracle = gemm_oracle,
       .tolerance = {.contraction = true},
       .doc = "alpha A' B' + beta C on matrices."},
  };
  return ops;
}

}  // namespace lathe::ops
