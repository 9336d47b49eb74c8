// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of plain convolutions on CUDA devices: "cuda.conv.generic" binds the kernels of plain_conv.cu to strided tensors.

#include <array>

#include <fmt/format.h>

#include "plan/kernel_list.h"
#include "regions/cuda_params.h"
#include "regions/plain_conv/plain_conv_plan.h"

namespace lathe::plan {
namespace {

class PlainConvKernel final : public Kernel {
 public:
  explicit PlainConvKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    if (request.inputs.size() < 2 || request.inputs.size() > 3 || request.outputs.size() != 1 || request.inputs[0].dims.size() < 3)
      throw Error(Code::kCorruptFile, "a plain convolution step with the wrong number of tensors or axes");
    std::string why;
    const auto spec = regions::plain_conv_spec(request.params, request.params.get_int("transposed", 0) != 0, request.inputs[0].dims.size() - 2, why);
    if (!spec) throw Error(Code::kCorruptFile, fmt::format("a plain convolution step with {}", why));
    spec_ = *spec;
    fit(request);
    function_ = device_.builtin_function("plain_conv", plan_.kernel());
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    if (plan_.grid == 0) return Status::ok();
    cuda::PlainConvParams p = plan_.params;
    p.x = io.inputs[0];
    p.w = io.inputs[1];
    p.b = p.has_b ? io.inputs[2] : nullptr;
    p.y = io.outputs[0];
    cuda::LaunchShape shape;
    shape.grid_x = plan_.grid;
    shape.block = cuda::kPlainConvThreads;
    shape.overlaps = device_.info().major >= 9;
    return function_.launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    const bool bias = request.inputs.size() > 2 && request.inputs[2].dtype != DType::kUndefined;
    std::string why;
    if (!regions::plain_conv_plan(spec_, request.inputs[0], request.inputs[1], bias ? &request.inputs[2] : nullptr, request.outputs[0], plan_, why))
      throw Error(Code::kUnsupported, fmt::format("a plain convolution step cannot run on these tensors: {}", why));
  }

  cuda::Device& device_;
  regions::PlainConvSpec spec_;
  regions::PlainConvPlan plan_;
  cuda::Function function_;
};

std::unique_ptr<Kernel> bind_plain_conv(const BindRequest& request) { return std::make_unique<PlainConvKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.conv.generic", bind_plain_conv, ""}}};

}  // namespace

KernelSet kernels_plain_conv_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
