// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of CumSum and CumProd, as they are, on the CPU, against the ops' references.

#include "../gpu/cumulative_cases.h"
#include "host_cuda.h"

#undef __shared__
#define __shared__ static
#include "ops/reduce/cumulative.cu"
#include "ops/reduce/cumulative_product.cu"

namespace lathe {
namespace {

TEST(CumulativeKernels, AddAsTheReferencesDo) {
  for (const testing_gpu::CumulativeCase& c : testing_gpu::cumulative_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::CumulativeTensors t(c);
    ops::CumulativePlan plan;
    std::string why;
    ASSERT_TRUE(ops::cumulative_plan(t.x.desc, t.y.desc, c.axis, c.product, plan, why)) << why;
    std::vector<unsigned long long> totals(plan.scratch_bytes() / 8 + 1, 0xA5A5A5A5u);
    cuda::CumulativeParams p = plan.params;
    p.product = c.product, p.exclusive = c.exclusive, p.reverse = c.reverse;
    p.x = t.x.data();
    p.y = t.y.data();
    p.totals = totals.data();
    const auto kernel_of = [](std::string_view name) {
      for (const auto& [known, kernel] : {std::pair<std::string_view, void (*)(cuda::CumulativeParams)>{"cumulative_totals_whole", cumulative_totals_whole},
                                          {"cumulative_totals_float", cumulative_totals_float},
                                          {"cumulative_elements_whole", cumulative_elements_whole},
                                          {"cumulative_elements_float", cumulative_elements_float},
                                          {"cumulative_product_parts", cumulative_product_parts},
                                          {"cumulative_product_bases", cumulative_product_bases},
                                          {"cumulative_product_elements", cumulative_product_elements}})
        if (known == name) return kernel;
      return static_cast<void (*)(cuda::CumulativeParams)>(nullptr);
    };
    const auto launches = ops::cumulative_launches(plan.whole, plan.scaled);
    for (std::size_t i = plan.scratch_bytes() > 0 ? 0 : launches.size() - 1; i < launches.size() && plan.grid > 0; ++i) {
      const auto kernel = kernel_of(launches[i].kernel);
      ASSERT_TRUE(kernel);
      ASSERT_EQ(host_cuda::launch(launches[i].by_rows ? plan.rows() : plan.grid, 1, 1, cuda::kCumulativeThreads, [&] { kernel(p); }), "");
    }
    ASSERT_EQ(totals.back(), 0xA5A5A5A5u) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(CumulativeKernels, NonsenseIsRefused) {
  const auto refuses = [](DType type, Dims x, DType y_type, Dims y, std::int64_t axis, bool product = false) {
    ops::CumulativePlan plan;
    std::string why;
    return !ops::cumulative_plan(plan::TensorDesc::row_major(type, std::move(x)), plan::TensorDesc::row_major(y_type, std::move(y)), axis, product, plan,
                                 why) &&
           !why.empty();
  };
  constexpr DType kF = DType::kFloat32;
  EXPECT_FALSE(refuses(kF, {3, 5}, kF, {3, 5}, -2));
  EXPECT_FALSE(refuses(DType::kInt32, {3, 5}, DType::kInt32, {3, 5}, 0, true));
  EXPECT_FALSE(refuses(kF, {3, 5}, kF, {3, 5}, 0, true));
  EXPECT_TRUE(refuses(kF, {3, 5}, DType::kInt32, {3, 5}, 0, true));
  EXPECT_TRUE(refuses(kF, {3, 5}, kF, {3, 5}, 2));
  EXPECT_TRUE(refuses(kF, {3, 5}, kF, {3, 5}, -3));
  EXPECT_TRUE(refuses(kF, {3, 5}, kF, {3, 6}, 0));
  EXPECT_TRUE(refuses(kF, {3, 5}, DType::kInt32, {3, 5}, 0));
  EXPECT_TRUE(refuses(DType::kInt64, {3, 5}, DType::kInt32, {3, 5}, 0));
  EXPECT_TRUE(refuses(DType::kInt8, {3, 5}, DType::kInt8, {3, 5}, 0));
  EXPECT_TRUE(refuses(kF, {}, kF, {}, 0));
  EXPECT_TRUE(refuses(kF, {std::int64_t{1} << 31, std::int64_t{1} << 31, 1}, kF, {std::int64_t{1} << 31, std::int64_t{1} << 31, 1}, 2));
}

}  // namespace
}  // namespace lathe
