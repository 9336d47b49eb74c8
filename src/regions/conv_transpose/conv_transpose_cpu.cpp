// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of conv_transpose: binds src/backend/cpu/conv_transpose.h to concrete strided tensors, and packs its weights. The bias
// is packed by "cpu.bias.pack" of conv_block.

#include <array>

#include <fmt/format.h>

#include "backend/cpu/epilogue_params.h"
#include "base/thread_pool.h"
#include "plan/kernel_list.h"
#include "regions/conv_transpose/conv_transpose_params.h"

namespace lathe::plan {
namespace {

class ConvTransposeKernel final : public Kernel {
 public:
  explicit ConvTransposeKernel(const BindRequest& request) {
    if (request.inputs.empty() || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a transposed convolution step with too few tensors");
    const ir::Attrs& params = request.params;
    require(request.inputs[0].dims.size() >= 3, "input");
    geometry_ = regions::TransposeGeometry(params, params.get_ints("weight_dims"));
    const auto activation = cpu::find_activation(params.get_string("activation", ""));
    if (!activation)
      throw Error(Code::kCorruptFile, fmt::format("the activation '{}' is not one that this version knows", params.get_string("activation", "")));
    epilogue_.activation = *activation;
    epilogue_.alpha = params.get_float("alpha", 0);
    epilogue_.beta = params.get_float("beta", 0);
    epilogue_.residual_after = params.get_int("residual_after", 0) != 0;
    weight_type_ = static_cast<DType>(params.get_int("weight_type", 0));
    fit(request);
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return scratch_; }

  Status run(const KernelIo& io) const noexcept override {
    if (empty_) return Status::ok();
    cpu::ConvTransposeArgs args = args_;
    args.src = io.inputs[0];
    args.residual = has_residual_ ? io.inputs[1] : nullptr;
    args.dst = io.outputs[0];
    args.scratch = io.scratch;
    cpu::run_conv_transpose(problem_, epilogue_, args, *io.pool);
    return Status::ok();
  }

 private:
  static void require(bool holds, const char* what) {
    if (!holds)
      throw Error(Code::kInvalidArgument,
                  fmt::format("the {} of a transposed convolution step does not have the extents or memory order that its plan says", what));
  }

  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    require(x.is_channels_last(), "input");
    require(y.dims.size() == x.dims.size() && y.is_channels_last(), "output");
    problem_ = geometry_.problem(x.dims, y.dims);
    problem_.src = x.dtype;
    problem_.dst = y.dtype;
    problem_.weights = weight_type_;
    empty_ = y.elements() == 0;
    if (empty_) return;
    if (const std::string why = cpu::conv_transpose_unsupported(problem_); !why.empty()) throw Error(Code::kUnsupported, why);
    args_.src_pixel_stride = x.strides.back();
    args_.dst_pixel_stride = y.strides.back();
    has_residual_ = request.inputs.size() > 1;
    if (has_residual_) {
      const TensorDesc& residual = request.inputs[1];
      require(residual.dims == y.dims && residual.is_channels_last() && (residual.dtype == DType::kFloat32 || residual.dtype == DType::kBFloat16), "residual");
      args_.residual_pixel_stride = residual.strides.back();
      args_.residual_type = residual.dtype;
    }
    if (request.weights.empty() || request.weights[0].size() != cpu::conv_transpose_weight_bytes(problem_))
      throw Error(Code::kCorruptFile, "the packed weights of a transposed convolution have the wrong size");
    args_.weights = request.weights[0].data();
    if (request.weights.size() > 1) {
      if (request.weights[1].size() != static_cast<std::size_t>(problem_.cout) * sizeof(float))
        throw Error(Code::kCorruptFile, "the packed bias of a transposed convolution has the wrong size");
      args_.bias = reinterpret_cast<const float*>(request.weights[1].data());
    }
    scratch_ = cpu::conv_transpose_scratch_bytes(problem_, request.threads);
  }

  regions::TransposeGeometry geometry_;
  DType weight_type_ = DType::kUndefined;
  cpu::ConvTransposeProblem problem_;
  cpu::Epilogue epilogue_;
  cpu::ConvTransposeArgs args_;
  std::size_t scratch_ = 0;
  bool has_residual_ = false, empty_ = false;
};

std::unique_ptr<Kernel> bind_conv_transpose(const BindRequest& request) { return std::make_unique<ConvTransposeKernel>(request); }

std::vector<std::byte> pack_weights(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const Dims& dims = weight.dims();
  const auto strides = params.get_ints("strides"), dilations = params.get_ints("dilations");
  cpu::ConvTransposeProblem p;
  p.groups = params.get_int("group", 1);
  p.cin = dims.at(0);
  p.cout = dims.at(1) * p.groups;
  p.kh = dims.size() == 4 ? dims[2] : 1;
  p.kw = dims.back();
  p.stride_h = strides.at(0);
  p.stride_w = strides.at(1);
  p.dilation_h = dilations.at(0);
  p.dilation_w = dilations.at(1);
  p.weights = static_cast<DType>(params.get_int("weight_type", 0));
  std::vector<std::byte> packed(cpu::conv_transpose_weight_bytes(p));
  cpu::pack_conv_transpose_weights(p, weight.data<float>().data(), packed.data());
  return packed;
}

constexpr std::array<KernelType, 1> kKernels{{{"cpu.conv_transpose", bind_conv_transpose, ""}}};
constexpr std::array<PackFunction, 1> kPacks{{{"cpu.conv_transpose.pack", pack_weights}}};

}  // namespace

KernelSet kernels_conv_transpose() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
