// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Attention from proposal to places: the definition, evaluated on the operands where the match says that they lie, must give what the graph gives.

#include "regions/attention/attention.h"

#include <gtest/gtest.h>

#include <fmt/format.h>

#include "ops/reference_runner.h"
#include "regions/attention/join_projections.h"
#include "regions/attention/match_check.h"
#include "regions/attention/test_models.h"

namespace lathe::regions {
namespace {

using builder::test::attention_model;
using builder::test::AttentionCase;
using builder::test::attrs_of;
using builder::test::Mask;
using builder::test::ModelMaker;
using builder::test::Spelling;

const ir::Node* product_of(const ir::Graph& graph) {
  const ir::Node* found = nullptr;
  for (const ir::Node* node : graph.nodes())
    if (!propose_attention(*node).empty()) found = node;
  return found;
}

/// Every alternative of the model's last attention.
void check(const ir::Model& model, const ir::Bindings& bindings) {
  const ir::Node* product = product_of(*model.graph);
  ASSERT_TRUE(product);
  test::check_match(*model.graph, product, bindings);
}

TEST(Attention, PlacesOfEverySpelling) {
  using D = ir::Dim;
  const D batch = D::symbol("batch"), tokens = D::symbol("tokens"), others = D::symbol("others");
  const AttentionCase cases[] = {
      {D(1), D(5), D(5), 3, 4, 4, Mask::kNone, Spelling::kSeparate, false},     {D(2), D(5), D(7), 3, 4, 6, Mask::kNone, Spelling::kSeparate, true},
      {batch, tokens, others, 2, 4, 4, Mask::kKeys, Spelling::kSeparate, true}, {batch, tokens, tokens, 2, 4, 4, Mask::kFull, Spelling::kSplit, false},
      {D(2), D(5), D(5), 2, 4, 6, Mask::kCausal, Spelling::kSplit, false},      {D(3), D(5), D(5), 2, 4, 4, Mask::kNone, Spelling::kGather, false},
      {D(3), D(5), D(6), 2, 4, 4, Mask::kNone, Spelling::kFlat, true},          {D(2), D(5), D(5), 2, 4, 4, Mask::kEmptyRow, Spelling::kSeparate, false},
  };
  for (const AttentionCase& c : cases) {
    SCOPED_TRACE(fmt::format("spelling {}, mask {}", static_cast<int>(c.spelling), static_cast<int>(c.mask)));
    check(*attention_model(c), {{"batch", 3}, {"tokens", 5}, {"others", 6}});
  }
}

AttentionBlock widest(const ir::Model& model) { return match_attention(propose_attention(*product_of(*model.graph)).front()); }

TEST(Attention, OperandsAreReadWhereTheProjectionsLeftThem) {
  for (const Spelling spelling : {Spelling::kSplit, Spelling::kGather}) {
    AttentionCase c;
    c.batch = 2;
    c.spelling = spelling;
    const auto model = attention_model(c);
    const AttentionBlock b = widest(*model);
    EXPECT_EQ(b.q.value, b.k.value);
    EXPECT_EQ(b.q.value, b.v.value);
    EXPECT_TRUE(b.q.value->producer->is("Add"));
    EXPECT_TRUE(b.out.value->uses.at(0).node->is("MatMul"));
  }
  AttentionCase flat;
  flat.batch = 2;
  flat.spelling = Spelling::kFlat;
  const auto model = attention_model(flat);
  EXPECT_TRUE(widest(*model).q.value->producer->is("Add"));
}

TEST(Attention, ScaleOfBothSidesAndOfTheScores) {
  AttentionCase c;
  c.size = 16;
  EXPECT_NEAR(widest(*attention_model(c)).scale, 0.25, 1e-6);
  c.spelling = Spelling::kSplit;
  EXPECT_NEAR(widest(*attention_model(c)).scale, 0.25, 1e-6);
}

TEST(Attention, MustNotFire) {
  // Softmax along the queries; weights that are an output too; a mask that widens the scores.
  for (const int what : {0, 1, 2}) {
    ModelMaker m;
    ir::Value *q = m.input("q", {1, 6, 8}), *k = m.input("k", {1, 8, 6}), *v = m.input("v", {1, 6, 8});
    ir::Value* scores = m.add("MatMul", {q, k});
    if (what == 2) scores = m.add("Add", {scores, m.input("mask", {3, 6, 6})});
    ir::Value* weights = m.add("Softmax", {scores}, attrs_of("axis", what == 0 ? 1 : 2));
    ir::Value* y = m.add("MatMul", {weights, v});
    const auto model = what == 1 ? m.finish({y, weights}) : m.finish({y});
    EXPECT_EQ(product_of(*model->graph), nullptr) << what;
  }
}

TEST(Attention, NoOperandIsReadFromWhatTheRegionMakes) {
  {  // Queries have strides through the Reshape that makes y, keys and values only from y on.
    ModelMaker m;
    ir::Value* y = m.add("Reshape", {m.input("x", {6, 4, 2}), m.ints({6, 8})});
    const auto part = [&](std::int64_t from, std::int64_t to) { return m.add("Slice", {y, m.ints({from}), m.ints({to}), m.ints({1})}); };
    Tensor last(DType::kInt64, {});
    last.mutable_data<std::int64_t>()[0] = 1;
    ir::Value* q = m.add("Gather", {m.add("Reshape", {y, m.ints({6, 4, 2})}), m.constant(std::move(last))}, attrs_of("axis", 2));
    ir::Value* weights = m.add("Softmax", {m.add("MatMul", {q, m.add("Transpose", {part(1, 5)})})});
    check(*m.finish({m.add("MatMul", {weights, part(2, 6)})}), {});
  }
  {  // The mask is what the queries are.
    ModelMaker m;
    ir::Value *q = m.add("Transpose", {m.input("x", {6, 6})}), *k = m.input("k", {6, 6});
    ir::Value* weights = m.add("Softmax", {m.add("Add", {m.add("MatMul", {q, k}), q})});
    check(*m.finish({m.add("MatMul", {weights, k})}), {});
  }
}

TEST(Attention, AFactorThatIsInfiniteTurnedRoundIsNone) {
  ModelMaker m;
  ir::Value *q = m.input("q", {3, 4}), *k = m.input("k", {4, 5});
  ir::Value* scores = m.add("Div", {m.add("MatMul", {q, k}), m.floats({1e-40F})});
  const auto model = m.finish({m.add("MatMul", {m.add("Softmax", {scores}), m.input("v", {5, 4})})});
  EXPECT_EQ(product_of(*model->graph), nullptr);
}

TEST(Attention, KeysThatLeaveTheGraphAreReadAsTheyAre) {
  ModelMaker m;
  ir::Value* x = m.input("x", {1, 6, 8});
  const auto turned = [&](std::vector<std::int64_t> perm) {
    return m.add("Transpose", {m.add("MatMul", {x, m.weight({8, 8}, 8)})}, attrs_of("perm", std::move(perm)));
  };
  ir::Value *k = turned({0, 2, 1}), *q = m.add("MatMul", {x, m.weight({8, 8}, 8)});
  ir::Value* weights = m.add("Softmax", {m.add("MatMul", {q, k})}, attrs_of("axis", -1));
  const auto model = m.finish({m.add("MatMul", {weights, m.add("MatMul", {x, m.weight({8, 8}, 8)})}), k});
  EXPECT_EQ(widest(*model).k.value, k);
  check(*model, {});
}

TEST(Attention, JoinedProjectionsGiveTheSame) {
  for (const bool cross : {false, true}) {
    AttentionCase c;
    c.batch = 2;
    c.cross = cross;
    c.keys = cross ? 9 : 16;
    c.value_size = 48;
    const auto model = attention_model(c);
    const auto inputs = test::random_inputs(*model->graph, {});
    const Tensor before = ops::ReferenceRunner(*model->graph).run(inputs).at(0);
    const JoinedConstants joined = join_projections(*model->graph, 128);
    std::int64_t products = 0;
    for (const ir::Node* node : model->graph->nodes()) products += node->is("MatMul");
    // Of two inputs, only keys and values could be joined; they are left alone, since queries read another tensor.
    EXPECT_EQ(products, cross ? 6 : 4);
    EXPECT_EQ(joined.size(), cross ? 0u : 2u);
    const Tensor after = ops::ReferenceRunner(*model->graph).run(inputs).at(0);
    for (std::int64_t i = 0; i < before.size(); ++i) ASSERT_NEAR(before.as_double(i), after.as_double(i), 1e-5) << i;
    if (cross) continue;
    const AttentionBlock b = widest(*model);
    EXPECT_EQ(b.q.value, b.v.value);
    for (const auto& [whole, parts] : joined) EXPECT_EQ(parts.size(), 3u) << whole->name;
    EXPECT_TRUE(join_projections(*model->graph, 128).empty());
  }
  // Whisper's keys have no bias.
  AttentionCase mixed;
  mixed.key_bias = false;
  const auto model = attention_model(mixed);
  const auto inputs = test::random_inputs(*model->graph, {});
  const Tensor before = ops::ReferenceRunner(*model->graph).run(inputs).at(0);
  const JoinedConstants joined = join_projections(*model->graph, 128);
  ASSERT_EQ(joined.size(), 2u);
  std::size_t parts = 0;
  for (const auto& [whole, of] : joined) parts += of.size();
  EXPECT_EQ(parts, 5u) << "three weights and two biases";
  const Tensor after = ops::ReferenceRunner(*model->graph).run(inputs).at(0);
  for (std::int64_t i = 0; i < before.size(); ++i) ASSERT_NEAR(before.as_double(i), after.as_double(i), 1e-5) << i;
  AttentionCase wide;
  wide.size = 160;
  EXPECT_TRUE(join_projections(*attention_model(wide)->graph, 128).empty());
}

}  // namespace
}  // namespace lathe::regions
