// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of Det and Inverse on CUDA devices: "cuda.det" and "cuda.inverse" bind the kernels of linalg.cu to strided tensors.

#include <array>

#include "ops/linalg/linalg_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class MatrixKernel final : public Kernel {
 public:
  MatrixKernel(const BindRequest& request, bool inverse) : device_(regions::need_device(request.device)), inverse_(inverse) {
    fit(request);
    function_ = device_.builtin_function("linalg", inverse ? "matrix_inverse" : "matrix_det");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return plan_.scratch; }

  Status run(const KernelIo& io) const noexcept override {
    if (plan_.grid == 0) return Status::ok();
    cuda::MatrixParams p = plan_.params;
    p.x = io.inputs[0];
    p.y = io.outputs[0];
    if (!plan_.in_shared) p.scratch = static_cast<double*>(io.scratch);
    cuda::LaunchShape shape;
    shape.grid_x = plan_.grid;
    shape.block = plan_.block;
    shape.shared_bytes = plan_.shared;
    shape.overlaps = device_.info().major >= 9;
    return function_.launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    const auto name = [&] { return std::string(inverse_ ? "an Inverse" : "a Det"); };
    if (request.inputs.size() != 1 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, name() + " step with the wrong number of tensors");
    std::string why;
    if (!ops::matrix_plan(request.inputs[0], request.outputs[0], inverse_, plan_, why)) throw Error(Code::kUnsupported, name() + " step: " + why);
  }

  cuda::Device& device_;
  bool inverse_;
  ops::MatrixPlan plan_;
  cuda::Function function_;
};

template <bool kInverse>
std::unique_ptr<Kernel> bind_matrix(const BindRequest& request) {
  return std::make_unique<MatrixKernel>(request, kInverse);
}

constexpr std::array<KernelType, 2> kKernels{{{"cuda.det", bind_matrix<false>, ""}, {"cuda.inverse", bind_matrix<true>, ""}}};

}  // namespace

KernelSet kernels_linalg_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
