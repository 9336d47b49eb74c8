// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The tensors of a step of ai.onnx.ml on a GPU: rows of features, labels, scores.

#include <optional>
#include <span>
#include <string>

#include "ops/ml/ml_params.h"
#include "plan/kernel.h"

namespace lathe::ops {

/// What a kernel on a GPU reads (and writes, but for the integers).
inline std::optional<cuda::MlType> ml_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kMlFloat32;
    case DType::kFloat16: return cuda::kMlFloat16;
    case DType::kBFloat16: return cuda::kMlBFloat16;
    case DType::kFloat64: return cuda::kMlFloat64;
    case DType::kInt32: return cuda::kMlInt32;
    case DType::kInt64: return cuda::kMlInt64;
    default: return std::nullopt;
  }
}
inline bool ml_score_type(DType dtype) noexcept {
  const auto type = ml_type(dtype);
  return type && *type != cuda::kMlInt32 && *type != cuda::kMlInt64;
}

/// Allocates nothing but texts of errors. All but addresses and transform; `width` becomes the number of features, `columns` is that of the scores. False, and
/// in `why` the reason, when no kernel can run it.
inline bool ml_rows(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, bool classifies, std::int64_t columns,
                    cuda::MlRows& rows, std::int64_t& width, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  if (inputs.size() != 1 || outputs.size() != 2) return refuse("another number of tensors than it takes");
  const plan::TensorDesc &x = inputs[0], &labels = outputs[0], &scores = outputs[1];
  if (x.dims.size() != 1 && x.dims.size() != 2) return refuse("an input that is no matrix");
  const auto type = ml_type(x.dtype);
  if (!type) return refuse("features of a type that no kernel reads");
  const bool one = x.dims.size() == 1;
  rows = {};
  rows.x_type = *type;
  rows.count = one ? 1 : x.dims[0];
  rows.x_row = one ? 0 : x.strides[0];
  rows.x_column = x.strides.back();
  width = x.dims.back();
  constexpr std::int64_t kMostRows = std::int64_t{1} << 36;
  if (rows.count > kMostRows) return refuse("more rows than the kernels count");
  if (labels.dtype != DType::kUndefined) {
    if (!classifies || labels.dtype != DType::kInt64 || labels.dims.size() != 1 || labels.dims[0] != rows.count) return refuse("labels that do not fit");
    rows.label_step = labels.strides[0];
  }
  if (scores.dtype != DType::kUndefined) {
    if (!ml_score_type(scores.dtype) || scores.dims.size() != 2 || scores.dims[0] != rows.count || scores.dims[1] != columns)
      return refuse("scores that do not fit");
    rows.score_type = *ml_type(scores.dtype);
    rows.score_row = scores.strides[0];
    rows.score_column = scores.strides[1];
  }
  return true;
}

}  // namespace lathe::ops
