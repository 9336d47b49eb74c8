// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of conv_block on CUDA devices: binds the products and the depthwise kernels of src/backend/cuda/kernels to concrete strided
// tensors, and packs their weights.

#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "backend/cuda/kernels/window_plan.h"
#include "plan/kernel_list.h"
#include "regions/conv_block/conv_cuda_geometry.h"

namespace lathe::plan {
namespace {

using regions::ConvGeometry;
using regions::ImageMode;

ImageMode read_image(const ir::Attrs& params) {
  const std::int64_t mode = params.get_int("image", 0);
  if (mode < 0 || mode > 2) throw Error(Code::kCorruptFile, "a convolution step reads its image in a way that this version does not know");
  return static_cast<ImageMode>(mode);
}

class ConvKernel final : public Kernel {
 public:
  explicit ConvKernel(const BindRequest& request) : geometry_(request), image_(read_image(request.params)) {
    geometry_.operands.product = regions::read_product(request.params);
    fit(request);
    if (geometry_.empty) return;
    if (request.weights.empty() || request.weights[0].size() != packed_bytes_)
      throw Error(Code::kCorruptFile, "the packed weights of a convolution have the wrong size");
    weights_ = request.device_weights[0];
    bias_ = geometry_.bias(request);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return (call_ || !weights_) && fits([&] { fit(request); }) && (geometry_.empty || weights_);
  }
  std::size_t scratch_bytes() const noexcept override { return call_ ? call_->scratch_bytes() : 0; }

  Status run(const KernelIo& io) const noexcept override {
    if (geometry_.empty) return Status::ok();
    const cuda::GemmOperands operands{.a = io.inputs[0],
                                      .b = weights_,
                                      .bias = bias_,
                                      .residual = geometry_.operands.residual ? io.inputs[1] : nullptr,
                                      .c = io.outputs[0],
                                      .c_second = geometry_.operands.first_columns ? io.outputs[1] : nullptr,
                                      .next = io.next_weights,
                                      .next_bytes = io.next_bytes};
    return call_->run(static_cast<cuda::StreamHandle>(io.stream), operands, geometry_.epilogue, io.scratch);
  }

 private:
  void fit(const BindRequest& request) {
    geometry_.fit(request);
    if (geometry_.empty) return;
    const cuda::ConvShape& s = geometry_.shape;
    if (image_ != ImageMode::kAsIs && (s.groups != 1 || geometry_.operands.src_pixel < s.cin))
      throw Error(Code::kCorruptFile, "a convolution step whose image has no surplus channels");
    if (image_ == ImageMode::kPairs && (!cuda::pairs_pixels(s) || geometry_.operands.src_pixel != 4))
      throw Error(Code::kUnsupported, "a convolution over pairs of pixels of an image of odd width");
    const cuda::ConvShape executed = regions::executed_shape(s, image_, geometry_.operands.src_pixel);
    cuda::ConvOperands operands = geometry_.operands;
    if (image_ == ImageMode::kPairs) operands.src_pixel = 8;
    if (const std::string why = cuda::conv_unsupported(executed, operands); !why.empty()) throw Error(Code::kUnsupported, why);
    const cuda::GemmSetup setup = cuda::conv_setup(executed, operands);
    packed_bytes_ = cuda::packed_bytes(setup);
    if (!call_) call_.emplace(regions::need_device(request.device), setup, regions::read_gemm_plan(request.params), request.params.get_int("tuned_rows", 0));
    else if (!call_->fit(setup)) throw Error(Code::kUnsupported, "a convolution without a kernel at these extents");
  }

  ConvGeometry geometry_;
  ImageMode image_;
  std::optional<cuda::GemmCall> call_;
  const void *weights_ = nullptr, *bias_ = nullptr;
  std::size_t packed_bytes_ = 0;
};

class DepthwiseKernel final : public Kernel {
 public:
  explicit DepthwiseKernel(const BindRequest& request) : geometry_(request), device_(regions::need_device(request.device)) {
    fit(request);
    const cuda::ConvShape& s = geometry_.shape;
    if (request.weights.empty() || request.weights[0].size() != static_cast<std::size_t>(s.cout * s.kh * s.kw) * sizeof(float))
      throw Error(Code::kCorruptFile, "the packed weights of a convolution have the wrong size");
    weights_ = request.device_weights[0];
    bias_ = geometry_.bias(request);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    if (geometry_.empty) return Status::ok();
    const void* residual = geometry_.operands.residual ? io.inputs[1] : nullptr;
    const auto wide = [](const void* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; };
    const Way& way = wide(io.inputs[0]) && wide(io.outputs[0]) && wide(residual) ? aligned_ : any_;
    cuda::DepthwiseParams params = way.launch.params;
    params.window.src = io.inputs[0];
    params.window.dst = io.outputs[0];
    params.weights = static_cast<const float*>(weights_);
    params.bias = static_cast<const float*>(bias_);
    params.residual = residual;
    const int stored = params.epilogue.stored_type;
    params.epilogue = geometry_.epilogue;
    params.epilogue.stored_type = stored;
    cuda::LaunchShape shape;
    shape.grid_x = way.launch.grid[0];
    shape.block = way.launch.block;
    shape.overlaps = device_.info().major >= 9;
    return way.function.launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, params);
  }

 private:
  struct Way {
    cuda::WindowLaunch<cuda::DepthwiseParams> launch;
    cuda::Function function;
  };
  void fit(const BindRequest& request) {
    geometry_.fit(request);
    if (geometry_.empty) return;
    if (const std::string why = cuda::depthwise_unsupported(geometry_.shape, geometry_.operands); !why.empty()) throw Error(Code::kUnsupported, why);
    for (Way* way : {&aligned_, &any_}) {
      cuda::ConvOperands operands = geometry_.operands;
      operands.src_alignment = operands.dst_alignment = way == &aligned_ ? 16 : 1;
      way->launch = cuda::depthwise_launch(geometry_.shape, operands);
      way->function = device_.builtin_function(way->launch.module, way->launch.kernel);
    }
  }

  ConvGeometry geometry_;
  cuda::Device& device_;
  Way aligned_, any_;
  const void *weights_ = nullptr, *bias_ = nullptr;
};

std::unique_ptr<Kernel> bind_conv(const BindRequest& request) { return std::make_unique<ConvKernel>(request); }
std::unique_ptr<Kernel> bind_depthwise(const BindRequest& request) { return std::make_unique<DepthwiseKernel>(request); }

cuda::ConvShape weight_shape(const Dims& dims, std::int64_t groups) {
  cuda::ConvShape s;
  s.groups = groups;
  s.cout = dims.at(0);
  s.cin = dims.at(1) * groups;
  s.kh = dims.size() == 4 ? dims[2] : 1;
  s.kw = dims.back();
  s.h = s.kh;
  s.w = s.kw;
  return s;
}

/// float32 weights of several convolutions, one behind the other along their output channels.
Tensor side_by_side(std::span<const Tensor> sources) {
  if (sources.size() == 1) return sources[0].cast(DType::kFloat32).make_aligned();
  Dims dims = sources[0].dims();
  dims.at(0) = 0;
  for (const Tensor& source : sources) dims[0] += source.dims().at(0);
  Tensor whole(DType::kFloat32, dims);
  float* to = whole.mutable_data<float>().data();
  for (const Tensor& source : sources) {
    const Tensor part = source.cast(DType::kFloat32).make_aligned();
    to = std::copy_n(part.data<float>().data(), part.size(), to);
  }
  return whole;
}

std::vector<std::byte> pack_conv(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = side_by_side(sources);
  cuda::ConvShape shape = weight_shape(weight.dims(), params.get_int("groups", 1));
  std::vector<float> changed;
  const float* values = weight.data<float>().data();
  const ImageMode image = read_image(params);
  if (image == ImageMode::kPairs) {
    shape.pad_left = params.get_int("pad_left", 0);
    shape.stride_w = 2;
    changed = cuda::paired_weights(shape, values);
    shape = cuda::paired_shape(shape);
    values = changed.data();
  } else if (image == ImageMode::kWidened) {
    const std::int64_t channels = params.get_int("channels", shape.cin), taps = shape.kh * shape.kw;
    changed.assign(static_cast<std::size_t>(shape.cout * channels * taps), 0.0F);
    for (std::int64_t n = 0; n < shape.cout; ++n) std::copy_n(values + n * shape.cin * taps, shape.cin * taps, changed.data() + n * channels * taps);
    shape.cin = channels;
    values = changed.data();
  }
  cuda::ConvOperands operands;
  operands.product = regions::read_product(params);
  operands.src = operands.stored = regions::element_of(operands.product);
  const cuda::GemmSetup setup = cuda::conv_setup(shape, operands);
  std::vector<std::byte> packed(cuda::packed_bytes(setup));
  cuda::pack_weights(setup, values, cuda::oihw_strides(shape), packed);
  return packed;
}

/// The biases of convolutions side by side; `channels`: how many values each has, also where it has no bias.
std::vector<std::byte> pack_biases(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Dims channels = params.get_ints("channels");
  std::vector<float> values;
  for (std::size_t i = 0; i < channels.size(); ++i) {
    const std::size_t end = values.size() + static_cast<std::size_t>(channels[i]);
    if (i < sources.size() && sources[i].size() > 0) {
      const Tensor bias = sources[i].cast(DType::kFloat32).make_aligned();
      const auto data = bias.data<float>();
      values.insert(values.end(), data.begin(), data.end());
    }
    values.resize(end, 0.0F);
  }
  std::vector<std::byte> packed(values.size() * sizeof(float));
  std::memcpy(packed.data(), values.data(), packed.size());
  return packed;
}

std::vector<std::byte> pack_depthwise(const ir::Attrs&, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const cuda::ConvShape shape = weight_shape(weight.dims(), weight.dims().at(0));
  std::vector<float> values(static_cast<std::size_t>(weight.size()));
  cuda::pack_depthwise(shape, weight.data<float>().data(), values);
  std::vector<std::byte> packed(values.size() * sizeof(float));
  std::memcpy(packed.data(), values.data(), packed.size());
  return packed;
}

constexpr std::array<KernelType, 2> kKernels{{{"cuda.conv", bind_conv, ""}, {"cuda.depthwise", bind_depthwise, ""}}};
constexpr std::array<PackFunction, 3> kPacks{{{"cuda.conv.pack", pack_conv}, {"cuda.conv.biases", pack_biases}, {"cuda.depthwise.pack", pack_depthwise}}};

}  // namespace

KernelSet kernels_conv_block_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
