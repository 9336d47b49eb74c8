// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of conv_block by oneDNN: binds src/backend/cpu/onednn_conv.h to concrete strided tensors, and packs weights in the format
// that the library chose. Such weights are good for one library on one kind of CPU; a section whose steps have others is not taken.

#include <array>

#include "base/thread_pool.h"
#include "plan/kernel_list.h"
#include "regions/conv_block/onednn_conv_params.h"

namespace lathe::plan {
namespace {

namespace onednn = cpu::onednn;

class OnednnConvKernel final : public Kernel {
 public:
  explicit OnednnConvKernel(const BindRequest& request)
      : spec_((regions::require_onednn(request.params), regions::read_spec(request.params))),
        weight_rank_(request.params.get_ints("weight_dims").size()),
        conv_((fit(request), spec_)) {
    regions::prepare_onednn(conv_, spec_, request.params, request.weights, strides_, request.threads);
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); }) && conv_.move_to(strides_);
  }
  std::size_t scratch_bytes() const noexcept override { return conv_.scratch_bytes(); }

  Status run(const KernelIo& io) const noexcept override {
    const onednn::ConvTensors tensors{io.inputs[0], spec_.residual ? io.inputs[1] : nullptr, io.outputs[0], io.scratch};
    if (spec_.residual && tensors.residual == tensors.dst && images_ > 0)
      return {Code::kInternal, "a convolution by oneDNN cannot write over the residual that it adds"};
    if (!conv_.run(tensors, images_, *io.pool)) return {Code::kInternal, "oneDNN failed to run a convolution"};
    return Status::ok();
  }

 private:
  static void require(bool holds, const char* what) {
    if (!holds)
      throw Error(Code::kInvalidArgument, fmt::format("the {} of a convolution step does not have the shape and memory order that its plan says", what));
  }

  void fit(const BindRequest& request) {
    if (request.inputs.size() != (spec_.residual ? 2U : 1U) || request.outputs.size() != 1)
      throw Error(Code::kCorruptFile, "a convolution step with too few or too many tensors");
    const cpu::ConvProblem& p = spec_.problem;
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    const std::size_t last = weight_rank_ - 1;
    const auto is = [&](const TensorDesc& desc, DType dtype, std::int64_t channels, std::int64_t height, std::int64_t width) {
      return desc.dtype == dtype && desc.dims.size() == weight_rank_ && desc.dims[1] == channels && (last == 2 || desc.dims[2] == height) &&
             desc.dims[last] == width && desc.is_channels_last();
    };
    require(is(x, p.src, p.cin, p.h, p.w), "input");
    require(is(y, p.dst, p.cout, p.oh(), p.ow()) && y.dims[0] == x.dims[0], "output");
    strides_ = {x.strides[last], p.h * p.w * x.strides[last], y.strides[last], p.oh() * p.ow() * y.strides[last], 0, 0};
    if (spec_.residual) {
      const TensorDesc& residual = request.inputs[1];
      require(is(residual, spec_.residual_type, p.cout, p.oh(), p.ow()) && residual.dims[0] == x.dims[0], "residual");
      strides_.residual_pixel = residual.strides[last];
      strides_.residual_image = p.oh() * p.ow() * residual.strides[last];
    }
    images_ = x.dims[0];
  }

  onednn::ConvSpec spec_;
  std::size_t weight_rank_;
  onednn::ConvStrides strides_;
  std::int64_t images_ = 0;
  onednn::Conv conv_;  // last: made when the tensors are known to fit
};

std::unique_ptr<Kernel> bind_conv(const BindRequest& request) { return std::make_unique<OnednnConvKernel>(request); }

std::vector<std::byte> pack_conv(const ir::Attrs& params, std::span<const Tensor> sources) {
  regions::require_onednn(params);
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const onednn::Conv conv(regions::read_spec(params));
  return conv.pack(weight.data<float>().data());
}

constexpr std::array<KernelType, 1> kKernels{{{"cpu.conv.onednn", bind_conv, "avx2", regions::onednn_unfit}}};
constexpr std::array<PackFunction, 1> kPacks{{{"cpu.conv.onednn.pack", pack_conv}}};

}  // namespace

KernelSet kernels_onednn_conv() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
