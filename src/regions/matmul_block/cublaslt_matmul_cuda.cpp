// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of matmul_block by cuBLASLt: "cuda.matmul.cublaslt" binds the library's products to strided tensors, and packs constant operands by
// columns, as tensor cores read them fastest.

#include <array>
#include <bit>
#include <cmath>
#include <cstring>
#include <optional>

#include "base/half.h"
#include "plan/kernel_list.h"
#include "regions/matmul_block/cublaslt_matmul_params.h"

namespace lathe::plan {
namespace {

constexpr std::size_t kMaxLoops = 8;

std::int64_t bytes_each(DType dtype) { return dtype_bits(dtype) / 8; }

class CublasltMatMulKernel final : public Kernel {
 public:
  explicit CublasltMatMulKernel(const BindRequest& request) {
    const ir::Attrs& params = request.params;
    if (const std::string why = regions::cublaslt_unfit(params); !why.empty())
      throw Error(Code::kMachine, why).with_remedy("Build the engine again on this machine.");
    packed_ = params.get_int("packed", 0) != 0;
    const std::size_t operands = packed_ ? 1 : 2;
    if (request.inputs.size() < operands || request.inputs.size() > operands + 1 || request.outputs.size() != 1)
      throw Error(Code::kCorruptFile, "a matrix product step with too few or too many tensors");
    perm_a_ = regions::checked_permutation(params.get_ints("perm_a"), request.inputs[0].dims.size());
    perm_out_ = regions::checked_permutation(params.get_ints("perm_out"), request.outputs[0].dims.size());
    product_ = regions::read_product(params);
    algorithm_ = regions::read_cublaslt_algorithm(params);
    tuned_rows_ = params.get_int("tuned_rows", 0);
    if (packed_) {
      const Dims weight = params.get_ints("weight_dims");
      const bool transposed = params.get_int("trans_b", 0) != 0;
      if (weight.size() != 2) throw Error(Code::kCorruptFile, "the weight of a matrix product step is no matrix");
      request_.packed_k = transposed ? weight[1] : weight[0];
      request_.packed_n = transposed ? weight[0] : weight[1];
    } else {
      perm_b_ = regions::checked_permutation(params.get_ints("perm_b"), request.inputs[1].dims.size());
      request_.b.emplace();
    }
    if (request.inputs.size() > operands) request_.residual.emplace();
    epilogue_ = regions::read_cuda_epilogue(params);
    bias_ = params.get_int("bias", 0) != 0;
    fit(request);
    if (layout_.empty) return;
    const auto product_bytes = static_cast<std::int64_t>(product_ == cuda::kProductF16 || product_ == cuda::kProductBF16 ? 2 : 4);
    const auto has = [&](std::size_t blob, std::int64_t elements, std::int64_t each) {
      return request.weights.size() > blob && request.device_weights.size() > blob && request.weights[blob].size() == static_cast<std::size_t>(elements * each);
    };
    if (packed_) {
      if (!has(0, request_.packed_n * regions::packed_row(request_.packed_k), product_bytes))
        throw Error(Code::kCorruptFile, "the packed weights of a matrix product have the wrong size");
      weights_ = request.device_weights[0];
    }
    if (bias_) {
      const std::size_t blob = packed_ ? 1 : 0;
      if (!has(blob, layout_.problem.n, bytes_each(request.outputs[0].dtype)))
        throw Error(Code::kCorruptFile, "the packed bias of a matrix product has the wrong size");
      bias_columns_ = layout_.problem.n;
      product_by_library_->set_bias(request.device_weights[blob]);
    }
  }

  bool rebind(const BindRequest& request) noexcept override {
    return product_by_library_ && fits([&] { fit(request); }) && (!bias_ || layout_.empty || layout_.problem.n == bias_columns_);
  }
  std::size_t scratch_bytes() const noexcept override { return product_by_library_ ? product_by_library_->workspace_bytes() : 0; }

  Status run(const KernelIo& io) const noexcept override {
    if (layout_.empty) return Status::ok();
    // The library's own batch is one axis; what is left of the product's two counts as the innermost loop here.
    const std::size_t loops = layout_.loops.size();
    std::array<std::int64_t, kMaxLoops + 1> at{};
    while (true) {
      regions::MatMulLoop offset{0, at[loops] * outer_.a, at[loops] * outer_.b, at[loops] * outer_.c, at[loops] * outer_.residual};
      for (std::size_t i = 0; i < loops; ++i) {
        offset.a += at[i] * layout_.loops[i].a;
        offset.b += at[i] * layout_.loops[i].b;
        offset.c += at[i] * layout_.loops[i].c;
        offset.residual += at[i] * layout_.loops[i].residual;
      }
      cuda::cublaslt::MatMulPointers pointers;
      pointers.a = static_cast<const char*>(io.inputs[0]) + offset.a * ab_bytes_;
      pointers.b = packed_ ? weights_ : static_cast<const char*>(io.inputs[1]) + offset.b * ab_bytes_;
      if (request_.residual) pointers.residual = static_cast<const char*>(io.inputs[packed_ ? 1 : 2]) + offset.residual * c_bytes_;
      pointers.c = static_cast<char*>(io.outputs[0]) + offset.c * c_bytes_;
      pointers.workspace = io.scratch;
      const Status status = product_by_library_->run(static_cast<cuda::StreamHandle>(io.stream), pointers, epilogue_.scale, epilogue_.residual_scale);
      if (!status) return status;
      std::size_t i = loops + 1;
      while (i > 0 && ++at[i - 1] == (i == loops + 1 ? outer_.extent : layout_.loops[i - 1].extent)) at[--i] = 0;
      if (i == 0) return Status::ok();
    }
  }

 private:
  void fit(const BindRequest& request) {
    const TensorDesc &a = request.inputs[0], &c = request.outputs[0];
    regions::permute(a, perm_a_, request_.a);
    regions::unpermute(c, perm_out_, request_.c);
    if (request_.b) regions::permute(request.inputs[1], perm_b_, *request_.b);
    if (request_.residual) *request_.residual = request.inputs[packed_ ? 1 : 2];
    std::string why;
    if (!regions::matmul_layout(request_, layout_, why))
      throw Error(Code::kInvalidArgument, fmt::format("a matrix product cannot run on these shapes: {}", why));
    if (layout_.loops.size() > kMaxLoops) throw Error(Code::kUnsupported, fmt::format("a matrix product over {} batch axes", layout_.loops.size() + 2));
    if (layout_.empty) return;
    const cuda::ElementType operand = regions::element_of(product_), stored = regions::need_cuda_element(c.dtype);
    if (regions::need_cuda_element(a.dtype) != operand || (request_.b && regions::need_cuda_element(request.inputs[1].dtype) != operand) ||
        (request_.residual && request_.residual->dtype != c.dtype))
      throw Error(Code::kInternal, "a matrix product step by cuBLASLt with tensors of other types than its plan says");
    ab_bytes_ = bytes_each(a.dtype);
    c_bytes_ = bytes_each(c.dtype);
    const auto [problem, outer] = regions::cublaslt_matmul(layout_, product_, stored, request_.residual.has_value(), bias_, epilogue_.activation);
    if (why = cuda::cublaslt::unsupported(problem); !why.empty()) throw Error(Code::kUnsupported, why);
    outer_ = outer;
    const bool turned = product_by_library_ && (problem.a_transposed != a_transposed_ || problem.b_transposed != b_transposed_);
    // An operand whose other axis is now the contiguous one is another product to the library. Its bias is set where it is made.
    if (turned && bias_) throw Error(Code::kUnsupported, "a matrix product whose operand is stored the other way round");
    if (!product_by_library_ || turned) product_by_library_.emplace(regions::need_device(request.device), problem);
    a_transposed_ = problem.a_transposed;
    b_transposed_ = problem.b_transposed;
    // What was timed serves extents near those that it was timed at.
    const std::int64_t rows = problem.rows * problem.batch;
    const bool near = cuda::near_tuned(rows, tuned_rows_);
    if (!product_by_library_->fit(problem, near ? algorithm_ : cuda::cublaslt::Config{-1}))
      throw Error(Code::kUnsupported, fmt::format("cuBLASLt has no algorithm for a {}x{}x{} product", problem.rows, problem.columns, problem.depth));
  }

  std::vector<std::int64_t> perm_a_, perm_b_, perm_out_;
  regions::MatMulRequest request_;
  regions::MatMulLayout layout_;
  regions::MatMulLoop outer_;
  cuda::ProductType product_ = cuda::kProductF32;
  cuda::EpilogueParams epilogue_;
  cuda::cublaslt::Config algorithm_{};
  std::optional<cuda::cublaslt::MatMul> product_by_library_;
  const void* weights_ = nullptr;
  std::int64_t ab_bytes_ = 4, c_bytes_ = 4, tuned_rows_ = 0, bias_columns_ = 0;
  bool packed_ = false, bias_ = false, a_transposed_ = false, b_transposed_ = false;
};

std::unique_ptr<Kernel> bind_matmul(const BindRequest& request) { return std::make_unique<CublasltMatMulKernel>(request); }

float rounded_to_tf32(float value) {
  if (!std::isfinite(value)) return value;
  const auto bits = std::bit_cast<std::uint32_t>(value);
  return std::bit_cast<float>((bits + 0xFFF + ((bits >> 13) & 1)) & ~std::uint32_t{0x1FFF});
}

/// [columns][depth] in the product's type; rows begin at whole pieces of 16 bytes.
std::vector<std::byte> pack_weights(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const Dims& dims = weight.dims();
  const bool transposed = params.get_int("trans_b", 0) != 0;
  const std::int64_t k = dims.at(transposed ? 1 : 0), n = dims.at(transposed ? 0 : 1), row = regions::packed_row(k);
  const cuda::ProductType product = regions::read_product(params);
  const DType type = product == cuda::kProductF16 ? DType::kFloat16 : product == cuda::kProductBF16 ? DType::kBFloat16 : DType::kFloat32;
  Tensor packed(DType::kFloat32, {n, row});
  const auto from = weight.data<float>();
  const auto to = packed.mutable_data<float>();
  std::fill(to.begin(), to.end(), 0.0F);
  for (std::int64_t j = 0; j < n; ++j)
    for (std::int64_t i = 0; i < k; ++i) {
      const float value = from[static_cast<std::size_t>(transposed ? j * k + i : i * n + j)];
      to[static_cast<std::size_t>(j * row + i)] = product == cuda::kProductTF32 ? rounded_to_tf32(value) : value;
    }
  const Tensor stored = packed.cast(type);
  return {stored.raw(), stored.raw() + stored.bytes()};
}

/// What cpu.matmul.pack_bias makes, in the type of the result ("stored").
std::vector<std::byte> pack_bias(const ir::Attrs& params, std::span<const Tensor> sources) {
  const std::vector<std::byte> bytes = find_pack_function("cpu.matmul.pack_bias")->pack(params, sources);
  Tensor bias(DType::kFloat32, {static_cast<std::int64_t>(bytes.size() / sizeof(float))});
  if (!bytes.empty()) std::memcpy(bias.mutable_raw(), bytes.data(), bytes.size());
  const Tensor stored = bias.cast(static_cast<DType>(params.get_int("stored", static_cast<std::int64_t>(DType::kFloat32))));
  return {stored.raw(), stored.raw() + stored.bytes()};
}

constexpr std::array<KernelType, 1> kKernels{{{"cuda.matmul.cublaslt", bind_matmul, "", regions::cublaslt_unfit}}};
constexpr std::array<PackFunction, 2> kPacks{{{"cuda.matmul.cublaslt.pack", pack_weights}, {"cuda.matmul.cublaslt.pack_bias", pack_bias}}};

}  // namespace

KernelSet kernels_cublaslt_matmul_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
