// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of conv_block by cuDNN: "cuda.conv.cudnn" binds the library's plans to concrete strided tensors, and packs weights in the order that
// channels-last convolutions read.

#include <array>
#include <bit>
#include <cmath>

#include "plan/kernel_list.h"
#include "regions/conv_block/conv_cuda_geometry.h"
#include "regions/conv_block/cudnn_conv_params.h"

namespace lathe::plan {
namespace {

namespace cudnn = cuda::cudnn;

class CudnnConvKernel final : public Kernel {
 public:
  explicit CudnnConvKernel(const BindRequest& request) : geometry_(request), device_(regions::need_device(request.device)) {
    const ir::Attrs& params = request.params;
    if (const std::string why = regions::cudnn_unfit(params); !why.empty())
      throw Error(Code::kMachine, why).with_remedy("Build the engine again on this machine.");
    choice_ = regions::read_cudnn_engine(params);
    narrow_bias_ = params.get_int("narrow_bias", 0) != 0;
    storage_ = regions::cudnn_storage(regions::read_product(params));
    const cuda::ConvShape& s = geometry_.shape;
    const std::size_t each = dtype_bytes(storage_, 1), bias_each = narrow_bias_ ? each : sizeof(float);
    if (request.weights.empty() || request.weights.size() > 2 || request.device_weights.size() != request.weights.size() ||
        request.weights[0].size() != static_cast<std::size_t>(s.cout * (s.cin / s.groups) * s.kh * s.kw) * each)
      throw Error(Code::kCorruptFile, "the packed weights of a convolution have the wrong size");
    if (request.weights.size() == 2 && request.weights[1].size() != static_cast<std::size_t>(s.cout) * bias_each)
      throw Error(Code::kCorruptFile, "the packed bias of a convolution has the wrong size");
    weights_ = request.device_weights[0];
    bias_ = request.weights.size() == 2 ? request.device_weights[1] : nullptr;
    fit(request);
    if (geometry_.empty) return;
    const cudnn::ConvProblem problem = this->problem();
    try {
      plan_ = cudnn::ConvPlan::get(device_, problem, choice_);
    } catch (const Error& error) {
      if (error.code() != Code::kUnsupported) throw;
      // An engine may serve some extents only: then what the heuristics think best for these.
      std::string why;
      const auto others = cudnn::ConvPlan::offered(device_, problem, 1, why);
      if (others.empty()) throw Error(Code::kUnsupported, "a convolution that cuDNN does not run at these extents: " + why);
      plan_ = cudnn::ConvPlan::get(device_, problem, others.front());
    }
  }

  /// Other extents are another plan of the library's, and making one is binding.
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] {
             fit(request);
             plan_ = geometry_.empty ? nullptr : cudnn::ConvPlan::find(device_, problem(), choice_);
           }) &&
           (plan_ || geometry_.empty);
  }
  std::size_t scratch_bytes() const noexcept override { return plan_ ? plan_->workspace_bytes() : 0; }

  Status run(const KernelIo& io) const noexcept override {
    if (geometry_.empty) return Status::ok();
    const cudnn::ConvPointers pointers{io.inputs[0], weights_, bias_, geometry_.operands.residual ? io.inputs[1] : nullptr, io.outputs[0], io.scratch};
    return plan_->run(static_cast<cuda::StreamHandle>(io.stream), pointers);
  }

 private:
  void fit(const BindRequest& request) {
    geometry_.fit(request);
    if (geometry_.empty) return;
    if (request.inputs[0].dtype != storage_) throw Error(Code::kCorruptFile, "a convolution step by cuDNN with tensors of other types than its plan says");
    if (const std::string why = cudnn::unsupported(problem()); !why.empty()) throw Error(Code::kUnsupported, why);
  }
  cudnn::ConvProblem problem() const { return regions::cudnn_problem(geometry_.shape, geometry_.operands, geometry_.epilogue, bias_ != nullptr, narrow_bias_); }

  regions::ConvGeometry geometry_;
  cuda::Device& device_;
  cudnn::EngineChoice choice_;
  std::shared_ptr<const cudnn::ConvPlan> plan_;
  const void *weights_ = nullptr, *bias_ = nullptr;
  DType storage_ = DType::kFloat16;
  bool narrow_bias_ = false;
};

std::unique_ptr<Kernel> bind_conv(const BindRequest& request) { return std::make_unique<CudnnConvKernel>(request); }

std::vector<std::byte> stored_as(const Tensor& values, DType type) {
  const Tensor stored = values.cast(type);
  return {stored.raw(), stored.raw() + stored.bytes()};
}

float rounded_to_tf32(float value) {
  if (!std::isfinite(value)) return value;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits + 0xFFF + ((bits >> 13) & 1)) & ~std::uint32_t{0x1FFF});
}

/// OIHW -> [O][H][W][I] in the product's type.
std::vector<std::byte> pack_conv(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const Dims& dims = weight.dims();
  const cuda::ProductType product = regions::read_product(params);
  const std::int64_t channels = dims.at(1), taps = weight.size() / std::max<std::int64_t>(1, dims.at(0) * channels);
  Tensor packed(DType::kFloat32, dims);
  const auto from = weight.data<float>();
  const auto to = packed.mutable_data<float>();
  std::size_t at = 0;
  for (std::int64_t o = 0; o < dims[0]; ++o)
    for (std::int64_t tap = 0; tap < taps; ++tap)
      for (std::int64_t i = 0; i < channels; ++i) {
        const float value = from[static_cast<std::size_t>((o * channels + i) * taps + tap)];
        to[at++] = product == cuda::kProductTF32 ? rounded_to_tf32(value) : value;
      }
  return stored_as(packed, regions::cudnn_storage(product));
}

std::vector<std::byte> pack_bias(const ir::Attrs& params, std::span<const Tensor> sources) {
  return stored_as(sources[0].cast(DType::kFloat32), regions::cudnn_storage(regions::read_product(params)));
}

constexpr std::array<KernelType, 1> kKernels{{{"cuda.conv.cudnn", bind_conv, "", regions::cudnn_unfit}}};
constexpr std::array<PackFunction, 2> kPacks{{{"cuda.conv.cudnn.pack", pack_conv}, {"cuda.conv.cudnn.pack_bias", pack_bias}}};

}  // namespace

KernelSet kernels_cudnn_conv_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
