// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A matrix product by cuBLASLt, act(alpha A B + beta R + bias), ready to run on a device at the extents that it stands at. The library's
// heuristics are asked for each set of extents, which takes them a tenth of a millisecond, and what they said is kept for those met last; the
// algorithm that was timed is taken where they still offer it. As whether operands begin at multiples of 16 bytes is known only when it runs, it
// stands ready with an algorithm for either case.

#include <array>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "backend/cuda/cublaslt.h"
#include "backend/cuda/kernels/gemm_params.h"

namespace lathe::cuda::cublaslt {

/// All matrices are row-major in our words. Strides in elements; a "transposed" one is stored by columns.
struct MatMulProblem {
  ProductType product = kProductF16;
  ElementType stored = kElementFloat16;  ///< of result, residual and bias
  std::int64_t rows = 1, columns = 1, depth = 1, batch = 1;
  bool a_transposed = false, b_transposed = false;
  std::int64_t a_row = 1, b_row = 1, c_row = 1, residual_row = 1;  ///< between rows, or columns where transposed
  std::int64_t a_batch = 0, b_batch = 0, c_batch = 0, residual_batch = 0;
  bool residual = false, bias = false;
  int activation = kActNone;
  friend bool operator==(const MatMulProblem&, const MatMulProblem&) = default;
};

/// What identifies an algorithm among those that the heuristics offer.
using Config = std::array<std::int32_t, kConfigCount>;
std::string describe(const Config& config);  ///< "algorithm 66 tile 21 stages 36", for --explain

/// "" when the library can be asked for it, else the reason why not.
std::string unsupported(const MatMulProblem& problem);

struct MatMulPointers {
  const void *a = nullptr, *b = nullptr, *residual = nullptr;
  void *c = nullptr, *workspace = nullptr;
};

class MatMul {
 public:
  /// Makes the library's objects. Throws Error.
  MatMul(Device& device, const MatMulProblem& problem);
  ~MatMul();
  MatMul(const MatMul&) = delete;
  MatMul& operator=(const MatMul&) = delete;

  /// What the heuristics offer for operands that begin at multiples of 16 bytes, best first, each once.
  std::vector<Config> algorithms(std::size_t most);
  /// Moves to other extents and strides (types, orders and epilogue are the same), with algorithm `wanted` where it is offered (ids below 0: the
  /// first). Allocates nothing itself. False: the library has no algorithm.
  bool fit(const MatMulProblem& problem, const Config& wanted) noexcept;
  /// The bias that is added, in device memory.
  void set_bias(const void* bias);
  /// Bytes of workspace, which need no alignment.
  std::size_t workspace_bytes() const noexcept { return workspace_; }
  Status run(StreamHandle stream, const MatMulPointers& pointers, float alpha, float beta) const noexcept;

 private:
  /// An algorithm for operands that begin at multiples of so many bytes.
  struct Way {
    bool exists = false;
    Heuristic chosen;
  };
  /// What was chosen for extents that came before.
  struct Kept {
    MatMulProblem problem;
    bool wanted = false;
    Way aligned, any;
  };
  bool place(const MatMulProblem& problem) noexcept;
  int ask(std::uint32_t alignment, std::span<Heuristic> results) noexcept;
  bool choose(Way& way, std::uint32_t alignment, const Config& wanted) noexcept;
  void release() noexcept;

  Device& device_;
  const Library& library_;
  Handle handle_;
  MatMulProblem problem_;
  MatmulDesc desc_ = nullptr;
  std::array<Layout, 4> layouts_{};  ///< the library's A, B, C, D
  Preference preference_ = nullptr;
  Way aligned_, any_;
  std::vector<Kept> kept_;  ///< its room is reserved
  std::size_t next_kept_ = 0;
  std::size_t workspace_ = 0;
};

}  // namespace lathe::cuda::cublaslt
