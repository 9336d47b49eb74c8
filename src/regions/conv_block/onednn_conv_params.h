// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The parameters of a convolution by oneDNN: Conv's attributes, "weight_dims", "image" (channels, height, width), and what onednn_params.h
// has.

#include "regions/conv_block/conv_params.h"
#include "regions/onednn_params.h"

namespace lathe::regions {

inline void write_spec(const cpu::onednn::ConvSpec& spec, ir::Attrs& params) {
  params.set("image", std::vector<std::int64_t>{spec.problem.cin, spec.problem.h, spec.problem.w});
  write_onednn(spec, params);
}

/// Throws Error(kCorruptFile) when the parameters are not such.
inline cpu::onednn::ConvSpec read_spec(const ir::Attrs& params) {
  const Dims image = params.get_ints("image"), weight = params.get_ints("weight_dims");
  if (image.size() != 3 || (weight.size() != 3 && weight.size() != 4))
    throw Error(Code::kCorruptFile, "the extents of a convolution by oneDNN are not such that this version knows");
  Dims input{1, image[0]};
  if (weight.size() == 4) input.push_back(image[1]);
  input.push_back(image[2]);
  cpu::onednn::ConvSpec spec;
  spec.problem = conv_problem(params, input, weight);
  read_onednn(params, spec);
  return spec;
}

}  // namespace lathe::regions
