// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What steps by oneDNN record in the same words, whatever their pattern: storage types, the tail, how the output is cut, and the library
// that the weights were packed for. The weights' packing has the same parameters as the step.

#include <fmt/format.h>

#include "backend/cpu/epilogue_params.h"
#include "backend/cpu/onednn_conv.h"
#include "ir/attribute.h"
#include "lathe/status.h"

namespace lathe::regions {

/// With such a step an engine's tuned section runs only where the same oneDNN is, on the same kind of CPU. A tie is not worth that, nor is
/// what the clock cannot tell from one.
inline constexpr double kOnednnBurden = 1.05;

/// All of `spec` but the extents and the activation (write_tail).
inline void write_onednn(const cpu::onednn::ConvSpec& spec, ir::Attrs& params) {
  params.set("types", std::vector<std::int64_t>{static_cast<std::int64_t>(spec.problem.src), static_cast<std::int64_t>(spec.problem.dst)});
  params.set("bias", static_cast<std::int64_t>(spec.bias));
  params.set("residual", spec.residual ? static_cast<std::int64_t>(spec.residual_type) : std::int64_t{-1});
  params.set("split", std::vector<std::int64_t>{spec.split.channels ? 1 : 0, spec.split.count});
  params.set("library", cpu::onednn::Library::get().identity());
}

/// Fills in what write_onednn and write_tail wrote. Throws Error(kCorruptFile) when the parameters are not such.
inline void read_onednn(const ir::Attrs& params, cpu::onednn::ConvSpec& spec) {
  const auto types = params.get_ints("types"), split = params.get_ints("split");
  const auto stored = [](std::int64_t type) {
    return type == static_cast<std::int64_t>(DType::kFloat32) || type == static_cast<std::int64_t>(DType::kBFloat16);
  };
  const std::int64_t residual = params.get_int("residual", -1);
  const auto activation = cpu::find_activation(params.get_string("activation", ""));
  if (types.size() != 2 || split.size() != 2 || !stored(types[0]) || !stored(types[1]) || (residual != -1 && !stored(residual)) || split[1] < 1 ||
      split[1] > 4096 || !activation)
    throw Error(Code::kCorruptFile, "the parameters of a step by oneDNN are not such that this version knows");
  spec.problem.src = static_cast<DType>(types[0]);
  spec.problem.dst = static_cast<DType>(types[1]);
  spec.problem.weights = cpu::onednn::product_type(spec.problem.src, spec.problem.dst);
  spec.bias = params.get_int("bias", 0) != 0;
  spec.residual = residual != -1;
  if (spec.residual) spec.residual_type = static_cast<DType>(residual);
  spec.split = {split[0] != 0, split[1]};
  spec.epilogue.activation = *activation;
  spec.epilogue.alpha = params.get_float("alpha", 0);
  spec.epilogue.beta = params.get_float("beta", 0);
  spec.epilogue.residual_after = params.get_int("residual_after", 0) != 0;
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

/// Throws Error(kMachine) when they cannot be used.
inline void require_onednn(const ir::Attrs& params) {
  if (const std::string why = onednn_unfit(params); !why.empty()) throw Error(Code::kMachine, why).with_remedy("Build the engine again on this machine.");
}

/// Finishes binding: checks the weights that the step brings, and prepares `conv` for them.
inline void prepare_onednn(cpu::onednn::Conv& conv, const cpu::onednn::ConvSpec& spec, const ir::Attrs& params,
                           std::span<const std::span<const std::byte>> weights, const cpu::onednn::ConvStrides& strides, int threads) {
  if (conv.weight_format() != params.get_string("weight_format", ""))
    throw Error(Code::kMachine, "oneDNN wants another weight format here than the engine's").with_remedy("Build the engine again on this machine.");
  if (weights.size() != (spec.bias ? 2U : 1U) || weights[0].size() != conv.weight_bytes() ||
      (spec.bias && weights[1].size() != static_cast<std::size_t>(spec.problem.cout) * sizeof(float)))
    throw Error(Code::kCorruptFile, "the packed weights or bias of a step by oneDNN have the wrong size");
  conv.prepare(weights[0].data(), spec.bias ? reinterpret_cast<const float*>(weights[1].data()) : nullptr, strides, threads);
}

}  // namespace lathe::regions
