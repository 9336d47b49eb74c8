// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates and kernels of ScatterElements and ScatterND share, and the tests without a GPU.

#include <cstdint>
#include <optional>
#include <string>

#include "ops/scatter/scatter.h"
#include "ops/scatter/scatter_params.h"
#include "plan/kernel.h"

namespace lathe::ops {

inline std::optional<cuda::ScatterType> scatter_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kScatterFloat32;
    case DType::kFloat16: return cuda::kScatterFloat16;
    case DType::kBFloat16: return cuda::kScatterBFloat16;
    case DType::kFloat64: return cuda::kScatterFloat64;
    case DType::kInt8: return cuda::kScatterInt8;
    case DType::kInt16: return cuda::kScatterInt16;
    case DType::kInt32: return cuda::kScatterInt32;
    case DType::kInt64: return cuda::kScatterInt64;
    case DType::kUint8: return cuda::kScatterUint8;
    case DType::kUint16: return cuda::kScatterUint16;
    case DType::kUint32: return cuda::kScatterUint32;
    case DType::kUint64: return cuda::kScatterUint64;
    case DType::kBool: return cuda::kScatterBool;
    default: return std::nullopt;
  }
}

inline cuda::ScatterTensor scatter_tensor(const plan::TensorDesc& desc) {
  cuda::ScatterTensor t;
  t.axes = static_cast<int>(desc.dims.size());
  t.dense = desc.is_dense_row_major();
  for (std::size_t i = 0; i < desc.dims.size(); ++i) t.extent[i] = desc.dims[i], t.step[i] = desc.strides[i];
  return t;
}

/// All but the addresses: `axis` is that of ScatterElements in [0, rank), negative for ScatterND. False, and in `why` the reason, when no kernel can run it.
inline bool scatter_plan(const plan::TensorDesc& data, const plan::TensorDesc& indices, const plan::TensorDesc& updates, const plan::TensorDesc& out,
                         std::int64_t axis, Reduction reduction, cuda::ScatterParams& p, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  p = {};
  const auto from = scatter_type(data.dtype), to = scatter_type(out.dtype), brought = scatter_type(updates.dtype);
  const auto converts = [](cuda::ScatterType t) { return t <= cuda::kScatterBFloat16; };
  if (!from || !to || !brought) return refuse("no kernel reads this element type");
  if ((from != to || from != brought) && !(converts(*from) && converts(*to) && converts(*brought))) return refuse("data and updates of two types");
  if (indices.dtype != DType::kInt64 && indices.dtype != DType::kInt32) return refuse("indices that are neither int64 nor int32");
  const std::size_t rank = data.dims.size();
  if (rank > cuda::kScatterAxes || indices.dims.size() > cuda::kScatterAxes || updates.dims.size() > cuda::kScatterAxes)
    return refuse("more axes than the kernels walk");
  if (out.dims != data.dims) return refuse("a result of other extents than the data's");
  constexpr std::int64_t kMost = (std::int64_t{1} << 30) - 1;
  const auto most = [](const plan::TensorDesc& desc) {
    std::int64_t count = 1;
    for (const std::int64_t extent : desc.dims)
      if (__builtin_mul_overflow(count, extent, &count)) return kMost + 1;
    return count;
  };
  if (most(data) > kMost || most(indices) > kMost || most(updates) > kMost) return refuse("more elements than the kernels count");
  if (axis >= 0) {
    if (static_cast<std::size_t>(axis) >= rank || indices.dims != updates.dims || indices.dims.size() != rank) return refuse("extents that do not fit");
    for (std::size_t i = 0; i < rank; ++i)
      if (i != static_cast<std::size_t>(axis) && indices.dims[i] > data.dims[i]) return refuse("extents that do not fit");
    p.axis = static_cast<int>(axis);
    p.slices = data.elements();
    p.tuples = indices.elements();
  } else {
    if (indices.dims.empty() || indices.dims.back() > static_cast<std::int64_t>(rank)) return refuse("extents that do not fit");
    const auto depth = static_cast<std::size_t>(indices.dims.back());
    // Updates have the extents of the tuples, then those of a slice.
    const std::size_t tuples = indices.dims.size() - 1;
    bool fits = updates.dims.size() == tuples + rank - depth;
    p.tuples = 1;
    for (std::size_t i = 0; fits && i < updates.dims.size(); ++i) {
      fits = updates.dims[i] == (i < tuples ? indices.dims[i] : data.dims[depth + i - tuples]);
      if (i < tuples) p.tuples *= updates.dims[i];
    }
    if (!fits) return refuse("extents that do not fit");
    p.depth = static_cast<int>(depth);
    p.slices = 1;
    for (std::size_t i = 0; i < rank; ++i) (i < depth ? p.slices : p.inner) *= data.dims[i];
    if (p.tuples > kMost || p.slices > kMost) return refuse("more elements than the kernels count");
    if (p.inner == 0) p.tuples = 0;
  }
  p.wide = indices.dtype == DType::kInt64;
  p.data_type = *from, p.out_type = *to, p.type = *brought;
  p.bytes = static_cast<int>(dtype_bytes(out.dtype, 1));
  p.reduction = static_cast<int>(reduction);
  p.from = scatter_tensor(data), p.to = scatter_tensor(out), p.at = scatter_tensor(indices), p.brought = scatter_tensor(updates);
  return true;
}

}  // namespace lathe::ops
