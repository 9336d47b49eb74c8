// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.roi_align against the op's reference, over modes, types, strides, boxes beyond the map and of no size; what it says of an image that is not there.

#include "../../../tests/gpu/roi_cases.h"

namespace lathe::testing_gpu {
namespace {

TEST(RoiCpu, AlignsAsTheReferenceDoes) {
  for (const RoiCase& c : roi_cases(true)) {
    SCOPED_TRACE(c.describe());
    RoiTensors t(c);
    run_on_cpu("cpu.roi_align", t.params, {&t.x, &t.rois, &t.batch}, {&t.y});
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(RoiCpu, NamesAnImageThatIsNotThere) {
  RoiTensors t({.regions = 3});
  Tensor images(DType::kInt64, {3});
  images.set_from_int64(1, 2);
  t.batch.fill(images);
  const std::vector<plan::TensorDesc> ins{t.x.desc, t.rois.desc, t.batch.desc}, outs{t.y.desc};
  const void* const in[] = {t.x.data(), t.rois.data(), t.batch.data()};
  void* const out[] = {t.y.data()};
  const ir::Bindings symbols;
  const auto kernel = plan::find_kernel("cpu.roi_align")->bind({t.params, ins, outs, {}, {}, symbols, 2});
  std::vector<std::byte> scratch(kernel->scratch_bytes() + 64);
  const Status status = kernel->run({in, out, scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) % 64, &default_pool()});
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  EXPECT_EQ(std::string(status.message()), "batch index 2 is out of bounds for 2 images");
}

TEST(RoiCpu, RefusesWhatDoesNotFit) {
  RoiTensors t({});
  EXPECT_THROW(run_on_cpu("cpu.roi_align", t.params, {&t.rois, &t.rois, &t.batch}, {&t.y}), Error);
  EXPECT_THROW(run_on_cpu("cpu.roi_align", t.params, {&t.x, &t.rois, &t.rois}, {&t.y}), Error);
  EXPECT_THROW(run_on_cpu("cpu.roi_align", t.params, {&t.x, &t.rois, &t.batch}, {&t.x}), Error);
  ir::Attrs other = t.params;
  other.set("output_height", std::int64_t{-1});
  EXPECT_THROW(run_on_cpu("cpu.roi_align", other, {&t.x, &t.rois, &t.batch}, {&t.y}), Error);
}

}  // namespace
}  // namespace lathe::testing_gpu
