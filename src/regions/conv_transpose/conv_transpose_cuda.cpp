// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of conv_transpose on CUDA devices: the phases by a convolution into scratch, then their pixels in order by a region of the
// region language.

#include <array>
#include <cstring>
#include <optional>

#include <fmt/format.h>

#include "loops/region.h"
#include "plan/kernel_list.h"
#include "regions/conv_transpose/conv_transpose_params.h"
#include "regions/conv_transpose/conv_transpose_phases.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

/// y[n, c, i, j] = phases[n, i mod stride, j mod stride, c, i div stride, j div stride], as a region's text.
std::string order_pixels(const Dims& phases, const Dims& y, std::int64_t stride_h, std::int64_t stride_w) {
  loops::LoopRegion region;
  region.buffers = {{"phases", DType::kFloat32, ir::Shape(phases.begin(), phases.end()), loops::Role::kInput},
                    {"y", DType::kFloat32, ir::Shape(y.begin(), y.end()), loops::Role::kOutput}};
  const auto add = [&](loops::Expr e) {
    region.exprs.push_back(std::move(e));
    return static_cast<loops::ExprId>(region.exprs.size() - 1);
  };
  const auto integer = [&](loops::ExprOp op, std::vector<loops::ExprId> args, std::int32_t index = -1, std::int64_t number = 0) {
    loops::Expr e;
    e.op = op;
    e.type = DType::kInt64;
    e.args = std::move(args);
    e.index = index;
    e.integer = number;
    return add(std::move(e));
  };
  loops::Stage stage;
  for (std::size_t d = 0; d < y.size(); ++d) {
    stage.store_index.push_back(integer(loops::ExprOp::kAxis, {}, static_cast<std::int32_t>(d)));
    stage.axes.push_back({y[d], false});
  }
  const auto& at = stage.store_index;
  const loops::ExprId h = integer(loops::ExprOp::kConst, {}, -1, stride_h), w = integer(loops::ExprOp::kConst, {}, -1, stride_w);
  loops::Expr load;
  load.op = loops::ExprOp::kLoad;
  load.index = 0;
  load.args = {at[0], integer(loops::ExprOp::kMod, {at[2], h}),      integer(loops::ExprOp::kMod, {at[3], w}),
               at[1], integer(loops::ExprOp::kFloorDiv, {at[2], h}), integer(loops::ExprOp::kFloorDiv, {at[3], w})};
  stage.value = add(std::move(load));
  stage.target = 1;
  region.stages.push_back(std::move(stage));
  return region.serialize();
}

class ConvTransposeKernel final : public Kernel {
 public:
  explicit ConvTransposeKernel(const BindRequest& request) {
    const ir::Attrs& params = request.params;
    if (request.inputs.size() != 1 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a transposed convolution step with too few tensors");
    const TensorDesc &x = request.inputs[0], &y = request.outputs[0];
    if (x.dims.size() < 3 || x.dims.size() > 4 || !x.is_channels_last() || !y.is_channels_last())
      throw Error(Code::kInvalidArgument, "the tensors of a transposed convolution step do not have the memory order that its plan says");
    if (y.elements() == 0) return;
    const cpu::ConvTransposeProblem p = regions::conv_transpose_problem(params, x.dims, params.get_ints("weight_dims"), y.dims);
    const cuda::ConvShape shape = regions::transpose_phases(p).shape;
    cuda::ConvOperands operands;
    operands.product = regions::read_product(params);
    operands.src = regions::need_cuda_element(x.dtype);
    operands.stored = regions::need_cuda_element(y.dtype);
    operands.src_pixel = x.strides.back();
    if (const std::string why = cuda::conv_unsupported(shape, operands); !why.empty()) throw Error(Code::kUnsupported, why);
    const cuda::GemmSetup setup = cuda::conv_setup(shape, operands);
    epilogue_ = regions::read_cuda_epilogue(params);
    if (request.weights.empty() || request.weights[0].size() != cuda::packed_bytes(setup))
      throw Error(Code::kCorruptFile, "the packed weights of a transposed convolution have the wrong size");
    weights_ = request.device_weights[0];
    if (request.weights.size() > 1) {
      if (request.weights[1].size() != static_cast<std::size_t>(shape.cout) * sizeof(float))
        throw Error(Code::kCorruptFile, "the packed bias of a transposed convolution has the wrong size");
      bias_ = request.device_weights[1];
    }
    call_.emplace(regions::need_device(request.device), setup, regions::read_gemm_plan(params), params.get_int("tuned_rows", 0));

    // The scratch: what the product needs, the phases, what the second kernel needs.
    const std::int64_t rows = shape.oh(), columns = shape.ow(), pixel = shape.cout;
    TensorDesc phases{
        y.dtype, {p.n, p.stride_h, p.stride_w, p.cout, rows, columns}, {rows * columns * pixel, p.stride_w * p.cout, p.cout, 1, columns * pixel, pixel}};
    TensorDesc result = y;
    if (result.dims.size() == 3) {  // runs with height 1
      result.dims.insert(result.dims.begin() + 2, 1);
      result.strides.insert(result.strides.begin() + 2, result.dims[3] * result.strides[2]);
    }
    ir::Attrs region;
    region.set("region", order_pixels(phases.dims, result.dims, p.stride_h, p.stride_w));
    const void* none = nullptr;
    order_ =
        find_kernel("cuda.loops")
            ->bind(
                {region, std::span(&phases, 1), std::span(&result, 1), std::span(&none, 1), {}, request.symbols, request.threads, nullptr, request.device, {}});
    const auto up = [](std::size_t bytes) { return (bytes + 255) / 256 * 256; };
    phases_at_ = up(call_->scratch_bytes());
    order_at_ = phases_at_ + up(dtype_bytes(y.dtype, p.n * rows * columns * pixel));
    scratch_ = order_at_ + order_->scratch_bytes();
  }

  std::size_t scratch_bytes() const noexcept override { return scratch_; }

  Status run(const KernelIo& io) const noexcept override {
    if (!call_) return Status::ok();
    auto* scratch = static_cast<std::byte*>(io.scratch);
    const cuda::GemmOperands operands{
        .a = io.inputs[0], .b = weights_, .bias = bias_, .c = scratch + phases_at_, .next = io.next_weights, .next_bytes = io.next_bytes};
    if (const Status status = call_->run(static_cast<cuda::StreamHandle>(io.stream), operands, epilogue_, scratch); !status) return status;
    const void* in[] = {scratch + phases_at_};
    return order_->run({in, io.outputs, scratch + order_at_, nullptr, io.stream});
  }

 private:
  cuda::EpilogueParams epilogue_;
  std::optional<cuda::GemmCall> call_;
  std::unique_ptr<Kernel> order_;
  const void *weights_ = nullptr, *bias_ = nullptr;
  std::size_t phases_at_ = 0, order_at_ = 0, scratch_ = 0;
};

std::unique_ptr<Kernel> bind_conv_transpose(const BindRequest& request) { return std::make_unique<ConvTransposeKernel>(request); }

std::vector<std::byte> pack_weights(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const Dims& dims = weight.dims();
  const auto strides = params.get_ints("strides"), dilations = params.get_ints("dilations"), pads = params.get_ints("pads");
  if (dims.size() < 3 || strides.size() != 2 || dilations.size() != 2 || pads.size() != 2)
    throw Error(Code::kCorruptFile, "the recipe of a transposed convolution's weights is incomplete");
  const std::int64_t kh = dims.size() == 4 ? dims[2] : 1, kw = dims.back(), cin = dims[0], cout = dims[1];
  const regions::PhaseAxis y(strides[0], dilations[0], pads[0], kh), x(strides[1], dilations[1], pads[1], kw);
  cuda::ConvShape shape;
  shape.cin = cin;
  shape.cout = cout * strides[0] * strides[1];
  shape.kh = shape.h = y.window;
  shape.kw = shape.w = x.window;
  std::vector<float> values(static_cast<std::size_t>(shape.cout * cin * shape.kh * shape.kw), 0.0F);
  const float* from = weight.data<float>().data();
  for (std::int64_t ky = 0; ky < kh; ++ky)
    for (std::int64_t kx = 0; kx < kw; ++kx) {
      const std::int64_t first = (y.phase_of(ky) * strides[1] + x.phase_of(kx)) * cout, row = y.offset_of(ky) - y.first, column = x.offset_of(kx) - x.first;
      for (std::int64_t i = 0; i < cin; ++i)
        for (std::int64_t o = 0; o < cout; ++o)
          values[static_cast<std::size_t>((((first + o) * cin + i) * shape.kh + row) * shape.kw + column)] = from[((i * cout + o) * kh + ky) * kw + kx];
    }
  cuda::ConvOperands operands;
  operands.product = regions::read_product(params);
  operands.src = operands.stored = regions::element_of(operands.product);
  const cuda::GemmSetup setup = cuda::conv_setup(shape, operands);
  std::vector<std::byte> packed(cuda::packed_bytes(setup));
  cuda::pack_weights(setup, values.data(), cuda::oihw_strides(shape), packed);
  return packed;
}

/// The bias once per phase.
std::vector<std::byte> pack_bias(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor bias = sources[0].cast(DType::kFloat32);
  const auto phases = static_cast<std::size_t>(params.get_int("phases", 1));
  std::vector<std::byte> packed(bias.bytes() * phases);
  for (std::size_t p = 0; p < phases; ++p) std::memcpy(packed.data() + p * bias.bytes(), bias.raw(), bias.bytes());
  return packed;
}

constexpr std::array<KernelType, 1> kKernels{{{"cuda.conv_transpose", bind_conv_transpose, ""}}};
constexpr std::array<PackFunction, 2> kPacks{{{"cuda.conv_transpose.pack", pack_weights}, {"cuda.conv_transpose.pack_bias", pack_bias}}};

}  // namespace

KernelSet kernels_conv_transpose_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
