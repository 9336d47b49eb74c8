// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of CumSum and CumProd on CUDA devices: "cuda.cumulative" binds the kernels of cumulative.cu to strided tensors.

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
    totals_ = device_.builtin_function("cumulative", plan_.whole ? "cumulative_totals_whole" : "cumulative_totals_float");
    elements_ = device_.builtin_function("cumulative", plan_.whole ? "cumulative_elements_whole" : "cumulative_elements_float");
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
    p.totals = p.pieces > 1 ? io.scratch : nullptr;
    cuda::LaunchShape shape;
    shape.grid_x = plan_.grid;
    shape.block = cuda::kCumulativeThreads;
    shape.overlaps = device_.info().major >= 9;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    if (p.pieces > 1)
      if (const Status status = totals_.launch_with(stream, shape, p); !status) return status;
    return elements_.launch_with(stream, shape, p);
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
  cuda::Function totals_, elements_;
};

std::unique_ptr<Kernel> bind_cumulative(const BindRequest& request) { return std::make_unique<CumulativeKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.cumulative", bind_cumulative, ""}}};

}  // namespace

KernelSet kernels_reduce_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
