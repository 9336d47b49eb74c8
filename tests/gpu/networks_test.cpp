// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Contractions and pooling on a GPU: seeded small networks over shapes that tiles do not divide, in every precision, candidates timed, every
// region held against the oracle by the builder's own verification (`make test-gpu`).

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>

#include "backend/cuda/device.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "runtime/context.h"
#include "verified_build.h"

namespace lathe {
namespace {

using builder::test::ModelMaker;

constexpr const char* kPrecisions[] = {"fp32", "tf32", "bf16", "fp16"};

std::shared_ptr<const runtime::Engine> build(std::shared_ptr<ir::Model> model, const char* precision, const std::string& what, double budget = 3,
                                             std::map<std::string, builder::ShapeRange> shapes = {}) {
  SCOPED_TRACE(what + " in " + precision);
  auto result = verified_build(std::move(model), precision, budget, std::move(shapes));
  return result ? runtime::Engine::create(std::move(result->engine)) : nullptr;
}

struct ConvCase {
  std::int64_t cin, cout, kernel, stride, pad, dilation, groups, height, width, batch;
  const char* activation;
  int residual;  // 0: none; 1: before the activation; 2: after it
};

ir::Attrs axis_of(std::int64_t axis) {
  ir::Attrs attrs;
  attrs.set("axis", axis);
  return attrs;
}

ir::Value* activate(ModelMaker& m, const std::string& name, ir::Value* x) {
  if (name.empty()) return x;
  return name == "Silu" ? m.silu(x) : m.add(name, {x});
}

/// The case between two 1x1 convolutions, so that what it reads and writes is stored in the lower precision; its result is half of a concat.
std::shared_ptr<ir::Model> conv_network(const ConvCase& c, std::uint32_t seed) {
  ModelMaker m(seed);
  ir::Value* x = m.add("Relu", {m.conv(m.input("x", {c.batch, 8, c.height, c.width}), 8, c.cin, 1)});
  ir::Attrs attrs;
  attrs.set("kernel_shape", std::vector<std::int64_t>{c.kernel, c.kernel});
  attrs.set("strides", std::vector<std::int64_t>{c.stride, c.stride});
  attrs.set("pads", std::vector<std::int64_t>{c.pad, c.pad, c.pad, c.pad});
  attrs.set("dilations", std::vector<std::int64_t>{c.dilation, c.dilation});
  attrs.set("group", c.groups);
  const double fan_in = static_cast<double>(c.cin / c.groups * c.kernel * c.kernel);
  ir::Value* y = m.add("Conv", {x, m.weight({c.cout, c.cin / c.groups, c.kernel, c.kernel}, fan_in), m.weight({c.cout}, 4)}, attrs);
  const bool fits = c.residual && c.cin == c.cout && c.stride == 1 && 2 * c.pad == c.dilation * (c.kernel - 1);
  if (fits && c.residual == 1) y = m.add("Add", {y, x});
  y = activate(m, c.activation, y);
  if (fits && c.residual == 2) y = m.add("Add", {y, x});
  ir::Value* joined = m.add("Concat", {y, m.add("Relu", {y})}, axis_of(1));
  return m.finish({m.conv(joined, 2 * c.cout, 12, 1)});
}

TEST(GpuNetworks, Convolutions) {
  const ConvCase cases[] = {
      {16, 32, 3, 1, 1, 1, 1, 17, 23, 1, "Silu", 0},    {24, 24, 3, 1, 1, 1, 1, 9, 31, 3, "Relu", 1},     {32, 32, 3, 1, 1, 1, 1, 20, 20, 2, "Silu", 2},
      {40, 72, 1, 1, 0, 1, 1, 13, 11, 1, "Sigmoid", 0}, {64, 64, 1, 1, 0, 1, 1, 7, 7, 5, "", 1},          {48, 80, 3, 2, 1, 1, 1, 19, 15, 1, "LeakyRelu", 0},
      {3, 32, 6, 2, 2, 1, 1, 34, 30, 1, "Silu", 0},     {5, 7, 3, 1, 1, 1, 1, 11, 13, 2, "HardSwish", 0}, {17, 33, 5, 1, 2, 1, 1, 12, 10, 1, "Tanh", 0},
      {32, 32, 3, 1, 2, 2, 1, 15, 15, 1, "Relu", 1},    {64, 64, 3, 1, 1, 1, 4, 14, 14, 1, "Relu", 0},    {24, 48, 3, 1, 1, 1, 3, 10, 9, 2, "Elu", 0},
      {32, 32, 3, 1, 1, 1, 32, 21, 19, 2, "Silu", 0},   {72, 72, 5, 2, 2, 1, 72, 16, 18, 1, "Relu", 0},   {33, 33, 3, 1, 1, 1, 33, 8, 8, 1, "", 0},
      {256, 512, 3, 1, 1, 1, 1, 11, 13, 1, "Silu", 0},  {512, 255, 1, 1, 0, 1, 1, 20, 20, 1, "", 0},      {128, 128, 3, 1, 1, 1, 1, 40, 40, 1, "Mish", 2},
  };
  std::uint32_t seed = 1;
  for (const ConvCase& c : cases)
    for (const char* precision : kPrecisions)
      build(conv_network(c, seed++), precision,
            fmt::format("{}x{} kernel, {} to {} channels, {} groups, stride {}, dilation {}, {}x{}x{}, '{}'", c.kernel, c.kernel, c.cin, c.cout, c.groups,
                        c.stride, c.dilation, c.batch, c.height, c.width, c.activation));
}

/// Two convolutions of one tensor: one's result goes into a concat beside what is made of the other's.
std::shared_ptr<ir::Model> siblings_network(const ir::Dim& batch, std::int64_t cin, std::int64_t first, std::int64_t second, std::int64_t kernel,
                                            std::int64_t stride, const char* activation, std::int64_t height, std::int64_t width, std::uint32_t seed) {
  ModelMaker m(seed);
  ir::Value* x = m.add("Relu", {m.conv(m.input("x", {batch, 8, height, width}), 8, cin, 1)});
  ir::Value *a = activate(m, activation, m.conv(x, cin, first, kernel, stride)), *b = activate(m, activation, m.conv(x, cin, second, kernel, stride));
  a = m.add("Add", {a, m.silu(m.conv(a, first, first, 3))});
  ir::Value* joined = m.add("Concat", {a, b}, axis_of(1));
  return m.finish({m.conv(joined, first + second, 12, 1), m.conv(m.add("GlobalAveragePool", {b}), second, 8, 1)});
}

TEST(GpuNetworks, ConvolutionsOfOneTensor) {
  struct Case {
    std::int64_t batch, cin, first, second, kernel, stride, height, width;
    const char* activation;
  };
  const Case cases[] = {
      {1, 64, 32, 32, 1, 1, 40, 36, "Silu"},  {2, 128, 64, 64, 1, 1, 21, 17, "Silu"},    {1, 256, 128, 128, 1, 1, 22, 26, "Silu"},
      {1, 40, 24, 32, 3, 1, 13, 11, "Relu"},  {3, 48, 96, 20, 3, 2, 19, 15, "Mish"},     {1, 512, 256, 512, 1, 1, 11, 13, ""},
      {8, 64, 64, 128, 1, 1, 64, 64, "Silu"}, {32, 128, 128, 256, 3, 1, 20, 20, "Relu"},
  };
  std::uint32_t seed = 300;
  for (const Case& c : cases)
    for (const char* precision : kPrecisions) {
      const std::string what =
          fmt::format("{} to {} and {} channels, {}x{} kernel, {}x{}x{}", c.cin, c.first, c.second, c.kernel, c.kernel, c.batch, c.height, c.width);
      const auto engine =
          build(siblings_network(c.batch, c.cin, c.first, c.second, c.kernel, c.stride, c.activation, c.height, c.width, seed++), precision, what);
      ASSERT_TRUE(engine) << what;
      const auto& steps = engine->program().steps;
      EXPECT_TRUE(std::any_of(steps.begin(), steps.end(), [](const plan::Step& step) { return step.params.has("first_channels"); })) << what;
    }
}

TEST(GpuNetworks, ProductsAndAttention) {
  struct Case {
    std::int64_t batch, tokens, heads, size;
  };
  std::uint32_t seed = 100;
  for (const Case c : {Case{1, 197, 3, 64}, {2, 50, 4, 32}, {3, 7, 2, 24}, {1, 128, 2, 80}})
    for (const char* precision : kPrecisions) {
      ModelMaker m(seed++);
      const std::int64_t width = c.heads * c.size;
      ir::Value* x = m.input("x", {c.batch, c.tokens, width});
      const auto project = [&](std::vector<std::int64_t> order) {
        ir::Value* y = m.add("Add", {m.add("MatMul", {x, m.weight({width, width}, static_cast<double>(width))}), m.weight({width}, 4)});
        y = m.add("Reshape", {y, m.ints({c.batch, c.tokens, c.heads, c.size})});
        ir::Attrs perm;
        perm.set("perm", std::move(order));
        return m.add("Transpose", {y}, perm);
      };
      ir::Value *q = project({0, 2, 1, 3}), *k = project({0, 2, 3, 1}), *v = project({0, 2, 1, 3});
      ir::Value* scores = m.add("Mul", {m.add("MatMul", {q, k}), m.floats({0.2F})});
      ir::Value* y = m.add("MatMul", {m.add("Softmax", {scores}, axis_of(-1)), v});
      ir::Attrs perm;
      perm.set("perm", std::vector<std::int64_t>{0, 2, 1, 3});
      y = m.add("Reshape", {m.add("Transpose", {y}, perm), m.ints({c.batch, c.tokens, width})});
      y = m.add("Add", {m.add("MatMul", {y, m.weight({width, width}, static_cast<double>(width))}), x});
      y = m.add("LayerNormalization", {y, m.weight({width}, 16, 1), m.weight({width}, 16)}, axis_of(-1));
      y = m.add("Gelu", {m.add("MatMul", {y, m.weight({width, 2 * width + 1}, static_cast<double>(width))})});
      y = m.add("MatMul", {y, m.weight({2 * width + 1, 10}, static_cast<double>(2 * width))});
      build(m.finish({y}), precision, fmt::format("attention of {} x {} tokens, {} heads of {}", c.batch, c.tokens, c.heads, c.size));
    }
}

TEST(GpuNetworks, PoolingTransposedConvolutionsAndResizing) {
  for (const char* precision : kPrecisions) {
    ModelMaker m(7);
    ir::Value* x = m.add("Relu", {m.conv(m.input("x", {2, 3, 35, 41}), 3, 24, 3)});
    ir::Attrs window;
    window.set("kernel_shape", std::vector<std::int64_t>{3, 3});
    window.set("strides", std::vector<std::int64_t>{2, 2});
    window.set("pads", std::vector<std::int64_t>{1, 1, 1, 1});
    ir::Value *largest = m.add("MaxPool", {x}, window), *mean = m.add("AveragePool", {x}, window);
    ir::Value* y = m.add("Relu", {m.conv(m.add("Concat", {largest, mean}, axis_of(1)), 48, 32, 1)});
    ir::Attrs twice;
    twice.set("kernel_shape", std::vector<std::int64_t>{2, 2});
    twice.set("strides", std::vector<std::int64_t>{2, 2});
    y = m.add("Relu", {m.add("ConvTranspose", {y, m.weight({32, 20, 2, 2}, 32), m.weight({20}, 4)}, twice)});
    ir::Value* gate = m.add("Sigmoid", {m.conv(m.add("GlobalAveragePool", {y}), 20, 20, 1)});
    y = m.conv(m.add("Mul", {y, gate}), 20, 9, 3);
    build(m.finish({y}), precision, "pooling, transposed convolution, gate");
  }
}

TEST(GpuNetworks, OneEngineForManyBatchesAndSizes) {
  for (const char* precision : {"fp32", "fp16"}) {
    ModelMaker m(9);
    const ir::Dim batch = ir::Dim::symbol("batch"), height = ir::Dim::symbol("height"), width = ir::Dim::symbol("width");
    ir::Value* x = m.silu(m.conv(m.input("x", {batch, 3, height, width}), 3, 32, 3, 2));
    x = m.add("Add", {x, m.silu(m.conv(x, 32, 32, 3))});
    x = m.add("Concat",
              {m.add("Add", {m.silu(m.conv(x, 32, 24, 1)), m.conv(m.silu(m.conv(x, 32, 64, 1)), 64, 24, 1)}), m.add("Relu", {m.conv(x, 32, 40, 3, 1, 8)})},
              axis_of(1));
    const auto model = m.finish({m.conv(x, 64, 5, 1)});
    const auto engine = build(model, precision, "sizes", 3, {{"x", {{1, 3, 16, 16}, {2, 3, 48, 64}, {32, 3, 128, 128}}}});
    ASSERT_TRUE(engine);
    builder::BuildOptions on_cpu;
    on_cpu.use_cache = false;
    on_cpu.budget_seconds = 0;
    const auto reference = runtime::Engine::create(builder::build_engine(model, on_cpu).engine);
    runtime::Context context(engine), truth(reference);
    for (std::int64_t n = 1; n <= 32; ++n)
      for (const auto& [h, w] : {std::pair<std::int64_t, std::int64_t>{48, 64}, {16 + 2 * n, 128 - 3 * n}}) {
        std::vector<float> image(static_cast<std::size_t>(n * 3 * h * w));
        for (std::size_t i = 0; i < image.size(); ++i) image[i] = static_cast<float>((i * 2654435761u) % 1000) / 500.0F - 1;
        const std::int64_t dims[] = {n, 3, h, w};
        const runtime::InputView view{image.data(), DType::kFloat32, dims};
        ASSERT_TRUE(context.run(std::span(&view, 1), {})) << n << "x" << h << "x" << w;
        ASSERT_TRUE(truth.run(std::span(&view, 1), {}));
        const auto got = context.output(0), want = truth.output(0);
        ASSERT_TRUE(std::equal(got.dims.begin(), got.dims.end(), want.dims.begin(), want.dims.end()));
        const auto *a = static_cast<const float*>(got.data), *b = static_cast<const float*>(want.data);
        std::int64_t count = 1;
        for (const std::int64_t d : want.dims) count *= d;
        float scale = 0, error = 0;
        for (std::int64_t i = 0; i < count; ++i) {
          scale = std::max(scale, std::abs(b[i]));
          error = std::max(error, std::abs(a[i] - b[i]));
        }
        ASSERT_LE(error, (precision == std::string("fp32") ? 2e-5F : 5e-3F) * scale) << precision << " " << n << "x" << h << "x" << w;
      }
  }
}

}  // namespace
}  // namespace lathe
