// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of ScatterElements and ScatterND on CUDA devices: "cuda.scatter" binds the kernels of scatter.cu, and "cuda.topk" where updates are combined.

#include <algorithm>
#include <array>

#include "ops/scatter/scatter_plan.h"
#include "ops/topk/topk_sort.h"
#include "plan/extents.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class ScatterKernel final : public Kernel {
 public:
  explicit ScatterKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    fit(request);
    if (params_.reduction != cuda::kScatterNone) sort_.bind(request, keys_, sorted_);
    const auto function = [&](const char* name) { return device_.builtin_function("scatter", name); };
    clear_ = function("scatter_clear");
    mark_ = function("scatter_mark");
    fill_ = function("scatter_fill");
    combine_ = function("scatter_combine");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); }) && (!sort_.is_bound() || sort_.rebind(request, keys_, sorted_));
  }
  std::size_t scratch_bytes() const noexcept override {
    if (!sort_.is_bound()) return bytes_of(params_.slices, sizeof(int));
    return bytes_of(params_.tuples, sizeof(int)) + bytes_of(params_.tuples, sizeof(std::int64_t)) + sort_.scratch_bytes();
  }

  Status run(const KernelIo& io) const noexcept override {
    cuda::ScatterParams p = params_;
    p.data = io.inputs[0];
    p.indices = io.inputs[1];
    p.updates = io.inputs[2];
    p.out = io.outputs[0];
    auto* const scratch = static_cast<std::byte*>(io.scratch);
    const bool any = p.tuples > 0 && p.slices > 0;
    if (!any) return launch(fill_, p.slices * p.inner, p, io);
    if (!sort_.is_bound()) {
      p.owner = reinterpret_cast<int*>(scratch);
      if (const Status status = launch(clear_, p.slices, p, io); !status) return status;
      if (const Status status = launch(mark_, p.tuples, p, io); !status) return status;
      return launch(fill_, p.slices * p.inner, p, io);
    }
    p.targets = reinterpret_cast<int*>(scratch);
    void* const order = scratch + bytes_of(p.tuples, sizeof(int));
    p.order = static_cast<const long long*>(order);
    if (const Status status = launch(mark_, p.tuples, p, io); !status) return status;
    void* const rest = static_cast<std::byte*>(order) + bytes_of(p.tuples, sizeof(std::int64_t));
    if (const Status status = sort_.run(io, p.targets, order, rest); !status) return status;
    if (const Status status = launch(fill_, p.slices * p.inner, p, io); !status) return status;
    return launch(combine_, p.tuples * p.inner, p, io);
  }

 private:
  static std::size_t bytes_of(std::int64_t count, std::size_t each) noexcept { return (static_cast<std::size_t>(count) * each + 255) / 256 * 256; }

  Status launch(const cuda::Function& function, std::int64_t items, const cuda::ScatterParams& p, const KernelIo& io) const noexcept {
    if (items == 0) return Status::ok();
    constexpr std::int64_t kMostBlocks = 1 << 20;
    cuda::LaunchShape shape;
    shape.grid_x = static_cast<std::uint32_t>(std::min(kMostBlocks, (items + cuda::kScatterThreads - 1) / cuda::kScatterThreads));
    shape.block = cuda::kScatterThreads;
    shape.overlaps = device_.info().major >= 9;
    return function.launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
  }

  void fit(const BindRequest& request) {
    if (request.inputs.size() != 3 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a scatter step with the wrong number of tensors");
    const std::int64_t reduction = request.params.get_int("reduction", 0);
    if (reduction < 0 || reduction > cuda::kScatterMin) throw Error(Code::kCorruptFile, "a scatter step of an unknown reduction");
    std::string why;
    if (!ops::scatter_plan(request.inputs[0], request.inputs[1], request.inputs[2], request.outputs[0], request.params.get_int("axis", -1),
                           static_cast<ops::Reduction>(reduction), params_, why))
      throw Error(Code::kUnsupported, "a scatter step: " + why);
    set_row_major(keys_, DType::kInt32, {params_.tuples});
    set_row_major(sorted_, DType::kInt64, {params_.tuples});
  }

  cuda::Device& device_;
  cuda::ScatterParams params_;
  TensorDesc keys_, sorted_;
  TopKSort sort_{0, false};  ///< bound where updates are combined
  cuda::Function clear_, mark_, fill_, combine_;
};

std::unique_ptr<Kernel> bind_scatter(const BindRequest& request) { return std::make_unique<ScatterKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.scatter", bind_scatter, ""}}};

}  // namespace

KernelSet kernels_scatter_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
