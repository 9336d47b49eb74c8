// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the attentions of com.microsoft are made of: heads, masks as biases, and softmax(scale Q K' + bias) V by products and a softmax.

#include <optional>

#include "ops/expand_util.h"

namespace lathe::ops {

/// [batch, sequence, heads * size] -> [batch, heads, sequence, size].
Value* split_heads(Parts& p, Value* x, std::int64_t heads);
/// The way back.
Value* merge_heads(Parts& p, Value* x);

struct Softmaxed {
  Value *q = nullptr, *k = nullptr, *v = nullptr;  ///< [batch, heads, sequence, size]; k and v may have fewer heads, whose groups share
  DType dtype = DType::kFloat32;
  double scale = 1;
  double softcap = 0;                  ///< 0: none
  std::vector<Value*> biases{};        ///< added to the scores, broadcast to [batch, heads, queries, keys]; nullptr: none
  Value* sink = nullptr;               ///< one more score for each row, [1 or batch, heads, 1, 1], that takes its share of the sum
  std::int64_t heads = 1, groups = 1;  ///< heads of q; heads of q for each of k
  bool rows_may_be_empty = false;      ///< a query whose biases are all minus infinity gives zeros
};
/// softmax(...) V: [batch, heads, queries, size of v].
Value* attend(Parts& p, const Softmaxed& a);

/// 0 where `condition` holds, else `value`.
Value* where_not(Parts& p, Value* condition, DType dtype, double value);
/// 0, 1, ..., length - 1 as int64; `length` is int64 of rank 1.
Value* counted(Parts& p, Value* length);
/// The bias of a causal mask, [queries, keys]: query i stands at keys - queries + i.
Value* causal_bias(Parts& p, Value* q, Value* k, DType dtype);
/// The bias of a padding mask (Attention's mask_index, MultiHeadAttention's key_padding_mask): of rank 1 the number of real keys, or their
/// ends and then their starts; else 0 where a key is padding. q is [batch, heads, queries, size], k alike.
Value* padding_bias(Parts& p, Value* mask, const Dim& batch, Value* q, Value* k, DType dtype, double filter);

}  // namespace lathe::ops
