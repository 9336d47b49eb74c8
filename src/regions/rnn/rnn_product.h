// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The projection of all inputs of a recurrent layer as one product on the tensor cores, of a W that is packed for it.

#include <algorithm>
#include <optional>
#include <string>

#include "backend/cuda/kernels/gemm_plan.h"
#include "regions/rnn/rnn_plan.h"

namespace lathe::regions {

/// At least of one row. nullopt, and in `why` the reason, where there is none.
inline std::optional<cuda::GemmSetup> rnn_product(const RnnPlan& plan, const plan::TensorDesc& x, cuda::ProductType product, std::string& why) {
  const std::int64_t outer = std::max<std::int64_t>(x.dims[0], 1), inner = std::max<std::int64_t>(x.dims[1], 1);
  const bool joined = outer == 1 || inner == 1 || x.strides[0] == inner * x.strides[1];
  cuda::MatMulShape shape;
  shape.columns = plan.project.columns;
  shape.depth = plan.in;
  shape.rows = joined ? outer * inner : inner;
  shape.outer = joined ? 1 : outer;
  cuda::MatMulOperands operands;
  operands.product = product;
  operands.a_type = static_cast<cuda::ElementType>(plan.project.x_type);
  operands.stored = cuda::kElementFloat32;
  operands.a_row = joined && inner == 1 ? x.strides[0] : x.strides[1];
  if (operands.a_row == 0) operands.a_row = plan.in;
  operands.a_outer = joined ? 0 : x.strides[0];
  operands.c_row = shape.columns;
  operands.c_outer = shape.rows * shape.columns;
  why = plan.in < 1 ? "the product is empty" : cuda::matmul_unsupported(shape, operands);
  if (!why.empty()) return std::nullopt;
  return cuda::matmul_setup(shape, operands);
}

}  // namespace lathe::regions
