// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of rnn on CUDA devices: "cuda.rnn" binds the kernels of rnn.cu to concrete tensors of either layout, and packs constant weights.

#include <array>
#include <cstring>
#include <optional>
#include <type_traits>

#include <fmt/format.h>

#include "plan/kernel_list.h"
#include "regions/cuda_params.h"
#include "regions/rnn/rnn_product.h"

namespace lathe::plan {
namespace {

using regions::RnnKernelKind;
using regions::RnnWeight;

regions::RnnSpec spec_of(const ir::Attrs& params) {
  std::string why;
  const auto spec = regions::rnn_spec(params.get_string("op", ""), params, why);
  if (!spec) throw Error(Code::kCorruptFile, fmt::format("a recurrent step with {}", why));
  return *spec;
}

class RnnKernel final : public Kernel {
 public:
  explicit RnnKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    plan_.spec = spec_of(request.params);
    const auto weights = request.params.get_ints("weights");
    if (weights.size() != plan_.weights.size()) throw Error(Code::kCorruptFile, "a recurrent step that does not say where its weights are");
    for (std::size_t i = 0; i < weights.size(); ++i) {
      if (weights[i] < (i == 3 ? 0 : 1) || weights[i] > 2) throw Error(Code::kCorruptFile, "a recurrent step that does not say where its weights are");
      plan_.weights[i] = static_cast<RnnWeight>(weights[i]);
    }
    in_ = request.params.get_int("input_size", -1);
    hidden_ = request.params.get_int("hidden_size", 0);
    by_product_ = request.params.has("product");
    // Products ask for constants before the kernel in front has ended.
    if (by_product_ && (plan_.weights[0] != RnnWeight::kPacked || plan_.weights[2] != RnnWeight::kPacked))
      throw Error(Code::kCorruptFile, "a recurrent step whose projection is a product of weights that are no constants");
    fit(request);
    const std::size_t bytes[] = {by_product_ ? product_bytes_ : plan_.packed_rows_bytes(in_), plan_.packed_rows_bytes(hidden_), plan_.packed_bias_bytes(),
                                 plan_.packed_peephole_bytes()};
    std::size_t blob = 0;
    for (std::size_t i = 0; i < plan_.weights.size(); ++i) {
      if (plan_.weights[i] != RnnWeight::kPacked) continue;
      if (request.weights.size() <= blob || request.device_weights.size() <= blob || request.weights[blob].size() != bytes[i])
        throw Error(Code::kCorruptFile, "packed weights of a recurrent step have the wrong size");
      packed_[i] = request.device_weights[blob++];
    }
    for (std::size_t i = 0; i < functions_.size(); ++i)
      functions_[i] = device_.builtin_function(regions::rnn_module(plan_.wide()), regions::rnn_kernel_name(static_cast<RnnKernelKind>(i), plan_.wide()));
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return plan_.empty() ? 0 : plan_.scratch + (product_ ? product_->scratch_bytes() : 0); }

  Status run(const KernelIo& io) const noexcept override {
    if (plan_.empty()) return Status::ok();
    regions::RnnAddresses at;
    for (std::size_t i = 0; i < at.inputs.size(); ++i) at.inputs[i] = io.inputs[i];
    for (std::size_t i = 0; i < at.outputs.size(); ++i) at.outputs[i] = io.outputs[i];
    at.packed = packed_;
    at.scratch = io.scratch;
    Status status;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    regions::rnn_launches(plan_, at, [&](RnnKernelKind kind, const regions::RnnGrid& grid, const auto& params) {
      if constexpr (std::is_same_v<std::decay_t<decltype(params)>, cuda::RnnProjectParams>) {
        if (product_) {
          cuda::GemmOperands operands;
          operands.a = params.x;
          operands.b = params.w;
          operands.bias = params.bias;
          operands.c = params.projected;
          status = product_->run(stream, operands, {}, static_cast<char*>(io.scratch) + plan_.scratch);
          return static_cast<bool>(status);
        }
      }
      cuda::LaunchShape shape;
      shape.grid_x = grid.x, shape.grid_y = grid.y, shape.grid_z = grid.z;
      shape.block = grid.block;
      shape.overlaps = device_.info().major >= 9;
      status = functions_[static_cast<std::size_t>(kind)].launch_with(stream, shape, params);
      return static_cast<bool>(status);
    });
    return status;
  }

 private:
  void fit(const BindRequest& request) {
    std::string why;
    if (!regions::rnn_plan(request.inputs, request.outputs, in_, hidden_, plan_, why))
      throw Error(Code::kUnsupported, fmt::format("a recurrent step cannot run on these tensors: {}", why));
    if (!by_product_) return;
    if (plan_.wide()) throw Error(Code::kCorruptFile, "a recurrent step whose projection is a product of float64");
    if (plan_.empty()) return;
    const auto setup = regions::rnn_product(plan_, request.inputs[0], regions::read_product(request.params), why);
    if (!setup) throw Error(Code::kUnsupported, fmt::format("the projection of a recurrent step is no product: {}", why));
    product_bytes_ = cuda::packed_bytes(*setup);
    if (!product_) product_.emplace(device_, *setup, regions::read_gemm_plan(request.params), request.params.get_int("tuned_rows", 0));
    else if (!product_->fit(*setup)) throw Error(Code::kUnsupported, "the projection of a recurrent step has no kernel at these extents");
  }

  cuda::Device& device_;
  regions::RnnPlan plan_;
  std::array<cuda::Function, static_cast<std::size_t>(RnnKernelKind::kCount)> functions_;
  std::array<const void*, 4> packed_{};
  std::optional<cuda::GemmCall> product_;  ///< the projection
  std::size_t product_bytes_ = 0;
  std::int64_t in_ = 0, hidden_ = 0;
  bool by_product_ = false;
};

std::unique_ptr<Kernel> bind_rnn(const BindRequest& request) { return std::make_unique<RnnKernel>(request); }

Tensor as_floats(const Tensor& source) { return source.cast(DType::kFloat32).make_aligned(); }

/// A list of what the kernels compute in: float32, or float64 where `weight_type` says so.
std::vector<std::byte> numbers(const ir::Attrs& params, const std::vector<double>& values) {
  const bool wide = params.get_int("weight_type", 0) == cuda::kRnnFloat64;
  std::vector<std::byte> packed(values.size() * (wide ? sizeof(double) : sizeof(float)));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto single = static_cast<float>(values[i]);
    if (wide) std::memcpy(packed.data() + i * sizeof(double), &values[i], sizeof(double));
    else std::memcpy(packed.data() + i * sizeof single, &single, sizeof single);
  }
  return packed;
}

/// W or R: rows padded with zeros to a multiple of 8 elements of the type that `weight_type` says.
std::vector<std::byte> pack_rows(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor& values = sources[0];
  if (values.dims().size() != 3) throw Error(Code::kInvalidModel, "recurrent weights of another rank than 3");
  const std::int64_t rows = values.dims()[0] * values.dims()[1], columns = values.dims()[2], row = (columns + 7) / 8 * 8,
                     type = params.get_int("weight_type", 0);
  const std::size_t each = type == cuda::kRnnFloat64 ? 8 : type == cuda::kElementFloat32 ? 4 : 2;
  const DType stored = type == cuda::kRnnFloat64       ? DType::kFloat64
                       : type == cuda::kElementFloat32 ? DType::kFloat32
                       : type == cuda::kElementFloat16 ? DType::kFloat16
                                                       : DType::kBFloat16;
  const Tensor from = stored == DType::kFloat64 ? values.cast(stored) : as_floats(values).cast(stored);
  std::vector<std::byte> packed(static_cast<std::size_t>(rows * row) * each);
  const std::size_t line = static_cast<std::size_t>(columns) * each;
  for (std::int64_t r = 0; r < rows && line > 0; ++r)
    std::memcpy(packed.data() + static_cast<std::size_t>(r * row) * each, from.raw() + static_cast<std::size_t>(r) * line, line);
  return packed;
}

/// W as the right operand of a product.
std::vector<std::byte> pack_product(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor values = as_floats(sources[0]);
  if (values.dims().size() != 3) throw Error(Code::kInvalidModel, "recurrent weights of another rank than 3");
  cuda::MatMulShape shape;
  shape.columns = values.dims()[0] * values.dims()[1];
  shape.depth = values.dims()[2];
  cuda::MatMulOperands operands;
  operands.product = regions::read_product(params);
  operands.a_type = operands.stored = regions::element_of(operands.product);
  const cuda::GemmSetup setup = cuda::matmul_setup(shape, operands);
  std::vector<std::byte> packed(cuda::packed_bytes(setup));
  cuda::pack_weights(setup, values.data<float>().data(), {0, shape.depth, 0, 0, 1}, packed);
  return packed;
}

/// What is added to the input's projection, and behind it, of a GRU, what is added to the product of its last gate (zeros where the reset gate comes first).
std::vector<std::byte> pack_bias(const ir::Attrs& params, std::span<const Tensor> sources) {
  const regions::RnnSpec spec = spec_of(params);
  const auto hidden = static_cast<std::size_t>(params.get_int("hidden_size", 0)), rows = static_cast<std::size_t>(spec.gates) * hidden,
             directions = static_cast<std::size_t>(spec.directions);
  // As the kernel that does the same adds them: in the type that it computes in.
  const bool wide = params.get_int("weight_type", 0) == cuda::kRnnFloat64;
  std::vector<double> all(directions * (rows + (spec.op == regions::RnnOp::kGru ? hidden : 0)));
  if (sources[0].defined()) {
    const Tensor& values = sources[0];
    if (values.dims() != Dims{spec.directions, static_cast<std::int64_t>(2 * rows)})
      throw Error(Code::kInvalidModel, "biases of a recurrent layer of another shape");
    const auto from = [&](std::size_t i) { return values.as_double(static_cast<std::int64_t>(i)); };
    for (std::size_t d = 0; d < directions; ++d)
      for (std::size_t i = 0; i < rows; ++i) {
        const double of_input = from(d * 2 * rows + i), of_state = from(d * 2 * rows + rows + i);
        const bool apart = spec.linear && i >= 2 * hidden;
        const double both = wide ? of_input + of_state : static_cast<double>(static_cast<float>(of_input) + static_cast<float>(of_state));
        all[d * rows + i] = apart ? of_input : both;
        if (apart) all[directions * rows + d * hidden + i - 2 * hidden] = of_state;
      }
  }
  return numbers(params, all);
}

std::vector<std::byte> pack_peephole(const ir::Attrs& params, std::span<const Tensor> sources) {
  std::vector<double> all(static_cast<std::size_t>(sources[0].size()));
  for (std::size_t i = 0; i < all.size(); ++i) all[i] = sources[0].as_double(static_cast<std::int64_t>(i));
  return numbers(params, all);
}

constexpr std::array<KernelType, 1> kKernels{{{"cuda.rnn", bind_rnn, ""}}};
constexpr std::array<PackFunction, 4> kPacks{
    {{"cuda.rnn.pack_rows", pack_rows}, {"cuda.rnn.pack_product", pack_product}, {"cuda.rnn.pack_bias", pack_bias}, {"cuda.rnn.pack_peephole", pack_peephole}}};

}  // namespace

KernelSet kernels_rnn_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
