// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of conv_block: binds the kernels of src/backend/cpu/conv.h to concrete strided tensors, and packs their weights.

#include <algorithm>
#include <array>
#include <cstring>
#include <tuple>

#include <fmt/format.h>

#include "base/thread_pool.h"
#include "plan/kernel_list.h"
#include "regions/conv_block/conv_params.h"

namespace lathe::plan {
namespace {

class ConvKernel final : public Kernel {
 public:
  explicit ConvKernel(const BindRequest& request) {
    const ir::Attrs& params = request.params;
    const Dims weight = params.get_ints("weight_dims");
    if (request.inputs.empty() || request.inputs.size() > 2 || request.outputs.size() != 1)
      throw Error(Code::kCorruptFile, "a convolution step with too few or too many tensors");
    problem_ = regions::conv_problem(params, request.inputs[0].dims, weight);
    window_ = ops::read_window(params, Dims(weight.begin() + 2, weight.end()), weight.size() - 2);
    problem_.src = request.inputs[0].dtype;
    problem_.dst = request.outputs[0].dtype;
    problem_.weights = static_cast<DType>(params.get_int("weight_type", 0));
    problem_.src_nchw = params.get_int("planar", 0) != 0;
    tuned_plan_ = regions::read_plan(params);
    if (const Dims hint = params.get_ints("hint"); hint.size() == tuned_for_.size()) std::copy(hint.begin(), hint.end(), tuned_for_.begin());
    const auto activation = cpu::find_activation(params.get_string("activation", ""));
    if (!activation)
      throw Error(Code::kCorruptFile, fmt::format("the activation '{}' is not one that this version knows", params.get_string("activation", "")));
    epilogue_.activation = *activation;
    epilogue_.alpha = params.get_float("alpha", 0);
    epilogue_.beta = params.get_float("beta", 0);
    epilogue_.residual_after = params.get_int("residual_after", 0) != 0;
    fit(request);
    if (request.weights.empty() || request.weights[0].size() != cpu::conv_weight_bytes(problem_, plan_))
      throw Error(Code::kCorruptFile, "the packed weights of a convolution have the wrong size");
    args_.weights = request.weights[0].data();
    if (request.weights.size() > 1) {
      if (request.weights[1].size() != static_cast<std::size_t>(problem_.cout) * sizeof(float))
        throw Error(Code::kCorruptFile, "the packed bias of a convolution has the wrong size");
      args_.bias = reinterpret_cast<const float*>(request.weights[1].data());
    }
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return scratch_; }

  Status run(const KernelIo& io) const noexcept override {
    if (empty_) return Status::ok();
    cpu::ConvArgs args = args_;
    args.src = io.inputs[0];
    args.residual = has_residual_ ? io.inputs[1] : nullptr;
    args.dst = io.outputs[0];
    args.scratch = io.scratch;
    cpu::run_conv(problem_, plan_, epilogue_, args, *io.pool);
    return Status::ok();
  }

 private:
  static void require(bool holds, const char* what) {
    if (!holds)
      throw Error(Code::kInvalidArgument, fmt::format("the {} of a convolution step does not have the extents or memory order that its plan says", what));
  }

  void fit(const BindRequest& request) {
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    const std::size_t last = x.dims.size() - 1;
    cpu::ConvProblem& p = problem_;
    p.n = x.dims[0];
    p.w = x.dims[last];
    std::tie(p.pad_left, p.pad_right) = window_.pads(last - 2, p.w);
    if (last == 3) {
      p.h = x.dims[2];
      std::tie(p.pad_top, p.pad_bottom) = window_.pads(0, p.h);
    }
    plan_ = tuned_plan_;
    empty_ = y.elements() == 0;
    if (empty_) return;
    if (const std::string why = cpu::conv_unsupported(p); !why.empty()) throw Error(Code::kUnsupported, why);
    if (x.dims[1] != p.cin || y.dims.size() != x.dims.size() || y.dims[0] != p.n || y.dims[1] != p.cout || y.dims[last] != p.ow() ||
        (last == 3 && y.dims[2] != p.oh()))
      throw Error(Code::kCorruptFile, fmt::format("a convolution of {} does not give {}", to_string(x.dims), to_string(y.dims)));
    if (tuned_for_ != std::array{p.n, p.h, p.w}) plan_ = cpu::refit_conv_plan(tuned_plan_, p, request.threads);
    if (!cpu::conv_plan_fits(p, plan_)) throw Error(Code::kCorruptFile, "the plan of a convolution step is not for its extents and memory order");
    require(p.src_nchw ? x.is_dense_row_major() : x.is_channels_last(), "input");
    require(y.is_channels_last(), "output");
    args_.src_pixel_stride = x.strides[last];
    args_.dst_pixel_stride = y.strides[last];
    has_residual_ = request.inputs.size() > 1;
    if (has_residual_) {
      const TensorDesc& residual = request.inputs[1];
      require(residual.is_channels_last() && residual.dims == y.dims, "residual");
      args_.residual_pixel_stride = residual.strides[last];
      args_.residual_type = residual.dtype;
    }
    scratch_ = cpu::conv_scratch_bytes(p, plan_, request.threads);
  }

  ops::Window window_;
  cpu::ConvProblem problem_;
  cpu::ConvPlan tuned_plan_, plan_;
  std::array<std::int64_t, 3> tuned_for_{-1, -1, -1};  ///< batch, height, width
  cpu::Epilogue epilogue_;
  cpu::ConvArgs args_;
  std::size_t scratch_ = 0;
  bool has_residual_ = false, empty_ = false;
};

std::unique_ptr<Kernel> bind_conv(const BindRequest& request) { return std::make_unique<ConvKernel>(request); }

std::vector<std::byte> pack_conv(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const Dims& dims = weight.dims();
  cpu::ConvProblem problem;
  problem.groups = params.get_int("groups", 1);
  problem.cout = dims[0];
  problem.cin = dims[1] * problem.groups;
  problem.kh = dims.size() == 4 ? dims[2] : 1;
  problem.kw = dims.back();
  problem.h = problem.kh;
  problem.w = problem.kw;
  problem.weights = static_cast<DType>(params.get_int("weight_type", 0));
  problem.src_nchw = params.get_int("planar", 0) != 0;
  cpu::ConvPlan plan;
  plan.algorithm = static_cast<cpu::ConvAlgorithm>(params.get_int("algorithm", 0));
  plan.panel = static_cast<std::int32_t>(params.get_int("panel", 32));
  plan.chunk = static_cast<std::int32_t>(params.get_int("chunk", 0));
  std::vector<std::byte> packed(cpu::conv_weight_bytes(problem, plan));
  cpu::pack_conv_weights(problem, plan, weight.data<float>().data(), packed.data());
  return packed;
}

/// A constant as dense float32.
std::vector<std::byte> pack_bias(const ir::Attrs&, std::span<const Tensor> sources) {
  const Tensor bias = sources[0].cast(DType::kFloat32);
  std::vector<std::byte> packed(bias.bytes());
  std::memcpy(packed.data(), bias.raw(), bias.bytes());
  return packed;
}

constexpr std::array<KernelType, 1> kKernels{{{"cpu.conv", bind_conv, ""}}};
constexpr std::array<PackFunction, 2> kPacks{{{"cpu.conv.pack", pack_conv}, {"cpu.bias.pack", pack_bias}}};

}  // namespace

KernelSet kernels_conv_block() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
