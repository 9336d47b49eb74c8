// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Casts of casts, where the one in between loses nothing.
//
//   Cast(Cast(x: A, to B), to C)  ->  Cast(x, to C)      when every value of A is exact in B
//   Cast(Cast(x: A, to B), to A)  ->  x                  likewise
//
// Exact widenings: bool to any number; integers to wider integers that hold their range; integers to floats whose significand holds
// them; float16, bfloat16, float8, float4 to float32 and float64; float32 to float64. A float to an integer is never exact, and a
// float64 rounded once differs from one rounded twice, so only exact intermediates go.

#include "passes/pass.h"
#include "passes/rewrite.h"

namespace lathe::passes {
namespace {

using ir::Node;
using ir::Value;

int significand_bits(DType dtype) {
  switch (dtype) {
    case DType::kFloat64: return 53;
    case DType::kFloat32: return 24;
    case DType::kFloat16: return 11;
    case DType::kBFloat16: return 8;
    default: return 0;
  }
}

}  // namespace

// Declared here for the test; no other pass asks.
bool cast_is_exact(DType from, DType to) {
  if (from == to) return true;
  if (from == DType::kBool) return is_integer(to) ? dtype_bits(to) > 1 : significand_bits(to) > 0;
  if (is_integer(from) && is_integer(to)) {
    const bool from_signed = is_signed_integer(from), to_signed = is_signed_integer(to);
    if (from_signed == to_signed) return dtype_bits(to) >= dtype_bits(from);
    return !from_signed && dtype_bits(to) > dtype_bits(from);
  }
  if (is_integer(from))
    return dtype_bits(from) - (is_signed_integer(from) ? 1 : 0) <= significand_bits(to) && significand_bits(to) > 0 &&
           (to != DType::kFloat16 || dtype_bits(from) <= 11);
  if (!is_float(from) || !is_float(to)) return false;
  if (to == DType::kFloat64) return true;
  if (to == DType::kFloat32) return from != DType::kFloat64;
  return false;
}

int cast_chains(ir::Graph& graph, PassContext&) {
  int rewrites = 0;
  graph.for_each([&](Node& node) {
    if (!node.is("Cast")) return;
    Node* inner = producer_of(node.inputs[0], "Cast");
    if (!inner || inner->graph != &graph) return;
    Value* x = inner->inputs[0];
    const DType from = x->dtype(), middle = node.inputs[0]->dtype(), to = node.outputs[0]->dtype();
    if (from == DType::kUndefined || middle == DType::kUndefined || to == DType::kUndefined) return;
    if (!cast_is_exact(from, middle) || to == DType::kString) return;  // texts tell the types apart
    merge_sources(node, *inner);
    if (to == from) {
      bypass(node, x);
    } else {
      graph.set_input(&node, 0, x);
      erase_dead(inner);
    }
    ++rewrites;
  });
  return rewrites;
}

}  // namespace lathe::passes
