// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Element types of the plain kernels for GPUs (plain_matmul, plain_conv).

#include <optional>

#include "backend/cuda/kernels/plain_params.h"
#include "lathe/dtype.h"

namespace lathe::regions {

inline std::optional<cuda::PlainType> plain_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kPlainFloat32;
    case DType::kFloat16: return cuda::kPlainFloat16;
    case DType::kBFloat16: return cuda::kPlainBFloat16;
    case DType::kFloat64: return cuda::kPlainFloat64;
    case DType::kInt32: return cuda::kPlainInt32;
    case DType::kUint32: return cuda::kPlainUint32;
    case DType::kInt64: return cuda::kPlainInt64;
    case DType::kUint64: return cuda::kPlainUint64;
    default: return std::nullopt;
  }
}

inline bool is_plain_float(cuda::PlainType type) noexcept { return type <= cuda::kPlainFloat64; }

}  // namespace lathe::regions
