// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Cases of cuda.rnn that a GPU and, through tests/host_cuda, the CPU run: see kernel_cases.h.

#include "kernel_cases.h"
#include "regions/rnn/rnn_plan.h"

namespace lathe::testing_gpu {

struct RnnCase {
  std::string op = "LSTM", direction = "forward";
  std::int64_t steps = 3, batch = 2, in = 7, hidden = 9;
  bool bias = true, lengths = false, initial = true, batch_first = false, linear = false, coupled = false, peephole = false;
  bool given = false;  ///< weights are inputs
  float clip = -1;     ///< none
  std::vector<std::string> activations = {};
  std::vector<float> alphas = {}, betas = {};
  DType x = DType::kFloat32, y = DType::kFloat32, state = DType::kFloat32;
  unsigned outputs = 7;  ///< bits: Y, Y_h, Y_c
  std::int64_t extra = 0;
  std::size_t shift = 0;

  bool is_lstm() const { return op == "LSTM"; }
  std::int64_t directions() const { return direction == "bidirectional" ? 2 : 1; }
  std::int64_t gates() const { return is_lstm() ? 4 : op == "GRU" ? 3 : 1; }
  std::string describe() const {
    return fmt::format("{} {} {} steps, batch {}, {} to {}; {}{}{}{}{}{}{}{} clip {} {} {} {} outputs {} extra {} shift {}", op, direction, steps, batch, in,
                       hidden, bias ? "bias " : "", lengths ? "lengths " : "", initial ? "initial " : "", batch_first ? "layout 1 " : "",
                       linear ? "linear " : "", coupled ? "coupled " : "", peephole ? "peephole " : "", given ? "given " : "", clip, dtype_name(x),
                       dtype_name(y), dtype_name(state), outputs, extra, shift);
  }
};

struct RnnTensors {
  RnnCase c;
  std::array<GuardedTensor, regions::kRnnInputs> inputs;
  std::array<GuardedTensor, 3> outputs;
  std::array<Tensor, 3> wanted;
  ir::Attrs params;
  std::vector<std::vector<std::byte>> packed;
  Tensor w;

  /// Multiples of 1/64 around 0, `most` of them to each side: exact in every storage type.
  static Tensor numbers(const Dims& dims, std::uint32_t seed, int most) {
    Tensor tensor(DType::kFloat32, dims);
    std::uint64_t state = seed * 0x9E3779B97F4A7C15ull + 99;
    for (float& value : tensor.mutable_data<float>()) {
      state = state * 6364136223846793005ull + 1442695040888963407ull;
      value = static_cast<float>(static_cast<int>((state >> 33) % static_cast<unsigned>(2 * most + 1)) - most) / 64;
    }
    return tensor;
  }

  explicit RnnTensors(const RnnCase& the_case) : c(the_case) {
    const bool wide = c.x == DType::kFloat64;  // then all is
    const std::int64_t d = c.directions(), rows = c.gates() * c.hidden;
    const Dims state = c.batch_first ? Dims{c.batch, d, c.hidden} : Dims{d, c.batch, c.hidden};
    const int weight = c.hidden > 300 ? 2 : 8;
    std::array<Tensor, 8> all;  // in the node's order
    all[0] = numbers(c.batch_first ? Dims{c.batch, c.steps, c.in} : Dims{c.steps, c.batch, c.in}, 1, 64);
    all[1] = numbers({d, rows, c.in}, 2, weight);
    all[2] = numbers({d, rows, c.hidden}, 3, weight);
    if (c.bias) all[3] = numbers({d, 2 * rows}, 4, 32);
    if (c.lengths) {
      all[4] = Tensor(DType::kInt32, {c.batch});
      for (std::int64_t b = 0; b < c.batch; ++b) all[4].set_from_int64(b, b % 4 == 0 ? c.steps : b % 4 == 1 ? 0 : (b * 7 + 1) % (c.steps + 1));
    }
    if (c.initial) all[5] = numbers(state, 5, 64);
    if (c.initial && c.is_lstm()) all[6] = numbers(state, 6, 64);
    if (c.peephole) all[7] = numbers({d, 3 * c.hidden}, 7, 32);

    // Numbers that float32 does not hold, too.
    for (Tensor& tensor : all) {
      if (!wide || !tensor.defined() || tensor.dtype() != DType::kFloat32) continue;
      tensor = tensor.cast(DType::kFloat64);
      for (double& value : tensor.mutable_data<double>()) value *= 1 + 1.0 / 1048583;
    }
    ir::Attrs attrs;
    attrs.set("direction", c.direction);
    attrs.set("hidden_size", c.hidden);
    attrs.set("layout", static_cast<std::int64_t>(c.batch_first));
    if (c.linear) attrs.set("linear_before_reset", std::int64_t{1});
    if (c.coupled) attrs.set("input_forget", std::int64_t{1});
    if (c.clip >= 0) attrs.set("clip", c.clip);
    if (!c.activations.empty()) attrs.set("activations", c.activations);
    if (!c.alphas.empty()) attrs.set("activation_alpha", c.alphas);
    if (!c.betas.empty()) attrs.set("activation_beta", c.betas);
    ir::Graph graph;
    std::vector<ir::Value*> values;
    const std::size_t count = c.is_lstm() ? 8 : 6;
    for (std::size_t i = 0; i < count; ++i)
      values.push_back(all[i].defined()
                           ? graph.add_input(fmt::format("i{}", i), ir::Type::tensor(all[i].dtype(), ir::Shape(all[i].dims().begin(), all[i].dims().end())))
                           : nullptr);
    ir::Node* node = graph.add_node("", c.op, values, c.is_lstm() ? std::vector<std::string>{"y", "h", "c"} : std::vector<std::string>{"y", "h"}, attrs);
    const auto results = ops::evaluate_node(*node, std::span(all).first(count));
    for (std::size_t i = 0; i < results.size(); ++i) wanted[i] = results[i];

    const auto place = [&](const Tensor& tensor, DType type) {
      GuardedTensor t(rows_desc(type, tensor.dims(), tensor.rank() > 1 ? c.extra : 0), c.shift);
      t.fill(tensor);
      return t;
    };
    inputs[regions::kRnnX] = place(all[0], c.x);
    if (c.lengths) inputs[regions::kRnnLengths] = place(all[4], DType::kInt32);
    if (all[5].defined()) inputs[regions::kRnnInitialH] = place(all[5], c.state);
    if (all[6].defined()) inputs[regions::kRnnInitialC] = place(all[6], c.state);
    for (std::size_t i = 0; i < (c.is_lstm() ? 3u : 2u); ++i)
      if (c.outputs >> i & 1) outputs[i] = GuardedTensor(rows_desc(i == 0 ? c.y : c.state, wanted[i].dims(), c.extra), c.shift);

    w = all[1];
    // The step as the candidate plans it.
    params = attrs;
    params.set("op", c.op);
    params.set("input_size", c.in);
    std::vector<std::int64_t> ways;
    const std::size_t weights[] = {1, 2, 3, 7};
    for (std::size_t i = 0; i < 4; ++i) {
      const Tensor& source = all[weights[i]];
      const bool is_given = c.given && source.defined();
      ways.push_back(is_given ? 2 : i == 3 && !source.defined() ? 0 : 1);
      if (is_given) inputs[regions::kRnnW + i] = place(source, i == 3 && !wide ? DType::kFloat32 : c.x);
      if (ways.back() != 1) continue;
      ir::Attrs pack = params;
      pack.set("weight_type", std::int64_t{*regions::rnn_element(c.x)});
      const char* name = i < 2 ? "cuda.rnn.pack_rows" : i == 2 ? "cuda.rnn.pack_bias" : "cuda.rnn.pack_peephole";
      packed.push_back(plan::find_pack_function(name)->pack(pack, std::span(&source, 1)));
    }
    params.set("weights", ways);
  }

  std::vector<plan::TensorDesc> descs(bool of_outputs) const {
    std::vector<plan::TensorDesc> all;
    if (of_outputs)
      for (const GuardedTensor& t : outputs) all.push_back(t.desc);
    else
      for (const GuardedTensor& t : inputs) all.push_back(t.desc);
    return all;
  }

  void compare() {
    for (std::size_t i = 0; i < outputs.size(); ++i) {
      if (outputs[i].desc.dtype == DType::kUndefined) continue;
      const Tensor got = outputs[i].read();
      double scale = 1, worst = 0;
      std::int64_t at = -1;
      for (std::int64_t e = 0; e < got.size(); ++e) {
        const double error = std::fabs(got.as_double(e) - wanted[i].as_double(e));
        scale = std::max(scale, std::fabs(wanted[i].as_double(e)));
        if (!(error <= worst)) worst = error, at = e;
      }
      const DType type = got.dtype();
      EXPECT_LE(worst, scale * (type == DType::kBFloat16  ? 4e-3
                                : type == DType::kFloat16 ? 5e-4
                                : type == DType::kFloat64 ? 1e-13
                                                          : 1e-5))
          << "output " << i << ", element " << at;
      EXPECT_TRUE(outputs[i].is_intact()) << "bytes beside output " << i << " were written";
    }
  }
};

/// `large`: layers that a CPU which plays a GPU takes long for, too.
inline std::vector<RnnCase> rnn_cases(bool large) {
  std::vector<RnnCase> cases;
  const auto add = [&](RnnCase c) { cases.push_back(std::move(c)); };
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const char* direction : {"forward", "reverse", "bidirectional"})
      for (const bool batch_first : {false, true})
        for (const bool lengths : {false, true}) {
          add({.op = op, .direction = direction, .steps = 5, .batch = 3, .lengths = lengths, .batch_first = batch_first});
          if (op == std::string("GRU")) add({.op = op, .direction = direction, .batch = 9, .lengths = lengths, .batch_first = batch_first, .linear = true});
        }
  const std::vector<std::string> functions{"Affine",   "LeakyRelu", "ThresholdedRelu", "ScaledTanh", "HardSigmoid", "Elu", "Softsign",
                                           "Softplus", "relu",      "SIGMOID",         "Tanh"};
  for (const std::string& f : functions) add({.op = "RNN", .steps = 2, .activations = {f}});
  add({.op = "RNN", .direction = "bidirectional", .activations = {"Affine", "HardSigmoid"}, .alphas = {0.5F, 0.3F}, .betas = {0.1F, 0.4F}});
  add({.direction = "bidirectional",
       .activations = {"HardSigmoid", "Softsign", "ScaledTanh", "Sigmoid", "Elu", "Relu"},
       .alphas = {0.25F, 0.9F, 0.7F},
       .betas = {0.4F, 0.8F}});
  for (const float clip : {0.25F, 2.0F})
    for (const char* op : {"LSTM", "GRU", "RNN"}) add({.op = op, .clip = clip});
  add({.op = "GRU", .linear = true, .clip = 0.5F});
  for (const bool coupled : {false, true})
    for (const bool given : {false, true})
      add({.direction = "bidirectional", .batch = 2, .coupled = coupled, .peephole = true, .given = given, .clip = given ? 1.0F : -1.0F});
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const DType x : {DType::kFloat32, DType::kFloat16, DType::kBFloat16}) {
      add({.op = op, .direction = "bidirectional", .batch = 2, .given = true, .x = x, .y = x, .state = DType::kFloat32, .extra = 3, .shift = 1});
      add({.op = op, .steps = 4, .batch = 1, .in = 16, .hidden = 40, .initial = false, .x = x, .y = x, .state = x});
      add({.op = op,
           .steps = 2,
           .batch = 17,
           .in = 24,
           .hidden = 33,
           .bias = false,
           .linear = true,
           .x = x,
           .y = DType::kFloat32,
           .state = x,
           .outputs = 3,
           .extra = 8});
    }
  // In float64 all that the format has once more, a little of each.
  constexpr DType kWide = DType::kFloat64;
  for (const char* op : {"LSTM", "GRU", "RNN"})
    for (const char* direction : {"forward", "reverse", "bidirectional"})
      for (const bool other : {false, true})
        add({.op = op,
             .direction = direction,
             .steps = 5,
             .batch = other ? 1 : 9,
             .bias = !other,
             .lengths = !other,
             .initial = other,
             .batch_first = other,
             .linear = other,
             .peephole = op == std::string("LSTM"),
             .given = other == (direction == std::string("reverse")),
             .clip = other ? 0.5F : -1.0F,
             .x = kWide,
             .y = kWide,
             .state = kWide,
             .outputs = other ? 6u : 7u,
             .extra = other ? 3 : 0,
             .shift = other ? 1u : 0u});
  for (const std::string& f : functions) add({.op = "RNN", .steps = 2, .activations = {f}, .x = kWide, .y = kWide, .state = kWide});
  add({.steps = 0, .x = kWide, .y = kWide, .state = kWide});
  add({.op = "GRU", .in = 0, .x = kWide, .y = kWide, .state = kWide});
  add({.direction = "bidirectional", .steps = 9, .batch = 5, .in = 40, .hidden = 65, .coupled = true, .x = kWide, .y = kWide, .state = kWide});
  add({.op = "GRU", .steps = 13, .batch = 3, .in = 37, .hidden = 70, .linear = true, .given = true, .x = kWide, .y = kWide, .state = kWide, .extra = 1});
  // What may be left out, and what is empty.
  for (const unsigned outputs : {1u, 2u, 4u, 6u, 5u}) add({.outputs = outputs});
  for (const char* op : {"LSTM", "GRU", "RNN"}) {
    add({.op = op, .steps = 0});
    add({.op = op, .steps = 0, .initial = false, .given = true});
    add({.op = op, .batch = 0});
    add({.op = op, .in = 0});
    add({.op = op, .in = 0, .given = true});
    add({.op = op, .steps = 1, .batch = 1, .in = 1, .hidden = 1});
  }
  // Projections in tiles, and units beyond a warp's first round.
  add({.op = "RNN", .steps = 13, .batch = 5, .in = 37, .hidden = 65});
  add({.op = "GRU", .steps = 7, .batch = 10, .in = 64, .hidden = 30, .batch_first = true, .shift = 1});
  add({.steps = 2, .batch = 2, .in = 300, .hidden = 270});
  if (large) {
    add({.direction = "bidirectional", .steps = 50, .batch = 4, .in = 257, .hidden = 256, .lengths = true});
    add({.direction = "bidirectional", .steps = 31, .batch = 33, .in = 512, .hidden = 512, .lengths = true, .x = DType::kFloat16, .y = DType::kFloat16});
    add({.steps = 100, .batch = 1, .in = 80, .hidden = 1024, .initial = false});
    add({.op = "GRU", .direction = "bidirectional", .steps = 40, .batch = 2, .in = 96, .hidden = 777, .linear = true});
    add({.op = "GRU", .steps = 33, .batch = 64, .in = 100, .hidden = 300, .batch_first = true, .x = DType::kBFloat16, .y = DType::kBFloat16});
    add({.op = "RNN", .steps = 1000, .batch = 2, .in = 31, .hidden = 127});
    add({.steps = 1, .batch = 4097, .in = 33, .hidden = 17});
    add({.direction = "bidirectional", .steps = 50, .batch = 4, .in = 257, .hidden = 256, .lengths = true, .x = kWide, .y = kWide, .state = kWide});
    add({.op = "GRU", .steps = 33, .batch = 33, .in = 100, .hidden = 300, .x = kWide, .y = kWide, .state = kWide});
  }
  return cases;
}

}  // namespace lathe::testing_gpu
