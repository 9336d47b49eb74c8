// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of SortedSlices, as they are, on the CPU, against the op's reference; and plans of what no kernel runs.

#include "../gpu/slices_cases.h"
#include "host_cuda.h"

#undef __shared__
#define __shared__ static
#include "ops/unique/unique.cu"

namespace lathe {
namespace {

unsigned blocks(int count, int each) { return static_cast<unsigned>((count + each - 1) / each); }

TEST(SlicesKernels, SortAsTheReferenceDoes) {
  for (const testing_gpu::SlicesCase& c : testing_gpu::slices_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::SlicesTensors t(c);
    cuda::SliceParams p;
    std::string why;
    ASSERT_TRUE(ops::slice_plan(t.x.desc, c.axis, t.order.desc, t.begins.desc, p, why)) << why;
    if (p.count == 0) continue;
    const auto count = static_cast<std::size_t>(p.count);
    ASSERT_EQ(ops::slice_scratch(p), 2 * count * sizeof(int));
    std::vector<int> places(2 * count + 1, -77);
    int *sorted = places.data(), *other = sorted + count;
    p.x = t.x.data();
    p.order = reinterpret_cast<long long*>(t.order.data());
    p.begins = reinterpret_cast<unsigned char*>(t.begins.data());
    p.to = sorted;
    ASSERT_EQ(host_cuda::launch(blocks(p.count, cuda::kSliceChunk), 1, 1, cuda::kSliceThreads, [&] { slices_sort(p); }), "");
    p.run = cuda::kSliceChunk;
    for (int level = 0; level < ops::slice_levels(p); ++level, p.run *= 2) {
      p.from = sorted, p.to = other;
      ASSERT_EQ(host_cuda::launch(blocks(p.count, cuda::kSliceThreads), 1, 1, cuda::kSliceThreads, [&] { slices_merge(p); }), "");
      std::swap(sorted, other);
    }
    p.from = sorted;
    ASSERT_EQ(host_cuda::launch(blocks(p.count, cuda::kSliceThreads), 1, 1, cuda::kSliceThreads, [&] { slices_mark(p); }), "");
    ASSERT_EQ(places.back(), -77) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(SlicesKernels, PlansRefuseWhatDoesNotFit) {
  const auto refuses = [](DType type, Dims x, std::int64_t axis, std::int64_t count, DType order = DType::kInt64, DType begins = DType::kBool) {
    cuda::SliceParams p;
    std::string why;
    return !ops::slice_plan(plan::TensorDesc::row_major(type, std::move(x)), axis, plan::TensorDesc::row_major(order, {count}),
                            plan::TensorDesc::row_major(begins, {count}), p, why) &&
           !why.empty();
  };
  EXPECT_FALSE(refuses(DType::kFloat32, {7, 5}, 0, 7));
  EXPECT_FALSE(refuses(DType::kFloat32, {7, 5}, -1, 5));
  EXPECT_TRUE(refuses(DType::kFloat32, {7, 5}, 0, 5));
  EXPECT_TRUE(refuses(DType::kFloat32, {7, 5}, 2, 7));
  EXPECT_TRUE(refuses(DType::kFloat32, {7, 5}, -3, 7));
  EXPECT_TRUE(refuses(DType::kFloat32, {}, 0, 1));
  EXPECT_TRUE(refuses(DType::kComplex64, {7, 5}, 0, 7));
  EXPECT_TRUE(refuses(DType::kFloat32, {7, 5}, 0, 7, DType::kInt32));
  EXPECT_TRUE(refuses(DType::kFloat32, {7, 5}, 0, 7, DType::kInt64, DType::kInt64));
  EXPECT_TRUE(refuses(DType::kFloat32, {std::int64_t{1} << 31, 0}, 0, std::int64_t{1} << 31));
}

}  // namespace
}  // namespace lathe
