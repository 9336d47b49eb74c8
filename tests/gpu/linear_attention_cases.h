// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of LinearAttention, whose kernels a GPU, the CPU, and through tests/host_cuda the CPU in a GPU's place run: see kernel_cases.h.

#include <array>

#include "kernel_cases.h"
#include "ops/linear_attention/linear_attention_plan.h"

namespace lathe::testing_gpu {

struct LinearAttentionCase {
  std::string rule = "gated_delta";
  std::int64_t batch = 2, steps = 5, heads = 2, group = 1, keys = 16, values = 16;
  bool decay_per_key = false, beta_per_head = true, past = true;
  float scale = 0;
  DType type = DType::kFloat32, state = DType::kFloat32;
  DType gates = DType::kUndefined;  ///< of decay and beta, where not as the others
  unsigned outputs = 3;             ///< bits: the result, the state
  std::int64_t extra = 0;
  std::size_t shift = 0;

  bool gated() const { return rule.rfind("gated", 0) == 0; }
  bool delta() const { return rule.find("delta") != std::string::npos; }
  std::string describe() const {
    return fmt::format("{} batch {}, {} steps, {} heads of {}, {} keys, {} values; {}{}{} scale {} {} {} {} outputs {} extra {} shift {}", rule, batch, steps,
                       heads, group, keys, values, decay_per_key ? "decay per key " : "", beta_per_head ? "beta per head " : "", past ? "past" : "", scale,
                       dtype_name(type), dtype_name(state), dtype_name(gates), outputs, extra, shift);
  }
  /// What the tensors are at these extents; left out ones have no type.
  std::vector<plan::TensorDesc> descs(bool of_outputs) const {
    const DType of_gates = gates == DType::kUndefined ? type : gates;
    const auto rows = [&](DType dtype, std::int64_t columns) { return rows_desc(dtype, {batch, steps, columns}, extra); };
    const plan::TensorDesc states = rows_desc(state, {batch, heads, keys, values}, extra);
    if (of_outputs) return {outputs & 1 ? rows(type, heads * group * values) : plan::TensorDesc(), outputs & 2 ? states : plan::TensorDesc()};
    return {rows(type, heads * group * keys),
            rows(type, heads * keys),
            rows(type, heads * values),
            past ? states : plan::TensorDesc(),
            gated() ? rows(of_gates, decay_per_key ? heads * keys : heads) : plan::TensorDesc(),
            delta() ? rows(of_gates, beta_per_head ? heads : 1) : plan::TensorDesc()};
  }
};

struct LinearAttentionTensors {
  std::array<GuardedTensor, ops::kLinearInputs> inputs;
  std::array<GuardedTensor, ops::kLinearOutputs> outputs;
  std::array<Tensor, ops::kLinearOutputs> wanted;
  ir::Attrs params;

  explicit LinearAttentionTensors(const LinearAttentionCase& c) {
    const auto ins = c.descs(false), outs = c.descs(true);
    params.set("q_num_heads", c.heads * c.group);
    params.set("kv_num_heads", c.heads);
    params.set("scale", c.scale);
    ir::Attrs attrs = params;
    attrs.set("update_rule", c.rule);
    std::uint64_t state = 17 + static_cast<std::uint64_t>(c.keys);
    const auto draw = [&] {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      return static_cast<double>(state >> 40) / static_cast<double>(1 << 23) - 1;
    };
    std::array<Tensor, ops::kLinearInputs> values;
    ir::Graph graph;
    std::vector<ir::Value*> given;
    for (std::size_t i = 0; i < ins.size(); ++i) {
      given.push_back(nullptr);
      if (ins[i].dtype == DType::kUndefined) continue;
      Tensor tensor(DType::kFloat32, ins[i].dims);
      // Decays take away, betas are shares.
      for (float& value : tensor.mutable_data<float>())
        value = static_cast<float>(i == ops::kLinearDecay ? 0.5 * draw() - 0.5 : i == ops::kLinearBeta ? 0.5 * draw() + 0.5 : draw());
      // Keys are as long as 1, as in models: a state so grows no faster than the steps.
      const std::span<float> all = tensor.mutable_data<float>();
      for (std::size_t at = 0; i == ops::kLinearKey && at < all.size(); at += static_cast<std::size_t>(c.keys)) {
        double sum = 0;
        for (std::int64_t k = 0; k < c.keys; ++k) sum += static_cast<double>(all[at + static_cast<std::size_t>(k)]) * all[at + static_cast<std::size_t>(k)];
        for (std::int64_t k = 0; k < c.keys; ++k) all[at + static_cast<std::size_t>(k)] /= static_cast<float>(std::sqrt(sum));
      }
      inputs[i] = GuardedTensor(ins[i], c.shift);
      inputs[i].fill(tensor);
      values[i] = inputs[i].read().cast(DType::kFloat32);  // what is stored
      given.back() = graph.add_input("in" + std::to_string(i), ir::Type::tensor(DType::kFloat32, ir::Shape(ins[i].dims.begin(), ins[i].dims.end())));
    }
    const ir::Node* node = graph.add_node("", "LinearAttention", given, {"y", "present"}, attrs);
    const auto made = ops::evaluate_node(*node, values);
    for (std::size_t i = 0; i < outs.size(); ++i) {
      wanted[i] = made[i];
      if (outs[i].dtype != DType::kUndefined) outputs[i] = GuardedTensor(outs[i], c.shift);
    }
  }
  std::vector<GuardedTensor*> input_list() { return {&inputs[0], &inputs[1], &inputs[2], &inputs[3], &inputs[4], &inputs[5]}; }
  std::vector<GuardedTensor*> output_list() { return {&outputs[0], &outputs[1]}; }

  void compare() {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].desc.dtype == DType::kUndefined) continue;
      const Tensor got = outputs[i].read();
      ASSERT_EQ(got.dims(), wanted[i].dims());
      double scale = 1e-30, worst = 0;
      std::int64_t at = -1;
      for (std::int64_t e = 0; e < got.size(); ++e) {
        const double error = std::fabs(got.as_double(e) - wanted[i].as_double(e));
        scale = std::max(scale, std::fabs(wanted[i].as_double(e)));
        if (!(error <= worst)) worst = error, at = e;
      }
      const DType type = got.dtype();
      EXPECT_LE(worst, scale * (type == DType::kBFloat16 ? 4e-3 : type == DType::kFloat16 ? 5e-4 : 1e-5)) << "output " << i << ", element " << at;
      EXPECT_TRUE(outputs[i].is_intact()) << "bytes beside output " << i << " were written";
    }
  }
};

/// `large`: what a CPU which plays a GPU takes long for, too.
inline std::vector<LinearAttentionCase> linear_attention_cases(bool large) {
  std::vector<LinearAttentionCase> cases;
  const auto add = [&](LinearAttentionCase c) { cases.push_back(std::move(c)); };
  for (const char* rule : {"linear", "gated", "delta", "gated_delta"}) {
    for (const bool per_key : {false, true})
      for (const bool per_head : {false, true})
        for (const std::int64_t group : {1, 3})
          add({.rule = rule, .group = group, .keys = 20, .values = 18, .decay_per_key = per_key, .beta_per_head = per_head});
    for (const DType type : {DType::kFloat16, DType::kBFloat16}) {
      add({.rule = rule, .group = 2, .keys = 32, .values = 24, .decay_per_key = true, .type = type, .state = type});
      add({.rule = rule, .keys = 33, .values = 7, .type = type, .gates = DType::kFloat32, .extra = 3, .shift = 1});
    }
    add({.rule = rule, .group = 2, .keys = 15, .values = 17, .decay_per_key = true, .past = false, .extra = 5, .shift = 3});
    // Columns beyond the registers.
    add({.rule = rule, .batch = 1, .steps = 3, .group = 2, .keys = 515, .values = 5, .decay_per_key = true});
    add({.rule = rule, .batch = 1, .steps = 3, .keys = 600, .values = 6, .past = false, .type = DType::kFloat16, .gates = DType::kFloat32, .extra = 1});
  }
  // Around the lanes' registers and the blocks' columns.
  for (const std::int64_t keys : {1, 2, 3, 4, 5, 16, 17, 31, 32, 63, 64, 65, 128, 255, 256, 257, 512})
    for (const std::int64_t values : {1, 4, 9}) add({.batch = 1, .steps = 2, .keys = keys, .values = values, .decay_per_key = keys % 2 != 0});
  for (const std::int64_t values : {15, 16, 31, 32, 33, 64, 127, 128, 129, 300}) add({.batch = 1, .steps = 2, .keys = 24, .values = values});
  // Around the steps that are in shared memory at once, which great groups make few, or none.
  for (const std::int64_t steps : {1, 15, 16, 17, 33}) add({.steps = steps, .keys = 8, .values = 8, .decay_per_key = true});
  add({.batch = 1, .steps = 9, .heads = 1, .group = 40, .keys = 64, .values = 8, .decay_per_key = true});
  add({.batch = 1, .steps = 3, .heads = 1, .group = 30, .keys = 512, .values = 3, .decay_per_key = true});
  // What may be left out, and what is empty.
  for (const unsigned outputs : {1u, 2u})
    for (const std::int64_t keys : {16, 520}) add({.batch = 1, .keys = keys, .values = 6, .outputs = outputs});
  add({.steps = 0});
  add({.steps = 0, .past = false});
  add({.batch = 1, .steps = 0, .keys = 520, .values = 3});
  add({.batch = 0});
  add({.values = 0});
  add({.batch = 1, .steps = 1, .heads = 1, .keys = 1, .values = 1});
  add({.scale = 0.3F});
  add({.batch = 3, .steps = 7, .heads = 3, .group = 2, .keys = 64, .values = 64, .decay_per_key = true, .scale = -2});
  if (large) {
    for (const DType type : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      add({.batch = 1, .steps = 300, .heads = 16, .keys = 128, .values = 128, .type = type});
      add({.batch = 4, .steps = 130, .heads = 4, .group = 8, .keys = 64, .values = 192, .decay_per_key = true, .beta_per_head = false, .type = type});
    }
    add({.rule = "linear", .batch = 3, .steps = 257, .heads = 5, .keys = 100, .values = 77});
    add({.rule = "gated", .batch = 64, .steps = 1, .heads = 32, .group = 2, .keys = 128, .values = 128, .decay_per_key = true});
    add({.rule = "delta", .batch = 1, .steps = 100, .heads = 2, .keys = 1024, .values = 65});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
