// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of NonZeroPadded and NonMaxSuppressionPadded, as they are, on the CPU, against the ops' references.

#include "../gpu/counted_cases.h"
#include "base/sanitizers.h"
#include "host_cuda.h"

#undef __shared__
#define __shared__ static
#include "ops/nms/nms.cu"
#include "ops/nonzero/nonzero.cu"

namespace lathe {
namespace {

TEST(NonZeroKernels, CountAsTheReferenceDoes) {
  for (const testing_gpu::NonZeroCase& c : testing_gpu::non_zero_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::NonZeroTensors t(c);
    cuda::NonZeroParams p;
    std::string why;
    ASSERT_TRUE(ops::non_zero_plan(t.x.desc, t.places.desc, t.count.desc, p, why)) << why;
    const unsigned grid = ops::non_zero_grid(p);
    std::vector<unsigned> counts(grid + 1, 0xA5A5A5A5u);
    p.x = t.x.data();
    p.places = reinterpret_cast<long long*>(t.places.data());
    p.count = reinterpret_cast<long long*>(t.count.data());
    p.counts = counts.data();
    ASSERT_EQ(host_cuda::launch(grid, 1, 1, cuda::kNonZeroThreads, [&] { nonzero_count(p); }), "");
    ASSERT_EQ(host_cuda::launch(grid, 1, 1, cuda::kNonZeroThreads, [&] { nonzero_write(p); }), "");
    ASSERT_EQ(counts.back(), 0xA5A5A5A5u) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(NmsKernels, SelectAsTheReferenceDoes) {
  for (const testing_gpu::NmsCase& c : testing_gpu::nms_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::NmsTensors t(c);
    ops::NmsPlan plan;
    std::string why;
    std::array<plan::TensorDesc, ops::kNmsInputs> inputs;
    for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i] = t.inputs[i].desc;
    const plan::TensorDesc outputs[] = {t.rows.desc, t.count.desc};
    ASSERT_TRUE(ops::nms_plan(inputs, outputs, t.params.get_int("most", -1), c.centre, plan, why)) << why;
    cuda::NmsParams& p = plan.params;
    // The order is topk.cu's work.
    const Tensor scores = t.inputs[1].read();
    std::vector<long long> order(plan.order_bytes() / sizeof(long long));
    for (std::size_t item = 0; item < plan.items; ++item) {
      const auto begin = order.begin() + static_cast<std::ptrdiff_t>(item) * p.count;
      const auto score = [&](long long box) { return scores.as_double(static_cast<std::int64_t>(item) * p.count + box); };
      for (int i = 0; i < p.count; ++i) begin[i] = i;
      std::stable_sort(begin, begin + p.count, [&](long long a, long long b) { return std::isnan(score(a)) ? !std::isnan(score(b)) : score(a) > score(b); });
    }
    std::vector<float> corners(plan.corner_bytes() / sizeof(float) + 1, -77.0F);
    std::vector<int> taken(plan.taken_bytes() / sizeof(int) + 1, -77), counts(plan.count_bytes() / sizeof(int) + 1, -77);
    const auto given = [&](std::size_t i) { return ops::nms_is_given(inputs[i]) ? t.inputs[i].data() : nullptr; };
    p.boxes = given(0);
    p.scores = given(1);
    p.most = reinterpret_cast<const long long*>(given(2));
    p.iou = given(3);
    p.least = given(4);
    p.order = order.data();
    p.corners = corners.data();
    p.taken = taken.data();
    p.counts = counts.data();
    p.rows = reinterpret_cast<long long*>(t.rows.data());
    p.all = reinterpret_cast<long long*>(t.count.data());
    const auto grid = static_cast<unsigned>(plan.items);
    ASSERT_EQ(host_cuda::launch(grid, 1, 1, cuda::kNmsThreads, [&] { nms_take(p); }), "");
    ASSERT_EQ(host_cuda::launch(std::max(grid, 1u), 1, 1, cuda::kNmsThreads, [&] { nms_write(p); }), "");
    ASSERT_TRUE(corners.back() == -77.0F && taken.back() == -77 && counts.back() == -77) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
}

}  // namespace
}  // namespace lathe
