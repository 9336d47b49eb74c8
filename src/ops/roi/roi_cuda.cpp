// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of RoiAlign and MaxRoiPool on CUDA devices: "cuda.roi_align" and "cuda.max_roi_pool" bind the kernels of roi.cu to strided tensors.

#include <algorithm>
#include <array>

#include "ops/roi/roi_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class RoiKernel final : public Kernel {
 public:
  RoiKernel(const BindRequest& request, bool pools)
      : device_(regions::need_device(request.device)), pools_(pools), how_(pools ? ops::RoiHow::max_pool(request.params) : ops::RoiHow(request.params)) {
    fit(request);
    function_ = device_.builtin_function("roi", pools ? "max_roi_pool" : "roi_align");
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
    if (!pools_) p.batch = static_cast<const long long*>(io.inputs[2]);
    p.y = io.outputs[0];
    cuda::LaunchShape shape;
    shape.grid_x = static_cast<std::uint32_t>(p.regions);
    shape.grid_y = static_cast<std::uint32_t>((p.channels + cuda::kRoiChannels - 1) / cuda::kRoiChannels);
    const int results = pools_ ? bins * std::min(p.channels, cuda::kRoiChannels) : bins;
    shape.block = static_cast<std::uint32_t>(std::min(256, (results + 31) / 32 * 32));
    shape.overlaps = device_.info().major >= 9;
    return function_.launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    const auto name = [&] { return std::string(pools_ ? "a MaxRoiPool" : "a RoiAlign"); };
    const auto inputs = request.inputs, outputs = request.outputs;
    if (inputs.size() != (pools_ ? 2 : 3) || outputs.size() != 1) throw Error(Code::kCorruptFile, name() + " step with the wrong number of tensors");
    std::string why;
    if (!(pools_ ? ops::max_roi_plan(inputs[0], inputs[1], outputs[0], how_, params_, why)
                 : ops::roi_plan(inputs[0], inputs[1], inputs[2], outputs[0], how_, params_, why)))
      throw Error(Code::kUnsupported, name() + " step: " + why);
    if (params_.channels > 65535 * cuda::kRoiChannels) throw Error(Code::kUnsupported, name() + " step: more channels than the kernel counts");
    params_.x_type = regions::need_cuda_element(inputs[0].dtype);
    params_.roi_type = regions::need_cuda_element(inputs[1].dtype);
    params_.y_type = regions::need_cuda_element(outputs[0].dtype);
  }

  cuda::Device& device_;
  bool pools_;
  ops::RoiHow how_;
  cuda::RoiParams params_;
  cuda::Function function_;
};

template <bool kPools>
std::unique_ptr<Kernel> bind_roi(const BindRequest& request) {
  return std::make_unique<RoiKernel>(request, kPools);
}

constexpr std::array<KernelType, 2> kKernels{{{"cuda.roi_align", bind_roi<false>, ""}, {"cuda.max_roi_pool", bind_roi<true>, ""}}};

}  // namespace

KernelSet kernels_roi_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
