// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From strided tensors of any rank to the matrix products that src/backend/cpu/gemm.h runs: which axis is which, what is transposed, and
// which batch axes run as rows, as the product's own two batch axes, or as loops around it. Candidates ask it, kernels bind by it.

#include <optional>
#include <string>
#include <vector>

#include "backend/cpu/gemm.h"
#include "plan/kernel.h"

namespace lathe::regions {

struct MatMulLoop {
  std::int64_t extent = 1, a = 0, b = 0, c = 0, residual = 0;  ///< strides in elements
};

struct MatMulLayout {
  cpu::GemmProblem problem;  ///< without element types
  std::int64_t residual_stride = 0, residual_outer = 0, residual_inner = 0;
  std::vector<MatMulLoop> loops;  ///< batch axes beyond the problem's two, outermost first
  bool empty = false;             ///< no output element
  double flops = 0;
};

struct MatMulRequest {
  plan::TensorDesc a;                 ///< axes in the product's order (permuted())
  std::optional<plan::TensorDesc> b;  ///< nullopt: packed, and its extents are these
  std::int64_t packed_k = 0, packed_n = 0;
  bool packed_vector = false;  ///< the packed B was a vector: the product has no column axis
  plan::TensorDesc c;
  std::optional<plan::TensorDesc> residual;  ///< broadcast to c's rank and extents by numpy's rule
};

/// The same memory with axes in another order: axis i is desc's axis perm[i]. Empty perm: unchanged. `into` keeps its memory.
void permute(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm, plan::TensorDesc& into);
plan::TensorDesc permuted(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm);
/// The desc whose permute(..., perm) is `desc`.
void unpermute(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm, plan::TensorDesc& into);
plan::TensorDesc unpermuted(const plan::TensorDesc& desc, const std::vector<std::int64_t>& perm);

/// A step's permutation of `rank` axes; empty: none. Throws Error(kCorruptFile) for what is no permutation.
std::vector<std::int64_t> checked_permutation(std::vector<std::int64_t> perm, std::size_t rank);

/// False, and in `why` the reason, when the kernels cannot run it (no contiguous axis). `into` keeps its memory.
bool matmul_layout(const MatMulRequest& request, MatMulLayout& into, std::string& why);
std::optional<MatMulLayout> matmul_layout(const MatMulRequest& request, std::string& why);

}  // namespace lathe::regions
