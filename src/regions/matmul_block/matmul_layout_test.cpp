// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Which batch axes become rows, the product's own, or loops: held by address arithmetic over every output element.

#include "regions/matmul_block/matmul_layout.h"

#include <gtest/gtest.h>

namespace lathe::regions {
namespace {

using plan::TensorDesc;

TensorDesc dense(Dims dims) { return TensorDesc::row_major(DType::kFloat32, std::move(dims)); }

/// Every (batch, row) of the layout must address the same A row, C row and residual row as the tensors do, each C row once.
void check(const MatMulRequest& request, const MatMulLayout& layout) {
  const cpu::GemmProblem& p = layout.problem;
  const auto row_offsets = [](const TensorDesc& desc, const TensorDesc& like) {  // of each [batch ..., row] of `like`
    std::vector<std::int64_t> offsets{0};
    for (std::size_t axis = 0; axis + 1 < like.dims.size(); ++axis) {
      std::vector<std::int64_t> next;
      const bool stands = desc.dims[axis] == 1;
      for (const std::int64_t at : offsets)
        for (std::int64_t i = 0; i < like.dims[axis]; ++i) next.push_back(at + (stands ? 0 : i * desc.strides[axis]));
      offsets = std::move(next);
    }
    return offsets;
  };
  const auto a = row_offsets(request.a, request.c), c = row_offsets(request.c, request.c);
  const auto r = request.residual ? row_offsets(*request.residual, request.c) : std::vector<std::int64_t>(c.size(), 0);
  std::size_t loops = 1;
  for (const MatMulLoop& loop : layout.loops) loops *= static_cast<std::size_t>(loop.extent);
  std::vector<int> seen(c.size(), 0);
  for (std::size_t l = 0; l < loops; ++l)
    for (std::int64_t outer = 0; outer < p.batch_outer; ++outer)
      for (std::int64_t inner = 0; inner < p.batch_inner; ++inner)
        for (std::int64_t m = 0; m < p.m; ++m) {
          std::int64_t at_a = outer * p.a_outer + inner * p.a_inner + m * p.lda, at_c = outer * p.c_outer + inner * p.c_inner + m * p.ldc;
          std::int64_t at_r = outer * layout.residual_outer + inner * layout.residual_inner + m * layout.residual_stride;
          std::size_t rest = l;
          for (std::size_t i = layout.loops.size(); i-- > 0;) {
            const std::int64_t at = static_cast<std::int64_t>(rest) % layout.loops[i].extent;
            rest /= static_cast<std::size_t>(layout.loops[i].extent);
            at_a += at * layout.loops[i].a;
            at_c += at * layout.loops[i].c;
            at_r += at * layout.loops[i].residual;
          }
          const auto row = static_cast<std::size_t>(std::find(c.begin(), c.end(), at_c) - c.begin());
          ASSERT_LT(row, c.size());
          ++seen[row];
          EXPECT_EQ(at_a, a[row]);
          if (request.residual) {
            EXPECT_EQ(at_r, r[row]);
          }
        }
  for (const int times : seen) EXPECT_EQ(times, 1);
}

TEST(MatMulLayout, RowsBatchesAndLoopsCoverEachRowOnce) {
  const TensorDesc padded{DType::kFloat32, {2, 3, 5, 8}, {3 * 5 * 8 + 40, 5 * 8, 8, 1}};  // images apart
  const TensorDesc heads{DType::kFloat32, {2, 3, 5, 8}, {3 * 5 * 8, 8, 3 * 8, 1}};        // [b, s, h, d] seen as [b, h, s, d]
  const TensorDesc mixed{DType::kFloat32, {2, 3, 5, 8}, {8, 16, 48, 1}};
  for (const TensorDesc& a : {dense({2, 3, 5, 8}), padded, heads, mixed})
    for (const TensorDesc& shape : {dense({2, 3, 5, 6}), TensorDesc{DType::kFloat32, {2, 3, 5, 6}, {6, 12, 36, 1}}})
      for (const int residual : {0, 1, 2, 3}) {
        MatMulRequest request;
        request.a = a;
        request.packed_k = 8;
        request.packed_n = 6;
        request.c = shape;
        if (residual == 1) request.residual = dense({2, 3, 5, 6});
        if (residual == 2) request.residual = TensorDesc{DType::kFloat32, {2, 3, 5, 6}, {3 * 5 * 6 + 7, 5 * 6, 6, 1}};
        if (residual == 3) request.residual = dense({2, 1, 5, 6});  // one for all heads
        std::string why;
        const auto layout = matmul_layout(request, why);
        ASSERT_TRUE(layout) << why;
        check(request, *layout);
      }
  MatMulRequest all;
  all.a = dense({2, 3, 5, 8});
  all.packed_k = 8;
  all.packed_n = 6;
  all.c = dense({2, 3, 5, 6});
  std::string why;
  EXPECT_EQ(matmul_layout(all, why)->problem.m, 30);  // dense: one product
}

TEST(MatMulLayout, SaysWhyNot) {
  MatMulRequest request;
  request.a = dense({5, 8});
  request.packed_k = 7;
  request.packed_n = 6;
  request.c = dense({5, 6});
  std::string why;
  EXPECT_FALSE(matmul_layout(request, why));
  EXPECT_NE(why.find("do not fit"), std::string::npos);
  request.packed_k = 8;
  request.c.strides = {1, 5};
  why.clear();
  EXPECT_FALSE(matmul_layout(request, why));
  EXPECT_EQ(why, "the output's columns are not contiguous");
  request.c = dense({5, 6});
  request.a.strides = {16, 2};
  why.clear();
  EXPECT_FALSE(matmul_layout(request, why));
  EXPECT_EQ(why, "the first operand has no contiguous axis");
}

}  // namespace
}  // namespace lathe::regions
