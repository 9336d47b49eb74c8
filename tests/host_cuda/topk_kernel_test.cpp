// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The TopK kernels, as they are, on the CPU: every launch of a plan, over all types and odd extents, against the op's reference.

#include "../gpu/kernel_cases.h"
#include "base/sanitizers.h"
#include "host_cuda.h"
#include "ops/topk/topk.cu"
#include "ops/topk/topk_plan.h"

namespace lathe {

namespace cuda {
alignas(16) unsigned char topk_storage[40 << 10];
}

namespace {

void run(const ops::TopKPlan& plan, testing_gpu::TopKTensors& t, bool largest) {
  (void)largest;
  std::vector<unsigned long long> scratch(plan.scratch_bytes() / 8 + 2, 0xA5A5A5A5A5A5A5A5ull);
  for (const ops::TopKLaunch& launch : plan.launches) {
    cuda::TopKParams p = launch.params;
    p.x = t.x.data();
    p.values = t.values.desc.dtype == DType::kUndefined ? nullptr : t.values.data();
    p.indices = t.indices.desc.dtype == DType::kUndefined ? nullptr : reinterpret_cast<long long*>(t.indices.data());
    if (!p.first) p.from = plan.half(launch.from, scratch.data());
    if (!p.last) p.to = plan.half(launch.to, scratch.data());
    const auto name = ops::topk_kernel_name(launch.kind, plan.wide);
    const auto kernel = name == "topk_sort_narrow"   ? topk_sort_narrow
                        : name == "topk_sort_wide"   ? topk_sort_wide
                        : name == "topk_rows_narrow" ? topk_rows_narrow
                        : name == "topk_rows_wide"   ? topk_rows_wide
                        : name == "topk_merge_wide"  ? topk_merge_wide
                                                     : topk_merge_narrow;
    ASSERT_EQ(host_cuda::launch(
                  launch.grid, 1, 1, launch.block, [&] { kernel(p); }, cuda::topk_storage, sizeof cuda::topk_storage, launch.shared),
              "")
        << name;
  }
  for (std::size_t i = plan.scratch_bytes(); i < scratch.size() * 8; ++i)
    ASSERT_EQ(reinterpret_cast<const unsigned char*>(scratch.data())[i], 0xA5) << "written behind the workspace";
}

TEST(TopKKernels, SelectAsTheReferenceDoes) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  for (const testing_gpu::TopKCase& c : testing_gpu::topk_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::TopKTensors t(c);
    ops::TopKPlan plan;
    std::string why;
    ASSERT_TRUE(ops::topk_plan(t.x.desc, t.values.desc, t.indices.desc, c.along(), c.largest, plan, why)) << why;
    run(plan, t, c.largest);
    if (HasFatalFailure()) return;
    t.compare();
    if (HasFatalFailure() || HasNonfatalFailure()) return;
  }
}

}  // namespace
}  // namespace lathe
