// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of LinearAttention on CUDA devices: "cuda.linear_attention" binds the kernels of linear_attention.cu to strided tensors.

#include <array>

#include "ops/linear_attention/linear_attention_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

using ops::LinearKernelKind;

class LinearAttentionKernel final : public Kernel {
 public:
  explicit LinearAttentionKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    fit(request);
    // Other extents may need any of them.
    for (const auto kind : {LinearKernelKind::kWhole, LinearKernelKind::kPart, LinearKernelKind::kMemory})
      functions_[static_cast<std::size_t>(kind)] = device_.builtin_function("linear_attention", ops::linear_attention_kernel_name(kind));
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return launch_.scratch_bytes; }

  Status run(const KernelIo& io) const noexcept override {
    if (launch_.grid == 0) return Status::ok();
    cuda::LinearAttentionParams p = params_;
    ops::linear_attention_addresses(io, p);
    p.in_memory = static_cast<float*>(io.scratch);
    cuda::LaunchShape shape;
    shape.grid_x = launch_.grid;
    shape.block = launch_.block;
    shape.shared_bytes = launch_.shared;
    shape.overlaps = device_.info().major >= 9;
    return functions_[static_cast<std::size_t>(launch_.kind)].launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::linear_attention_plan(request.inputs, request.outputs, request.params.get_int("q_num_heads", 0), request.params.get_int("kv_num_heads", 0),
                                    request.params.get_float("scale", 0), params_, why) ||
        !ops::linear_attention_launch(params_, launch_, why))
      throw Error(Code::kUnsupported, "a LinearAttention step: " + why);
  }

  cuda::Device& device_;
  cuda::LinearAttentionParams params_;
  ops::LinearLaunch launch_;
  std::array<cuda::Function, 3> functions_;  ///< by kind
};

std::unique_ptr<Kernel> bind_linear_attention(const BindRequest& request) { return std::make_unique<LinearAttentionKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.linear_attention", bind_linear_attention, ""}}};

}  // namespace

KernelSet kernels_linear_attention_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
