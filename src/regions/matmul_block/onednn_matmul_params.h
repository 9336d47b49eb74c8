// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A matrix product with a constant right operand as oneDNN's 1x1 convolution: rows are pixels, columns output channels. Parameters:
// "extents" (rows of one item of the batch, k, n), "weight_dims", "trans_b", permutations as cpu.matmul's, and what onednn_params.h has.

#include "regions/matmul_block/matmul_layout.h"
#include "regions/onednn_params.h"

namespace lathe::regions {

inline cpu::ConvProblem matmul_as_conv(std::int64_t m, std::int64_t k, std::int64_t n) {
  cpu::ConvProblem problem;
  problem.w = m;
  problem.cin = k;
  problem.cout = n;
  return problem;
}

inline cpu::onednn::ConvSpec read_matmul_spec(const ir::Attrs& params) {
  const auto extents = params.get_ints("extents"), weight = params.get_ints("weight_dims");
  const bool transposed = params.get_int("trans_b", 0) != 0;
  if (extents.size() != 3 || weight.size() != 2 || extents[0] < 1 || weight[transposed ? 1 : 0] != extents[1] || weight[transposed ? 0 : 1] != extents[2])
    throw Error(Code::kCorruptFile, "the extents of a matrix product by oneDNN do not fit together");
  cpu::onednn::ConvSpec spec;
  spec.problem = matmul_as_conv(extents[0], extents[1], extents[2]);
  read_onednn(params, spec);
  return spec;
}

/// Strides of a product of any number of items of `rows` rows each; false, and in `why` the reason, when it is none that such a step can run.
inline bool onednn_strides(const MatMulLayout& layout, std::int64_t rows, bool residual, cpu::onednn::ConvStrides& strides, std::string& why) {
  const cpu::GemmProblem& p = layout.problem;
  if (layout.empty || p.k < 1) {
    why = "nothing to multiply";
  } else if (p.trans_a) {
    why = "the left operand is transposed";
  } else if (!layout.loops.empty() || p.batch_outer != 1 || p.batch_inner != 1) {
    why = "the batch is not a matter of more rows";
  } else if (rows < 1 || p.m % rows != 0) {
    why = "the step is made for another number of rows";
  } else if (residual && p.m > 1 && layout.residual_stride == 0) {
    why = "the residual is one row for all";
  } else {
    // A single row has no stride.
    const auto stride = [&](std::int64_t given, std::int64_t dense) { return given == 0 || p.m == 1 ? dense : given; };
    const std::int64_t a = stride(p.lda, p.k), c = stride(p.ldc, p.n), r = residual ? stride(layout.residual_stride, p.n) : 0;
    strides = {a, rows * a, c, rows * c, r, rows * r};
    return true;
  }
  return false;
}

}  // namespace lathe::regions
