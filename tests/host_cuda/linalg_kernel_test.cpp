// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of Det and Inverse, as they are, on the CPU, against the ops' references; and plans of what no kernel runs.

#include "../gpu/linalg_cases.h"
#include "host_cuda.h"
#include "ops/linalg/linalg.cu"

namespace lathe {

namespace cuda {
alignas(16) unsigned char matrix_storage[kMatrixShared];
}

namespace {

TEST(MatrixKernels, EliminateAsTheReferenceDoes) {
  for (const testing_gpu::MatrixCase& c : testing_gpu::matrix_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::MatrixTensors t(c);
    ops::MatrixPlan plan;
    std::string why;
    ASSERT_TRUE(ops::matrix_plan(t.x.desc, t.y.desc, c.inverse, plan, why)) << why;
    std::vector<double> scratch(plan.scratch / sizeof(double) + 1, -77);
    cuda::MatrixParams p = plan.params;
    p.x = t.x.data();
    p.y = t.y.data();
    if (!plan.in_shared) p.scratch = scratch.data();
    const unsigned grid = std::min(plan.grid, 2u);  // some blocks take several matrices
    if (grid > 0) {
      ASSERT_EQ(
          host_cuda::launch(
              grid, 1, 1, plan.block, [&] { c.inverse ? matrix_inverse(p) : matrix_det(p); }, cuda::matrix_storage, sizeof cuda::matrix_storage, plan.shared),
          "");
    }
    ASSERT_EQ(scratch.back(), -77) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(MatrixKernels, PlansRefuseWhatDoesNotFit) {
  const auto refuses = [](DType type, Dims x, DType y_type, Dims y, bool inverse) {
    ops::MatrixPlan plan;
    std::string why;
    return !ops::matrix_plan(plan::TensorDesc::row_major(type, std::move(x)), plan::TensorDesc::row_major(y_type, std::move(y)), inverse, plan, why) &&
           !why.empty();
  };
  constexpr DType kF = DType::kFloat32;
  EXPECT_FALSE(refuses(kF, {3, 5, 5}, kF, {3}, false));
  EXPECT_FALSE(refuses(kF, {3, 5, 5}, kF, {3, 5, 5}, true));
  EXPECT_TRUE(refuses(kF, {3, 5, 5}, kF, {3}, true));
  EXPECT_TRUE(refuses(kF, {3, 5, 5}, kF, {4}, false));
  EXPECT_TRUE(refuses(kF, {3, 5, 4}, kF, {3}, false));
  EXPECT_TRUE(refuses(kF, {5}, kF, {}, false));
  EXPECT_TRUE(refuses(DType::kInt32, {5, 5}, kF, {}, false));
  EXPECT_TRUE(refuses(kF, {5, 5}, DType::kInt64, {}, false));
  EXPECT_TRUE(refuses(kF, {20000, 20000}, kF, {}, false));
  EXPECT_TRUE(refuses(kF, {1, 1, 1, 1, 1, 1, 2, 5, 5}, kF, {1, 1, 1, 1, 1, 1, 2}, false));
  EXPECT_TRUE(refuses(kF, {1 << 30, 1 << 30, 0, 0}, kF, {1 << 30, 1 << 30}, false));
}

TEST(MatrixKernels, ScratchOfThePlanGrowsWithRowsAndMatrices) {
  std::size_t last = 0;
  for (const std::int64_t n : {5, 50, 77, 78, 79, 200, 1000, 5000, 9000})
    for (const std::int64_t items : {1, 3, 100, 5000}) {
      ops::MatrixPlan plan, more;
      std::string why;
      ASSERT_TRUE(ops::matrix_plan(plan::TensorDesc::row_major(DType::kFloat32, {items, n, n}), plan::TensorDesc::row_major(DType::kFloat32, {items}), false,
                                   plan, why))
          << why;
      EXPECT_TRUE(items == 1 || plan.scratch >= last);
      last = plan.scratch;
      ASSERT_TRUE(ops::matrix_plan(plan::TensorDesc::row_major(DType::kFloat32, {items, n + 1, n + 1}), plan::TensorDesc::row_major(DType::kFloat32, {items}),
                                   false, more, why));
      EXPECT_GE(more.scratch, plan.scratch);
      EXPECT_GE(plan.scratch, plan.in_shared ? 0 : plan.grid * static_cast<std::size_t>(n * n) * sizeof(double));
    }
}

}  // namespace
}  // namespace lathe
