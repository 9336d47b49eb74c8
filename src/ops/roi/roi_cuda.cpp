// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of RoiAlign on CUDA devices: "cuda.roi_align" binds the kernel of roi.cu to strided tensors.

#include <algorithm>
#include <array>

#include "ops/roi/roi_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class RoiKernel final : public Kernel {
 public:
  explicit RoiKernel(const BindRequest& request) : device_(regions::need_device(request.device)), how_(request.params) {
    fit(request);
    function_ = device_.builtin_function("roi", "roi_align");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    cuda::RoiParams p = params_;
    const int bins = p.rows * p.columns;
    if (p.regions == 0 || p.channels == 0 || bins == 0) return Status::ok();
    p.x = io.inputs[0];
    p.rois = io.inputs[1];
    p.batch = static_cast<const long long*>(io.inputs[2]);
    p.y = io.outputs[0];
    cuda::LaunchShape shape;
    shape.grid_x = static_cast<std::uint32_t>(p.regions);
    shape.grid_y = static_cast<std::uint32_t>((p.channels + cuda::kRoiChannels - 1) / cuda::kRoiChannels);
    shape.block = static_cast<std::uint32_t>(std::min(256, (bins + 31) / 32 * 32));
    shape.overlaps = device_.info().major >= 9;
    return function_.launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    if (request.inputs.size() != 3 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a RoiAlign step with the wrong number of tensors");
    std::string why;
    if (!ops::roi_plan(request.inputs[0], request.inputs[1], request.inputs[2], request.outputs[0], how_, params_, why))
      throw Error(Code::kUnsupported, "a RoiAlign step: " + why);
    if (params_.channels > 65535 * cuda::kRoiChannels) throw Error(Code::kUnsupported, "a RoiAlign step: more channels than the kernel counts");
    params_.x_type = regions::need_cuda_element(request.inputs[0].dtype);
    params_.roi_type = regions::need_cuda_element(request.inputs[1].dtype);
    params_.y_type = regions::need_cuda_element(request.outputs[0].dtype);
  }

  cuda::Device& device_;
  ops::RoiHow how_;
  cuda::RoiParams params_;
  cuda::Function function_;
};

std::unique_ptr<Kernel> bind_roi_align(const BindRequest& request) { return std::make_unique<RoiKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.roi_align", bind_roi_align, ""}}};

}  // namespace

KernelSet kernels_roi_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
