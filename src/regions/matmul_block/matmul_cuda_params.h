// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a matrix product over strided tensors (matmul_layout.h) to the set-up of the CUDA kernels.

#include "regions/cuda_params.h"
#include "regions/matmul_block/matmul_layout.h"

namespace lathe::regions {

struct CudaMatMul {
  cuda::MatMulShape shape;
  cuda::MatMulOperands operands;
};

/// `b`: of a second operand that is not packed. Allocates nothing.
inline CudaMatMul cuda_matmul(const MatMulLayout& layout, cuda::ProductType product, cuda::ElementType a, cuda::ElementType c, bool residual) noexcept {
  const cpu::GemmProblem& p = layout.problem;
  CudaMatMul m;
  m.shape = {p.m, p.n, p.k, p.batch_outer, p.batch_inner};
  cuda::MatMulOperands& o = m.operands;
  o.product = product;
  o.a_type = a;
  o.stored = c;
  o.a_row = p.trans_a ? 1 : p.lda;
  o.a_column = p.trans_a ? p.lda : 1;
  o.a_outer = p.a_outer;
  o.a_inner = p.a_inner;
  o.packed_b = p.packed_b;
  if (!p.packed_b) {
    o.b_across = !p.trans_b;
    o.b_row = p.ldb;
    o.b_outer = p.b_outer;
    o.b_inner = p.b_inner;
  }
  o.c_row = p.ldc;
  o.c_outer = p.c_outer;
  o.c_inner = p.c_inner;
  o.residual = residual;
  o.residual_row = layout.residual_stride;
  o.residual_outer = layout.residual_outer;
  o.residual_inner = layout.residual_inner;
  return m;
}

}  // namespace lathe::regions
