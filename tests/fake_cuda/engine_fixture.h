// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Small models, and engines of them on the driver that checks every call: what the tests of this folder begin with.

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <vector>

#include "backend/cuda/nvrtc.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "fake_cuda.h"
#include "runtime/context.h"

namespace lathe {

// Before anything asks for the driver.
inline const int fake_driver_chosen = setenv("LATHE_CUDA_DRIVER", LATHE_FAKE_CUDA, 1) + setenv("LATHE_CUBLASLT", "none", 1) + setenv("LATHE_CUDNN", "none", 1);

inline std::shared_ptr<ir::Model> small_model() {
  builder::test::ModelMaker m(3);
  ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 16, 8, 8});
  ir::Attrs axis;
  axis.set("axis", -1);
  ir::Value* y = m.add("Softmax", {m.silu(x)}, axis);
  return m.finish({m.add("Add", {y, m.weight({16, 1, 1}, 1)})});
}

/// What convolutional networks are made of: a stem on an image, depthwise and grouped convolutions, a concat, poolings, a step up, a classifier.
inline std::shared_ptr<ir::Model> image_model() {
  builder::test::ModelMaker m(5);
  ir::Value* image = m.input("x", {ir::Dim::symbol("batch"), 3, ir::Dim::symbol("height"), ir::Dim::symbol("width")});
  const auto ints = [](std::initializer_list<std::pair<const char*, std::vector<std::int64_t>>> list) {
    ir::Attrs attrs;
    for (const auto& [name, values] : list) attrs.set(name, values);
    return attrs;
  };
  ir::Value* x = m.silu(m.conv(image, 3, 16, 6, 2, 1, 2));
  x = m.add("Relu", {m.conv(x, 16, 16, 3, 1, 16)});
  ir::Value *a = m.silu(m.conv(x, 16, 24, 3, 2)), *b = m.conv(x, 16, 24, 3, 2, 2);
  a = m.add("Add", {a, m.add("LeakyRelu", {m.conv(a, 24, 24, 3)})});
  ir::Attrs axis;
  axis.set("axis", 1);
  ir::Value* both = m.add("Concat", {a, b}, axis);
  both = m.add("MaxPool", {both}, ints({{"kernel_shape", {3, 3}}, {"pads", {1, 1, 1, 1}}}));
  ir::Value* up = m.add("ConvTranspose", {both, m.weight({48, 20, 4, 4}, 48)}, ints({{"strides", {2, 2}}, {"pads", {1, 1, 1, 1}}}));
  // Two convolutions of one tensor: one step.
  ir::Value *first = m.add("Relu", {m.conv(up, 20, 32, 1)}), *second = m.add("Relu", {m.conv(up, 20, 64, 1)});
  ir::Value* pooled = m.add("Flatten", {m.add("GlobalAveragePool", {m.add("Mul", {m.conv(second, 64, 32, 1), first})})});
  return m.finish({m.add("Gemm", {pooled, m.weight({32, 10}, 32), m.weight({10}, 1)})});
}

class FakeEngine : public testing::Test {
 protected:
  static builder::BuildOptions options() {
    builder::BuildOptions options;
    options.device = "cuda";
    options.verify = false;  // nothing is computed here
    options.budget_seconds = 0;
    options.use_cache = false;
    return options;
  }
  static builder::BuildOptions options(std::string_view precision) {
    builder::BuildOptions o = options();
    o.precision = builder::parse_precision(precision);
    return o;
  }
  void SetUp() override {
    ASSERT_EQ(fake_driver_chosen, 0);
    if (!cuda::Nvrtc::find()) GTEST_SKIP() << "no NVRTC here";
    fake_cuda_reset();
  }
  void TearDown() override {
    EXPECT_STREQ(fake_cuda_violations(), "");
    const fake_cuda_live live = fake_cuda_count();
    EXPECT_EQ(live.contexts + live.blocks + live.pinned_blocks + live.streams + live.events + live.modules + live.graphs, 0u) << "something was left behind";
  }
  static Status run(runtime::Context& context, std::int64_t batch) {
    std::vector<float> x(static_cast<std::size_t>(batch * 16 * 64), 1);
    const std::int64_t dims[] = {batch, 16, 8, 8};
    const runtime::InputView view{x.data(), DType::kFloat32, dims};
    return context.run(std::span(&view, 1), {});
  }
  static Status run_image(runtime::Context& context, std::int64_t batch, std::int64_t height, std::int64_t width) {
    std::vector<float> x(static_cast<std::size_t>(batch * 3 * height * width), 1);
    const std::int64_t dims[] = {batch, 3, height, width};
    const runtime::InputView view{x.data(), DType::kFloat32, dims};
    return context.run(std::span(&view, 1), {});
  }
};

}  // namespace lathe
