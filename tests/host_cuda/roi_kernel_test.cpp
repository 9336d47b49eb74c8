// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of RoiAlign and MaxRoiPool, as they are, on the CPU, against the ops' references; and what an image that is not there gives.

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

void run(testing_gpu::MaxRoiTensors& t) {
  cuda::RoiParams p;
  std::string why;
  ASSERT_TRUE(ops::max_roi_plan(t.x.desc, t.rois.desc, t.y.desc, ops::RoiHow::max_pool(t.params), p, why)) << why;
  p.x_type = *regions::cuda_element(t.x.desc.dtype);
  p.roi_type = *regions::cuda_element(t.rois.desc.dtype);
  p.y_type = *regions::cuda_element(t.y.desc.dtype);
  p.x = t.x.data();
  p.rois = t.rois.data();
  p.y = t.y.data();
  if (t.y.desc.elements() == 0) return;
  const auto groups = static_cast<unsigned>((p.channels + cuda::kRoiChannels - 1) / cuda::kRoiChannels);
  ASSERT_EQ(host_cuda::launch(static_cast<unsigned>(p.regions), groups, 1, 64, [&] { max_roi_pool(p); }), "");
}

TEST(MaxRoiKernels, PoolAsTheReferenceDoes) {
  for (const testing_gpu::MaxRoiCase& c : testing_gpu::max_roi_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::MaxRoiTensors t(c);
    run(t);
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(MaxRoiKernels, AnImageThatIsNotThereGivesNothing) {
  testing_gpu::MaxRoiTensors t({.regions = 5});
  Tensor boxes = t.rois.read();
  const double images[] = {2, -0.5, 1e20, std::nan(""), -INFINITY};
  for (std::int64_t n = 0; n < 5; ++n) boxes.set_from_double(n * 5, images[n]);
  t.rois.fill(boxes);
  run(t);
  t.wanted = Tensor(DType::kFloat32, t.y.desc.dims);
  t.compare();
}

TEST(MaxRoiKernels, ABoxThatIsNoNumberIsFarOutside) {
  testing_gpu::MaxRoiTensors t({.regions = 1});
  Tensor boxes = t.rois.read();
  for (std::int64_t side = 1; side < 5; ++side) boxes.set_from_double(side, std::nan(""));
  t.rois.fill(boxes);
  run(t);
  t.wanted = Tensor(DType::kFloat32, t.y.desc.dims);
  t.compare();
}

TEST(MaxRoiKernels, PlansRefuseWhatDoesNotFit) {
  const testing_gpu::MaxRoiTensors t({});
  const auto refuses = [&](const plan::TensorDesc& x, const plan::TensorDesc& rois, const plan::TensorDesc& y, std::vector<std::int64_t> pooled) {
    ir::Attrs params;
    params.set("pooled_shape", std::move(pooled));
    cuda::RoiParams p;
    std::string why;
    return !ops::max_roi_plan(x, rois, y, ops::RoiHow::max_pool(params), p, why) && !why.empty();
  };
  EXPECT_FALSE(refuses(t.x.desc, t.rois.desc, t.y.desc, {3, 4}));
  EXPECT_TRUE(refuses(t.x.desc, t.rois.desc, t.y.desc, {4, 3}));
  EXPECT_TRUE(refuses(t.x.desc, t.rois.desc, t.y.desc, {3}));
  EXPECT_TRUE(refuses(t.x.desc, t.rois.desc, t.y.desc, {}));
  EXPECT_TRUE(refuses(t.rois.desc, t.x.desc, t.y.desc, {3, 4}));
  EXPECT_TRUE(refuses(t.x.desc, plan::TensorDesc::row_major(DType::kFloat32, {11, 4}), t.y.desc, {3, 4}));
  EXPECT_TRUE(refuses(t.x.desc, plan::TensorDesc::row_major(DType::kFloat64, {11, 5}), t.y.desc, {3, 4}));
  EXPECT_TRUE(refuses(t.x.desc, t.rois.desc, plan::TensorDesc::row_major(DType::kFloat32, {11, 3, 0, 4}), {0, 4}));
  EXPECT_TRUE(refuses(t.x.desc, t.rois.desc, plan::TensorDesc::row_major(DType::kFloat32, {11, 3, -3, 4}), {-3, 4}));
  EXPECT_TRUE(refuses(t.x.desc, t.rois.desc, plan::TensorDesc::row_major(DType::kFloat32, {11, 3, 65535, 65535}), {65535, 65535}));
}

}  // namespace
}  // namespace lathe
