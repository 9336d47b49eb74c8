// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The scatter kernels, as they are, on the CPU, against the ops' references; and what an index out of bounds does.

#include <numeric>

#include "../gpu/scatter_cases.h"
#include "host_cuda.h"
#include "ops/scatter/scatter.cu"

namespace lathe {
namespace {

void run(testing_gpu::ScatterTensors& t) {
  cuda::ScatterParams p;
  std::string why;
  ASSERT_TRUE(ops::scatter_plan(t.data.desc, t.indices.desc, t.updates.desc, t.out.desc, t.axis, t.reduction, p, why)) << why;
  p.data = t.data.data();
  p.indices = t.indices.data();
  p.updates = t.updates.data();
  p.out = t.out.data();
  const auto launch = [&](auto kernel) { ASSERT_EQ(host_cuda::launch(3, 1, 1, cuda::kScatterThreads, [&] { kernel(p); }), ""); };
  if (p.tuples == 0 || p.slices == 0) return launch(scatter_fill);
  std::vector<int> owner(static_cast<std::size_t>(p.slices) + 1, -77), targets(static_cast<std::size_t>(p.tuples) + 1, -77);
  std::vector<long long> order(static_cast<std::size_t>(p.tuples));
  if (t.reduction == ops::Reduction::kNone) {
    p.owner = owner.data();
    launch(scatter_clear);
    launch(scatter_mark);
    launch(scatter_fill);
  } else {
    p.targets = targets.data();
    launch(scatter_mark);
    // The order is topk.cu's work.
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](long long a, long long b) { return targets[static_cast<std::size_t>(a)] < targets[static_cast<std::size_t>(b)]; });
    p.order = order.data();
    launch(scatter_fill);
    launch(scatter_combine);
  }
  EXPECT_TRUE(owner.back() == -77 && targets.back() == -77) << "written behind the workspace";
}

TEST(ScatterKernels, UpdateAsTheReferenceDoes) {
  for (const testing_gpu::ScatterCase& c : testing_gpu::scatter_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::ScatterTensors t(c);
    run(t);
    if (HasFatalFailure()) return;
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(ScatterKernels, AnIndexOutOfBoundsReachesNothing) {
  for (const char* reduction : {"none", "add"})
    for (const std::int64_t axis : {-1, 0}) {
      testing_gpu::ScatterTensors t({.data = {6}, .indices = axis < 0 ? Dims{3, 1} : Dims{3}, .axis = axis, .reduction = reduction});
      Tensor at(DType::kInt64, t.indices.desc.dims);
      at.set_from_int64(0, 6);
      at.set_from_int64(1, -7);
      at.set_from_int64(2, std::int64_t{1} << 40);
      t.indices.fill(at);
      run(t);
      t.wanted = t.data.read();
      t.compare();
    }
}

}  // namespace
}  // namespace lathe
