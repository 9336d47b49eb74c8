// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Random attentions: operands behind random chains of moving nodes, shared or not, read elsewhere or not, masks that broadcast, extents that are
// symbols. Whatever is matched must be what the graph computes, before and after projections are joined. --gtest_random_seed=N draws others.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "builder/test_models.h"
#include "ir/text.h"
#include "ir/verify.h"
#include "regions/attention/join_projections.h"
#include "regions/attention/match_check.h"

namespace lathe::regions {
namespace {

using ir::Dim;
using ir::Shape;
using ir::Value;

/// Nodes are made from the wanted shape backwards: each move asks for what it moves.
class RandomAttention {
 public:
  explicit RandomAttention(unsigned seed) : random_(seed), maker_(seed) {
    for (const char* name : {"b", "s", "t"}) bindings_[name] = pick(8) == 0 ? pick(2) : 1 + pick(4);
    const auto extent = [&](const char* symbol) { return pick(3) ? Dim(1 + pick(4)) : Dim::symbol(symbol); };
    const int axes = pick(5);  // none, a batch, heads, both
    if (axes != 0 && axes != 2) batch_.push_back(extent("b"));
    if (axes >= 2) batch_.push_back(1 + pick(3));
    queries_ = extent("s");
    keys_ = pick(2) ? queries_ : extent("t");
    depth_ = 1 + pick(6);
    value_depth_ = pick(2) ? depth_ : Dim(1 + pick(6));
    projected_ = pick(2) == 0;
    biased_ = pick(3) > 0;
    heads_ = projected_ && batch_.size() == 2 && pick(4) > 0;
    if (heads_) keys_ = queries_;
    build();
  }

  std::shared_ptr<ir::Model> model() const { return model_; }
  const ir::Bindings& bindings() const { return bindings_; }

 private:
  int pick(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  static ir::Attrs attr(const char* name, ir::Attribute value) {
    ir::Attrs attrs;
    attrs.set(name, std::move(value));
    return attrs;
  }

  void build() {
    Shape q = batch_, k = batch_, v = batch_;
    q.insert(q.end(), {queries_, depth_});
    k.insert(k.end(), {depth_, keys_});
    v.insert(v.end(), {keys_, value_depth_});
    // A batch axis that stands still for one operand, or is missing.
    for (Shape* shape : {&k, &v})
      if (pick(6) == 0 && !batch_.empty()) (*shape)[static_cast<std::size_t>(pick(static_cast<int>(batch_.size())))] = 1;
    if (pick(10) == 0 && !batch_.empty()) v.erase(v.begin());
    // Often as exporters have it: projections of one tensor, cut into heads.
    Value* left = heads_ ? head(q, {0, 2, 1, 3}) : make(q, 1 + pick(5), true);
    Value* right = heads_ ? head(k, {0, 2, 3, 1}) : make(k, 1 + pick(5), true);
    Value* scores = maker_.add("MatMul", {left, right});
    if (pick(2)) scores = scaled(scores);
    if (pick(2)) {
      Value* added = mask();
      if (pick(2)) scores = maker_.add("Add", {scores, added});
      else scores = maker_.add("Add", {added, scores});
    }
    if (pick(12) == 0) scores = scaled(scores);
    Value* weights = maker_.add("Softmax", {scores}, pick(2) ? attr("axis", -1) : attr("axis", static_cast<int>(batch_.size()) + 1));
    if (pick(4) == 0) weights = maker_.add("Where", {maker_.add("IsNaN", {weights}), maker_.floats({0}), weights});
    Value* result = maker_.add("MatMul", {weights, heads_ ? head(v, {0, 2, 1, 3}) : make(v, 1 + pick(5), false)});
    Shape shape = batch_;
    shape.insert(shape.end(), {queries_, value_depth_});
    result = moved_on(result, shape, pick(4));
    if (pick(2)) result = maker_.add("Relu", {result});
    std::vector<Value*> outputs{result};
    for (const auto& [value, of] : made_) {
      if (pick(10) != 0) continue;
      outputs.push_back(pick(2) ? value : maker_.add("Neg", {value}));
    }
    if (pick(12) == 0) outputs.push_back(maker_.add("Neg", {scores}));
    model_ = maker_.finish(std::move(outputs));
  }

  /// A projection's columns as heads, turned so that they have this shape, but for what was meant to stand still.
  Value* head(const Shape& shape, std::vector<std::int64_t> perm) {
    const bool turned = perm[2] == 3;
    const Dim columns = shape[shape.size() - (turned ? 2 : 1)];
    const Shape cut{batch_[0], queries_, batch_[1], columns}, rows{batch_[0], queries_, batch_[1] * columns};
    Value* value = maker_.add("Reshape", {make(rows, pick(8) ? 0 : 2, false), maker_.ints({0, 0, *batch_[1].constant(), *columns.constant()})});
    return maker_.add("Transpose", {value}, attr("perm", std::move(perm)));
  }

  Value* scaled(Value* x) {
    Value* k = maker_.floats({pick(4) ? 0.5F + static_cast<float>(pick(4)) / 4 : -0.75F});
    switch (pick(3)) {
      case 0: return maker_.add("Div", {x, k});
      case 1: return maker_.add("Mul", {k, x});
      default: return maker_.add("Mul", {x, k});
    }
  }

  Value* mask() {
    Shape shape = batch_;
    shape.insert(shape.end(), {queries_, keys_});
    for (Dim& dim : shape)
      if (pick(3) == 0) dim = 1;
    shape.erase(shape.begin(), shape.begin() + pick(static_cast<int>(shape.size()) + 1));
    if (const auto dims = ir::constant_dims(shape); dims && pick(3) == 0) {
      Tensor tensor(DType::kFloat32, *dims);
      for (float& x : tensor.mutable_data<float>()) x = pick(3) ? static_cast<float>(pick(8)) / 4 : -std::numeric_limits<float>::infinity();
      return maker_.constant(std::move(tensor));
    }
    return make(shape, pick(4), false);
  }

  /// A value of this shape: one that exists, or a move of another, or an input or projection.
  Value* make(const Shape& shape, int moves, bool scales) {
    if (pick(3))
      for (const auto& [value, of] : made_)
        if (of == shape && pick(2)) return value;
    Value* value = nullptr;
    for (int tries = 0; moves > 0 && tries < 4 && !value; ++tries) value = move(shape, moves, scales);
    if (!value) value = source(shape);
    made_.emplace_back(value, shape);
    return value;
  }

  Value* source(const Shape& shape) {
    if (projected_ && shape.size() >= 2 && shape.back().is_constant()) {
      Shape from = shape;
      from.back() = 5;
      Value* x = nullptr;
      for (const auto& [value, of] : inputs_)
        if (of == from) x = value;
      if (!x) inputs_.emplace_back(x = maker_.input(fmt::format("x{}", counter_++), from), from);
      const std::int64_t columns = *shape.back().constant();
      Value* product = maker_.add("MatMul", {x, weight(columns)});
      if (biased_ && pick(12)) {
        Value* bias = maker_.weight({columns});
        product = pick(2) ? maker_.add("Add", {product, bias}) : maker_.add("Add", {bias, product});
      }
      return product;
    }
    return maker_.input(fmt::format("x{}", counter_++), shape);
  }

  Value* weight(std::int64_t columns) {
    for (const auto& [width, value] : weights_)
      if (width == columns && pick(6) == 0) return value;
    weights_.emplace_back(columns, maker_.weight({5, columns}, 5));
    return weights_.back().second;
  }

  /// Some node whose result has this shape, or nullptr where the one drawn does not fit.
  Value* move(const Shape& shape, int moves, bool scales) {
    const int rank = static_cast<int>(shape.size()), at = rank ? pick(rank) : 0;
    const auto axis = static_cast<std::size_t>(at);
    const auto from = [&](const Shape& before) { return make(before, moves - 1, scales); };
    Shape before = shape;
    switch (pick(scales ? 9 : 8)) {
      case 0:
      case 1: {
        if (rank < 2) return nullptr;
        std::vector<std::int64_t> perm;
        for (int i = 0; i < rank; ++i) perm.push_back(i);
        std::shuffle(perm.begin(), perm.end(), random_);
        for (std::size_t i = 0; i < perm.size(); ++i) before[static_cast<std::size_t>(perm[i])] = shape[i];
        return maker_.add("Transpose", {from(before)}, attr("perm", perm));
      }
      case 2: {  // two axes that were one
        if (rank < 2 || at + 1 == rank) return nullptr;
        before[axis] = before[axis] * before[axis + 1];
        before.erase(before.begin() + at + 1);
        return reshaped(before, shape, from);
      }
      case 3: {  // an axis that was two, or had others of 1 beside it
        if (rank == 0 || rank > 5) return nullptr;
        const auto whole = shape[axis].constant();
        const Dim outer = pick(3) ? Dim(1 + pick(3)) : Dim(1);
        const auto inner = Dim::exact_div(shape[axis], outer);
        if (!inner || (!whole && outer != Dim(1))) return nullptr;
        before[axis] = outer;
        before.insert(before.begin() + at + pick(2), *inner);
        if (Dim::exact_div(before[axis] * before[axis + 1], shape[axis]) != Dim(1)) return nullptr;
        return reshaped(before, shape, from);
      }
      case 4: {
        if (rank > 5 || pick(2)) return nullptr;
        before.insert(before.begin() + at, 1);
        return maker_.add("Squeeze", {from(before), maker_.ints({at})});
      }
      case 5: {  // a part of an axis, by Split
        if (rank == 0 || !shape[axis].is_constant()) return nullptr;
        const std::int64_t own = *shape[axis].constant();
        std::vector<std::int64_t> parts{own, pick(3) ? own : 1 + pick(3)};
        if (pick(2)) parts.push_back(own);
        const auto index = static_cast<std::size_t>(pick(static_cast<int>(parts.size())));
        std::swap(parts[0], parts[index]);
        std::int64_t total = 0;
        for (const std::int64_t part : parts) total += part;
        before[axis] = total;
        ir::Node* node = maker_.add_all("Split", {from(before), maker_.ints(parts)}, static_cast<int>(parts.size()), attr("axis", pick(2) ? at : at - rank));
        for (std::size_t i = 0; i < parts.size(); ++i) {  // the others are there to be taken
          Shape other = shape;
          other[axis] = parts[i];
          if (i != index) made_.emplace_back(node->output(i), other);
        }
        return node->output(index);
      }
      case 6: {
        if (rank == 0) return nullptr;
        const auto own = shape[axis].constant();
        const std::int64_t start = own ? pick(3) : 0, behind = own ? pick(3) : 0;
        if (own) before[axis] = *own + start + behind;
        const std::int64_t end = own && behind ? (pick(2) ? -behind : start + *own) : std::numeric_limits<std::int64_t>::max();
        const std::int64_t first = own && start && pick(3) == 0 ? start - (*own + start + behind) : start;
        return maker_.add("Slice", {from(before), maker_.ints({first}), maker_.ints({end}), maker_.ints({pick(2) ? at : at - rank})});
      }
      case 7: {
        if (rank > 5) return nullptr;
        const std::int64_t count = 1 + pick(3), index = pick(static_cast<int>(count));
        const int where = pick(rank + 1);
        before.insert(before.begin() + where, count);
        Tensor scalar(DType::kInt64, {});
        scalar.mutable_data<std::int64_t>()[0] = pick(3) ? index : index - count;
        return maker_.add("Gather", {from(before), maker_.constant(std::move(scalar))}, attr("axis", where));
      }
      default: return scaled(from(shape));
    }
  }

  /// Reshape between two shapes, extents copied by 0 where an axis stays, one other by -1.
  template <class From>
  Value* reshaped(const Shape& before, const Shape& after, From from) {
    std::vector<std::int64_t> target;
    bool free = false, empty = false;
    for (std::size_t i = 0; i < after.size(); ++i) {
      if (const auto constant = after[i].constant()) {
        target.push_back(*constant);
      } else if (i < before.size() && before[i] == after[i]) {
        target.push_back(0);
        empty |= after[i].evaluate(bindings_) == 0;
      } else {
        if (free) return nullptr;
        free = true;
        target.push_back(-1);
      }
    }
    if (free && empty) return nullptr;  // 0 elements leave -1 open
    return maker_.add("Reshape", {from(before), maker_.ints(std::move(target))});
  }

  /// The result taken further by moves.
  Value* moved_on(Value* value, Shape shape, int moves) {
    for (; moves > 0; --moves) {
      const int rank = static_cast<int>(shape.size()), at = pick(rank);
      const auto axis = static_cast<std::size_t>(at);
      Shape next = shape;
      Value* moved = nullptr;
      const auto itself = [&](const Shape&) { return value; };
      switch (pick(4)) {
        case 0: {
          std::vector<std::int64_t> perm;
          for (int i = 0; i < rank; ++i) perm.push_back(i);
          std::shuffle(perm.begin(), perm.end(), random_);
          for (std::size_t i = 0; i < perm.size(); ++i) next[i] = shape[static_cast<std::size_t>(perm[i])];
          moved = maker_.add("Transpose", {value}, attr("perm", perm));
          break;
        }
        case 1:
          if (at + 1 == rank) break;
          next[axis] = next[axis] * next[axis + 1];
          next.erase(next.begin() + at + 1);
          moved = reshaped(shape, next, itself);
          break;
        case 2: {
          const auto whole = shape[axis].constant();
          const std::int64_t outer = 1 + pick(3);
          if (!whole || *whole % outer != 0) break;
          next[axis] = outer;
          next.insert(next.begin() + at + 1, *whole / outer);
          moved = reshaped(shape, next, itself);
          break;
        }
        default: next.insert(next.begin() + at, 1); moved = maker_.add("Unsqueeze", {value, maker_.ints({at})});
      }
      if (!moved) continue;
      value = moved;
      shape = next;
    }
    return value;
  }

  std::mt19937 random_;
  builder::test::ModelMaker maker_;
  std::shared_ptr<ir::Model> model_;
  ir::Bindings bindings_;
  Shape batch_;
  Dim queries_, keys_, depth_, value_depth_;
  bool projected_ = false, biased_ = false, heads_ = false;
  std::vector<std::pair<Value*, Shape>> made_, inputs_;
  std::vector<std::pair<std::int64_t, Value*>> weights_;
  int counter_ = 0;
};

bool same(const Tensor& a, const Tensor& b) {
  if (a.dims() != b.dims()) return false;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    const double x = a.as_double(i), y = b.as_double(i);
    if (!(std::abs(x - y) <= 1e-5 * (1 + std::abs(x))) && !(std::isnan(x) && std::isnan(y)) && x != y) return false;
  }
  return true;
}

TEST(AttentionRandom, WhatIsMatchedIsWhatTheGraphComputes) {
  const auto first = static_cast<unsigned>(GTEST_FLAG_GET(random_seed)) * 10000;
  int matched = 0, moved = 0, joined = 0;
  constexpr int kCases = 800;
  for (unsigned seed = first; seed < first + kCases; ++seed) {
    const RandomAttention drawn(seed);
    ir::Graph& graph = *drawn.model()->graph;
    const std::string text = ir::print(graph);
    SCOPED_TRACE(fmt::format("seed {}\n{}", seed, text));
    const auto check = [&] {
      for (const ir::Node* node : graph.nodes()) {
        const auto regions = propose_attention(*node);
        if (regions.empty()) continue;
        ++matched;
        moved += regions.front().nodes.size() > 6;
        test::check_match(graph, node, drawn.bindings());
      }
    };
    check();
    if (testing::Test::HasFatalFailure()) return;
    const auto inputs = test::random_inputs(graph, drawn.bindings());
    const auto before = ops::ReferenceRunner(graph).run(inputs);
    if (join_projections(graph, 128).empty()) continue;
    ++joined;
    ir::verify(graph, "join_projections");
    const auto after = ops::ReferenceRunner(graph).run(inputs);
    for (std::size_t i = 0; i < before.size(); ++i) ASSERT_TRUE(same(before[i], after[i])) << "output " << i << " once joined";
    check();
    if (testing::Test::HasFatalFailure()) return;
  }
  EXPECT_GT(matched, kCases / 2);
  EXPECT_GT(moved, kCases / 2);
  EXPECT_GT(joined, kCases / 50);
}

}  // namespace
}  // namespace lathe::regions
