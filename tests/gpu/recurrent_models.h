// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Small models around a recurrent layer, built for a GPU and for the driver that plays one.

#include <string>
#include <vector>

#include "builder/test_models.h"

namespace lathe::testing_gpu {

struct Layer {
  std::string op, direction = "forward";
  std::int64_t layout = 0, linear = 0;
  bool lengths = false, initial = false, peephole = false, given = false;
  bool constant_initial = false;  ///< as exporters write it: of a fixed batch
  DType type = DType::kFloat32;
};

/// A recurrent layer between a projection and another, so that what it reads and writes is narrow where the precision is.
inline std::shared_ptr<ir::Model> recurrent_model(const Layer& l) {
  builder::test::ModelMaker m(4);
  const std::int64_t gates = l.op == "LSTM" ? 4 : l.op == "GRU" ? 3 : 1, in = 24, hidden = 20, d = l.direction == "bidirectional" ? 2 : 1;
  const ir::Dim batch = l.constant_initial ? ir::Dim(3) : ir::Dim::symbol("batch"), steps = ir::Dim::symbol("steps");
  ir::Value* x = m.input("x", l.layout ? ir::Shape{batch, steps, 16} : ir::Shape{steps, batch, 16});
  if (l.type == DType::kFloat32) x = m.add("Relu", {m.add("MatMul", {x, m.weight({16, in}, 16)})});
  const auto weight = [&](const char* name, Dims dims, double fan_in) {
    return l.given ? m.input(name, ir::Shape(dims.begin(), dims.end())) : m.weight(dims, fan_in);
  };
  const ir::Shape state = l.layout ? ir::Shape{batch, d, hidden} : ir::Shape{d, batch, hidden};
  std::vector<ir::Value*> inputs{x, weight("w", {d, gates * hidden, in}, 24), weight("r", {d, gates * hidden, hidden}, 20),
                                 weight("b", {d, 2 * gates * hidden}, 4)};
  inputs.push_back(l.lengths ? m.input("lengths", {batch}, DType::kInt32) : nullptr);
  ir::Value* zeros = l.constant_initial ? m.constant(Tensor(DType::kFloat32, {d, 3, hidden})) : nullptr;
  inputs.push_back(l.initial ? m.input("h", state) : zeros);
  if (l.op == "LSTM") inputs.push_back(l.initial ? m.input("c", state) : zeros);
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

inline std::vector<Layer> recurrent_layers() {
  std::vector<Layer> layers;
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const char* direction : {"forward", "bidirectional"})
      for (const bool more : {false, true})
        layers.push_back({.op = op, .direction = direction, .layout = more, .linear = more && op[0] == 'G', .lengths = more, .initial = more});
  layers.push_back({.op = "LSTM", .direction = "reverse", .initial = true, .peephole = true});
  layers.push_back({.op = "LSTM", .peephole = true, .given = true});
  layers.push_back({.op = "GRU", .direction = "bidirectional", .layout = 1, .given = true});
  layers.push_back({.op = "LSTM", .direction = "bidirectional", .constant_initial = true});
  layers.push_back({.op = "GRU", .constant_initial = true});
  return layers;
}

}  // namespace lathe::testing_gpu
