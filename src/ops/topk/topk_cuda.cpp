// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of TopK on CUDA devices: "cuda.topk" binds the kernels of topk.cu to strided tensors.

#include <array>

#include "ops/topk/topk_plan.h"
#include "ops/topk/topk_sort.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

void require(bool holds, const char* what) {
  if (!holds) throw Error(Code::kCorruptFile, std::string("a TopK step with ") + what);
}

class TopKKernel final : public Kernel {
 public:
  explicit TopKKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    require(request.inputs.size() == 1 && request.outputs.size() == 2, "the wrong number of tensors");
    const auto rank = static_cast<std::int64_t>(request.inputs[0].dims.size());
    std::int64_t axis = request.params.get_int("axis", -1);
    require(axis >= -rank && axis < rank, "an axis outside of its input");
    axis_ = static_cast<std::size_t>(axis < 0 ? axis + rank : axis);
    largest_ = request.params.get_int("largest", 1) != 0;
    fit(request);
    // Other extents may need any of them.
    for (const auto kind : {ops::TopKKernelKind::kSort, ops::TopKKernelKind::kRows, ops::TopKKernelKind::kMerge})
      functions_[static_cast<std::size_t>(kind)] = device_.builtin_function("topk", ops::topk_kernel_name(kind, plan_.wide));
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return plan_.scratch_bytes(); }

  Status run(const KernelIo& io) const noexcept override {
    for (const ops::TopKLaunch& launch : plan_.launches) {
      cuda::TopKParams p = launch.params;
      p.x = io.inputs[0];
      p.values = io.outputs[0];
      p.indices = static_cast<long long*>(io.outputs[1]);
      if (!p.first) p.from = plan_.half(launch.from, io.scratch);
      if (!p.last) p.to = plan_.half(launch.to, io.scratch);
      cuda::LaunchShape shape;
      shape.grid_x = launch.grid;
      shape.block = launch.block;
      shape.shared_bytes = launch.shared;
      shape.overlaps = device_.info().major >= 9;
      const cuda::Function& function = functions_[static_cast<std::size_t>(launch.kind)];
      if (const Status status = function.launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p); !status) return status;
    }
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &values = request.outputs[0], &indices = request.outputs[1];
    const bool has_values = values.dtype != DType::kUndefined, has_indices = indices.dtype != DType::kUndefined;
    require(has_values || has_indices, "no output");
    require(!has_indices || indices.dtype == DType::kInt64, "positions that are not int64");
    for (const TensorDesc* out : {&values, &indices}) {
      if (out->dtype == DType::kUndefined) continue;
      require(out->dims.size() == x.dims.size() && out->dims[axis_] == (has_values ? values : indices).dims[axis_] && out->dims[axis_] <= x.dims[axis_],
              "extents that do not fit");
      for (std::size_t i = 0; i < x.dims.size(); ++i) require(i == axis_ || out->dims[i] == x.dims[i], "extents that do not fit");
    }
    std::string why;
    if (!ops::topk_plan(x, values, indices, axis_, largest_, plan_, why)) throw Error(Code::kUnsupported, "a TopK step: " + why);
  }

  cuda::Device& device_;
  ops::TopKPlan plan_;
  std::array<cuda::Function, 3> functions_;  ///< by kind
  std::size_t axis_ = 0;
  bool largest_ = true;
};

std::unique_ptr<Kernel> bind_topk(const BindRequest& request) { return std::make_unique<TopKKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.topk", bind_topk, ""}}};

}  // namespace

TopKSort::TopKSort(std::int64_t axis, bool largest) {
  params_.set("axis", axis);
  params_.set("largest", largest);
}

void TopKSort::bind(const BindRequest& request, const TensorDesc& keys, const TensorDesc& places) { kernel_ = bind_topk(request_of(request, keys, places)); }

bool TopKSort::rebind(const BindRequest& request, const TensorDesc& keys, const TensorDesc& places) noexcept {
  bool moved = false;
  return fits([&] { moved = kernel_->rebind(request_of(request, keys, places)); }) && moved;
}

Status TopKSort::run(const KernelIo& io, const void* keys, void* places, void* scratch) const noexcept {
  void* const out[] = {nullptr, places};
  return kernel_->run({&keys, out, scratch, nullptr, io.stream});
}

BindRequest TopKSort::request_of(const BindRequest& request, const TensorDesc& keys, const TensorDesc& places) {
  inputs_[0] = keys;
  outputs_[1] = places;
  BindRequest sort{params_, inputs_, outputs_, {}, {}, request.symbols, request.threads};
  sort.memory = request.memory;
  sort.device = request.device;
  return sort;
}

KernelSet kernels_topk_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
