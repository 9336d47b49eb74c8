// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of NonZeroPadded on CUDA devices: "cuda.nonzero" binds the kernels of nonzero.cu to strided tensors.

#include <array>

#include "ops/nonzero/nonzero_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class NonZeroKernel final : public Kernel {
 public:
  explicit NonZeroKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    fit(request);
    count_ = device_.builtin_function("nonzero", "nonzero_count");
    write_ = device_.builtin_function("nonzero", "nonzero_write");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return ops::non_zero_grid(params_) * sizeof(unsigned); }

  Status run(const KernelIo& io) const noexcept override {
    cuda::NonZeroParams p = params_;
    p.x = io.inputs[0];
    p.places = static_cast<long long*>(io.outputs[0]);
    p.count = static_cast<long long*>(io.outputs[1]);
    p.counts = static_cast<unsigned*>(io.scratch);
    cuda::LaunchShape shape;
    shape.grid_x = ops::non_zero_grid(p);
    shape.block = cuda::kNonZeroThreads;
    shape.overlaps = device_.info().major >= 9;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    if (const Status status = count_.launch_with(stream, shape, p); !status) return status;
    return write_.launch_with(stream, shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    if (request.inputs.size() != 1 || request.outputs.size() != 2) throw Error(Code::kCorruptFile, "a NonZero step with the wrong number of tensors");
    std::string why;
    if (!ops::non_zero_plan(request.inputs[0], request.outputs[0], request.outputs[1], params_, why)) throw Error(Code::kUnsupported, "a NonZero step: " + why);
  }

  cuda::Device& device_;
  cuda::NonZeroParams params_;
  cuda::Function count_, write_;
};

std::unique_ptr<Kernel> bind_non_zero(const BindRequest& request) { return std::make_unique<NonZeroKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.nonzero", bind_non_zero, ""}}};

}  // namespace

KernelSet kernels_nonzero_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
