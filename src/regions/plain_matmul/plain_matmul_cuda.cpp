// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of plain matrix products on CUDA devices: "cuda.matmul.generic" binds the kernels of plain_matmul.cu to strided tensors.

#include <array>

#include <fmt/format.h>

#include "plan/kernel_list.h"
#include "regions/cuda_params.h"
#include "regions/matmul_block/matmul_layout.h"
#include "regions/plain_matmul/plain_matmul_plan.h"

namespace lathe::plan {
namespace {

class PlainMatMulKernel final : public Kernel {
 public:
  explicit PlainMatMulKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    if (request.inputs.size() < 2 || request.inputs.size() > 3 || request.outputs.size() != 1)
      throw Error(Code::kCorruptFile, "a plain matrix product step with the wrong number of tensors");
    perm_a_ = regions::checked_permutation(request.params.get_ints("perm_a"), request.inputs[0].dims.size());
    perm_b_ = regions::checked_permutation(request.params.get_ints("perm_b"), request.inputs[1].dims.size());
    scale_ = request.params.get_float("scale", 1);
    z_scale_ = request.params.get_float("c_scale", 1);
    fit(request);
    // Other extents may want the other size of tiles.
    for (const bool large : {false, true})
      functions_[large] = device_.builtin_function("plain_matmul", regions::kPlainMatMulNames[regions::plain_matmul_kernel(plan_.kind, large)]);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    if (plan_.grid == 0) return Status::ok();
    cuda::PlainMatMulParams p = plan_.params;
    p.a = io.inputs[0];
    p.b = io.inputs[1];
    p.z = p.has_z ? io.inputs[2] : nullptr;
    p.y = io.outputs[0];
    cuda::LaunchShape shape;
    shape.grid_x = plan_.grid;
    shape.block = cuda::kPlainMatMulThreads;
    shape.overlaps = device_.info().major >= 9;
    return functions_[plan_.large].launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    const bool third = request.inputs.size() > 2 && request.inputs[2].dtype != DType::kUndefined;
    std::string why;
    if (!regions::plain_matmul_plan(
            {request.inputs[0], request.inputs[1], request.outputs[0], third ? &request.inputs[2] : nullptr, perm_a_, perm_b_, scale_, z_scale_}, plan_, why))
      throw Error(Code::kUnsupported, fmt::format("a plain matrix product step cannot run on these tensors: {}", why));
  }

  cuda::Device& device_;
  std::vector<std::int64_t> perm_a_, perm_b_;
  double scale_ = 1, z_scale_ = 1;
  regions::PlainMatMulPlan plan_;
  std::array<cuda::Function, 2> functions_;
};

std::unique_ptr<Kernel> bind_plain_matmul(const BindRequest& request) { return std::make_unique<PlainMatMulKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.matmul.generic", bind_plain_matmul, ""}}};

}  // namespace

KernelSet kernels_plain_matmul_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
