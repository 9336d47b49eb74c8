// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the tensors of a MatMul or Gemm to the launch of its plain kernel: what the candidate, the kernel and the tests without a GPU share.

#include <array>
#include <span>
#include <string>
#include <string_view>

#include "plan/kernel.h"
#include "regions/plain_matmul/plain_matmul_params.h"
#include "regions/plain_types.h"

namespace lathe::regions {

enum class PlainMatMulKind { kFloat, kDouble, kWhole32, kWhole64, kCount };

struct PlainMatMulPlan {
  cuda::PlainMatMulParams params;
  std::uint32_t grid = 0;
  PlainMatMulKind kind = PlainMatMulKind::kFloat;
  bool large = false;  ///< the tiles
  double flops = 0;
};

inline constexpr std::size_t kPlainMatMulKernels = 2 * static_cast<std::size_t>(PlainMatMulKind::kCount);
inline constexpr std::array<std::string_view, kPlainMatMulKernels> kPlainMatMulNames{
    "plain_matmul_float_small",   "plain_matmul_float_large",   "plain_matmul_double_small",  "plain_matmul_double_large",
    "plain_matmul_whole32_small", "plain_matmul_whole32_large", "plain_matmul_whole64_small", "plain_matmul_whole64_large"};
inline std::size_t plain_matmul_kernel(PlainMatMulKind kind, bool large) noexcept { return 2 * static_cast<std::size_t>(kind) + large; }

struct PlainMatMulRequest {
  const plan::TensorDesc &a, &b, &y;
  const plan::TensorDesc* z = nullptr;           ///< nullptr: nothing is added
  std::span<const std::int64_t> perm_a, perm_b;  ///< as Transpose's perm; empty: as they lie
  double scale = 1, z_scale = 1;
};

/// False, and in `why` the reason, when no kernel can run it. Allocates nothing but the reason.
bool plain_matmul_plan(const PlainMatMulRequest& request, PlainMatMulPlan& into, std::string& why);

}  // namespace lathe::regions
