// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A matrix product by cuBLASLt: from strided tensors (matmul_layout.h) to the library's problem, and what the step records beside cuda.matmul's
// parameters: "algorithm" (the parts of the one that was timed), "tuned_rows", "library" (the version that was asked).

#include <utility>

#include "backend/cuda/cublaslt_matmul.h"
#include "regions/cuda_params.h"
#include "regions/matmul_block/matmul_layout.h"

namespace lathe::regions {

/// Products over two batch axes that do not merge are one call for each item of the shorter axis; so many still pay.
inline constexpr std::int64_t kMostCublasltCalls = 4;

struct CublasltMatMul {
  cuda::cublaslt::MatMulProblem problem;
  MatMulLoop outer;  ///< the batch axis that is a loop around the library's own
};

inline std::int64_t packed_row(std::int64_t depth) noexcept { return (depth + 7) / 8 * 8; }

/// `residual`: is there one? Of a packed B the rows are packed_row() apart. Allocates nothing.
inline CublasltMatMul cublaslt_matmul(const MatMulLayout& layout, cuda::ProductType product, cuda::ElementType stored, bool residual, bool bias,
                                      int activation) noexcept {
  const cpu::GemmProblem& p = layout.problem;
  CublasltMatMul m;
  cuda::cublaslt::MatMulProblem& q = m.problem;
  q.product = product;
  q.stored = stored;
  q.rows = p.m;
  q.columns = p.n;
  q.depth = p.k;
  q.a_transposed = p.trans_a;
  q.b_transposed = p.packed_b || p.trans_b;
  q.a_row = p.lda;
  q.b_row = p.packed_b ? packed_row(p.k) : p.ldb;
  q.c_row = p.ldc;
  q.residual = residual;
  q.residual_row = residual ? layout.residual_stride : 0;
  q.bias = bias;
  q.activation = activation;
  // A single row has no stride, and the library wants one that a row fits into.
  if (residual && p.m == 1) q.residual_row = p.n;
  const MatMulLoop inner{p.batch_inner, p.a_inner, p.packed_b ? 0 : p.b_inner, p.c_inner, layout.residual_inner};
  const MatMulLoop outer{p.batch_outer, p.a_outer, p.packed_b ? 0 : p.b_outer, p.c_outer, layout.residual_outer};
  const bool swap = outer.extent > inner.extent;
  const MatMulLoop& batch = swap ? outer : inner;
  m.outer = swap ? inner : outer;
  q.batch = batch.extent;
  q.a_batch = batch.a;
  q.b_batch = batch.b;
  q.c_batch = batch.c;
  q.residual_batch = batch.residual;
  return m;
}

/// Why a step that was timed with the library that the parameters name cannot run here; "" = it can.
inline std::string cublaslt_unfit(const ir::Attrs& params) {
  std::string why;
  const cuda::cublaslt::Library* library = cuda::cublaslt::Library::find(&why);
  if (!library) return "a step runs by cuBLASLt, and " + why;
  const std::string timed = params.get_string("library", "");
  if (library->version_text() != timed)
    return fmt::format("a step was timed with cuBLASLt {}, here is {} (PyPI: nvidia-cublas)", timed, library->version_text());
  return "";
}

inline cuda::cublaslt::Config read_cublaslt_algorithm(const ir::Attrs& params) {
  const auto values = params.get_ints("algorithm");
  cuda::cublaslt::Config config{};
  if (values.size() != config.size()) throw Error(Code::kCorruptFile, "the algorithm of a product by cuBLASLt is not one that this version knows");
  for (std::size_t i = 0; i < config.size(); ++i) config[i] = static_cast<std::int32_t>(values[i]);
  return config;
}

}  // namespace lathe::regions
