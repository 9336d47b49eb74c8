// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of normalisation on CUDA devices: "cuda.row_norm" binds the kernels of row_norm.cu to strided tensors.

#include <array>

#include <fmt/format.h>

#include "ops/norm/row_norm_params.h"
#include "ops/norm/row_norm_plan.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

struct Shape {
  int threads, groups;
};
#define LATHE_ROW_NORM_SHAPE(threads, groups) Shape{threads, groups},
constexpr Shape kShapes[] = {LATHE_ROW_NORMS(LATHE_ROW_NORM_SHAPE)};
#undef LATHE_ROW_NORM_SHAPE

class RowNormKernel final : public Kernel {
 public:
  explicit RowNormKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    if (request.inputs.size() != 1 || request.outputs.size() != 1 || request.weights.empty() || request.weights.size() > 2)
      throw Error(Code::kCorruptFile, "a normalisation step with tensors that it cannot have");
    axis_ = request.params.get_int("axis", 0);
    if (axis_ < 0 || axis_ >= static_cast<std::int64_t>(request.inputs[0].dims.size())) throw Error(Code::kCorruptFile, "a normalisation step along no axis");
    params_.epsilon = request.params.get_float("epsilon", 0);
    params_.rms = request.params.get_int("rms", 0) != 0;
    params_.scale = static_cast<const float*>(request.device_weights[0]);
    if (request.weights.size() > 1) params_.bias = static_cast<const float*>(request.device_weights[1]);
    fit(request);
    for (const auto& weights : request.weights)
      if (weights.size() != static_cast<std::size_t>(params_.columns) * sizeof(float))
        throw Error(Code::kCorruptFile, "scale or bias of a normalisation step have the wrong length");
    const auto found =
        std::find_if(std::begin(kShapes), std::end(kShapes), [&](const Shape& shape) { return shape.threads * shape.groups * 8 >= params_.columns; });
    if (found == std::end(kShapes)) throw Error(Code::kUnsupported, fmt::format("a normalisation step on rows of {} elements", params_.columns));
    shape_ = *found;
    function_ = device_.builtin_function("row_norm", fmt::format("row_norm_{}_{}", shape_.threads, shape_.groups));
    spread();
  }

  bool rebind(const BindRequest& request) noexcept override {
    const int columns = params_.columns;
    if (!fits([&] { fit(request); }) || params_.columns != columns) return false;
    spread();
    return true;
  }

  Status run(const KernelIo& io) const noexcept override {
    if (params_.rows == 0) return Status::ok();
    cuda::RowNormParams p = params_;
    p.x = io.inputs[0];
    p.out = io.outputs[0];
    p.vectors = p.vectors && cuda::wide(p.x) && cuda::wide(p.out) && cuda::wide(p.scale) && cuda::wide(p.bias);
    return function_.launch_with(static_cast<cuda::StreamHandle>(io.stream), launch_, p);
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    if (x.dims != y.dims) throw Error(Code::kCorruptFile, "the result of a normalisation step has other extents than its input");
    const auto from = ops::rows_of(x, static_cast<std::size_t>(axis_)), to = ops::rows_of(y, static_cast<std::size_t>(axis_));
    if (!from || !to) throw Error(Code::kInternal, "the tensors of a normalisation step do not have the memory order that its plan says");
    if (from->rows > (std::int64_t{1} << 31) - 8 || from->columns > ops::kMostNormColumns)
      throw Error(Code::kUnsupported, "a normalisation step over too many rows");
    params_.rows = static_cast<int>(from->rows);
    params_.columns = static_cast<int>(from->columns);
    params_.x_row = from->stride;
    params_.out_row = to->stride;
    params_.x_type = regions::need_cuda_element(x.dtype);
    params_.out_type = regions::need_cuda_element(y.dtype);
    params_.vectors = from->columns % 8 == 0 && from->stride % 8 == 0 && to->stride % 8 == 0;
  }

  /// Few rows: a warp a block, so that they spread over the multiprocessors.
  void spread() noexcept {
    const int warps = params_.rows >= device_.info().multiprocessors * 8 ? 4 : 1, rows_a_block = shape_.threads == 32 ? warps : 1;
    launch_.block = static_cast<std::uint32_t>(shape_.threads * rows_a_block);
    launch_.grid_x = static_cast<std::uint32_t>((params_.rows + rows_a_block - 1) / rows_a_block);
    launch_.overlaps = device_.info().major >= 9;
  }

  cuda::Device& device_;
  cuda::RowNormParams params_;
  cuda::LaunchShape launch_;
  cuda::Function function_;
  Shape shape_{};
  std::int64_t axis_ = 0;
};

std::unique_ptr<Kernel> bind_row_norm(const BindRequest& request) { return std::make_unique<RowNormKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.row_norm", bind_row_norm, ""}}};

}  // namespace

KernelSet kernels_norm_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
