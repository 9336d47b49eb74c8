// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A convolution by cuDNN: from tensors to the library's problem, and what the step records beside cuda.conv's parameters: "engine" (its number, then
// pairs of setting and value), "narrow_bias", "library" (the version that numbered them).

#include "backend/cuda/cudnn_conv.h"
#include "regions/conv_block/conv_cuda_params.h"

namespace lathe::regions {

inline cuda::cudnn::ConvProblem cudnn_problem(const cuda::ConvShape& shape, const cuda::ConvOperands& operands, const cuda::EpilogueParams& epilogue, bool bias,
                                              bool narrow_bias) noexcept {
  cuda::cudnn::ConvProblem p;
  p.shape = shape;
  p.src = operands.src;
  p.stored = operands.stored;
  p.src_pixel = operands.src_pixel;
  p.dst_pixel = operands.dst_pixel;
  p.residual = operands.residual;
  p.residual_pixel = operands.residual ? operands.residual_pixel : 0;
  p.residual_after = operands.residual && epilogue.residual_after;
  p.bias = bias;
  p.narrow_bias = bias && narrow_bias;
  p.activation = epilogue.activation;
  p.alpha = epilogue.alpha;
  return p;
}

/// Why a step whose engine was chosen by the library that the parameters name cannot run here; "" = it can.
inline std::string cudnn_unfit(const ir::Attrs& params) {
  std::string why;
  const cuda::cudnn::Library* library = cuda::cudnn::Library::find(&why);
  if (!library) return "a step runs by cuDNN, and " + why;
  const std::string timed = params.get_string("library", "");
  if (library->version_text() != timed)
    return fmt::format("a step was timed with cuDNN {}, here is {} (PyPI: nvidia-cudnn-cu13)", timed, library->version_text());
  return "";
}

inline void write_cudnn_engine(const cuda::cudnn::EngineChoice& choice, ir::Attrs& params) {
  std::vector<std::int64_t> values{choice.engine};
  for (const auto& [type, value] : choice.knobs) values.insert(values.end(), {type, value});
  params.set("engine", std::move(values));
}
inline cuda::cudnn::EngineChoice read_cudnn_engine(const ir::Attrs& params) {
  const auto values = params.get_ints("engine");
  if (values.size() % 2 != 1 || values.size() > 65) throw Error(Code::kCorruptFile, "the engine of a convolution by cuDNN is not one that this version knows");
  cuda::cudnn::EngineChoice choice;
  choice.engine = values[0];
  for (std::size_t i = 1; i < values.size(); i += 2) choice.knobs.emplace_back(values[i], values[i + 1]);
  return choice;
}

inline DType cudnn_storage(cuda::ProductType product) noexcept {
  return product == cuda::kProductF16 ? DType::kFloat16 : product == cuda::kProductBF16 ? DType::kBFloat16 : DType::kFloat32;
}

}  // namespace lathe::regions
