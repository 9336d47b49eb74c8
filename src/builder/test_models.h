// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Small models made in memory, for tests of the builder and what stands on it.

#include <memory>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "ir/graph.h"
#include "ops/import.h"
#include "ops/infer.h"

namespace lathe::builder::test {

class ModelMaker {
 public:
  explicit ModelMaker(std::uint32_t seed = 1) : random_(seed) {
    model_->graph = std::make_shared<ir::Graph>();
    model_->graph->name = "test";
    model_->ir_version = 10;
    model_->opset_imports[""] = ops::kCanonicalOpset;
  }
  ir::Value* input(const std::string& name, ir::Shape shape, DType dtype = DType::kFloat32) {
    return model_->graph->add_input(name, ir::Type::tensor(dtype, std::move(shape)));
  }
  /// Normal random weights scaled by 1 / sqrt(fan_in).
  ir::Value* weight(Dims dims, double fan_in = 1, double mean = 0) {
    Tensor tensor(DType::kFloat32, std::move(dims));
    std::normal_distribution<float> normal(static_cast<float>(mean), static_cast<float>(1 / std::sqrt(fan_in)));
    for (float& value : tensor.mutable_data<float>()) value = normal(random_);
    return model_->graph->add_constant("w" + std::to_string(counter_++), std::move(tensor));
  }
  ir::Value* floats(const std::vector<float>& values) {
    Tensor tensor(DType::kFloat32, {static_cast<std::int64_t>(values.size())});
    std::copy(values.begin(), values.end(), tensor.mutable_data<float>().begin());
    return model_->graph->add_constant("k" + std::to_string(counter_++), std::move(tensor));
  }
  ir::Value* ints(std::vector<std::int64_t> values) { return model_->graph->add_constant("k" + std::to_string(counter_++), Tensor::vector(values)); }
  ir::Value* constant(Tensor tensor) { return model_->graph->add_constant("k" + std::to_string(counter_++), std::move(tensor)); }
  ir::Value* add(const std::string& op, std::vector<ir::Value*> inputs, ir::Attrs attrs = {}) {
    return add_all(op, std::move(inputs), 1, std::move(attrs))->output();
  }
  /// `op`: "Relu", or "domain::Op".
  ir::Node* add_all(const std::string& op, std::vector<ir::Value*> inputs, int outputs, ir::Attrs attrs = {}) {
    std::vector<std::string> names;
    for (int i = 0; i < outputs; ++i) names.push_back("t" + std::to_string(counter_++));
    const std::size_t colons = op.rfind("::");
    const std::string domain = colons == std::string::npos ? "" : op.substr(0, colons), name = colons == std::string::npos ? op : op.substr(colons + 2);
    if (!domain.empty()) model_->opset_imports[domain] = domain == "ai.onnx.ml" ? 5 : 1;
    ir::Node* node = model_->graph->add_node(domain, name, std::move(inputs), names, std::move(attrs));
    node->name = name + "_" + names[0];
    node->sources = {node->name};
    return node;
  }
  ir::Value* conv(ir::Value* x, std::int64_t cin, std::int64_t cout, std::int64_t k, std::int64_t stride = 1, std::int64_t groups = 1, std::int64_t pad = -1) {
    if (pad < 0) pad = k / 2;
    ir::Attrs attrs;
    attrs.set("kernel_shape", std::vector<std::int64_t>{k, k});
    attrs.set("strides", std::vector<std::int64_t>{stride, stride});
    attrs.set("pads", std::vector<std::int64_t>{pad, pad, pad, pad});
    attrs.set("group", groups);
    return add("Conv", {x, weight({cout, cin / groups, k, k}, static_cast<double>(cin / groups * k * k)), weight({cout}, 4)}, attrs);
  }
  ir::Value* silu(ir::Value* x) { return add("Mul", {x, add("Sigmoid", {x})}); }
  std::shared_ptr<ir::Model> finish(std::vector<ir::Value*> outputs) {
    for (ir::Value* output : outputs) model_->graph->add_output(output);
    ops::infer_graph(*model_->graph);
    return model_;
  }

 private:
  std::shared_ptr<ir::Model> model_ = std::make_shared<ir::Model>();
  std::mt19937 random_;
  int counter_ = 0;
};

/// Stem, two residual blocks, a concat, a depthwise convolution, a head.
inline std::shared_ptr<ir::Model> conv_model(std::uint32_t seed = 1, ir::Shape image = {1, 3, 40, 56}) {
  ModelMaker m(seed);
  ir::Value* x = m.silu(m.conv(m.input("image", std::move(image)), 3, 16, 6, 2, 1, 2));
  x = m.add("Relu", {m.conv(x, 16, 32, 3, 2)});
  ir::Value *a = m.silu(m.conv(x, 32, 16, 1)), *b = m.silu(m.conv(x, 32, 16, 1));
  a = m.add("Add", {a, m.silu(m.conv(m.silu(m.conv(a, 16, 16, 1)), 16, 16, 3))});
  a = m.add("Relu", {m.add("Add", {a, m.conv(m.add("LeakyRelu", {m.conv(a, 16, 16, 3)}), 16, 16, 3)})});
  ir::Attrs axis;
  axis.set("axis", 1);
  x = m.silu(m.conv(m.add("Concat", {a, b}, axis), 32, 48, 1));
  x = m.add("HardSwish", {m.conv(x, 48, 48, 3, 1, 48)});
  return m.finish({m.conv(x, 48, 20, 1)});
}

}  // namespace lathe::builder::test
