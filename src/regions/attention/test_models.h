// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Attention as exporters spell it, in small: for tests of matching (no GPU needed) and of the kernels on one.

#include <cmath>
#include <limits>

#include "builder/test_models.h"

namespace lathe::builder::test {

enum class Mask { kNone, kKeys, kFull, kCausal, kEmptyRow };
/// Separate projections, [batch, heads, ..] tensors; [batch * heads, ..] tensors; one projection cut up by Split; cut up by Gather after a
/// transposition, as in PyTorch's MultiheadAttention with tokens first.
enum class Spelling { kSeparate, kFlat, kSplit, kGather };

struct AttentionCase {
  ir::Dim batch = 1, queries = 16, keys = 16;  ///< keys differ from queries: of another input (kSeparate and kFlat)
  std::int64_t heads = 2, size = 64, value_size = 64;
  Mask mask = Mask::kNone;
  Spelling spelling = Spelling::kSeparate;
  bool cross = false;
  bool key_bias = true;  ///< kSeparate: the projection to keys has a bias
};

inline ir::Attrs attrs_of(const std::string& name, ir::Attribute value) {
  ir::Attrs attrs;
  attrs.set(name, std::move(value));
  return attrs;
}

/// An attention between projections. Dynamic extents are allowed where the spelling needs no product of two of them.
inline std::shared_ptr<ir::Model> attention_model(const AttentionCase& c, std::uint32_t seed = 1) {
  ModelMaker m(seed);
  const std::int64_t width = c.heads * c.size, value_width = c.heads * c.value_size;
  ir::Value* x = m.input("x", {c.batch, c.queries, width});
  ir::Value* source = c.cross ? m.input("source", {c.batch, c.keys, width}) : x;
  const ir::Dim keys = c.cross ? c.keys : c.queries;
  const auto project = [&](ir::Value* from, std::int64_t columns, bool bias = true) {
    ir::Value* product = m.add("MatMul", {from, m.weight({width, columns}, static_cast<double>(width))});
    return bias ? m.add("Add", {product, m.weight({columns}, 4)}) : product;
  };
  const auto permute = [&](ir::Value* value, std::vector<std::int64_t> perm) { return m.add("Transpose", {value}, attrs_of("perm", std::move(perm))); };
  const auto number = [](const ir::Dim& dim) { return dim.constant().value_or(-1); };
  ir::Value *q = nullptr, *k = nullptr, *v = nullptr, *out = nullptr;
  if (c.spelling == Spelling::kSeparate || c.spelling == Spelling::kSplit) {
    ir::Value *pq = nullptr, *pk = nullptr, *pv = nullptr;
    if (c.spelling == Spelling::kSplit) {
      ir::Node* split = m.add_all("Split", {project(x, 2 * width + value_width), m.ints({width, width, value_width})}, 3, attrs_of("axis", 2));
      pq = split->output(0), pk = split->output(1), pv = split->output(2);
    } else {
      pq = project(x, width), pk = project(source, width, c.key_bias), pv = project(source, value_width);
    }
    const auto heads = [&](ir::Value* value, std::int64_t size, std::vector<std::int64_t> perm) {
      return permute(m.add("Reshape", {value, m.ints({0, 0, c.heads, size})}), std::move(perm));
    };
    q = heads(pq, c.size, {0, 2, 1, 3});
    k = heads(pk, c.size, {0, 2, 3, 1});
    v = heads(pv, c.value_size, {0, 2, 1, 3});
  } else if (c.spelling == Spelling::kFlat) {
    const auto flat = [&](ir::Value* value, const ir::Dim& rows, std::int64_t size, std::vector<std::int64_t> perm) {
      const bool turned = perm[2] == 3;
      value = permute(m.add("Reshape", {value, m.ints({number(c.batch), number(rows), c.heads, size})}), std::move(perm));
      return m.add("Reshape", {value, turned ? m.ints({-1, size, number(rows)}) : m.ints({-1, number(rows), size})});
    };
    q = flat(project(x, width), c.queries, c.size, {0, 2, 1, 3});
    k = flat(project(source, width), keys, c.size, {0, 2, 3, 1});
    v = flat(project(source, value_width), keys, c.value_size, {0, 2, 1, 3});
  } else {
    ir::Value* y = permute(x, {1, 0, 2});
    y = m.add("Reshape", {project(y, 3 * width), m.ints({number(c.queries), number(c.batch), 3, width})});
    y = m.add("Squeeze", {permute(m.add("Unsqueeze", {y, m.ints({0})}), {3, 1, 2, 0, 4}), m.ints({3})});
    const auto part = [&](std::int64_t index) {
      Tensor scalar(DType::kInt64, {});
      *scalar.mutable_data<std::int64_t>().data() = index;
      ir::Value* value = m.add("Gather", {y, m.constant(std::move(scalar))}, attrs_of("axis", 0));
      value = permute(m.add("Reshape", {value, m.ints({number(c.queries), number(c.batch) * c.heads, c.size})}), {1, 0, 2});
      return m.add("Reshape", {value, m.ints({number(c.batch), c.heads, number(c.queries), c.size})});
    };
    q = part(0), k = permute(part(1), {0, 1, 3, 2}), v = part(2);
  }
  const float scale = 1 / std::sqrt(static_cast<float>(c.size));
  ir::Value* scores = nullptr;
  if (c.spelling == Spelling::kSplit) {  // half of the scale on each side
    scores = m.add("MatMul", {m.add("Mul", {q, m.floats({std::sqrt(scale)})}), m.add("Mul", {k, m.floats({std::sqrt(scale)})})});
  } else {
    scores = m.add("Div", {m.add("MatMul", {q, k}), m.floats({1 / scale})});
  }
  if (c.mask == Mask::kKeys) scores = m.add("Add", {scores, m.input("mask", {c.batch, 1, 1, keys})});
  if (c.mask == Mask::kFull) scores = m.add("Add", {m.input("mask", {c.queries, keys}), scores});
  if (c.mask == Mask::kCausal || c.mask == Mask::kEmptyRow) {
    const std::int64_t rows = *c.queries.constant(), columns = *keys.constant();
    Tensor mask(DType::kFloat32, {rows, columns});
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < columns; ++j)
        mask.mutable_data<float>()[static_cast<std::size_t>(i * columns + j)] =
            j > i || (c.mask == Mask::kEmptyRow && i == 3) ? -std::numeric_limits<float>::infinity() : 0.0F;
    scores = m.add("Add", {scores, m.constant(std::move(mask))});
  }
  ir::Value* weights = m.add("Softmax", {scores}, attrs_of("axis", -1));
  if (c.mask == Mask::kEmptyRow) weights = m.add("Where", {m.add("IsNaN", {weights}), m.floats({0}), weights});
  out = m.add("MatMul", {weights, v});
  if (c.spelling == Spelling::kFlat) out = m.add("Reshape", {out, m.ints({number(c.batch), c.heads, number(c.queries), c.value_size})});
  if (c.spelling == Spelling::kGather) {
    out = m.add("Reshape", {permute(out, {2, 0, 1, 3}), m.ints({number(c.queries) * number(c.batch), value_width})});
    out = m.add("Reshape", {m.add("MatMul", {out, m.weight({value_width, width}, static_cast<double>(value_width))}),
                            m.ints({number(c.queries), number(c.batch), width})});
    out = permute(out, {1, 0, 2});
  } else {
    out = m.add("Reshape", {permute(out, {0, 2, 1, 3}), m.ints({0, 0, value_width})});
    out = m.add("MatMul", {out, m.weight({value_width, width}, static_cast<double>(value_width))});
  }
  return m.finish({m.add("Relu", {out})});
}

}  // namespace lathe::builder::test
