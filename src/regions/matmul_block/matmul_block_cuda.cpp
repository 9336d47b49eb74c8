// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of matmul_block on CUDA devices: "cuda.matmul" binds the tensor-core products to strided tensors.

#include <array>
#include <optional>

#include <fmt/format.h>

#include "plan/kernel_list.h"
#include "regions/matmul_block/matmul_cuda_params.h"

namespace lathe::plan {
namespace {

constexpr std::size_t kMaxLoops = 8;

std::int64_t bytes_each(DType dtype) { return dtype_bits(dtype) / 8; }

class MatMulKernel final : public Kernel {
 public:
  explicit MatMulKernel(const BindRequest& request) {
    const ir::Attrs& params = request.params;
    packed_ = params.get_int("packed", 0) != 0;
    const std::size_t operands = packed_ ? 1 : 2;
    if (request.inputs.size() < operands || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a matrix product step with too few tensors");
    perm_a_ = regions::checked_permutation(params.get_ints("perm_a"), request.inputs[0].dims.size());
    perm_out_ = regions::checked_permutation(params.get_ints("perm_out"), request.outputs[0].dims.size());
    regions::MatMulRequest& r = layout_request_;
    product_ = regions::read_product(params);
    if (packed_) {
      const Dims weight = params.get_ints("weight_dims");
      const bool transposed = params.get_int("trans_b", 0) != 0;
      if (weight.empty() || weight.size() > 2 || (transposed && weight.size() == 1))
        throw Error(Code::kCorruptFile, "the weight of a matrix product step is no matrix");
      r.packed_vector = weight.size() == 1;
      r.packed_k = transposed ? weight[1] : weight[0];
      r.packed_n = r.packed_vector ? 1 : transposed ? weight[0] : weight[1];
    } else {
      perm_b_ = regions::checked_permutation(params.get_ints("perm_b"), request.inputs[1].dims.size());
      r.b.emplace();
    }
    if (request.inputs.size() > operands) r.residual.emplace();
    epilogue_ = regions::read_cuda_epilogue(params);
    fit(request);
    if (layout_.empty) return;
    std::size_t blob = 0;
    if (packed_) {
      if (request.weights.empty() || request.weights[0].size() != packed_bytes_)
        throw Error(Code::kCorruptFile, "the packed weights of a matrix product have the wrong size");
      weights_ = request.device_weights[blob++];
    }
    if (params.get_int("bias", 0) != 0) {
      bias_columns_ = layout_.problem.n;
      if (request.weights.size() <= blob || request.weights[blob].size() != static_cast<std::size_t>(bias_columns_) * sizeof(float))
        throw Error(Code::kCorruptFile, "the packed bias of a matrix product has the wrong size");
      bias_ = request.device_weights[blob];
    }
  }

  bool rebind(const BindRequest& request) noexcept override {
    return call_ && fits([&] { fit(request); }) && (!bias_ || layout_.problem.n == bias_columns_);
  }
  std::size_t scratch_bytes() const noexcept override { return call_ ? call_->scratch_bytes() : 0; }

  Status run(const KernelIo& io) const noexcept override {
    if (layout_.empty) return Status::ok();
    std::array<std::int64_t, kMaxLoops> at{};
    while (true) {
      std::int64_t a = 0, b = 0, c = 0, residual = 0;
      for (std::size_t i = 0; i < layout_.loops.size(); ++i) {
        a += at[i] * layout_.loops[i].a;
        b += at[i] * layout_.loops[i].b;
        c += at[i] * layout_.loops[i].c;
        residual += at[i] * layout_.loops[i].residual;
      }
      cuda::GemmOperands operands;
      operands.a = static_cast<const char*>(io.inputs[0]) + a * a_bytes_;
      operands.b = packed_ ? weights_ : static_cast<const char*>(io.inputs[1]) + b * b_bytes_;
      operands.bias = bias_;
      if (layout_request_.residual) operands.residual = static_cast<const char*>(io.inputs[packed_ ? 1 : 2]) + residual * c_bytes_;
      operands.c = static_cast<char*>(io.outputs[0]) + c * c_bytes_;
      operands.next = io.next_weights;
      operands.next_bytes = io.next_bytes;
      if (const Status status = call_->run(static_cast<cuda::StreamHandle>(io.stream), operands, epilogue_, io.scratch); !status) return status;
      std::size_t i = layout_.loops.size();
      while (i > 0 && ++at[i - 1] == layout_.loops[i - 1].extent) at[--i] = 0;
      if (i == 0) return Status::ok();
    }
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &a = request.inputs[0], &c = request.outputs[0];
    regions::MatMulRequest& r = layout_request_;
    regions::permute(a, perm_a_, r.a);
    regions::unpermute(c, perm_out_, r.c);
    if (r.b) regions::permute(request.inputs[1], perm_b_, *r.b);
    if (r.residual) *r.residual = request.inputs[packed_ ? 1 : 2];
    std::string why;
    if (!regions::matmul_layout(r, layout_, why)) throw Error(Code::kInvalidArgument, fmt::format("a matrix product cannot run on these shapes: {}", why));
    if (layout_.loops.size() > kMaxLoops) throw Error(Code::kUnsupported, fmt::format("a matrix product over {} batch axes", layout_.loops.size() + 2));
    if (layout_.empty) return;
    const auto a_type = regions::need_cuda_element(a.dtype), c_type = regions::need_cuda_element(c.dtype);
    if (r.b && regions::need_cuda_element(request.inputs[1].dtype) != regions::element_of(product_))
      throw Error(Code::kInternal, "the second operand of a matrix product step is not of the product's type");
    if (r.residual && r.residual->dtype != c.dtype) throw Error(Code::kInternal, "the residual of a matrix product step is of another type than its result");
    a_bytes_ = bytes_each(a.dtype);
    b_bytes_ = r.b ? bytes_each(request.inputs[1].dtype) : 1;
    c_bytes_ = bytes_each(c.dtype);
    const regions::CudaMatMul m = regions::cuda_matmul(layout_, product_, a_type, c_type, r.residual.has_value());
    if (why = cuda::matmul_unsupported(m.shape, m.operands); !why.empty()) throw Error(Code::kUnsupported, why);
    const cuda::GemmSetup setup = cuda::matmul_setup(m.shape, m.operands);
    packed_bytes_ = cuda::packed_bytes(setup);
    // A second operand whose other axis is now the contiguous one needs other kernels.
    const bool across = m.operands.b_across;
    if (!call_ || across != across_)
      call_.emplace(regions::need_device(request.device), setup, regions::read_gemm_plan(request.params), request.params.get_int("tuned_rows", 0));
    else if (!call_->fit(setup)) throw Error(Code::kUnsupported, "a matrix product without a kernel at these extents");
    across_ = across;
  }

  std::vector<std::int64_t> perm_a_, perm_b_, perm_out_;
  regions::MatMulRequest layout_request_;
  regions::MatMulLayout layout_;
  cuda::ProductType product_ = cuda::kProductF32;
  cuda::EpilogueParams epilogue_;
  std::optional<cuda::GemmCall> call_;
  const void *weights_ = nullptr, *bias_ = nullptr;
  std::int64_t a_bytes_ = 4, b_bytes_ = 4, c_bytes_ = 4, bias_columns_ = 0;
  std::size_t packed_bytes_ = 0;
  bool packed_ = false, across_ = false;
};

std::unique_ptr<Kernel> bind_matmul(const BindRequest& request) { return std::make_unique<MatMulKernel>(request); }

std::vector<std::byte> pack_weights(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const Dims& dims = weight.dims();
  const bool transposed = params.get_int("trans_b", 0) != 0;
  cuda::MatMulShape shape;
  shape.depth = transposed ? dims.at(1) : dims.at(0);
  shape.columns = dims.size() == 1 ? 1 : transposed ? dims[0] : dims[1];
  cuda::MatMulOperands operands;
  operands.product = regions::read_product(params);
  operands.a_type = operands.stored = regions::element_of(operands.product);
  const cuda::GemmSetup setup = cuda::matmul_setup(shape, operands);
  const cuda::WeightStrides strides{0, transposed ? shape.depth : 1, 0, 0, transposed ? 1 : shape.columns};
  std::vector<std::byte> packed(cuda::packed_bytes(setup));
  cuda::pack_weights(setup, weight.data<float>().data(), strides, packed);
  return packed;
}

constexpr std::array<KernelType, 1> kKernels{{{"cuda.matmul", bind_matmul, ""}}};
constexpr std::array<PackFunction, 1> kPacks{{{"cuda.matmul.pack", pack_weights}}};

}  // namespace

KernelSet kernels_matmul_block_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
