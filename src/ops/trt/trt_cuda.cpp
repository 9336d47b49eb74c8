// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of TensorRT's NMS plugins on CUDA devices: "cuda.trt_nms" sorts by "cuda.topk" and binds the kernels of trt_nms.cu.

#include <array>

#include "ops/topk/topk_sort.h"
#include "ops/trt/trt_nms_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class TrtNmsKernel final : public Kernel {
 public:
  explicit TrtNmsKernel(const BindRequest& request)
      : device_(regions::need_device(request.device)),
        how_(request.params, request.params.get_int("efficient", 0) != 0),
        candidates_(2, true),
        taken_(1, true) {
    fit(request);
    candidates_.bind(request, plan_.keys, plan_.order);
    taken_.bind(request, plan_.taken_keys, plan_.best);
    scores_ = device_.builtin_function("trt_nms", "trt_nms_scores");
    take_ = device_.builtin_function("trt_nms", "trt_nms_take");
    write_ = device_.builtin_function("trt_nms", "trt_nms_write");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); }) && candidates_.rebind(request, plan_.keys, plan_.order) && taken_.rebind(request, plan_.taken_keys, plan_.best);
  }
  std::size_t scratch_bytes() const noexcept override {
    return up(plan_.key_bytes()) + up(plan_.order_bytes()) + up(plan_.corner_bytes()) + 2 * up(plan_.taken_bytes()) + up(plan_.best_bytes()) +
           std::max(candidates_.scratch_bytes(), taken_.scratch_bytes());
  }

  Status run(const KernelIo& io) const noexcept override {
    if (plan_.params.images == 0) return Status::ok();
    auto* at = static_cast<std::byte*>(io.scratch);
    const auto part = [&](std::size_t bytes) {
      std::byte* const begin = at;
      at += up(bytes);
      return static_cast<void*>(begin);
    };
    cuda::TrtNmsParams p = plan_.params;
    p.keys = static_cast<float*>(part(plan_.key_bytes()));
    void* const order = part(plan_.order_bytes());
    p.order = static_cast<const long long*>(order);
    p.corners = static_cast<double*>(part(plan_.corner_bytes()));
    p.taken = static_cast<int*>(part(plan_.taken_bytes()));
    p.taken_keys = static_cast<float*>(part(plan_.taken_bytes()));
    void* const best = part(plan_.best_bytes());
    p.boxes = io.inputs[0];
    p.scores = io.inputs[1];
    p.anchors = io.inputs[2];
    p.counts_out = static_cast<int*>(io.outputs[0]);
    p.boxes_out = io.outputs[1];
    p.scores_out = io.outputs[2];
    p.classes_out = io.outputs[3];
    cuda::LaunchShape shape;
    shape.block = cuda::kTrtNmsThreads;
    shape.overlaps = device_.info().major >= 9;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    if (plan_.sorts()) {
      shape.grid_x = static_cast<std::uint32_t>(plan_.items);
      shape.grid_y = blocks(plan_.keys.dims[2]);
      if (const Status status = scores_.launch_with(stream, shape, p); !status) return status;
      if (const Status status = candidates_.run(io, p.keys, order, at); !status) return status;
      shape.grid_y = 1;
      if (const Status status = take_.launch_with(stream, shape, p); !status) return status;
    }
    if (plan_.sorts_taken()) {
      p.best = static_cast<const long long*>(best);
      if (const Status status = taken_.run(io, p.taken_keys, best, at); !status) return status;
    }
    shape.grid_x = static_cast<std::uint32_t>(p.images);
    shape.grid_y = blocks(p.rows);
    return write_.launch_with(stream, shape, p);
  }

 private:
  static std::size_t up(std::size_t bytes) noexcept { return (bytes + 255) / 256 * 256; }
  /// Of one group or image; each thread takes a few elements.
  static std::uint32_t blocks(std::int64_t elements) noexcept {
    return static_cast<std::uint32_t>(std::clamp<std::int64_t>((elements + 2 * cuda::kTrtNmsThreads - 1) / (2 * cuda::kTrtNmsThreads), 1, 1024));
  }

  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::trt_nms_plan(request.inputs, request.outputs, how_, plan_, why)) throw Error(Code::kUnsupported, "a non-maximum suppression: " + why);
    cuda::TrtNmsParams& p = plan_.params;
    const auto type = [](const TensorDesc& desc) { return desc.dtype == DType::kUndefined ? 0 : static_cast<int>(regions::need_cuda_element(desc.dtype)); };
    p.box_type = type(request.inputs[0]), p.score_type = type(request.inputs[1]), p.anchor_type = type(request.inputs[2]);
    p.box_out_type = type(request.outputs[1]), p.score_out_type = type(request.outputs[2]);
    p.class_out_type = how_.efficient ? 0 : type(request.outputs[3]);
  }

  cuda::Device& device_;
  ops::TrtNmsHow how_;
  ops::TrtNmsPlan plan_;
  TopKSort candidates_, taken_;
  cuda::Function scores_, take_, write_;
};

std::unique_ptr<Kernel> bind_trt_nms(const BindRequest& request) { return std::make_unique<TrtNmsKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.trt_nms", bind_trt_nms, ""}}};

}  // namespace

KernelSet kernels_trt_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
