// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of CumSum and CumProd on CUDA devices: "cuda.cumulative" binds the kernels of cumulative.cu and cumulative_product.cu to strided tensors.

#include <array>

#include "ops/reduce/cumulative_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class CumulativeKernel final : public Kernel {
 public:
  explicit CumulativeKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    fit(request);
    launches_ = ops::cumulative_launches(plan_.whole, plan_.scaled);
    for (std::size_t i = 0; i < launches_.size(); ++i) functions_[i] = device_.builtin_function(launches_[i].module, launches_[i].kernel);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return plan_.scratch_bytes(); }

  Status run(const KernelIo& io) const noexcept override {
    if (plan_.grid == 0) return Status::ok();
    cuda::CumulativeParams p = plan_.params;
    p.x = io.inputs[0];
    p.y = io.outputs[0];
    p.totals = plan_.scratch_bytes() > 0 ? io.scratch : nullptr;
    cuda::LaunchShape shape;
    shape.block = cuda::kCumulativeThreads;
    shape.overlaps = device_.info().major >= 9;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    // A row of one piece needs no totals.
    for (std::size_t i = p.totals ? 0 : launches_.size() - 1; i < launches_.size(); ++i) {
      shape.grid_x = launches_[i].by_rows ? plan_.rows() : plan_.grid;
      if (const Status status = functions_[i].launch_with(stream, shape, p); !status) return status;
    }
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    if (request.inputs.size() != 1 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a CumSum step with the wrong number of tensors");
    std::string why;
    if (!ops::cumulative_plan(request.inputs[0], request.outputs[0], request.params.get_int("axis", 0), request.params.get_int("product", 0) != 0, plan_, why))
      throw Error(Code::kUnsupported, "a CumSum step: " + why);
    plan_.params.product = request.params.get_int("product", 0) != 0;
    plan_.params.exclusive = request.params.get_int("exclusive", 0) != 0;
    plan_.params.reverse = request.params.get_int("reverse", 0) != 0;
  }

  cuda::Device& device_;
  ops::CumulativePlan plan_;
  std::span<const ops::CumulativeLaunch> launches_;
  std::array<cuda::Function, 3> functions_;
};

std::unique_ptr<Kernel> bind_cumulative(const BindRequest& request) { return std::make_unique<CumulativeKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.cumulative", bind_cumulative, ""}}};

}  // namespace

KernelSet kernels_reduce_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
