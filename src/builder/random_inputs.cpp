// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See random_inputs.h.

#include "builder/random_inputs.h"

#include <algorithm>
#include <array>
#include <cmath>
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

/// Makes `bytes` a file of the portable formats, of the picture that the decoder is said to give, or the largest square that fits: random
/// bytes are no picture. Nothing where none fits.
void make_picture(Tensor& bytes, const ir::Node& decoder) {
  std::int64_t height = 0, width = 0;
  if (const ir::Value* out = decoder.output(0); out && out->has_shape() && out->shape().size() == 3) {
    height = out->shape()[0].constant().value_or(0);
    width = out->shape()[1].constant().value_or(0);
  }
  struct Form {
    const char* magic;
    std::int64_t bits;  // a pixel's
  };
  for (const auto& [magic, bits] : {Form{"P6", 24}, Form{"P5", 8}, Form{"P4", 1}}) {
    std::int64_t h = height > 0 ? height : width, w = width > 0 ? width : height;
    if (h < 1)
      h = w = std::max<std::int64_t>(
          1, static_cast<std::int64_t>(std::sqrt(static_cast<double>(std::max<std::int64_t>(bytes.size() - 24, 1)) * 8 / static_cast<double>(bits))));
    if (w > 8 * bytes.size() / h) continue;
    const std::string header = std::string(magic) + " " + std::to_string(w) + " " + std::to_string(h) + (bits > 1 ? " 255\n" : "\n");
    const auto begin = static_cast<std::int64_t>(header.size());
    if (begin + (w * bits + 7) / 8 * h > bytes.size()) continue;
    std::mt19937_64 random(7);
    for (std::int64_t i = 0; i < bytes.size(); ++i)
      bytes.set_from_int64(i, i < begin ? header[static_cast<std::size_t>(i)] : static_cast<std::int64_t>(random() % 256));
    return;
  }
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

/// Regions of MaxRoiPool, [number of the image, corners]: a random number is no image's.
void name_images(Tensor& value, const ir::Value& input) {
  const auto pools = [](const ir::Use& use) { return use.node && use.node->is("MaxRoiPool") && use.index == 1; };
  if (value.rank() != 2 || value.dims()[1] != 5 || std::none_of(input.uses.begin(), input.uses.end(), pools)) return;
  for (std::int64_t row = 0; row < value.dims()[0]; ++row) value.set_from_double(row * 5, 0);
}

}  // namespace

const ir::Node* decoder_of(const ir::Value& input) {
  const auto decodes = [](const ir::Use& use) { return use.node->is("ImageDecoder"); };
  const auto found = std::find_if(input.uses.begin(), input.uses.end(), decodes);
  return found == input.uses.end() ? nullptr : found->node;
}

std::map<std::string, Tensor> random_inputs(const ir::Graph& graph, const ir::Bindings& bindings, std::uint64_t seed) {
  std::map<std::string, Tensor> inputs;
  std::uint64_t at = seed * 1000;
  for (const ir::Value* input : graph.inputs()) {
    ++at;
    Tensor& value = inputs[input->name];
    value = input->type.is_tensor() ? random_tensor(input->dtype(), concrete_dims(*input, bindings), at) : random_value(input->type, bindings, at);
    const ir::Node* decoder = value.dtype() == DType::kUint8 && value.rank() == 1 ? decoder_of(*input) : nullptr;
    if (decoder) make_picture(value, *decoder);
    if (value.is_tensor()) name_images(value, *input);
  }
  return inputs;
}

}  // namespace lathe::builder
