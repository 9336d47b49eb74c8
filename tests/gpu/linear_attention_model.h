// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A small model around LinearAttention, built for a GPU and for the driver that plays one.

#include <string>

#include "builder/test_models.h"

namespace lathe::testing_gpu {

/// Projections of one sequence, normalised keys, gates between 0 and 1, and a projection of the result. x: [batch, steps, 24]; the state is an
/// output, and with `past` an input too, of 2 heads of 16 keys and 12 values.
inline std::shared_ptr<ir::Model> linear_attention_model(const std::string& rule, bool past = false) {
  builder::test::ModelMaker m(6);
  const std::int64_t in = 24, heads = 2, group = 2, keys = 16, values = 12;
  const ir::Dim batch = ir::Dim::symbol("batch"), steps = ir::Dim::symbol("steps");
  ir::Value* x = m.input("x", {batch, steps, in});
  const auto project = [&](std::int64_t columns) { return m.add("MatMul", {x, m.weight({in, columns}, static_cast<double>(in))}); };
  const bool gated = rule.rfind("gated", 0) == 0, delta = rule.find("delta") != std::string::npos;
  ir::Attrs softmax;
  softmax.set("axis", std::int64_t{-1});
  std::vector<ir::Value*> inputs{project(heads * group * keys), m.add("Softmax", {project(heads * keys)}, softmax), project(heads * values)};
  inputs.push_back(past ? m.input("past", {batch, heads, keys, values}) : nullptr);
  inputs.push_back(gated ? m.add("Neg", {m.add("Softplus", {project(heads)})}) : nullptr);
  inputs.push_back(delta ? m.add("Sigmoid", {project(heads)}) : nullptr);
  ir::Attrs attrs;
  attrs.set("q_num_heads", heads * group);
  attrs.set("kv_num_heads", heads);
  attrs.set("update_rule", rule);
  ir::Node* node = m.add_all("LinearAttention", inputs, 2, attrs);
  ir::Value* y = m.add("MatMul", {node->output(0), m.weight({heads * group * values, 8}, static_cast<double>(heads * group * values))});
  return m.finish({y, node->output(1)});
}

}  // namespace lathe::testing_gpu
