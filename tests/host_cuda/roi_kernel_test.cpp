// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The RoiAlign kernel, as it is, on the CPU, against the op's reference; and what an image that is not there gives.

#include "../gpu/roi_cases.h"
#include "host_cuda.h"
#include "ops/roi/roi.cu"
#include "regions/cuda_params.h"

namespace lathe {
namespace {

void run(testing_gpu::RoiTensors& t) {
  cuda::RoiParams p;
  std::string why;
  ASSERT_TRUE(ops::roi_plan(t.x.desc, t.rois.desc, t.batch.desc, t.y.desc, ops::RoiHow(t.params), p, why)) << why;
  p.x_type = *regions::cuda_element(t.x.desc.dtype);
  p.roi_type = *regions::cuda_element(t.rois.desc.dtype);
  p.y_type = *regions::cuda_element(t.y.desc.dtype);
  p.x = t.x.data();
  p.rois = t.rois.data();
  p.batch = reinterpret_cast<const long long*>(t.batch.data());
  p.y = t.y.data();
  if (t.y.desc.elements() == 0) return;
  const auto groups = static_cast<unsigned>((p.channels + cuda::kRoiChannels - 1) / cuda::kRoiChannels);
  ASSERT_EQ(host_cuda::launch(static_cast<unsigned>(p.regions), groups, 1, 64, [&] { roi_align(p); }), "");
}

TEST(RoiKernels, AlignAsTheReferenceDoes) {
  for (const testing_gpu::RoiCase& c : testing_gpu::roi_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::RoiTensors t(c);
    run(t);
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(RoiKernels, AnImageThatIsNotThereGivesNothing) {
  testing_gpu::RoiTensors t({.regions = 3});
  Tensor images(DType::kInt64, {3});
  images.set_from_int64(0, 2);
  images.set_from_int64(1, -1);
  images.set_from_int64(2, std::int64_t{1} << 40);
  t.batch.fill(images);
  run(t);
  t.wanted = Tensor(DType::kFloat32, t.y.desc.dims);
  t.compare();
}

}  // namespace
}  // namespace lathe
