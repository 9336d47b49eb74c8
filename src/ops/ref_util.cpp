// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "ops/ref_util.h"

#include <cstring>
#include <numeric>

#include "base/half.h"

namespace lathe::ops {
namespace {

int packed_bits(DType dtype) {
  const int bits = dtype_bits(dtype);
  return bits == 2 || bits == 4 ? bits : 0;
}

std::uint8_t packed_get(const std::byte* data, std::int64_t i, int bits) {
  const int per_byte = 8 / bits;
  return static_cast<std::uint8_t>((std::to_integer<unsigned>(data[i / per_byte]) >> (i % per_byte * bits)) & ((1u << bits) - 1));
}

void packed_set(std::byte* data, std::int64_t i, int bits, std::uint8_t value) {
  const int per_byte = 8 / bits;
  const int shift = static_cast<int>(i % per_byte) * bits;
  const unsigned mask = ((1u << bits) - 1) << shift;
  auto& byte = data[i / per_byte];
  byte = static_cast<std::byte>((std::to_integer<unsigned>(byte) & ~mask) | (static_cast<unsigned>(value) << shift));
}

template <std::size_t kBytes>
void remap_bytes(std::byte* out, std::int64_t count, const std::byte* in, const std::byte* fill, const std::function<std::int64_t(std::int64_t)>& source_of) {
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t s = source_of(i);
    if (s >= 0) {
      std::memcpy(out + i * static_cast<std::int64_t>(kBytes), in + s * static_cast<std::int64_t>(kBytes), kBytes);
    } else if (fill) {
      std::memcpy(out + i * static_cast<std::int64_t>(kBytes), fill, kBytes);
    }
  }
}

}  // namespace

Dims strides_of(const Dims& dims) {
  Dims strides(dims.size(), 1);
  for (std::size_t i = dims.size(); i-- > 1;) strides[i - 1] = strides[i] * dims[i];
  return strides;
}

std::int64_t ref_axis(const RefContext& ctx, std::int64_t axis, std::int64_t rank) {
  if (axis < -rank || axis >= rank) ctx.fail("axis " + std::to_string(axis) + " is out of range for rank " + std::to_string(rank));
  return axis < 0 ? axis + rank : axis;
}

AxisView around_axis(const Dims& dims, std::int64_t axis) {
  AxisView view;
  for (std::size_t i = 0; i < dims.size(); ++i) {
    const auto at = static_cast<std::int64_t>(i);
    (at < axis ? view.outer : at == axis ? view.extent : view.inner) *= dims[i];
  }
  return view;
}

Tensor remap(const Tensor& source, Dims dims, const std::function<std::int64_t(std::int64_t)>& source_of, const Tensor* fill) {
  Tensor out(source.dtype(), std::move(dims));
  if (source.dtype() == DType::kString) {
    const auto& in = source.string_data();
    auto& strings = out.mutable_string_data();
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const std::int64_t s = source_of(i);
      if (s >= 0) {
        strings[static_cast<std::size_t>(i)] = in[static_cast<std::size_t>(s)];
      } else if (fill) {
        strings[static_cast<std::size_t>(i)] = fill->string_data()[0];
      }
    }
    return out;
  }
  if (out.size() == 0) return out;
  std::byte* data = out.mutable_raw();
  const std::byte* fill_data = fill ? fill->raw() : nullptr;
  if (const int bits = packed_bits(source.dtype())) {
    for (std::int64_t i = 0; i < out.size(); ++i) {
      const std::int64_t s = source_of(i);
      if (s >= 0) {
        packed_set(data, i, bits, packed_get(source.raw(), s, bits));
      } else if (fill) {
        packed_set(data, i, bits, packed_get(fill_data, 0, bits));
      }
    }
    return out;
  }
  switch (dtype_bytes(source.dtype(), 1)) {
    case 1: remap_bytes<1>(data, out.size(), source.raw(), fill_data, source_of); break;
    case 2: remap_bytes<2>(data, out.size(), source.raw(), fill_data, source_of); break;
    case 4: remap_bytes<4>(data, out.size(), source.raw(), fill_data, source_of); break;
    case 8: remap_bytes<8>(data, out.size(), source.raw(), fill_data, source_of); break;
    case 16: remap_bytes<16>(data, out.size(), source.raw(), fill_data, source_of); break;
    default: throw Error(Code::kInternal, "no element size for " + std::string(dtype_name(source.dtype())));
  }
  return out;
}

Tensor remap_nd(const Tensor& source, Dims dims, const std::function<std::int64_t(const Dims&)>& source_of, const Tensor* fill) {
  Dims index(dims.size(), 0);
  const Dims extents = dims;
  bool first = true;
  return remap(
      source, std::move(dims),
      [&](std::int64_t) {
        if (!first) {
          for (std::size_t axis = index.size(); axis-- > 0;) {
            if (++index[axis] < extents[axis]) break;
            index[axis] = 0;
          }
        }
        first = false;
        return source_of(index);
      },
      fill);
}

namespace {

/// One row: `count` elements, `step` apart in the source.
template <std::size_t kBytes>
void copy_row(std::byte* out, const std::byte* in, std::int64_t count, std::int64_t step) {
  if (step == 1) {
    std::memcpy(out, in, static_cast<std::size_t>(count) * kBytes);
    return;
  }
  for (std::int64_t i = 0; i < count; ++i) std::memcpy(out + i * static_cast<std::int64_t>(kBytes), in + i * step * static_cast<std::int64_t>(kBytes), kBytes);
}

using CopyRow = void (*)(std::byte*, const std::byte*, std::int64_t, std::int64_t);

CopyRow copy_row_of(std::size_t bytes) {
  switch (bytes) {
    case 1: return copy_row<1>;
    case 2: return copy_row<2>;
    case 4: return copy_row<4>;
    case 8: return copy_row<8>;
    case 16: return copy_row<16>;
    default: return nullptr;
  }
}

}  // namespace

Tensor strided(const Tensor& source, Dims dims, Dims steps, std::int64_t offset) {
  const CopyRow copy = source.dtype() == DType::kString || packed_bits(source.dtype()) ? nullptr : copy_row_of(dtype_bytes(source.dtype(), 1));
  if (!copy) return remap_nd(source, std::move(dims), [&](const Dims& index) { return std::inner_product(index.begin(), index.end(), steps.begin(), offset); });
  Tensor out = Tensor::to_be_filled(source.dtype(), dims);
  if (out.size() == 0) return out;
  // Axes that lie behind one another in the source as well are one.
  std::vector<std::int64_t> extents, apart;
  for (std::size_t axis = 0; axis < dims.size(); ++axis) {
    if (dims[axis] == 1) continue;
    if (!extents.empty() && apart.back() == steps[axis] * dims[axis]) {
      extents.back() *= dims[axis];
      apart.back() = steps[axis];
    } else {
      extents.push_back(dims[axis]);
      apart.push_back(steps[axis]);
    }
  }
  if (extents.empty()) {
    extents.push_back(1);
    apart.push_back(1);
  }
  const std::int64_t row = extents.back(), step = apart.back();
  extents.pop_back();
  const auto bytes = static_cast<std::int64_t>(dtype_bytes(source.dtype(), 1));
  const std::byte* data = source.raw();
  std::byte* to = out.mutable_raw();
  std::vector<std::int64_t> index(extents.size(), 0);
  std::int64_t from = offset;
  for (std::int64_t done = 0; done < out.size(); done += row) {
    copy(to + done * bytes, data + from * bytes, row, step);
    for (std::size_t axis = index.size(); axis-- > 0;) {
      from += apart[axis];
      if (++index[axis] < extents[axis]) break;
      from -= apart[axis] * extents[axis];
      index[axis] = 0;
    }
  }
  return out;
}

void copy_element(Tensor& dst, std::int64_t di, const Tensor& src, std::int64_t si) {
  if (dst.dtype() == DType::kString) {
    dst.mutable_string_data()[static_cast<std::size_t>(di)] = src.string_data()[static_cast<std::size_t>(si)];
  } else if (const int bits = packed_bits(dst.dtype())) {
    packed_set(dst.mutable_raw(), di, bits, packed_get(src.raw(), si, bits));
  } else {
    const auto bytes = static_cast<std::int64_t>(dtype_bytes(dst.dtype(), 1));
    std::memcpy(dst.mutable_raw() + di * bytes, src.raw() + si * bytes, static_cast<std::size_t>(bytes));
  }
}

void for_each_index(const Dims& dims, const std::function<void(const Dims&)>& visit) {
  if (element_count(dims) == 0) return;
  Dims index(dims.size(), 0);
  while (true) {
    visit(index);
    std::size_t axis = dims.size();
    while (axis > 0 && ++index[axis - 1] == dims[axis - 1]) index[--axis] = 0;
    if (axis == 0) return;
  }
}

std::vector<double> to_doubles(const Tensor& tensor) {
  std::vector<double> values(static_cast<std::size_t>(tensor.size()));
  if (tensor.dtype() == DType::kFloat32) {
    for (std::size_t i = 0; i < values.size(); ++i) {
      float f;
      std::memcpy(&f, tensor.raw() + 4 * i, 4);
      values[i] = f;
    }
    return values;
  }
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = tensor.as_double(static_cast<std::int64_t>(i));
  return values;
}

Tensor from_doubles(DType dtype, Dims dims, const std::vector<double>& values) {
  Tensor out(dtype, std::move(dims));
  if (dtype == DType::kFloat32) {
    std::byte* data = out.mutable_raw();
    for (std::size_t i = 0; i < values.size(); ++i) {
      const auto f = static_cast<float>(values[i]);
      std::memcpy(data + 4 * i, &f, 4);
    }
    return out;
  }
  for (std::size_t i = 0; i < values.size(); ++i) out.set_from_double(static_cast<std::int64_t>(i), values[i]);
  return out;
}

std::vector<std::int64_t> to_int64s(const Tensor& tensor) {
  std::vector<std::int64_t> values(static_cast<std::size_t>(tensor.size()));
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = tensor.as_int64(static_cast<std::int64_t>(i));
  return values;
}

Tensor from_int64s(DType dtype, Dims dims, const std::vector<std::int64_t>& values) {
  Tensor out(dtype, std::move(dims));
  for (std::size_t i = 0; i < values.size(); ++i) out.set_from_int64(static_cast<std::int64_t>(i), values[i]);
  return out;
}

double round_as(DType dtype, double value) {
  switch (dtype) {
    case DType::kFloat32: return static_cast<float>(value);
    case DType::kFloat16: return half_to_float(float_to_half(static_cast<float>(value)));
    case DType::kBFloat16: return bfloat16_to_float(float_to_bfloat16(static_cast<float>(value)));
    default: return value;
  }
}

DType stash_dtype(const RefContext& ctx) {
  const auto stash = ctx.attrs().get_int("stash_type", 1);
  const auto dtype = static_cast<DType>(stash);
  if (stash < 1 || stash >= kDTypeCount || !is_float(dtype)) ctx.fail("stash_type " + std::to_string(stash) + " is no floating type");
  return dtype;
}

}  // namespace lathe::ops
