// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The plain kernels of MatMul and Gemm, as they are, on the CPU, against the ops' references.

#include "../gpu/plain_matmul_cases.h"
#include "host_cuda.h"

#undef __shared__
#define __shared__ static
#include "regions/plain_matmul/plain_matmul.cu"

namespace lathe {
namespace {

using Kernel = void (*)(cuda::PlainMatMulParams);
constexpr Kernel kKernels[] = {plain_matmul_float_small,   plain_matmul_float_large,   plain_matmul_double_small,  plain_matmul_double_large,
                               plain_matmul_whole32_small, plain_matmul_whole32_large, plain_matmul_whole64_small, plain_matmul_whole64_large};
static_assert(std::size(kKernels) == regions::kPlainMatMulKernels);

TEST(PlainMatMulKernels, MultiplyAsTheReferencesDo) {
  bool used[regions::kPlainMatMulKernels] = {};
  for (const testing_gpu::PlainMatMulCase& c : testing_gpu::plain_matmul_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::PlainMatMulTensors t(c);
    const std::vector<std::int64_t> perm_a = t.params.get_ints("perm_a"), perm_b = t.params.get_ints("perm_b");
    regions::PlainMatMulPlan plan;
    std::string why;
    ASSERT_TRUE(regions::plain_matmul_plan({t.a.desc, t.b.desc, t.y.desc, c.z ? &t.z.desc : nullptr, perm_a, perm_b, c.alpha, c.beta}, plan, why)) << why;
    cuda::PlainMatMulParams p = plan.params;
    p.a = t.a.data(), p.b = t.b.data(), p.z = c.z ? t.z.data() : nullptr, p.y = t.y.data();
    const std::size_t kernel = regions::plain_matmul_kernel(plan.kind, plan.large);
    used[kernel] = true;
    if (plan.grid > 0) {
      ASSERT_EQ(host_cuda::launch(plan.grid, 1, 1, cuda::kPlainMatMulThreads, [&] { kKernels[kernel](p); }), "");
    }
    t.compare();
    if (HasFailure()) return;
  }
  for (const bool each : used) EXPECT_TRUE(each) << "a kernel that no case runs";
}

TEST(PlainMatMulKernels, LongSumsOfFloat32LoseFewBits) {
  constexpr std::int64_t kDepth = 40000;
  std::vector<float> a(kDepth), b(kDepth, 1.0F);
  double wanted = 0;
  for (std::size_t i = 0; i < a.size(); ++i) a[i] = 0.1F + 0.001F * static_cast<float>(i % 7), wanted += static_cast<double>(a[i]);
  float y = 0;
  regions::PlainMatMulPlan plan;
  std::string why;
  const auto desc = [](Dims dims) { return plan::TensorDesc::row_major(DType::kFloat32, std::move(dims)); };
  const plan::TensorDesc left = desc({1, kDepth}), right = desc({kDepth, 1}), result = desc({1, 1});
  ASSERT_TRUE(regions::plain_matmul_plan({left, right, result, nullptr, {}, {}, 1, 1}, plan, why)) << why;
  cuda::PlainMatMulParams p = plan.params;
  p.a = a.data(), p.b = b.data(), p.y = &y;
  ASSERT_EQ(host_cuda::launch(plan.grid, 1, 1, cuda::kPlainMatMulThreads, [&] { plain_matmul_float_small(p); }), "");
  EXPECT_NEAR(static_cast<double>(y), wanted, 1e-5 * wanted);
}

TEST(PlainMatMulKernels, NonsenseIsRefused) {
  const auto refuses = [](DType type, Dims a, DType b_type, Dims b, DType y_type, Dims y, std::vector<std::int64_t> perm = {}) {
    regions::PlainMatMulPlan plan;
    std::string why;
    const plan::TensorDesc left = plan::TensorDesc::row_major(type, std::move(a)), right = plan::TensorDesc::row_major(b_type, std::move(b)),
                           result = plan::TensorDesc::row_major(y_type, std::move(y));
    return !regions::plain_matmul_plan({left, right, result, nullptr, perm, {}, 1, 1}, plan, why) && !why.empty();
  };
  constexpr DType kD = DType::kFloat64, kI = DType::kInt64;
  EXPECT_FALSE(refuses(kD, {3, 5}, kD, {5, 2}, kD, {3, 2}));
  EXPECT_FALSE(refuses(kD, {5, 3}, kD, {5, 2}, kD, {3, 2}, {1, 0}));
  EXPECT_TRUE(refuses(kD, {5, 3}, kD, {5, 2}, kD, {3, 2}, {1}));
  EXPECT_TRUE(refuses(kD, {5, 3}, kD, {5, 2}, kD, {3, 2}, {1, 2}));
  EXPECT_TRUE(refuses(kD, {3, 5}, kD, {4, 2}, kD, {3, 2}));
  EXPECT_TRUE(refuses(kD, {3, 5}, kD, {5, 2}, kD, {4, 2}));
  EXPECT_TRUE(refuses(kD, {3, 5}, kD, {5, 2}, kD, {3, 3}));
  EXPECT_TRUE(refuses(kD, {3, 5}, kD, {5, 2}, kD, {3}));
  EXPECT_TRUE(refuses(kD, {}, kD, {5, 2}, kD, {2}));
  EXPECT_TRUE(refuses(kD, {2, 3, 5}, kD, {3, 5, 2}, kD, {3, 3, 2}));
  EXPECT_TRUE(refuses(kI, {3, 5}, kD, {5, 2}, kD, {3, 2}));
  EXPECT_TRUE(refuses(kI, {3, 5}, DType::kInt32, {5, 2}, kI, {3, 2}));
  EXPECT_TRUE(refuses(DType::kInt8, {3, 5}, DType::kInt8, {5, 2}, DType::kInt8, {3, 2}));
  constexpr std::int64_t kHuge = std::int64_t{1} << 40;
  EXPECT_TRUE(refuses(kD, {kHuge, 1}, kD, {1, kHuge}, kD, {kHuge, kHuge}));
}

}  // namespace
}  // namespace lathe
