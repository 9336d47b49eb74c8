// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Matrix product C[M,N] = epilogue(A[M,K] x B[K,N]) with batches, arbitrary leading dimensions and transposed operands, on the
// tiles of the convolution kernels. Constant B is packed once; other B is packed block by block inside the run. Few rows (M <= 4)
// stream B once at memory speed.

#include <cstddef>
#include <cstdint>
#include <string>

#include "backend/cpu/epilogue.h"
#include "backend/cpu/features.h"
#include "lathe/dtype.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::cpu {

/// Types are kFloat32 or kBFloat16, in any mix. The product is computed in bf16 when B is bf16, else in fp32; sums are fp32.
struct GemmProblem {
  std::int64_t m = 0, n = 0, k = 0;
  bool trans_a = false;                    ///< A is stored [K,M]
  bool trans_b = false;                    ///< B is stored [N,K]; ignored when packed
  bool packed_b = false;                   ///< args.b is what pack_gemm_b wrote (one per batch item when its strides are not 0)
  std::int64_t lda = 0, ldb = 0, ldc = 0;  ///< elements between rows as stored; 0 = dense
  /// Two batch dimensions (e.g. batch and head) with strides in elements; 0 = the same matrix. For packed B: in bytes.
  std::int64_t batch_outer = 1, batch_inner = 1;
  std::int64_t a_outer = 0, a_inner = 0, b_outer = 0, b_inner = 0, c_outer = 0, c_inner = 0;
  DType a = DType::kFloat32, b = DType::kFloat32, c = DType::kFloat32;
};

struct GemmArgs {
  const void* a = nullptr;
  const void* b = nullptr;
  void* c = nullptr;            ///< must not overlap a or b
  const float* bias = nullptr;  ///< per column, or nullptr
  /// Added per element as Epilogue says; rows `residual_stride` elements apart (0 = one row for all), batch strides likewise. May be C.
  const void* residual = nullptr;
  std::int64_t residual_stride = 0, residual_outer = 0, residual_inner = 0;
  DType residual_type = DType::kFloat32;
  void* scratch = nullptr;  ///< gemm_scratch_bytes(), 64-byte aligned
};

/// Packed B: [panel of 32 columns][k][32] (bf16: [k/2][32][2]), zeros past n and k; the last panel is 16 wide when that suffices.
std::size_t gemm_packed_b_bytes(const GemmProblem& problem);
/// `b` of type `from` (kFloat32 or kBFloat16), [K,N] with ldb or, trans_b, [N,K]; writes problem.b's type.
void pack_gemm_b(const GemmProblem& problem, const void* b, DType from, void* packed);

std::size_t gemm_scratch_bytes(const GemmProblem& problem, int threads);
void run_gemm(const GemmProblem& problem, const Epilogue& epilogue, const GemmArgs& args, ThreadPool& pool) noexcept;

}  // namespace lathe::cpu
