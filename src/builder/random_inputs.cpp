// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See random_inputs.h.

#include "builder/random_inputs.h"

#include <array>
#include <random>

#include "builder/hints.h"

namespace lathe::builder {
namespace {

/// Items of a sequence, entries of a map, extents that nothing tells.
constexpr std::int64_t kSome = 3;

Tensor random_tensor(DType dtype, const Dims& dims, std::uint64_t seed) {
  Tensor tensor(dtype, dims);
  std::mt19937_64 random(seed);
  if (dtype == DType::kString) {
    static constexpr std::array<const char*, 6> kWords{"a", "Lathe", "two words", "", "42", "\xc3\xa9t\xc3\xa9"};
    for (std::string& text : tensor.mutable_string_data()) text = kWords[random() % kWords.size()];
  } else if (dtype == DType::kComplex64 || dtype == DType::kComplex128) {
    std::normal_distribution<double> normal(0.25, 0.5);
    Tensor parts(dtype == DType::kComplex64 ? DType::kFloat32 : DType::kFloat64, {2 * tensor.size()});
    for (std::int64_t i = 0; i < parts.size(); ++i) parts.set_from_double(i, normal(random));
    std::byte* bytes = tensor.mutable_raw();
    std::copy(parts.raw(), parts.raw() + parts.bytes(), bytes);
  } else if (is_float(dtype)) {
    std::normal_distribution<double> normal(0.25, 0.5);
    for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_double(i, normal(random));
  } else {
    for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_int64(i, static_cast<std::int64_t>(random() % 2));
  }
  return tensor;
}

/// Of what holds tensors, whose extents nothing tells.
Tensor random_value(const ir::Type& type, const ir::Bindings& bindings, std::uint64_t seed) {
  switch (type.kind) {
    case ir::TypeKind::kSequence: {
      std::vector<Tensor> items;
      for (std::int64_t i = 0; i < kSome && type.element; ++i)
        items.push_back(random_value(*type.element, bindings, seed * 31 + static_cast<std::uint64_t>(i)));
      return Tensor::sequence(std::move(items));
    }
    case ir::TypeKind::kOptional: return type.element ? random_value(*type.element, bindings, seed) : Tensor::nothing();
    case ir::TypeKind::kMap: {
      Tensor keys(type.dtype, {kSome});
      for (std::int64_t i = 0; i < kSome; ++i) {
        if (type.dtype == DType::kString) keys.mutable_string_data()[static_cast<std::size_t>(i)] = std::string(1, static_cast<char>('a' + i));
        else keys.set_from_int64(i, i);
      }
      const DType dtype = type.element && type.element->is_tensor() ? type.element->dtype : DType::kFloat32;
      return Tensor::map(std::move(keys), random_tensor(dtype, {kSome}, seed));
    }
    default: break;
  }
  Dims dims;
  if (!type.shape) dims = {2, kSome};
  else
    for (const ir::Dim& dim : *type.shape) dims.push_back(dim.evaluate(bindings).value_or(kSome));
  return random_tensor(type.dtype, dims, seed);
}

}  // namespace

Tensor random_input(const ir::Value& input, const Dims& dims, std::uint64_t seed) { return random_tensor(input.dtype(), dims, seed); }

std::map<std::string, Tensor> random_inputs(const ir::Graph& graph, const ir::Bindings& bindings, std::uint64_t seed) {
  std::map<std::string, Tensor> inputs;
  std::uint64_t at = seed * 1000;
  for (const ir::Value* input : graph.inputs()) {
    ++at;
    inputs[input->name] = input->type.is_tensor() ? random_input(*input, concrete_dims(*input, bindings), at) : random_value(input->type, bindings, at);
  }
  return inputs;
}

}  // namespace lathe::builder
