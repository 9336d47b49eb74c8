// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Attrs: typed access with errors that name the attribute and what it holds.

#include "ir/attribute.h"

#include "lathe/status.h"

namespace lathe::ir {
namespace {

constexpr const char* kTypeNames[] = {"nothing", "a float", "an int", "a string",        "a tensor",       "a graph", "floats", "ints",
                                      "strings", "tensors", "graphs", "a sparse tensor", "sparse tensors", "a type",  "types"};

template <class T>
const T* typed(const Attrs& attrs, std::string_view name, const char* expected) {
  const Attribute* attribute = attrs.find(name);
  if (!attribute) return nullptr;
  if (const T* value = std::get_if<T>(&attribute->value)) return value;
  if (!attribute->ref_name.empty()) {
    throw Error(Code::kInvalidModel,
                "attribute '" + std::string(name) + "' refers to the attribute '" + attribute->ref_name + "' of a function, and nothing gives it a value");
  }
  throw Error(Code::kInvalidModel,
              "attribute '" + std::string(name) + "' must hold " + expected + " but holds " + kTypeNames[static_cast<int>(attribute->type())]);
}

// An empty list is written without a type by some exporters and reads as ints: it is the empty list of every kind.
template <class T>
std::vector<T> list(const Attrs& attrs, std::string_view name, std::vector<T> fallback, const char* expected) {
  const Attribute* attribute = attrs.find(name);
  if (attribute) {
    if (const auto* ints = std::get_if<std::vector<std::int64_t>>(&attribute->value); ints && ints->empty()) return {};
  }
  const auto* value = typed<std::vector<T>>(attrs, name, expected);
  return value ? *value : std::move(fallback);
}

}  // namespace

AttrType Attribute::type() const noexcept {
  if (!ref_name.empty() && std::holds_alternative<std::monostate>(value)) return ref_type;
  constexpr AttrType kTypes[] = {AttrType::kUndefined, AttrType::kFloat,        AttrType::kInt,           AttrType::kString,  AttrType::kTensor,
                                 AttrType::kGraph,     AttrType::kFloats,       AttrType::kInts,          AttrType::kStrings, AttrType::kTensors,
                                 AttrType::kGraphs,    AttrType::kSparseTensor, AttrType::kSparseTensors, AttrType::kType,    AttrType::kTypes};
  return kTypes[value.index()];
}

bool Attrs::has(std::string_view name) const { return map_.find(name) != map_.end(); }

const Attribute* Attrs::find(std::string_view name) const {
  const auto found = map_.find(name);
  return found == map_.end() ? nullptr : &found->second;
}

std::int64_t Attrs::get_int(std::string_view name, std::int64_t fallback) const {
  const auto* value = typed<std::int64_t>(*this, name, "an int");
  return value ? *value : fallback;
}

float Attrs::get_float(std::string_view name, float fallback) const {
  const auto* value = typed<float>(*this, name, "a float");
  return value ? *value : fallback;
}

std::string Attrs::get_string(std::string_view name, std::string_view fallback) const {
  const auto* value = typed<std::string>(*this, name, "a string");
  return value ? *value : std::string(fallback);
}

std::vector<std::int64_t> Attrs::get_ints(std::string_view name, std::vector<std::int64_t> fallback) const {
  return list<std::int64_t>(*this, name, std::move(fallback), "ints");
}

std::vector<float> Attrs::get_floats(std::string_view name, std::vector<float> fallback) const {
  return list<float>(*this, name, std::move(fallback), "floats");
}

std::vector<std::string> Attrs::get_strings(std::string_view name, std::vector<std::string> fallback) const {
  return list<std::string>(*this, name, std::move(fallback), "strings");
}

Tensor Attrs::get_tensor(std::string_view name) const {
  const auto* value = typed<Tensor>(*this, name, "a tensor");
  return value ? *value : Tensor();
}

GraphPtr Attrs::get_graph(std::string_view name) const {
  const auto* value = typed<GraphPtr>(*this, name, "a graph");
  return value ? *value : nullptr;
}

void Attrs::set(std::string name, Attribute attribute) { map_.insert_or_assign(std::move(name), std::move(attribute)); }

void Attrs::erase(std::string_view name) {
  const auto found = map_.find(name);
  if (found != map_.end()) map_.erase(found);
}

}  // namespace lathe::ir
