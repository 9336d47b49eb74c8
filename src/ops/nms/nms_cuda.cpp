// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of NonMaxSuppressionPadded on CUDA devices: "cuda.nms" sorts by "cuda.topk" and binds the kernels of nms.cu.

#include <array>

#include "ops/nms/nms_plan.h"
#include "ops/topk/topk_sort.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class NmsKernel final : public Kernel {
 public:
  explicit NmsKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    fit(request);
    sort_.bind(request, request.inputs[1], plan_.order);
    take_ = device_.builtin_function("nms", "nms_take");
    write_ = device_.builtin_function("nms", "nms_write");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); }) && sort_.rebind(request, request.inputs[1], plan_.order);
  }
  std::size_t scratch_bytes() const noexcept override {
    return up(plan_.order_bytes()) + up(plan_.corner_bytes()) + up(plan_.taken_bytes()) + up(plan_.count_bytes()) + sort_.scratch_bytes();
  }

  Status run(const KernelIo& io) const noexcept override {
    auto* at = static_cast<std::byte*>(io.scratch);
    const auto part = [&](std::size_t bytes) {
      std::byte* const begin = at;
      at += up(bytes);
      return static_cast<void*>(begin);
    };
    cuda::NmsParams p = plan_.params;
    void* const order = part(plan_.order_bytes());
    p.order = static_cast<const long long*>(order);
    p.corners = static_cast<float*>(part(plan_.corner_bytes()));
    p.taken = static_cast<int*>(part(plan_.taken_bytes()));
    p.counts = static_cast<int*>(part(plan_.count_bytes()));
    p.boxes = io.inputs[0];
    p.scores = io.inputs[1];
    p.most = given_[2] ? static_cast<const long long*>(io.inputs[2]) : nullptr;
    p.iou = given_[3] ? io.inputs[3] : nullptr;
    p.least = given_[4] ? io.inputs[4] : nullptr;
    p.rows = static_cast<long long*>(io.outputs[0]);
    p.all = static_cast<long long*>(io.outputs[1]);
    cuda::LaunchShape shape;
    shape.grid_x = static_cast<std::uint32_t>(plan_.items);
    shape.block = cuda::kNmsThreads;
    shape.overlaps = device_.info().major >= 9;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    if (plan_.items > 0) {
      if (const Status status = sort_.run(io, io.inputs[1], order, at); !status) return status;
      if (const Status status = take_.launch_with(stream, shape, p); !status) return status;
    }
    shape.grid_x = std::max(shape.grid_x, 1u);  // the count is written even where there is nothing to count
    return write_.launch_with(stream, shape, p);
  }

 private:
  static std::size_t up(std::size_t bytes) noexcept { return (bytes + 255) / 256 * 256; }

  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::nms_plan(request.inputs, request.outputs, request.params.get_int("most", -1), request.params.get_int("center_point_box", 0) != 0, plan_, why))
      throw Error(Code::kUnsupported, "a NonMaxSuppression step: " + why);
    for (std::size_t i = 0; i < ops::kNmsInputs; ++i) given_[i] = ops::nms_is_given(request.inputs[i]);
    cuda::NmsParams& p = plan_.params;
    const auto type = [&](std::size_t i) { return given_[i] ? static_cast<int>(regions::need_cuda_element(request.inputs[i].dtype)) : 0; };
    p.box_type = type(0), p.score_type = type(1), p.iou_type = type(3), p.least_type = type(4);
  }

  cuda::Device& device_;
  ops::NmsPlan plan_;
  std::array<bool, ops::kNmsInputs> given_{};
  TopKSort sort_{2, true};
  cuda::Function take_, write_;
};

std::unique_ptr<Kernel> bind_nms(const BindRequest& request) { return std::make_unique<NmsKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.nms", bind_nms, ""}}};

}  // namespace

KernelSet kernels_nms_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
