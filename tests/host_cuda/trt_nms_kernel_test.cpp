// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of TensorRT's NMS plugins, as they are, on the CPU, against the ops' references.

#include "../gpu/trt_nms_cases.h"
#include "host_cuda.h"

#undef __shared__
#define __shared__ static
#include "ops/trt/trt_nms.cu"
#include "regions/cuda_params.h"

namespace lathe {
namespace {

/// What topk.cu does: places of the largest keys of each row, equal ones as they lie.
std::vector<long long> places_by_key(const std::vector<float>& keys, std::int64_t rows, std::int64_t wanted) {
  std::vector<long long> result, all;
  const std::int64_t size = rows > 0 ? static_cast<std::int64_t>(keys.size()) / rows : 0;
  for (std::int64_t row = 0; row < rows; ++row) {
    all.resize(static_cast<std::size_t>(size));
    for (std::int64_t i = 0; i < size; ++i) all[static_cast<std::size_t>(i)] = i;
    const auto key = [&](long long i) { return keys[static_cast<std::size_t>(row * size + i)]; };
    std::stable_sort(all.begin(), all.end(), [&](long long a, long long b) { return key(a) > key(b); });
    result.insert(result.end(), all.begin(), all.begin() + wanted);
  }
  return result;
}

void run(testing_gpu::TrtNmsTensors& t) {
  ops::TrtNmsPlan plan;
  std::string why;
  std::array<plan::TensorDesc, ops::kTrtNmsInputs> inputs;
  std::array<plan::TensorDesc, ops::kTrtNmsOutputs> outputs;
  for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i] = t.inputs[i].desc;
  for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = t.outputs[i].desc;
  const ops::TrtNmsHow how(t.params, t.params.get_int("efficient", 0) != 0);
  ASSERT_TRUE(ops::trt_nms_plan(inputs, outputs, how, plan, why)) << why;
  cuda::TrtNmsParams& p = plan.params;
  const auto type = [](const plan::TensorDesc& desc) { return desc.dtype == DType::kUndefined ? 0 : static_cast<int>(*regions::cuda_element(desc.dtype)); };
  const auto data = [](testing_gpu::GuardedTensor& tensor) { return tensor.desc.dtype == DType::kUndefined ? nullptr : tensor.data(); };
  p.box_type = type(inputs[0]), p.score_type = type(inputs[1]), p.anchor_type = type(inputs[2]);
  p.box_out_type = type(outputs[1]), p.score_out_type = type(outputs[2]), p.class_out_type = how.efficient ? 0 : type(outputs[3]);
  p.boxes = data(t.inputs[0]), p.scores = data(t.inputs[1]), p.anchors = data(t.inputs[2]);
  p.counts_out = reinterpret_cast<int*>(data(t.outputs[0]));
  p.boxes_out = data(t.outputs[1]), p.scores_out = data(t.outputs[2]), p.classes_out = data(t.outputs[3]);
  std::vector<float> keys(plan.key_bytes() / sizeof(float)), taken_keys(plan.taken_bytes() / sizeof(float) + 1, -77.0F);
  std::vector<int> taken(plan.taken_bytes() / sizeof(int) + 1, -77);
  std::vector<double> corners(plan.corner_bytes() / sizeof(double) + 1, -77.0);
  p.keys = keys.data(), p.taken = taken.data(), p.taken_keys = taken_keys.data(), p.corners = corners.data();
  const auto items = static_cast<unsigned>(plan.items);
  std::vector<long long> order, best;
  if (plan.sorts()) {
    ASSERT_EQ(host_cuda::launch(items, 2, 1, cuda::kTrtNmsThreads, [&] { ::trt_nms_scores(p); }), "");
    order = places_by_key(keys, items, p.each);
    p.order = order.data();
    ASSERT_EQ(host_cuda::launch(items, 1, 1, cuda::kTrtNmsThreads, [&] { ::trt_nms_take(p); }), "");
    ASSERT_TRUE(taken_keys.back() == -77.0F && taken.back() == -77 && corners.back() == -77.0) << "written behind the workspace";
  }
  if (plan.sorts_taken()) {
    taken_keys.pop_back();
    best = places_by_key(taken_keys, p.images, p.found);
    p.best = best.data();
  }
  if (p.images > 0) {
    ASSERT_EQ(host_cuda::launch(static_cast<unsigned>(p.images), 2, 1, cuda::kTrtNmsThreads, [&] { ::trt_nms_write(p); }), "");
  }
}

TEST(TrtNmsKernels, SelectAsTheReferencesDo) {
  for (const testing_gpu::TrtNmsCase& c : testing_gpu::trt_nms_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::TrtNmsTensors t(c);
    run(t);
    if (!HasFailure()) t.compare();
    if (HasFailure()) return;
  }
}

TEST(TrtNmsKernels, NonsenseIsRefused) {
  testing_gpu::TrtNmsTensors t({});
  const auto why = [&](auto change) {
    std::array<plan::TensorDesc, ops::kTrtNmsInputs> inputs;
    std::array<plan::TensorDesc, ops::kTrtNmsOutputs> outputs;
    for (std::size_t i = 0; i < inputs.size(); ++i) inputs[i] = t.inputs[i].desc;
    for (std::size_t i = 0; i < outputs.size(); ++i) outputs[i] = t.outputs[i].desc;
    ops::TrtNmsHow how(t.params, true);
    change(inputs, outputs, how);
    ops::TrtNmsPlan plan;
    std::string reason;
    return ops::trt_nms_plan(inputs, outputs, how, plan, reason) ? "" : reason;
  };
  EXPECT_EQ(why([](auto&, auto&, auto&) {}), "");
  EXPECT_NE(why([](auto& in, auto&, auto&) { in[0].dims[2] = 5; }), "");
  EXPECT_NE(why([](auto& in, auto&, auto&) { in[1].dims[0] = 2; }), "");
  EXPECT_NE(why([](auto& in, auto&, auto&) { in[1].dims[1] = in[0].dims[1] = std::int64_t{1} << 62; }), "");
  EXPECT_NE(why([](auto& in, auto&, auto&) { in[2] = in[0], in[2].dims[1] = 3; }), "");
  EXPECT_NE(why([](auto&, auto& out, auto&) { out[1].dims[1] = 21; }), "");
  EXPECT_NE(why([](auto&, auto& out, auto&) { out[3].dtype = DType::kFloat32; }), "");
  EXPECT_NE(why([](auto&, auto&, auto& how) { how.rows = 0; }), "");
  EXPECT_NE(why([](auto&, auto&, auto& how) { how.each = -1; }), "");
  EXPECT_NE(why([](auto&, auto&, auto& how) { how.least = NAN; }), "");
}

}  // namespace
}  // namespace lathe
