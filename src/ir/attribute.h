// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Attributes of a node, and the same map as parameters of a kernel (an engine stores it as plain data).

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/tensor.h"
#include "ir/type.h"

namespace lathe::ir {

class Graph;

/// A sparse constant in ONNX's coordinate form.
struct SparseTensor {
  Tensor values, indices;
  Dims dims;
};

using GraphPtr = std::shared_ptr<Graph>;

/// Encoded fields of a file's message that the IR has no place for, by field number, each with its key; the writer puts them back.
using UnreadFields = std::map<std::uint32_t, std::string>;

/// ONNX AttributeProto.AttributeType; the numbers are the format's.
enum class AttrType : std::uint8_t {
  kUndefined = 0,
  kFloat = 1,
  kInt = 2,
  kString = 3,
  kTensor = 4,
  kGraph = 5,
  kFloats = 6,
  kInts = 7,
  kStrings = 8,
  kTensors = 9,
  kGraphs = 10,
  kSparseTensor = 11,
  kSparseTensors = 12,
  kType = 13,
  kTypes = 14,
};

struct Attribute {
  using Value =
      std::variant<std::monostate, float, std::int64_t, std::string, Tensor, GraphPtr, std::vector<float>, std::vector<std::int64_t>, std::vector<std::string>,
                   std::vector<Tensor>, std::vector<GraphPtr>, SparseTensor, std::vector<SparseTensor>, Type, std::vector<Type>>;
  Value value;
  std::string doc;
  /// Inside a local function's body: the function attribute that this one refers to ("" otherwise).
  std::string ref_name;
  AttrType ref_type = AttrType::kUndefined;
  UnreadFields unread;

  Attribute() = default;
  template <class T>
  Attribute(T v) : value(std::move(v)) {}                     // NOLINT(google-explicit-constructor)
  Attribute(int v) : value(static_cast<std::int64_t>(v)) {}   // NOLINT(google-explicit-constructor)
  Attribute(bool v) : value(static_cast<std::int64_t>(v)) {}  // NOLINT(google-explicit-constructor)
  Attribute(double v) : value(static_cast<float>(v)) {}       // NOLINT(google-explicit-constructor)
  Attribute(const char* v) : value(std::string(v)) {}         // NOLINT(google-explicit-constructor)
  AttrType type() const noexcept;
};

/// Attributes by name, ordered, with typed access. The `get_*` calls throw Error(kInvalidModel) on a wrong type.
class Attrs {
 public:
  bool has(std::string_view name) const;
  const Attribute* find(std::string_view name) const;
  std::int64_t get_int(std::string_view name, std::int64_t fallback) const;
  float get_float(std::string_view name, float fallback) const;
  std::string get_string(std::string_view name, std::string_view fallback) const;
  std::vector<std::int64_t> get_ints(std::string_view name, std::vector<std::int64_t> fallback = {}) const;
  std::vector<float> get_floats(std::string_view name, std::vector<float> fallback = {}) const;
  std::vector<std::string> get_strings(std::string_view name, std::vector<std::string> fallback = {}) const;
  Tensor get_tensor(std::string_view name) const;   ///< undefined Tensor when absent
  GraphPtr get_graph(std::string_view name) const;  ///< nullptr when absent
  void set(std::string name, Attribute attribute);
  void erase(std::string_view name);
  bool empty() const noexcept { return map_.empty(); }
  std::size_t size() const noexcept { return map_.size(); }
  auto begin() const { return map_.begin(); }
  auto end() const { return map_.end(); }
  auto begin() { return map_.begin(); }
  auto end() { return map_.end(); }

 private:
  std::map<std::string, Attribute, std::less<>> map_;
};

}  // namespace lathe::ir
