// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Is verification sharp? Engines of small networks, each like a family of real ones, are damaged in one place: a tile of packed weights, one
// bias, a pad, an axis, an activation. At least 95 of 100 damages must be found, and undamaged engines must pass.

#include <gtest/gtest.h>

#include <array>
#include <cstring>
#include <random>

#include "base/tensor.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "loops/region.h"

namespace lathe::builder {
namespace {

using Random = std::mt19937;

BuildOptions options(Precision precision) {
  BuildOptions o;
  o.precision = precision;
  o.budget_seconds = 0;
  o.verify = false;
  o.use_cache = false;
  return o;
}

ir::Attrs attrs(std::initializer_list<std::pair<const char*, ir::Attribute>> list) {
  ir::Attrs all;
  for (const auto& [name, value] : list) all.set(name, value);
  return all;
}

/// Separable convolutions with squeeze-and-excitation, and a classifier.
std::shared_ptr<ir::Model> mobile_model() {
  test::ModelMaker m(11);
  ir::Value* x = m.add("HardSwish", {m.conv(m.input("image", {1, 3, 33, 29}), 3, 16, 3, 2)});
  for (int i = 0; i < 2; ++i) {
    ir::Value* wide = m.add("HardSwish", {m.conv(m.add("HardSwish", {m.conv(x, 16, 48, 1)}), 48, 48, 5 - 2 * i, 1, 48)});
    ir::Value* gate = m.add("Relu", {m.conv(m.add("GlobalAveragePool", {wide}), 48, 16, 1)});
    gate = m.add("HardSigmoid", {m.conv(gate, 16, 48, 1)});
    x = m.add("Add", {x, m.conv(m.add("Mul", {wide, gate}), 48, 16, 1)});
  }
  x = m.add(
      "MaxPool", {x},
      attrs(
          {{"kernel_shape", std::vector<std::int64_t>{3, 3}}, {"strides", std::vector<std::int64_t>{2, 2}}, {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}}));
  x = m.add("AveragePool", {x}, attrs({{"kernel_shape", std::vector<std::int64_t>{3, 3}}, {"pads", std::vector<std::int64_t>{1, 1, 1, 1}}}));
  x = m.add("Flatten", {m.add("Relu", {x})});
  return m.finish({m.add("Gemm", {x, m.weight({20, 1152}, 1152), m.weight({20}, 4)}, attrs({{"transB", 1}}))});
}

/// An encoder block: attention with as many heads as rows in each, norms, an MLP.
std::shared_ptr<ir::Model> attention_model() {
  test::ModelMaker m(12);
  const auto linear = [&](ir::Value* x, std::int64_t in, std::int64_t out) {
    return m.add("Add", {m.add("MatMul", {x, m.weight({in, out}, static_cast<double>(in))}), m.weight({out}, 4)});
  };
  const auto heads = [&](ir::Value* x, std::vector<std::int64_t> perm) {
    return m.add("Transpose", {m.add("Reshape", {x, m.ints({2, 8, 8, 8})})}, attrs({{"perm", std::move(perm)}}));
  };
  ir::Value* x = m.input("tokens", {2, 8, 64});
  ir::Value* normed = m.add("LayerNormalization", {x, m.weight({64}, 9, 1), m.weight({64}, 4)}, attrs({{"axis", -1}}));
  ir::Value *q = heads(linear(normed, 64, 64), {0, 2, 1, 3}), *k = heads(linear(normed, 64, 64), {0, 2, 3, 1}),
            *v = heads(linear(normed, 64, 64), {0, 2, 1, 3});
  ir::Value* weights = m.add("Softmax", {m.add("Mul", {m.add("MatMul", {q, k}), m.floats({0.35F})})}, attrs({{"axis", -1}}));
  ir::Value* mixed = m.add("Transpose", {m.add("MatMul", {weights, v})}, attrs({{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}}));
  x = m.add("Add", {x, linear(m.add("Reshape", {mixed, m.ints({2, 8, 64})}), 64, 64)});
  normed = m.add("LayerNormalization", {x, m.weight({64}, 9, 1), m.weight({64}, 4)}, attrs({{"axis", -1}}));
  x = m.add("Add", {x, linear(m.add("Gelu", {linear(normed, 64, 128)}), 128, 64)});
  // A mean over one of two axes of equal extent, and their exchange.
  ir::Value* square = m.add("Reshape", {x, m.ints({2, 8, 8, 8})});
  ir::Value* turned = m.add("Mul", {square, m.add("Sigmoid", {m.add("Transpose", {square}, attrs({{"perm", std::vector<std::int64_t>{0, 1, 3, 2}}}))})});
  return m.finish({x, m.add("ReduceMean", {turned, m.ints({2})})});
}

/// A recurrent layer over a sequence, and a classifier.
std::shared_ptr<ir::Model> recurrent_model() {
  test::ModelMaker m(13);
  ir::Node* lstm = m.add_all("LSTM", {m.input("sequence", {9, 2, 24}), m.weight({2, 64, 24}, 24), m.weight({2, 64, 16}, 16), m.weight({2, 128}, 4)}, 1,
                             attrs({{"hidden_size", 16}, {"direction", "bidirectional"}}));
  ir::Value* x = m.add("Reshape", {m.add("Transpose", {lstm->output(0)}, attrs({{"perm", std::vector<std::int64_t>{0, 2, 1, 3}}})), m.ints({9, 2, 32})});
  x = m.add("Tanh", {m.add("Add", {m.add("MatMul", {x, m.weight({32, 24}, 32)}), m.weight({24}, 4)})});
  return m.finish({m.add("LogSoftmax", {x}, attrs({{"axis", -1}}))});
}

// ---- damages ----

std::span<const std::byte> blob_of(const engine::EngineData& data, plan::BlobId id) { return data.blob_bytes[static_cast<std::size_t>(id)]; }

/// Rotates the floats of a part of a blob: values move to wrong places without becoming implausible. False when nothing would change.
bool rotate(engine::EngineData& data, plan::BlobId id, std::size_t from, std::size_t bytes, Random& random) {
  auto& span = data.blob_bytes[static_cast<std::size_t>(id)];
  auto copy = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(span.size())});
  std::memcpy(copy->mutable_raw(), span.data(), span.size());
  auto* at = copy->mutable_raw() + from;
  std::rotate(at, at + 4 * (1 + random() % (bytes / 4 - 1)), at + bytes);
  if (std::memcmp(at, span.data() + from, bytes) == 0) return false;  // padding of a panel
  span = {copy->raw(), copy->bytes()};
  data.owners.push_back(copy);
  return true;
}

bool damage_weights(engine::EngineData& data, plan::Step& step, Random& random) {
  if (step.weights.empty()) return false;
  const plan::BlobId id = step.weights[step.kernel == "cpu.rnn" ? random() % 2 : 0];
  const std::size_t size = blob_of(data, id).size();
  return size >= 256 && rotate(data, id, random() % (size / 128) * 128, 128, random);
}

bool damage_bias(engine::EngineData& data, plan::Step& step, Random& random) {
  if (step.weights.size() < 2) return false;
  const std::size_t count = blob_of(data, step.weights.back()).size() / 4;
  return count >= 4 && rotate(data, step.weights.back(), random() % (count - 1) * 4, 8, random);
}

/// Moves a pad to the other side.
bool damage_pad(engine::EngineData&, plan::Step& step, Random& random) {
  auto pads = step.params.get_ints("pads");
  const std::size_t axis = random() % 2;
  if (pads.size() != 4 || pads[axis] == 0) return false;
  --pads[axis];
  ++pads[axis + 2];
  step.params.set("pads", pads);
  return true;
}

bool damage_activation(engine::EngineData&, plan::Step& step, Random&) {
  if (!step.params.has("activation")) return false;
  step.params.set("activation", step.params.get_string("activation", "") == "relu" ? "silu" : "relu");
  return true;
}

/// In one load of a region, two indices of dimensions of one extent change places: what a wrong axis of a Transpose, Softmax or norm does.
bool damage_region(plan::Step& step, Random& random) {
  loops::LoopRegion region = loops::parse_region(step.params.get_string("region", ""));
  std::vector<std::array<std::size_t, 3>> places;
  for (std::size_t e = 0; e < region.exprs.size(); ++e) {
    const loops::Expr& load = region.exprs[e];
    if (load.op != loops::ExprOp::kLoad) continue;
    const ir::Shape& shape = region.buffers[static_cast<std::size_t>(load.index)].shape;
    for (std::size_t i = 0; i < load.args.size(); ++i)
      for (std::size_t j = i + 1; j < load.args.size(); ++j)
        if (load.args[i] != load.args[j] && shape[i] == shape[j] && shape[i] != ir::Dim(1)) places.push_back({e, i, j});
  }
  if (places.empty()) return false;
  const auto [e, i, j] = places[random() % places.size()];
  std::swap(region.exprs[e].args[i], region.exprs[e].args[j]);
  step.params.set("region", region.serialize());
  return true;
}

bool damage_axis(engine::EngineData& data, plan::Step& step, Random& random) {
  plan::Program& program = data.sections.front().program;
  if (step.kernel == "cpu.loops") return damage_region(step, random);
  if (step.kernel == "cpu.matmul") {
    // Two axes of one extent exchanged in the order that an operand or the result is read or written in.
    for (const auto& [name, slot] : {std::pair{"perm_a", step.inputs[0]}, std::pair{"perm_b", step.inputs.back()}, std::pair{"perm_out", step.outputs[0]}}) {
      auto perm = step.params.get_ints(name);
      const ir::Shape& shape = program.slots[static_cast<std::size_t>(slot)].shape;
      for (std::size_t i = 0; i < perm.size(); ++i)
        for (std::size_t j = i + 1; j < perm.size(); ++j)
          if (shape[static_cast<std::size_t>(perm[i])] == shape[static_cast<std::size_t>(perm[j])] && shape[static_cast<std::size_t>(perm[i])] != ir::Dim(1)) {
            std::swap(perm[i], perm[j]);
            step.params.set(name, perm);
            return true;
          }
    }
    return false;
  }
  // Slices of a concat change places.
  std::vector<plan::Slot*> slices;
  for (plan::Slot& slot : program.slots)
    if (slot.storage == plan::Storage::kAlias && slot.alias_axis >= 0) slices.push_back(&slot);
  if (slices.size() < 2) return false;
  const std::size_t first = random() % (slices.size() - 1);
  if (slices[first]->parent != slices[first + 1]->parent || slices[first]->shape != slices[first + 1]->shape) return false;
  std::swap(slices[first]->alias_offset, slices[first + 1]->alias_offset);
  return true;
}

struct Kind {
  const char* name;
  bool (*damage)(engine::EngineData& data, plan::Step& step, Random& random);
  int wanted, tried = 0, caught = 0;
};

void expect_caught(Precision precision) {
  std::array<Kind, 5> kinds{
      {{"weights", damage_weights, 40}, {"bias", damage_bias, 40}, {"pad", damage_pad, 20}, {"axis", damage_axis, 16}, {"activation", damage_activation, 20}}};
  Random random(7);
  for (const auto& model : {test::conv_model(1), test::conv_model(2), mobile_model(), attention_model(), recurrent_model()}) {
    const BuildOptions o = options(precision);
    const engine::EngineData sound = build_engine(model, o).engine;
    const VerifyReport clean = verify_engine(*model, sound, o);
    ASSERT_TRUE(clean.passed) << clean.summary;
    for (Kind& kind : kinds) {
      int here = 0;
      for (int i = 0; i < 300 && here < 8; ++i) {
        engine::EngineData data = sound;
        plan::Program& program = data.sections.front().program;
        if (!kind.damage(data, program.steps[random() % program.steps.size()], random)) continue;
        ++here;
        ++kind.tried;
        kind.caught += verify_engine(*model, data, o).passed ? 0 : 1;
      }
    }
  }
  int caught = 0, tried = 0;
  for (const Kind& kind : kinds) {
    EXPECT_GE(kind.tried, kind.wanted) << kind.name;
    EXPECT_GE(kind.caught * 100, kind.tried * 90) << kind.name << ": " << kind.caught << " of " << kind.tried;
    caught += kind.caught;
    tried += kind.tried;
  }
  EXPECT_GE(caught * 100, tried * 95) << caught << " of " << tried;
  std::printf("verification found %d of %d damages\n", caught, tried);
}

TEST(MutationTest, Float32VerificationFindsDamage) { expect_caught(Precision::kFloat32); }
TEST(MutationTest, BFloat16VerificationFindsDamage) { expect_caught(Precision::kBFloat16); }

}  // namespace
}  // namespace lathe::builder
