// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The parameters of a convolution by oneDNN, the same for the step and for the packing of its weights: Conv's attributes, "weight_dims",
// "image" (channels, height, width), storage types, the tail, "split" and the library that the weights were packed for.

#include <fmt/format.h>

#include "backend/cpu/onednn_conv.h"
#include "regions/conv_block/conv_params.h"

namespace lathe::regions {

inline void write_spec(const cpu::onednn::ConvSpec& spec, ir::Attrs& params) {
  const cpu::ConvProblem& p = spec.problem;
  params.set("image", std::vector<std::int64_t>{p.cin, p.h, p.w});
  params.set("types", std::vector<std::int64_t>{static_cast<std::int64_t>(p.src), static_cast<std::int64_t>(p.dst)});
  params.set("bias", static_cast<std::int64_t>(spec.bias));
  params.set("residual", spec.residual ? static_cast<std::int64_t>(spec.residual_type) : std::int64_t{-1});
  params.set("split", std::vector<std::int64_t>{spec.split.channels ? 1 : 0, spec.split.count});
}

/// Throws Error(kCorruptFile) when the parameters are not such.
inline cpu::onednn::ConvSpec read_spec(const ir::Attrs& params) {
  const Dims image = params.get_ints("image"), types = params.get_ints("types"), split = params.get_ints("split"), weight = params.get_ints("weight_dims");
  const auto stored = [](std::int64_t type) {
    return type == static_cast<std::int64_t>(DType::kFloat32) || type == static_cast<std::int64_t>(DType::kBFloat16);
  };
  const std::int64_t residual = params.get_int("residual", -1);
  const auto activation = cpu::find_activation(params.get_string("activation", ""));
  if (image.size() != 3 || types.size() != 2 || split.size() != 2 || (weight.size() != 3 && weight.size() != 4) || !stored(types[0]) || !stored(types[1]) ||
      (residual != -1 && !stored(residual)) || split[1] < 1 || split[1] > 4096 || !activation)
    throw Error(Code::kCorruptFile, "the parameters of a convolution by oneDNN are not such that this version knows");
  cpu::onednn::ConvSpec spec;
  Dims input{1, image[0]};
  if (weight.size() == 4) input.push_back(image[1]);
  input.push_back(image[2]);
  spec.problem = conv_problem(params, input, weight);
  spec.problem.src = spec.problem.weights = static_cast<DType>(types[0]);
  spec.problem.dst = static_cast<DType>(types[1]);
  spec.bias = params.get_int("bias", 0) != 0;
  spec.residual = residual != -1;
  if (spec.residual) spec.residual_type = static_cast<DType>(residual);
  spec.split = {split[0] != 0, split[1]};
  spec.epilogue.activation = *activation;
  spec.epilogue.alpha = params.get_float("alpha", 0);
  spec.epilogue.beta = params.get_float("beta", 0);
  spec.epilogue.residual_after = params.get_int("residual_after", 0) != 0;
  return spec;
}

/// Why weights that were packed for the library that the parameters name cannot be used here; "" = they can.
inline std::string onednn_unfit(const ir::Attrs& params) {
  std::string why;
  const cpu::onednn::Library* library = cpu::onednn::Library::find(&why);
  if (!library) return "a step runs by oneDNN, and " + why;
  const std::string packed_for = params.get_string("library", "");
  if (library->identity() != packed_for) return fmt::format("the weights of a step are packed for oneDNN {}, here is {}", packed_for, library->identity());
  return "";
}

}  // namespace lathe::regions
