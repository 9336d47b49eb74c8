// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Custom operators through the public API: built, verified, run, saved and loaded; and what is refused.

#include <gtest/gtest.h>

#include <thread>

#include "base/count_allocations.h"
#include "ir/text.h"
#include "lathe/custom_op.h"
#include "onnx/writer.h"

namespace lathe {
namespace {

std::string model(const std::string& text, const std::string& domain = "test.custom", std::int64_t version = 1) {
  ir::Model m;
  m.graph = ir::parse_graph(text);
  m.opset_imports = {{"", 21}, {domain, version}};
  return onnx::model_bytes(m);
}

BuildConfig quick() {
  BuildConfig config;
  config.budget_seconds = 0;
  config.use_cache = false;
  return config;
}

Engine built(const std::string& bytes, const BuildConfig& config = quick()) { return build(std::as_bytes(std::span(bytes)), config); }

std::string message(const std::function<void()>& act, Code code) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

void contains(const std::string& text, const std::string& part) { EXPECT_NE(text.find(part), std::string::npos) << text; }

/// y = x * scale + offset, of one type with x.
CustomOp scale_op(std::string name) {
  CustomOp op;
  op.domain = "test.custom";
  op.name = std::move(name);
  op.types = "T: float";
  op.attributes = "scale:float=2 offset:int=1";
  op.run = [](const CustomCall& call) {
    const auto x = call.in<float>(0);
    const auto y = call.out<float>(0);
    const auto scale = static_cast<float>(call.attributes.number("scale"));
    const auto offset = static_cast<float>(call.attributes.integer("offset"));
    for (std::size_t i = 0; i < x.size(); ++i) y[i] = x[i] * scale + offset;
  };
  return op;
}

std::vector<float> run(Context& context, const std::vector<float>& x, std::vector<std::int64_t> shape, Status* status = nullptr) {
  const ConstTensorView view{x.data(), DType::kFloat32, shape};
  const Status done = context.run(std::span(&view, 1));
  if (status) *status = done;
  else EXPECT_TRUE(done) << done.message();
  if (!done) return {};
  const ConstTensorView out = context.output(0);
  std::size_t count = 1;
  for (const std::int64_t extent : out.shape) count *= static_cast<std::size_t>(extent);
  const auto* first = static_cast<const float*>(out.data);
  return {first, first + count};
}

TEST(CustomOp, RunsBetweenOtherStepsIsSavedAndNeededAgain) {
  register_op(scale_op("Scale"));
  const std::string bytes = model("graph g(x: float[n, 4]) -> (y) {\n  a = Neg(x)\n  b = test.custom::Scale(a) {scale=3.0} @\"/s\"\n  y = Relu(b)\n}\n");
  BuildConfig config = quick();
  config.budget_seconds = 1;
  const Engine engine = built(bytes, config);
  Context context = engine.create_context();
  EXPECT_EQ(run(context, {-1, 1, 0, -2}, {1, 4}), (std::vector<float>{4, 0, 1, 7}));
  EXPECT_EQ(run(context, {-1, 1, 0, -2, -1, -1, -1, -1}, {2, 4}).size(), 8u);
  contains(engine.to_text(), "[cpu.custom]");
  contains(engine.to_text(), "custom operators, to be registered before it runs: test.custom::Scale@1");
  const std::vector<std::byte> file = engine.to_bytes();
  const Engine again = Engine::load(file);
  Context other = again.create_context();
  EXPECT_EQ(run(other, {-1, 1, 0, -2}, {1, 4}), (std::vector<float>{4, 0, 1, 7}));
}

TEST(CustomOp, ThreadsRunItAtOnce) {
  register_op(scale_op("Threads"));
  const Engine engine = built(model("graph g(x: float[n]) -> (y) {\n  y = test.custom::Threads(x)\n}\n"));
  std::vector<std::thread> threads;
  for (int t = 0; t < 4; ++t)
    threads.emplace_back([&, t] {
      Context context = engine.create_context();
      for (int i = 0; i < 50; ++i) EXPECT_EQ(run(context, {static_cast<float>(t)}, {1}), (std::vector<float>{static_cast<float>(2 * t + 1)}));
    });
  for (std::thread& thread : threads) thread.join();
}

TEST(CustomOp, ShapesAreExpressionsAndSeveralOutputsHaveTypesOfTheirOwn) {
  CustomOp op;
  op.domain = "test.custom";
  op.name = "Pairs";  // sums and differences of neighbours, and how many
  op.outputs = "sums:T differences:T count:int64";
  op.types = "T: float double";
  op.shape = [](CustomShapes& s) {
    const auto x = s.shape(0);
    if (x.size() != 1) s.fail("takes one axis");
    s.output(0, {x[0] / 2});
    s.output(1, {x[0] / 2});
    s.output(2, {});
  };
  op.run = [](const CustomCall& call) {
    const auto x = call.in<float>(0);
    const auto sums = call.out<float>(0), differences = call.out<float>(1);
    for (std::size_t i = 0; i < sums.size(); ++i) {
      sums[i] = x[2 * i] + x[2 * i + 1];
      differences[i] = x[2 * i] - x[2 * i + 1];
    }
    call.out<std::int64_t>(2)[0] = static_cast<std::int64_t>(sums.size());
  };
  register_op(std::move(op));
  const Engine engine = built(model("graph g(x: float[n]) -> (d) {\n  s, d, c = test.custom::Pairs(x)\n}\n"));
  EXPECT_EQ(engine.outputs()[0].shape_text, (std::vector<std::string>{"floordiv(n, 2)"}));
  Context context = engine.create_context();
  EXPECT_EQ(run(context, {1, 2, 5, 3, 9}, {5}), (std::vector<float>{-1, 2})) << "outputs that nobody reads have a place all the same";
  const std::string wrong =
      message([] { built(model("graph g(x: float[n, 2]) -> (d) {\n  s, d, c = test.custom::Pairs(x) @\"/p\"\n}\n")); }, Code::kInvalidArgument);
  contains(wrong, "takes one axis");
  contains(wrong, "/p");
  contains(message([] { built(model("graph g(x: int32[n]) -> (d) {\n  s, d, c = test.custom::Pairs(x)\n}\n")); }, Code::kInvalidModel), "tensor(int32)");
}

TEST(CustomOp, ShapesMayDependOnElements) {
  CustomOp op;
  op.domain = "test.custom";
  op.name = "Fill";
  op.inputs = "value:T size:int64";
  op.types = "T: float";
  op.shape = [](CustomShapes& s) { s.output(0, s.content(1)); };
  op.run = [](const CustomCall& call) {
    for (float& y : call.out<float>(0)) y = call.in<float>(0)[0];
  };
  register_op(std::move(op));
  const Engine fixed = built(model("graph g(x: float[1]) -> (y) {\n  s: int64[2] = const {2, 3}\n  y = test.custom::Fill(x, s)\n}\n"));
  Context context = fixed.create_context();
  EXPECT_EQ(run(context, {4}, {1}), std::vector<float>(6, 4));
  // Elements that only a run tells: the rule is asked again then.
  const Engine open = built(model("graph g(x: float[1], s: int64[2]) -> (y) {\n  y = test.custom::Fill(x, s)\n}\n"));
  Context values = open.create_context();
  const float x = 7;
  const std::int64_t size[] = {3, 1};
  std::vector<Value> outputs;
  const std::int64_t one[] = {1}, two[] = {2};
  const std::vector<Value> inputs{Value::tensor({&x, DType::kFloat32, one}), Value::tensor({size, DType::kInt64, two})};
  const Status status = values.run(inputs, outputs);
  ASSERT_TRUE(status) << status.message();
  EXPECT_EQ(outputs[0].shape()[0], 3);
  EXPECT_EQ(static_cast<const float*>(outputs[0].view().data)[2], 7);
}

TEST(CustomOp, WhatTheFunctionThrowsIsTheStatusOfTheRun) {
  CustomOp op = scale_op("Fails");
  op.run = [inner = op.run](const CustomCall& call) {
    inner(call);
    if (call.in<float>(0)[0] < 0) throw std::runtime_error("negative numbers are not for me");
  };
  register_op(std::move(op));
  BuildConfig config = quick();
  config.verify = false;
  const Engine engine = built(model("graph g(x: float[1]) -> (y) {\n  y = test.custom::Fails(x) @\"/f\"\n}\n"), config);
  Context context = engine.create_context();
  Status status;
  run(context, {-1}, {1}, &status);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  contains(std::string(status.message()), "test.custom::Fails '/f': negative numbers are not for me");
  EXPECT_EQ(run(context, {1}, {1}), (std::vector<float>{3})) << "the context lives on";
}

TEST(CustomOp, RunsAllocateNothingOfTheirOwn) {
  if (!test::counts_allocations()) GTEST_SKIP() << "allocations are not counted here";
  register_op(scale_op("Quiet"));
  const Engine engine = built(model("graph g(x: float[4]) -> (y) {\n  y = test.custom::Quiet(x)\n}\n"));
  Context context = engine.create_context();
  const std::vector<float> x(4, 1);
  const std::int64_t shape[] = {4};
  const ConstTensorView view{x.data(), DType::kFloat32, shape};
  ASSERT_TRUE(context.run(std::span(&view, 1)));
  ASSERT_TRUE(context.run(std::span(&view, 1)));
  EXPECT_EQ(test::count_allocations([&] { (void)context.run(std::span(&view, 1)); }), 0);
}

TEST(CustomOp, LowerPrecisionLeavesItsTensorsAlone) {
  register_op(scale_op("Precise"));
  BuildConfig config = quick();
  config.precision = "bf16";
  const Engine engine = built(model("graph g(x: float[8, 8]) -> (y) {\n  w: float[8, 8] = const random(1)\n  a = MatMul(x, w)\n  b = test.custom::Precise(a)\n"
                                    "  y = MatMul(b, w)\n}\n"),
                              config);
  contains(engine.to_text(), "[cpu.custom]");
}

TEST(CustomOp, WhatIsNotRegisteredIsRefusedByName) {
  contains(message([] { built(model("graph g(x: float[4]) -> (y) {\n  y = test.custom::Scaler(x) @\"/s\"\n}\n")); }, Code::kUnsupported), "docs/custom_ops.md");
  CustomOp op = scale_op("Versioned");
  op.version = 2;
  register_op(std::move(op));
  contains(message([] { built(model("graph g(x: float[4]) -> (y) {\n  y = test.custom::Versioned(x)\n}\n")); }, Code::kInvalidModel), "since opset 2");
  const Engine engine = built(model("graph g(x: float[4]) -> (y) {\n  y = test.custom::Versioned(x)\n}\n", "test.custom", 3));
  contains(engine.to_text(), "test.custom::Versioned@2");
}

TEST(CustomOp, TextsAndNamesAreChecked) {
  const auto refused = [](const std::function<void(CustomOp&)>& change, const std::string& part) {
    CustomOp op = scale_op("Refused");
    change(op);
    contains(message([&] { register_op(op); }, Code::kInvalidArgument), part);
  };
  refused([](CustomOp& op) { op.domain = ""; }, "format's own domain");
  refused([](CustomOp& op) { op.domain = "a b"; }, "blanks");
  refused([](CustomOp& op) { op.name = "1st"; }, "no identifier");
  refused([](CustomOp& op) { op.version = 0; }, "version 0");
  refused([](CustomOp& op) { op.run = nullptr; }, "neither a function");
  refused([](CustomOp& op) { op.inputs = "x"; }, "'x' has no type");
  refused([](CustomOp& op) { op.inputs = "x:T -> y:T"; }, "'->'");
  refused([](CustomOp& op) { op.inputs = ""; }, "no input whose shape");
  refused([](CustomOp& op) { op.outputs = ""; }, "no output");
  refused([](CustomOp& op) { op.types = "T: @all13"; }, "string");
  refused([](CustomOp& op) { op.types = "T: float; U: float double", op.outputs = "y:U"; }, "type of 'y'");
  refused([](CustomOp& op) { op.attributes = "scale:real"; }, "unknown attribute type");
  refused([](CustomOp& op) { op.attributes = "body:graph"; }, "of type graph");
  refused([](CustomOp& op) { op.cuda_block = 2000; }, "2000 threads");
  register_op(scale_op("Once"));
  contains(message([] { register_op(scale_op("Once")); }, Code::kInvalidArgument), "is registered already");
}

TEST(Extent, CountsLikeTheModelsOwn) {
  const Extent n = Extent::parse("n");
  EXPECT_EQ((2 * n + 4).text(), "2*n + 4");
  EXPECT_EQ(((2 * n + 4) / 2).text(), "n + 2");
  EXPECT_EQ((n - n).number(), 0);
  EXPECT_EQ((Extent(7) % 4).number(), 3);
  EXPECT_EQ(Extent::min(3, 5), Extent(3));
  EXPECT_EQ(Extent::max(n, n), n);
  EXPECT_FALSE(n.number());
  EXPECT_THROW((void)(n / 0), Error);
  EXPECT_THROW(Extent::parse("n +"), Error);
}

}  // namespace
}  // namespace lathe
