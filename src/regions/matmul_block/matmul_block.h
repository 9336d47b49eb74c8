// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The pattern "matmul_block": MatMul or Gemm with what its kernels take along. Before it, on an operand that is not constant: Transpose
// and multiplication by a constant number. Behind it: multiplication by a constant number, bias, activation, residual, Transpose.
// Proposal and matching; the candidates are in matmul_block_candidates.cpp, the kernels in matmul_block_cpu.cpp.

#include "regions/match.h"

namespace lathe::regions {

struct MatMulBlock {
  const ir::Node* node = nullptr;
  ir::Value *a = nullptr, *b = nullptr;                ///< operands as the region reads them, before perm_a and perm_b
  std::vector<std::int64_t> perm_a, perm_b, perm_out;  ///< as Transpose's perm, Gemm's transA included; empty = none
  bool trans_b = false;                                ///< Gemm's transB, not in perm_b
  float scale = 1;                                     ///< on the product
  ir::Value* c = nullptr;                              ///< Gemm's third input, or nullptr
  float c_scale = 1;
  Tail tail;  ///< its bias varies along the columns
};

/// Alternatives for a MatMul or Gemm, widest first; empty for any other node.
std::vector<ops::Region> propose_matmul_block(const ir::Node& node);
MatMulBlock match_matmul_block(const ops::Region& region);

/// Operands of products that a narrow plan has to leave wide where they lie (constants on the left, since only those on the right are packed in the
/// type of the product; outputs of the graph, such as caches) are read through an Identity from then on, whose result is as narrow as what other
/// products read. Returns how many there were.
int compute_wide_operands(ir::Graph& graph);

}  // namespace lathe::regions
