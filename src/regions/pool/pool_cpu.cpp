// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of pool: binds src/backend/cpu/pool.h to concrete channels-last tensors.

#include <array>
#include <tuple>

#include "backend/cpu/pool.h"
#include "base/thread_pool.h"
#include "ops/window.h"
#include "plan/kernel_list.h"
#include "regions/pool/pool.h"

namespace lathe::plan {
namespace {

void require(bool holds, const char* what) {
  if (!holds)
    throw Error(Code::kInvalidArgument, std::string("the ") + what + " of a pooling step does not have the extents or memory order that its plan says");
}

void require_stored(const TensorDesc& desc) {
  if (desc.dtype != DType::kFloat32 && desc.dtype != DType::kBFloat16)
    throw Error(Code::kUnsupported, "pooling of " + std::string(dtype_name(desc.dtype)) + " elements");
}

class WindowKernel final : public Kernel {
 public:
  WindowKernel(const BindRequest& request, cpu::PoolKind kind) {
    const std::size_t spatial = request.inputs[0].dims.size() - 2;
    require(spatial >= 1 && spatial <= 2, "input");
    window_ = ops::read_window(request.params, request.params.get_ints("kernel_shape"), spatial);
    const std::size_t column = spatial - 1;
    cpu::PoolProblem& p = problem_;
    p.kind = kind;
    p.kw = window_.kernel[column];
    p.stride_w = window_.strides[column];
    p.dilation_w = window_.dilations[column];
    if (spatial == 2) {
      p.kh = window_.kernel[0];
      p.stride_h = window_.strides[0];
      p.dilation_h = window_.dilations[0];
    }
    p.count_include_pad = request.params.get_int("count_include_pad", 0) != 0;
    p.src = request.inputs[0].dtype;
    p.dst = request.outputs[0].dtype;
    fit(request);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    if (!empty_) cpu::run_pool(problem_, io.inputs[0], io.outputs[0], *io.pool);
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    const std::size_t last = x.dims.size() - 1, column = last - 2;
    require(x.is_channels_last(), "input");
    require(y.dims.size() == x.dims.size() && y.dims[0] == x.dims[0] && y.dims[1] == x.dims[1] && y.is_channels_last(), "output");
    cpu::PoolProblem& p = problem_;
    p.n = x.dims[0];
    p.c = x.dims[1];
    p.w = x.dims[last];
    p.out_w = y.dims[last];
    std::tie(p.pad_left, p.pad_right) = window_.pads(column, p.w);
    p.out_h = 1;
    if (column == 1) {
      p.h = x.dims[2];
      p.out_h = y.dims[2];
      std::tie(p.pad_top, p.pad_bottom) = window_.pads(0, p.h);
    }
    p.src_pixel_stride = x.strides[last];
    p.dst_pixel_stride = y.strides[last];
    empty_ = y.elements() == 0;
  }

  ops::Window window_;
  cpu::PoolProblem problem_;
  bool empty_ = false;
};

class GlobalKernel final : public Kernel {
 public:
  GlobalKernel(const BindRequest& request, cpu::PoolKind kind) : kind_(kind) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    cpu::run_global_pool(problem_, io.inputs[0], io.outputs[0], *io.pool);
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    require(x.is_channels_last(), "input");
    require(y.dims.size() >= 2 && y.dims[0] == x.dims[0] && y.dims[1] == x.dims[1] && y.elements() == x.dims[0] * x.dims[1] &&
                (y.dims[1] <= 1 || y.strides[1] == 1),
            "output");
    problem_ = {kind_, x.dims[0], 1, x.dims[1], x.dtype, y.dtype, x.strides.back(), y.strides[0]};
    for (std::size_t axis = 2; axis < x.dims.size(); ++axis) problem_.pixels *= x.dims[axis];
  }

  cpu::PoolKind kind_;
  cpu::GlobalPoolProblem problem_;
};

std::unique_ptr<Kernel> bind_pool(const BindRequest& request) {
  if (request.inputs.size() != 1 || request.outputs.size() != 1 || request.inputs[0].dims.size() < 3)
    throw Error(Code::kCorruptFile, "a pooling step with tensors that it cannot have");
  require_stored(request.inputs[0]);
  require_stored(request.outputs[0]);
  switch (static_cast<regions::PoolMode>(request.params.get_int("mode", 0))) {
    case regions::PoolMode::kMax: return std::make_unique<WindowKernel>(request, cpu::PoolKind::kMax);
    case regions::PoolMode::kAverage: return std::make_unique<WindowKernel>(request, cpu::PoolKind::kAverage);
    case regions::PoolMode::kGlobalMax: return std::make_unique<GlobalKernel>(request, cpu::PoolKind::kMax);
    case regions::PoolMode::kGlobalAverage: return std::make_unique<GlobalKernel>(request, cpu::PoolKind::kAverage);
  }
  throw Error(Code::kCorruptFile, "a pooling step of a kind that this version does not know");
}

constexpr std::array<KernelType, 1> kKernels{{{"cpu.pool", bind_pool, ""}}};

}  // namespace

KernelSet kernels_pool() { return {kKernels, {}}; }

}  // namespace lathe::plan
