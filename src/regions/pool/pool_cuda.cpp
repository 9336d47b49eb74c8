// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of pool on CUDA devices: binds the window kernels of src/backend/cuda/kernels to concrete channels-last tensors. Whether 16-byte
// accesses are possible depends on addresses too, so both ways stand ready.

#include <array>
#include <tuple>

#include "backend/cuda/kernels/window_plan.h"
#include "ops/window.h"
#include "plan/kernel_list.h"
#include "regions/cuda_params.h"
#include "regions/pool/pool.h"

namespace lathe::plan {
namespace {

void require(bool holds, const char* what) {
  if (!holds)
    throw Error(Code::kInvalidArgument, std::string("the ") + what + " of a pooling step does not have the extents or memory order that its plan says");
}

template <class Params>
class PoolKernel : public Kernel {
 public:
  explicit PoolKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {}

 protected:
  struct Way {
    cuda::WindowLaunch<Params> launch;
    cuda::Function function;
  };
  template <class Launch>
  void fit_ways(cuda::PoolOperands operands, Launch launch) {
    for (Way* way : {&aligned_, &any_}) {
      operands.alignment = way == &aligned_ ? 16 : 1;
      way->launch = launch(operands);
      way->function = device_.builtin_function(way->launch.module, way->launch.kernel);
    }
  }
  Status launch(const Way& way, const Params& params, void* stream) const noexcept {
    cuda::LaunchShape shape;
    shape.grid_x = way.launch.grid[0];
    shape.grid_y = way.launch.grid[1];
    shape.block = way.launch.block;
    shape.overlaps = device_.info().major >= 9;
    return way.function.launch_with(static_cast<cuda::StreamHandle>(stream), shape, params);
  }
  const Way& way_for(const KernelIo& io) const noexcept { return cuda::wide(io.inputs[0]) && cuda::wide(io.outputs[0]) ? aligned_ : any_; }

  cuda::Device& device_;
  Way aligned_, any_;
  bool empty_ = false;
};

class WindowKernel final : public PoolKernel<cuda::PoolParams> {
 public:
  WindowKernel(const BindRequest& request, bool maximum) : PoolKernel(request) {
    const std::size_t spatial = request.inputs[0].dims.size() - 2;
    require(spatial >= 1 && spatial <= 2, "input");
    window_ = ops::read_window(request.params, request.params.get_ints("kernel_shape"), spatial);
    const std::size_t column = spatial - 1;
    shape_.maximum = maximum;
    shape_.count_padding = request.params.get_int("count_include_pad", 0) != 0;
    shape_.kw = window_.kernel[column];
    shape_.stride_w = window_.strides[column];
    shape_.dilation_w = window_.dilations[column];
    if (spatial == 2) {
      shape_.kh = window_.kernel[0];
      shape_.stride_h = window_.strides[0];
      shape_.dilation_h = window_.dilations[0];
    }
    fit(request);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  Status run(const KernelIo& io) const noexcept override {
    if (empty_) return Status::ok();
    const Way& way = way_for(io);
    cuda::PoolParams params = way.launch.params;
    params.window.src = io.inputs[0];
    params.window.dst = io.outputs[0];
    return launch(way, params, io.stream);
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    const std::size_t last = x.dims.size() - 1, column = last - 2;
    require(x.is_channels_last(), "input");
    require(y.dims.size() == x.dims.size() && y.dims[0] == x.dims[0] && y.dims[1] == x.dims[1] && y.is_channels_last(), "output");
    cuda::PoolShape& s = shape_;
    s.n = x.dims[0];
    s.c = x.dims[1];
    s.w = x.dims[last];
    s.out_w = y.dims[last];
    std::tie(s.pad_left, s.pad_right) = window_.pads(column, s.w);
    if (column == 1) {
      s.h = x.dims[2];
      s.out_h = y.dims[2];
      std::tie(s.pad_top, s.pad_bottom) = window_.pads(0, s.h);
    }
    empty_ = y.elements() == 0;
    if (empty_) return;
    const cuda::PoolOperands operands{regions::need_cuda_element(x.dtype), x.strides[last], y.strides[last]};
    if (const std::string why = cuda::pool_unsupported(s, operands); !why.empty()) throw Error(Code::kUnsupported, why);
    fit_ways(operands, [&](const cuda::PoolOperands& o) { return cuda::pool_launch(s, o); });
  }

  ops::Window window_;
  cuda::PoolShape shape_;
};

class GlobalKernel final : public PoolKernel<cuda::GlobalPoolParams> {
 public:
  GlobalKernel(const BindRequest& request, bool maximum) : PoolKernel(request), maximum_(maximum) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  Status run(const KernelIo& io) const noexcept override {
    if (empty_) return Status::ok();
    const Way& way = way_for(io);
    cuda::GlobalPoolParams params = way.launch.params;
    params.src = io.inputs[0];
    params.dst = io.outputs[0];
    return launch(way, params, io.stream);
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    require(x.is_channels_last(), "input");
    require(y.dims.size() >= 2 && y.dims[0] == x.dims[0] && y.dims[1] == x.dims[1] && y.elements() == x.dims[0] * x.dims[1] &&
                (y.dims[1] <= 1 || y.strides[1] == 1),
            "output");
    std::int64_t pixels = 1;
    for (std::size_t axis = 2; axis < x.dims.size(); ++axis) pixels *= x.dims[axis];
    empty_ = y.elements() == 0;
    if (empty_) return;
    if (x.dims[0] > 65535 || pixels > (std::int64_t{1} << 31) - 1) throw Error(Code::kUnsupported, "a pooling step over too many images or pixels");
    const cuda::PoolOperands operands{regions::need_cuda_element(x.dtype), x.strides.back(), y.strides[0]};
    fit_ways(operands, [&](const cuda::PoolOperands& o) { return cuda::global_pool_launch(maximum_, x.dims[0], pixels, x.dims[1], o); });
  }

  bool maximum_;
};

std::unique_ptr<Kernel> bind_pool(const BindRequest& request) {
  if (request.inputs.size() != 1 || request.outputs.size() != 1 || request.inputs[0].dims.size() < 3)
    throw Error(Code::kCorruptFile, "a pooling step with tensors that it cannot have");
  if (request.inputs[0].dtype != request.outputs[0].dtype) throw Error(Code::kInternal, "a pooling step between different types");
  switch (static_cast<regions::PoolMode>(request.params.get_int("mode", 0))) {
    case regions::PoolMode::kMax: return std::make_unique<WindowKernel>(request, true);
    case regions::PoolMode::kAverage: return std::make_unique<WindowKernel>(request, false);
    case regions::PoolMode::kGlobalMax: return std::make_unique<GlobalKernel>(request, true);
    case regions::PoolMode::kGlobalAverage: return std::make_unique<GlobalKernel>(request, false);
  }
  throw Error(Code::kCorruptFile, "a pooling step of a kind that this version does not know");
}

constexpr std::array<KernelType, 1> kKernels{{{"cuda.pool", bind_pool, ""}}};

}  // namespace

KernelSet kernels_pool_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
