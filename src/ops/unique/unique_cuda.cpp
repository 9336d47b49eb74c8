// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of SortedSlices on CUDA devices: "cuda.sorted_slices" binds the kernels of unique.cu to strided tensors.

#include <array>

#include "ops/unique/unique_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class SlicesKernel final : public Kernel {
 public:
  explicit SlicesKernel(const BindRequest& request) : device_(regions::need_device(request.device)), axis_(request.params.get_int("axis", 0)) {
    fit(request);
    sort_ = device_.builtin_function("unique", "slices_sort");
    merge_ = device_.builtin_function("unique", "slices_merge");
    mark_ = device_.builtin_function("unique", "slices_mark");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return ops::slice_scratch(params_); }

  Status run(const KernelIo& io) const noexcept override {
    if (params_.count == 0) return Status::ok();
    cuda::SliceParams p = params_;
    p.x = io.inputs[0];
    p.order = static_cast<long long*>(io.outputs[0]);
    p.begins = static_cast<unsigned char*>(io.outputs[1]);
    int *sorted = static_cast<int*>(io.scratch), *other = sorted + p.count;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    cuda::LaunchShape shape;
    shape.block = cuda::kSliceThreads;
    shape.overlaps = device_.info().major >= 9;
    shape.grid_x = static_cast<std::uint32_t>((p.count + cuda::kSliceChunk - 1) / cuda::kSliceChunk);
    p.to = sorted;
    if (const Status status = sort_.launch_with(stream, shape, p); !status) return status;
    shape.grid_x = static_cast<std::uint32_t>((p.count + cuda::kSliceThreads - 1) / cuda::kSliceThreads);
    p.run = cuda::kSliceChunk;
    for (int level = 0; level < ops::slice_levels(p); ++level, p.run *= 2) {
      p.from = sorted, p.to = other;
      if (const Status status = merge_.launch_with(stream, shape, p); !status) return status;
      std::swap(sorted, other);
    }
    p.from = sorted;
    return mark_.launch_with(stream, shape, p);
  }

 private:
  void fit(const BindRequest& request) {
    if (request.inputs.size() != 1 || request.outputs.size() != 2) throw Error(Code::kCorruptFile, "a SortedSlices step with the wrong number of tensors");
    std::string why;
    if (!ops::slice_plan(request.inputs[0], axis_, request.outputs[0], request.outputs[1], params_, why))
      throw Error(Code::kUnsupported, "a SortedSlices step: " + why);
  }

  cuda::Device& device_;
  std::int64_t axis_;
  cuda::SliceParams params_;
  cuda::Function sort_, merge_, mark_;
};

std::unique_ptr<Kernel> bind_slices(const BindRequest& request) { return std::make_unique<SlicesKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.sorted_slices", bind_slices, ""}}};

}  // namespace

KernelSet kernels_unique_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
