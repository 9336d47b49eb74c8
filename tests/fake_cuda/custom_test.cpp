// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Custom operators in engines for a GPU: a kernel's source is compiled, launched and captured as Lathe's own are; an op without one is a step of the host's.

#include <algorithm>

#include "engine_fixture.h"
#include "ops/custom/custom.h"

namespace lathe {
namespace {

constexpr const char* kSource = R"(
extern "C" __global__ void NAME(const T* x, const T* by, T* y, long long* where, lathe_shapes shapes) {
  static_assert(attr::power == 2 && attr::sizes[1] == 4 && attr::sizes_count == 2, "attributes are constants");
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < shapes.count; i += (long long)gridDim.x * blockDim.x) {
    y[i] = from_float<T>(to_float(x[i]) * attr::alpha + (by ? to_float(by[i % shapes.inputs[1].size]) : 0.0f));
    if (i < shapes.outputs[1].size) where[i] = shapes.inputs[0].extent[shapes.inputs[0].rank - 1];
  }
}
)";

CustomOp gpu_op(std::string name, bool with_source) {
  CustomOp op;
  op.domain = "test.custom";
  op.name = std::move(name);
  op.inputs = "x:T by?:T";
  op.outputs = "y:T where:int64";
  op.types = "T: float float16";
  op.attributes = "alpha:float=0.5 power:int=2 sizes:ints=3,4 empty:ints=[] name:string=text";
  op.shape = [](CustomShapes& s) {
    s.output(0, s.shape(0));
    s.output(1, {1});
  };
  op.run = [](const CustomCall&) {};
  if (!with_source) return op;
  op.cuda = kSource;
  op.cuda.replace(op.cuda.find("NAME"), 4, op.name);
  op.cuda_elements = 4;
  return op;
}

std::shared_ptr<ir::Model> custom_model(const std::string& op, bool optional) {
  builder::test::ModelMaker m(3);
  ir::Value* x = m.silu(m.input("x", {ir::Dim::symbol("batch"), 16, 8, 8}));
  std::vector<ir::Value*> inputs{x};
  if (optional) inputs.push_back(m.weight({64}, 1));
  ir::Node* node = x->graph->add_node("test.custom", op, inputs, {"custom", "where"});
  node->name = "/custom";
  auto model = m.finish({m.add("Relu", {node->output(0)}), node->output(1)});
  model->opset_imports["test.custom"] = 1;
  return model;
}

using CustomOnGpu = FakeEngine;

TEST_F(CustomOnGpu, AKernelIsCompiledLaunchedAndReplayed) {
  ops::add_custom_op(gpu_op("Kernel", true));
  for (const char* precision : {"fp32", "fp16"})
    for (const bool optional : {true, false}) {
      builder::BuildResult built = builder::build_engine(custom_model("Kernel", optional), options(precision));
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto& steps = built.engine.sections[0].program.steps;
      EXPECT_EQ(std::count_if(steps.begin(), steps.end(), [](const plan::Step& step) { return step.kernel == "cuda.custom"; }), 1);
      EXPECT_EQ(built.engine.custom_ops, std::vector<std::string>{"test.custom::Kernel@1"});
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      fake_cuda_reset();
      ASSERT_TRUE(run(context, 1));
      ASSERT_TRUE(run(context, 1));
      ASSERT_TRUE(run(context, 1));
      EXPECT_EQ(fake_cuda_count().graph_launches, 2u);
      ASSERT_TRUE(run(context, 3));
    }
}

TEST_F(CustomOnGpu, OneWithoutAKernelIsAStepOfTheHosts) {
  ops::add_custom_op(gpu_op("Host", false));
  builder::BuildResult built = builder::build_engine(custom_model("Host", true), options());
  EXPECT_EQ(built.report.host_steps, std::vector<std::string>{"custom /custom"});
  runtime::Context context(runtime::Engine::create(std::move(built.engine)));
  ASSERT_TRUE(run(context, 2));
}

TEST_F(CustomOnGpu, ASourceThatDoesNotCompileIsRefusedWithTheCompilersWords) {
  CustomOp op = gpu_op("Broken", true);
  op.cuda.insert(op.cuda.find("static_assert"), "nonsense here;\n");
  ops::add_custom_op(std::move(op));
  try {
    runtime::Context context(runtime::Engine::create(builder::build_engine(custom_model("Broken", true), options()).engine));
    const Status status = run(context, 1);
    EXPECT_FALSE(status);
    EXPECT_NE(std::string(status.message()).find("Broken"), std::string::npos) << status.message();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kInvalidArgument) << error.what();
    EXPECT_NE(std::string(error.what()).find("nonsense"), std::string::npos) << error.what();
  }
}

}  // namespace
}  // namespace lathe
