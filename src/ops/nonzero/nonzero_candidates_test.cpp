// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.nonzero and cpu.nms against the ops' references, over types, strides, odd extents and everything that may be left out.

#include "../../../tests/gpu/counted_cases.h"

namespace lathe::testing_gpu {
namespace {

TEST(CountedKernels, NonZeroIsAsTheReferenceHasIt) {
  for (const NonZeroCase& c : non_zero_cases(true)) {
    SCOPED_TRACE(c.describe());
    NonZeroTensors t(c);
    run_on_cpu("cpu.nonzero", {}, {&t.x}, {&t.places, &t.count});
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(CountedKernels, NonMaxSuppressionIsAsTheReferenceHasIt) {
  for (const NmsCase& c : nms_cases(true)) {
    SCOPED_TRACE(c.describe());
    NmsTensors t(c);
    run_on_cpu("cpu.nms", t.params, t.input_list(), {&t.rows, &t.count});
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(CountedKernels, RefuseWhatDoesNotFit) {
  NonZeroTensors t({.dims = {3, 5}});
  GuardedTensor fewer(plan::TensorDesc::row_major(DType::kInt64, {2, 14}), 0);
  EXPECT_THROW(run_on_cpu("cpu.nonzero", {}, {&t.x}, {&fewer, &t.count}), Error);
  EXPECT_THROW(run_on_cpu("cpu.nonzero", {}, {&t.x, &t.x}, {&t.places, &t.count}), Error);
  NmsTensors n({.images = 2, .classes = 3, .boxes = 9, .most = 4});
  EXPECT_THROW(run_on_cpu("cpu.nms", n.params, n.input_list(), {&n.count, &n.count}), Error);
  auto swapped = n.input_list();
  std::swap(swapped[0], swapped[1]);
  EXPECT_THROW(run_on_cpu("cpu.nms", n.params, swapped, {&n.rows, &n.count}), Error);
}

}  // namespace
}  // namespace lathe::testing_gpu
