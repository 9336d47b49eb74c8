// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Operators whose kernels on a GPU are not made of products, pooling or loops, as steps of an engine on the driver that checks every call: nothing of them
// runs on the host, in any precision, and they run at any extents.

#include <algorithm>

#include "engine_fixture.h"

namespace lathe {
namespace {

using builder::test::ModelMaker;

class NoHostSteps : public FakeEngine {
 protected:
  static int steps_by(const engine::EngineData& data, std::string_view kernel) {
    const auto& steps = data.sections[0].program.steps;
    return static_cast<int>(std::count_if(steps.begin(), steps.end(), [&](const plan::Step& step) { return step.kernel == kernel; }));
  }
};

TEST_F(NoHostSteps, TopK) {
  for (const char* precision : {"fp32", "fp16", "bf16"}) {
    ModelMaker m(2);
    ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 4, ir::Dim::symbol("places")});
    ir::Attrs axis;
    axis.set("axis", std::int64_t{1});
    ir::Node* top = m.add_all("TopK", {m.add("Relu", {x}), m.ints({3})}, 2, axis);
    builder::BuildResult built = builder::build_engine(m.finish({m.add("Neg", {top->output(0)}), top->output(1)}), options(precision));
    EXPECT_EQ(steps_by(built.engine, "cuda.topk"), 1) << precision;
    EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
    const auto engine = runtime::Engine::create(std::move(built.engine));
    runtime::Context context(engine);
    for (const auto& [batch, places] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {5, 100}, {2, 3001}, {3, 0}, {5, 100}}) {
      std::vector<float> data(static_cast<std::size_t>(batch * 4 * places), 1);
      const std::int64_t dims[] = {batch, 4, places};
      const runtime::InputView view{data.data(), DType::kFloat32, dims};
      const Status status = context.run(std::span(&view, 1), {});
      ASSERT_TRUE(status) << batch << "x" << places << ": " << status.message();
    }
  }
}

struct Layer {
  std::string op, direction = "forward";
  std::int64_t layout = 0, linear = 0;
  bool lengths = false, initial = false, peephole = false, given = false;
  DType type = DType::kFloat32;
};

/// A recurrent layer between a projection and another, so that what it reads and writes is narrow where the precision is.
std::shared_ptr<ir::Model> recurrent_model(const Layer& l) {
  ModelMaker m(4);
  const std::int64_t gates = l.op == "LSTM" ? 4 : l.op == "GRU" ? 3 : 1, in = 24, hidden = 20, d = l.direction == "bidirectional" ? 2 : 1;
  const ir::Dim batch = ir::Dim::symbol("batch"), steps = ir::Dim::symbol("steps");
  ir::Value* x = m.input("x", l.layout ? ir::Shape{batch, steps, 16} : ir::Shape{steps, batch, 16});
  if (l.type == DType::kFloat32) x = m.add("Relu", {m.add("MatMul", {x, m.weight({16, in}, 16)})});
  const auto weight = [&](const char* name, Dims dims, double fan_in) {
    return l.given ? m.input(name, ir::Shape(dims.begin(), dims.end())) : m.weight(dims, fan_in);
  };
  const ir::Shape state = l.layout ? ir::Shape{batch, d, hidden} : ir::Shape{d, batch, hidden};
  std::vector<ir::Value*> inputs{x, weight("w", {d, gates * hidden, in}, 24), weight("r", {d, gates * hidden, hidden}, 20),
                                 weight("b", {d, 2 * gates * hidden}, 4)};
  inputs.push_back(l.lengths ? m.input("lengths", {batch}, DType::kInt32) : nullptr);
  inputs.push_back(l.initial ? m.input("h", state) : nullptr);
  if (l.op == "LSTM") inputs.push_back(l.initial ? m.input("c", state) : nullptr);
  if (l.peephole) inputs.push_back(weight("p", {d, 3 * hidden}, 4));
  ir::Attrs attrs;
  attrs.set("direction", l.direction);
  attrs.set("hidden_size", hidden);
  attrs.set("layout", l.layout);
  if (l.linear) attrs.set("linear_before_reset", l.linear);
  if (l.peephole) attrs.set("clip", 3.0F);
  ir::Node* node = m.add_all(l.op, inputs, l.op == "LSTM" ? 3 : 2, attrs);
  ir::Value* y = m.add("MatMul", {node->output(0), m.weight({hidden, 8}, 20)});
  std::vector<ir::Value*> outputs{y, node->output(1)};
  if (l.op == "LSTM") outputs.push_back(node->output(2));
  return m.finish(outputs);
}

TEST_F(NoHostSteps, RecurrentLayers) {
  std::vector<Layer> layers;
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const char* direction : {"forward", "bidirectional"})
      for (const bool more : {false, true})
        layers.push_back({.op = op, .direction = direction, .layout = more, .linear = more && op[0] == 'G', .lengths = more, .initial = more});
  layers.push_back({.op = "LSTM", .direction = "reverse", .initial = true, .peephole = true});
  layers.push_back({.op = "LSTM", .peephole = true, .given = true});
  layers.push_back({.op = "GRU", .direction = "bidirectional", .layout = 1, .given = true});
  for (const Layer& l : layers)
    for (const char* precision : {"fp32", "fp16", "bf16"}) {
      SCOPED_TRACE(l.op + " " + l.direction + " in " + precision);
      builder::BuildResult built = builder::build_engine(recurrent_model(l), options(precision));
      EXPECT_EQ(steps_by(built.engine, "cuda.rnn"), 1);
      EXPECT_TRUE(built.report.host_steps.empty()) << built.report.host_steps.front();
      const auto engine = runtime::Engine::create(std::move(built.engine));
      runtime::Context context(engine);
      for (const auto& [batch, steps] : {std::pair<std::int64_t, std::int64_t>{1, 1}, {3, 50}, {2, 0}, {17, 2}, {3, 50}}) {
        const std::int64_t n = batch, t = steps, d = l.direction == "bidirectional" ? 2 : 1, rows = 20 * (l.op == "LSTM" ? 4 : l.op == "GRU" ? 3 : 1);
        std::vector<Dims> dims{l.layout ? Dims{n, t, 16} : Dims{t, n, 16}};
        if (l.given) dims.insert(dims.end(), {{d, rows, 24}, {d, rows, 20}, {d, 2 * rows}});
        if (l.lengths) dims.push_back({n});
        if (l.initial) dims.insert(dims.end(), l.op == "LSTM" ? 2 : 1, l.layout ? Dims{n, d, 20} : Dims{d, n, 20});
        if (l.given && l.peephole) dims.push_back({d, 60});
        const std::vector<float> zeros(100000);
        std::vector<runtime::InputView> views;
        for (const Dims& each : dims) views.push_back({zeros.data(), each.size() == 1 ? DType::kInt32 : DType::kFloat32, each});
        const Status status = context.run(views, {});
        ASSERT_TRUE(status) << batch << "x" << steps << ": " << status.message();
      }
    }
}

}  // namespace
}  // namespace lathe
