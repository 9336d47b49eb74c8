// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CUDA kernels of conv_block find in a step's parameters and in the tensors that it is bound to.

#include <tuple>

#include <fmt/format.h>

#include "regions/conv_block/conv_cuda_params.h"

namespace lathe::regions {

/// What the kernels know of a step and check of its tensors.
class ConvGeometry {
 public:
  explicit ConvGeometry(const plan::BindRequest& request) {
    const ir::Attrs& params = request.params;
    const Dims weight = params.get_ints("weight_dims");
    if (request.inputs.empty() || request.outputs.empty() || weight.size() < 3) throw Error(Code::kCorruptFile, "a convolution step with too few tensors");
    shape = cuda_shape(conv_problem(params, request.inputs[0].dims, weight));
    window_ = ops::read_window(params, Dims(weight.begin() + 2, weight.end()), weight.size() - 2);
    epilogue = read_cuda_epilogue(params);
    // Two convolutions of one image side by side: the second's channels are a tensor of their own.
    operands.first_columns = params.get_int("first_channels", 0);
    if (request.outputs.size() != (operands.first_columns ? 2 : 1) || operands.first_columns < 0 || operands.first_columns >= shape.cout)
      throw Error(Code::kCorruptFile, "a convolution step whose outputs are not those of its channels");
  }

  void fit(const plan::BindRequest& request) {
    const plan::TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    const std::size_t last = x.dims.size() - 1;
    shape.n = x.dims[0];
    shape.w = x.dims[last];
    std::tie(shape.pad_left, shape.pad_right) = window_.pads(last - 2, shape.w);
    if (last == 3) {
      shape.h = x.dims[2];
      std::tie(shape.pad_top, shape.pad_bottom) = window_.pads(0, shape.h);
    }
    empty = y.elements() == 0;
    if (empty) return;
    const auto gives = [&](const plan::TensorDesc& out, std::int64_t channels) {
      if (x.dims[1] != shape.cin || out.dims.size() != x.dims.size() || out.dims[0] != shape.n || out.dims[1] != channels || out.dims[last] != shape.ow() ||
          (last == 3 && out.dims[2] != shape.oh()))
        throw Error(Code::kCorruptFile, fmt::format("a convolution of {} does not give {}", to_string(x.dims), to_string(out.dims)));
    };
    gives(y, operands.first_columns ? operands.first_columns : shape.cout);
    require(x.is_channels_last(), "input");
    require(y.is_channels_last(), "output");
    operands.src = need_cuda_element(x.dtype);
    operands.stored = need_cuda_element(y.dtype);
    operands.src_pixel = x.strides[last];
    operands.dst_pixel = y.strides[last];
    if (operands.first_columns) {
      const plan::TensorDesc& second = request.outputs[1];
      gives(second, shape.cout - operands.first_columns);
      require(second.is_channels_last() && second.dtype == y.dtype, "second output");
      operands.second_pixel = second.strides[last];
    }
    operands.residual = request.inputs.size() > 1;
    if (operands.residual) {
      const plan::TensorDesc& residual = request.inputs[1];
      require(residual.is_channels_last() && residual.dims == y.dims && residual.dtype == y.dtype, "residual");
      operands.residual_pixel = residual.strides[last];
    }
  }

  const void* bias(const plan::BindRequest& request) const {
    if (request.weights.size() < 2) return nullptr;
    if (request.weights[1].size() != static_cast<std::size_t>(shape.cout) * sizeof(float))
      throw Error(Code::kCorruptFile, "the packed bias of a convolution has the wrong size");
    return request.device_weights[1];
  }

  cuda::ConvShape shape;
  cuda::ConvOperands operands;
  cuda::EpilogueParams epilogue;
  bool empty = false;

 private:
  static void require(bool holds, const char* what) {
    if (!holds) throw Error(Code::kInternal, fmt::format("the {} of a convolution step does not have the type or memory order that its plan says", what));
  }
  ops::Window window_;
};

}  // namespace lathe::regions
