// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See tensors.h. Nothing is allocated by what a file says of a size.

#include "check/tensors.h"

#include <fmt/format.h>

#include <charconv>

#include "lathe/dtype.h"

namespace lathe::checker {
namespace {

using onnx::TensorRecord;

/// Product of the extents; nullopt on overflow.
std::optional<std::int64_t> elements(const Dims& dims) {
  std::int64_t count = 1;
  for (const std::int64_t dim : dims)
    if (__builtin_mul_overflow(count, dim, &count)) return std::nullopt;
  return count;
}

/// "float[2, 3]"
std::string type_text(std::int64_t dtype, const Dims& dims) { return fmt::format("{}[{}]", dtype_name(static_cast<DType>(dtype)), fmt::join(dims, ", ")); }

struct Field {
  const char* name;
  std::size_t entries;
};

/// The typed field that holds a dtype's elements.
const char* typed_field(DType dtype) {
  switch (dtype) {
    case DType::kFloat32:
    case DType::kComplex64: return "float_data";
    case DType::kFloat64:
    case DType::kComplex128: return "double_data";
    case DType::kInt64: return "int64_data";
    case DType::kUint32:
    case DType::kUint64: return "uint64_data";
    case DType::kString: return "string_data";
    default: return "int32_data";
  }
}

/// How many entries of that field `count` elements take: packed types lie byte by byte (readers also accept four bytes an entry).
std::pair<std::int64_t, std::int64_t> typed_entries(DType dtype, std::int64_t count) {
  if (dtype == DType::kComplex64 || dtype == DType::kComplex128) return {2 * count, 2 * count};
  const int bits = dtype_bits(dtype);
  if (bits == 4) return {(count + 7) / 8, (count + 1) / 2};
  if (bits == 2) return {(count + 15) / 16, (count + 3) / 4};
  return {count, count};
}

std::optional<std::uint64_t> number(const std::string& text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

}  // namespace

bool TensorChecks::tensor(data_view bytes, const GraphTree* graph, const NodeTree* node, const std::string& called) {
  return dense(onnx::parse_tensor(bytes), graph, node, called);
}

bool TensorChecks::dense(const TensorRecord& t, const GraphTree* graph, const NodeTree* node, const std::string& called) {
  const std::size_t before = findings_.count();
  const std::string name = t.name.empty() ? called : t.name;
  const auto add = [&](std::string_view code, std::string what, std::string expected = {}) -> Defect& {
    return findings_.add(code, graph, node, name, std::move(what), std::move(expected));
  };
  if (!t.has_dtype || t.dtype == 0) add("tensor-type", "its element type is not given");
  else if (t.dtype < 0 || t.dtype >= kDTypeCount)
    add("tensor-type", fmt::format("its element type has the number {}", t.dtype), fmt::format("1 to {}", kDTypeCount - 1));
  bool negative = false;
  for (const std::int64_t dim : t.dims) negative |= dim < 0;
  if (negative) add("negative-dim", fmt::format("its shape is {}", to_string(t.dims)));
  const std::optional<std::int64_t> count = negative ? std::nullopt : elements(t.dims);
  if (!negative && (!count || *count > std::int64_t{1} << 56)) {
    add("tensor-data", fmt::format("its shape {} is larger than any memory", to_string(t.dims)));
    return false;
  }
  const Field fields[] = {{"float_data", t.floats.size()},    {"int32_data", t.int32s.size()}, {"string_data", t.strings.size()},
                          {"int64_data", t.int64s.size()},    {"raw_data", t.raw.size()},      {"double_data", t.doubles.size()},
                          {"uint64_data", t.unsigneds.size()}};
  std::string used;
  int used_count = 0;
  for (const Field& field : fields)
    if (field.entries > 0) {
      used += (used_count ? " and " : "") + std::string(field.name);
      ++used_count;
    }
  if (t.has_segment) add("tensor-data", "it is stored in segments, which no reader supports");
  if (t.location == 1) {
    if (used_count) add("external-data", fmt::format("its data are external, and it has {} too", used), "one of the two");
    return external(t, graph, node, called) && !findings_.any_error(before);
  }
  if (t.location != 0) add("tensor-data", fmt::format("its data_location is {}", t.location), "0 (in the file) or 1 (external)");
  if (!count || findings_.any_error(before)) return !findings_.any_error(before);
  const auto dtype = static_cast<DType>(t.dtype);
  const std::string described = type_text(t.dtype, t.dims);
  if (*count == 0) {
    if (used_count) add("tensor-data", fmt::format("{} has no elements, but {} holds some", described, used));
  } else if (used_count != 1) {
    add("tensor-data", used_count ? fmt::format("it has {}", used) : fmt::format("{} has no data", described), "exactly one data field");
  } else if (!t.raw.empty()) {
    if (dtype == DType::kString) {
      add("tensor-data", "its strings are in raw_data", "string_data");
    } else {
      const std::size_t need = dtype_bytes(dtype, *count), have = t.raw.size();
      if (have < need) add("tensor-data", fmt::format("{} takes {} bytes, raw_data has {}", described, need, have));
      if (have > need) add("tensor-padding", fmt::format("{} takes {} bytes, raw_data has {}", described, need, have));
    }
  } else if (t.has_raw) {
    add("tensor-data", fmt::format("it has {} and an empty raw_data", used), "exactly one data field");
  } else if (used != typed_field(dtype)) {
    add("tensor-data", fmt::format("{} is stored in {}", dtype_name(dtype), used), typed_field(dtype));
  } else {
    const auto [least, most] = typed_entries(dtype, *count);
    std::int64_t have = 0;
    for (const Field& field : fields) have += static_cast<std::int64_t>(field.entries);
    if (have < least) add("tensor-data", fmt::format("{} takes {} entries of {}, it has {}", described, least, used, have));
    if (have > most) add("tensor-padding", fmt::format("{} takes {} entries of {}, it has {}", described, most, used, have));
  }
  return !findings_.any_error(before);
}

std::optional<std::uint64_t> TensorChecks::file_size(const std::string& location, std::string& why) {
  const auto [at, fresh] = files_.try_emplace(location);
  if (fresh) {
    auto& [size, reason] = at->second;
    std::error_code error;
    const std::filesystem::path path = base_dir_ / location;
    const auto status = std::filesystem::symlink_status(path, error);
    if (status.type() == std::filesystem::file_type::symlink) reason = "is a symbolic link";
    else if (!std::filesystem::exists(path, error)) reason = "is not there";
    else if (!std::filesystem::is_regular_file(path, error)) reason = "is no file";
    else if (std::filesystem::hard_link_count(path, error) > 1) reason = "has other (hard) links";
    if (const auto bytes = std::filesystem::file_size(path, error); reason.empty() || reason.starts_with("has")) {
      if (error) reason = "cannot be read: " + error.message();
      else size = bytes;
    }
  }
  why = at->second.second;
  return at->second.first;
}

bool TensorChecks::external(const TensorRecord& t, const GraphTree* graph, const NodeTree* node, const std::string& called) {
  const std::string name = t.name.empty() ? called : t.name;
  const std::size_t before = findings_.count();
  const auto add = [&](std::string_view code, std::string what, std::string expected = {}) -> Defect& {
    return findings_.add(code, graph, node, name, std::move(what), std::move(expected));
  };
  std::optional<std::uint64_t> offset = 0, length;
  std::set<std::string> keys;
  for (const auto& [key, value] : t.external) {
    if (!keys.insert(key).second) add("external-data", fmt::format("its external data give '{}' twice", key));
    if (key != "offset" && key != "length") continue;
    const auto parsed = number(value);
    if (!parsed) add("external-data", fmt::format("its external data's {} is '{}'", key, value), "a number of bytes");
    (key == "offset" ? offset : length) = parsed;
  }
  const std::string* location = t.external_value("location");
  if (!location || location->empty()) {
    add("external-data", "its data are external, but no file is named", "a location relative to the model");
    return false;
  }
  const std::filesystem::path relative(*location);
  bool outside = relative.is_absolute() || relative.lexically_normal().native().find("..") != std::string::npos;
  if (!outside) {  // by links
    std::error_code error;
    const auto base = std::filesystem::weakly_canonical(base_dir_.empty() ? "." : base_dir_, error).lexically_normal();
    const auto data = std::filesystem::weakly_canonical(base / relative, error);
    outside = !error && data.native().rfind(base.native(), 0) != 0;
  }
  if (outside) {
    add("external-data", fmt::format("its data file '{}' lies outside the model's folder", *location), "a path inside the folder");
    return false;
  }
  if (t.dtype == static_cast<std::int64_t>(DType::kString)) add("external-data", "strings cannot be external");
  std::string why;
  const auto size = file_size(*location, why);
  if (!size) {
    add("external-missing", fmt::format("the data file '{}' {}", *location, why));
    return false;
  }
  if (why == "is a symbolic link" || why.starts_with("has")) add("external-data", fmt::format("the data file '{}' {}", *location, why), "a file of its own");
  const bool known = t.dtype > 0 && t.dtype < kDTypeCount && t.dtype != static_cast<std::int64_t>(DType::kString);
  const auto count = elements(t.dims);
  if (!known || !count || *count < 0 || !offset) return !findings_.any_error(before);
  const std::size_t need = dtype_bytes(static_cast<DType>(t.dtype), *count);
  if (length && *length != need) add("external-data", fmt::format("{} takes {} bytes, the external data say {}", type_text(t.dtype, t.dims), need, *length));
  else if (*offset > *size || need > *size - *offset)
    add("external-range", fmt::format("bytes {} to {} of '{}' are needed, the file has {}", *offset, *offset + need, *location, *size));
  const auto width = static_cast<std::uint64_t>(dtype_bits(static_cast<DType>(t.dtype))) / 8;
  if (width > 1 && *offset % width != 0)
    add("external-misaligned", fmt::format("its data begin at byte {} of '{}'", *offset, *location), fmt::format("a multiple of {}", width));
  return !findings_.any_error(before);
}

bool TensorChecks::sparse(data_view bytes, const GraphTree* graph, const NodeTree* node, const std::string& called) {
  const std::size_t before = findings_.count();
  const onnx::SparseRecord s = onnx::parse_sparse(bytes);
  if (!s.has_values) {
    findings_.add("sparse-tensor", graph, node, called, "it has no values");
    return false;
  }
  const TensorRecord values = onnx::parse_tensor(s.values);
  const std::string name = values.name.empty() ? called : values.name;
  const auto add = [&](std::string what, std::string expected = {}) {
    findings_.add("sparse-tensor", graph, node, name, std::move(what), std::move(expected));
  };
  dense(values, graph, node, called);
  if (values.dims.size() != 1) add(fmt::format("its values have the shape {}", to_string(values.dims)), "one dimension");
  if (s.dims.empty()) add("it has no dimensions", "at least one");
  for (const std::int64_t dim : s.dims)
    if (dim <= 0) add(fmt::format("it has an extent of {}", dim), "positive extents");
  if (findings_.any_error(before)) return false;
  const std::int64_t nnz = values.dims[0];
  if (!s.has_indices) {
    if (nnz != 0) add(fmt::format("it has {} values and no indices", nnz));
    return !findings_.any_error(before);
  }
  const TensorRecord indices = onnx::parse_tensor(s.indices);
  if (!dense(indices, graph, node, name + "'s indices")) return false;
  if (indices.dtype != static_cast<std::int64_t>(DType::kInt64)) {
    add(fmt::format("its indices are {}",
                    indices.dtype > 0 && indices.dtype < kDTypeCount ? dtype_name(static_cast<DType>(indices.dtype)) : "of an unknown type"),
        "int64");
    return false;
  }
  const auto rank = static_cast<std::int64_t>(s.dims.size());
  const bool linear = indices.dims == Dims{nnz}, coordinates = indices.dims == Dims{nnz, rank};
  if (!linear && !coordinates) {
    add(fmt::format("its indices have the shape {}", to_string(indices.dims)), fmt::format("{} or {}x{}", nnz, nnz, rank));
    return false;
  }
  if (indices.location == 1) return !findings_.any_error(before);
  const auto index = [&](std::int64_t i) {
    if (indices.raw.empty()) return indices.int64s[static_cast<std::size_t>(i)];
    std::int64_t value = 0;
    std::memcpy(&value, indices.raw.data() + i * 8, 8);
    return value;
  };
  const auto total = elements(s.dims);
  std::int64_t previous = -1;
  for (std::int64_t i = 0; i < nnz; ++i) {
    std::int64_t at = 0;
    bool inside = true;
    if (linear) {
      at = index(i);
      inside = at >= 0 && (!total || at < *total);
    } else {
      for (std::int64_t axis = 0; axis < rank; ++axis) {
        const std::int64_t extent = s.dims[static_cast<std::size_t>(axis)], one = index(i * rank + axis);
        inside &= one >= 0 && one < extent;
        at = static_cast<std::int64_t>(static_cast<std::uint64_t>(at) * static_cast<std::uint64_t>(extent) + static_cast<std::uint64_t>(one));
      }
    }
    if (!inside) add(fmt::format("index {} lies outside its shape {}", i, to_string(s.dims)));
    else if (at <= previous) add(fmt::format("index {} is not above the one before it", i), "ascending indices");
    if (findings_.any_error(before)) return false;
    previous = at;
  }
  return true;
}

}  // namespace lathe::checker
