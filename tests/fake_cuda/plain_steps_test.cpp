// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Products and convolutions that no kernel on the tensor cores takes, as steps of an engine on the driver that checks every call: nothing of them runs on
// the host, in any precision, and they run at any extents.

#include <fmt/format.h>

#include <algorithm>

#include "engine_fixture.h"

namespace lathe {
namespace {

using builder::test::ModelMaker;

class PlainSteps : public FakeEngine {
 protected:
  static int steps_by(const engine::EngineData& data, std::string_view kernel) {
    const auto& steps = data.sections[0].program.steps;
    return static_cast<int>(std::count_if(steps.begin(), steps.end(), [&](const plan::Step& step) { return step.kernel == kernel; }));
  }
};

/// Products that the tensor cores do not take: of float64 and of integers, of what is no constant, and with what Gemm adds in every shape.
TEST_F(PlainSteps, ProductsOfEveryType) {
  for (const DType type : {DType::kFloat64, DType::kInt32, DType::kInt64, DType::kUint32, DType::kUint64, DType::kFloat32, DType::kFloat16, DType::kBFloat16})
    for (const char* precision : {"fp32", "fp16"}) {
      SCOPED_TRACE(std::string(dtype_name(type)) + " in " + precision);
      ModelMaker m(4);
      ir::Value *x = m.input("x", {ir::Dim::symbol("batch"), 12}, type), *w = m.input("w", {12, 7}, type);
      ir::Attrs turned;
      turned.set("transA", std::int64_t{1});
      turned.set("alpha", 2.0F);
      turned.set("beta", 3.0F);
      std::vector<ir::Value*> outputs{m.add("MatMul", {x, w}), m.add("MatMul", {x, m.constant(Tensor(type, {12, 5}))}),
                                      m.add("MatMul", {m.input("v", {12}, type), w})};
      std::vector<Dims> added{{}, {1}, {1, 1}, {12, 1}, {7}, {12, 7}};
      for (std::size_t i = 0; i < added.size(); ++i) {
        ir::Value* c = m.input(fmt::format("c{}", i), ir::Shape(added[i].begin(), added[i].end()), type);
        outputs.push_back(m.add("Gemm", {x, m.add("MatMul", {x, w}), c}, turned));
      }
      builder::BuildResult built = builder::build_engine(m.finish(outputs), options(precision));
      EXPECT_GT(steps_by(built.engine, "cuda.matmul.generic"), 0);
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      const std::vector<double> zeros(1000);
      for (const std::int64_t batch : {1, 40, 2, 3, 40}) {
        std::vector<Dims> dims{{batch, 12}, {12, 7}, {12}};
        dims.insert(dims.end(), added.begin(), added.end());
        std::vector<runtime::InputView> views;
        for (const Dims& each : dims) views.push_back({zeros.data(), type, each});
        const Status status = context.run(views, {});
        ASSERT_TRUE(status) << batch << ": " << status.message();
      }
    }
}

/// Convolutions that the tensor cores do not take: of float64, of weights that the model gives, over three axes, of groups, with pads that follow from extents.
TEST_F(PlainSteps, ConvolutionsOfEveryKind) {
  for (const DType type : {DType::kFloat64, DType::kFloat32, DType::kFloat16, DType::kBFloat16})
    for (const char* precision : {"fp32", "fp16"})
      for (const std::size_t axes : {1, 2, 3})
        for (const bool transposed : {false, true})
          for (const bool given : {false, true}) {
            SCOPED_TRACE(fmt::format("{} over {} axes of {}{} in {}", transposed ? "ConvTranspose" : "Conv", axes, dtype_name(type),
                                     given ? ", given weights" : "", precision));
            ModelMaker m(4);
            ir::Shape image{ir::Dim::symbol("batch"), 6, ir::Dim::symbol("side")};
            image.resize(axes + 2, ir::Dim(5));
            ir::Value* x = m.input("x", image, type);
            Dims dims{6, 3};
            dims.resize(axes + 2, 3);
            ir::Value *w = given ? m.input("w", ir::Shape(dims.begin(), dims.end()), type) : m.constant(Tensor(type, dims)), *b = nullptr;
            if (given) b = m.input("b", {6}, type);
            ir::Attrs attrs, same;
            attrs.set("group", std::int64_t{2});
            attrs.set("strides", std::vector<std::int64_t>(axes, 2));
            same = attrs;
            same.set("auto_pad", "SAME_LOWER");
            const char* op = transposed ? "ConvTranspose" : "Conv";
            builder::BuildResult built =
                builder::build_engine(m.finish({m.add("Relu", {m.add(op, {x, w, b}, attrs)}), m.add(op, {x, w}, same)}), options(precision));
            EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
            if (given || type == DType::kFloat64) {
              EXPECT_EQ(steps_by(built.engine, "cuda.conv.generic"), 2);
            }
            const auto engine = runtime::Engine::create(std::move(built.engine));
            runtime::Context context(engine);
            const std::vector<double> zeros(20000);
            for (const auto& [batch, side] : {std::pair<std::int64_t, std::int64_t>{1, 5}, {3, 9}, {2, 40}, {3, 9}}) {
              Dims extents{batch, 6, side};
              extents.resize(axes + 2, 5);
              std::vector<Dims> all{extents};
              if (given) all.insert(all.end(), {dims, {6}});
              std::vector<runtime::InputView> views;
              for (const Dims& each : all) views.push_back({zeros.data(), type, each});
              const Status status = context.run(views, {});
              ASSERT_TRUE(status) << batch << "x" << side << ": " << status.message();
            }
          }
}

}  // namespace
}  // namespace lathe
