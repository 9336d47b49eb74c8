// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of matmul_block: "cpu.matmul" binds the matrix product of src/backend/cpu/gemm.h to strided tensors; "cpu.matmul.loop" is
// the plain loop for every numeric type and memory order.

#include <algorithm>
#include <array>
#include <cmath>
#include <cstring>
#include <limits>

#include <fmt/format.h>

#include "backend/cpu/epilogue_params.h"
#include "base/half.h"
#include "base/thread_pool.h"
#include "plan/kernel_list.h"
#include "regions/matmul_block/matmul_layout.h"

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
    if (packed_) {
      const Dims weight = params.get_ints("weight_dims");
      const bool transposed = params.get_int("trans_b", 0) != 0;
      if (weight.empty() || weight.size() > 2 || (transposed && weight.size() == 1))
        throw Error(Code::kCorruptFile, "the weight of a matrix product step is no matrix");
      r.packed_vector = weight.size() == 1;
      r.packed_k = transposed ? weight[1] : weight[0];
      r.packed_n = r.packed_vector ? 1 : transposed ? weight[0] : weight[1];
      product_ = static_cast<DType>(params.get_int("weight_type", 0));
    } else {
      perm_b_ = regions::checked_permutation(params.get_ints("perm_b"), request.inputs[1].dims.size());
      r.b.emplace();
    }
    if (request.inputs.size() > operands) r.residual.emplace();

    const auto activation = cpu::find_activation(params.get_string("activation", ""));
    if (!activation)
      throw Error(Code::kCorruptFile, fmt::format("the activation '{}' is not one that this version knows", params.get_string("activation", "")));
    epilogue_.activation = *activation;
    epilogue_.alpha = params.get_float("alpha", 0);
    epilogue_.beta = params.get_float("beta", 0);
    epilogue_.scale = params.get_float("scale", 1);
    epilogue_.residual_scale = params.get_float("residual_scale", 1);
    epilogue_.residual_after = params.get_int("residual_after", 0) != 0;
    fit(request);

    const cpu::GemmProblem& p = layout_.problem;
    std::size_t blob = 0;
    if (packed_) {
      if (request.weights.empty() || request.weights[0].size() != cpu::gemm_packed_b_bytes(p))
        throw Error(Code::kCorruptFile, "the packed weights of a matrix product have the wrong size");
      args_.b = request.weights[blob++].data();
    }
    if (params.get_int("bias", 0) != 0) {
      if (request.weights.size() <= blob || request.weights[blob].size() != static_cast<std::size_t>(p.n) * sizeof(float))
        throw Error(Code::kCorruptFile, "the packed bias of a matrix product has the wrong size");
      args_.bias = reinterpret_cast<const float*>(request.weights[blob].data());
      bias_columns_ = p.n;
    }
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); }) && (!args_.bias || layout_.problem.n == bias_columns_);
  }
  std::size_t scratch_bytes() const noexcept override { return scratch_; }

  Status run(const KernelIo& io) const noexcept override {
    if (layout_.empty) return Status::ok();
    const cpu::GemmProblem& p = layout_.problem;
    std::array<std::int64_t, kMaxLoops> at{};
    while (true) {
      std::int64_t a = 0, b = 0, c = 0, residual = 0;
      for (std::size_t i = 0; i < layout_.loops.size(); ++i) {
        a += at[i] * layout_.loops[i].a;
        b += at[i] * layout_.loops[i].b;
        c += at[i] * layout_.loops[i].c;
        residual += at[i] * layout_.loops[i].residual;
      }
      cpu::GemmArgs args = args_;
      args.a = static_cast<const char*>(io.inputs[0]) + a * bytes_each(p.a);
      if (!packed_) args.b = static_cast<const char*>(io.inputs[1]) + b * bytes_each(p.b);
      if (layout_request_.residual) args.residual = static_cast<const char*>(io.inputs[packed_ ? 1 : 2]) + residual * bytes_each(args.residual_type);
      args.c = static_cast<char*>(io.outputs[0]) + c * bytes_each(p.c);
      args.scratch = io.scratch;
      cpu::run_gemm(p, epilogue_, args, *io.pool);
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
    cpu::GemmProblem& p = layout_.problem;
    p.a = a.dtype;
    p.b = packed_ ? product_ : request.inputs[1].dtype;
    p.c = c.dtype;
    for (const DType dtype : {p.a, p.b, p.c, r.residual ? r.residual->dtype : p.c})
      if (dtype != DType::kFloat32 && dtype != DType::kBFloat16)
        throw Error(Code::kUnsupported, fmt::format("a matrix product on {} elements", dtype_name(dtype)));
    if (r.residual) {
      args_.residual_type = r.residual->dtype;
      args_.residual_stride = layout_.residual_stride;
      args_.residual_outer = layout_.residual_outer;
      args_.residual_inner = layout_.residual_inner;
    }
    scratch_ = layout_.empty ? 0 : cpu::gemm_scratch_bytes(p, request.threads);
  }

  std::vector<std::int64_t> perm_a_, perm_b_, perm_out_;
  regions::MatMulRequest layout_request_;
  regions::MatMulLayout layout_;
  cpu::Epilogue epilogue_;
  cpu::GemmArgs args_;
  DType product_ = DType::kUndefined;
  std::size_t scratch_ = 0;
  std::int64_t bias_columns_ = 0;
  bool packed_ = false;
};

std::unique_ptr<Kernel> bind_matmul(const BindRequest& request) { return std::make_unique<MatMulKernel>(request); }

// ---- the plain loop ----

template <class T>
struct Element {
  using Wide = std::conditional_t<std::is_floating_point_v<T>, double, std::uint64_t>;  // integers wrap
  static Wide read(const char* p) {
    T value;
    std::memcpy(&value, p, sizeof(T));
    return static_cast<Wide>(value);
  }
  static void write(char* p, Wide wide) {
    const T value = static_cast<T>(wide);
    std::memcpy(p, &value, sizeof(T));
  }
};
struct Bf16 {};
struct F16 {};
template <>
struct Element<Bf16> {
  using Wide = double;
  static Wide read(const char* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, 2);
    return bfloat16_to_float(bits);
  }
  static void write(char* p, Wide wide) {
    const std::uint16_t bits = float_to_bfloat16(static_cast<float>(wide));
    std::memcpy(p, &bits, 2);
  }
};
template <>
struct Element<F16> {
  using Wide = double;
  static Wide read(const char* p) {
    std::uint16_t bits;
    std::memcpy(&bits, p, 2);
    return half_to_float(bits);
  }
  static void write(char* p, Wide wide) {
    const std::uint16_t bits = float_to_half(static_cast<float>(wide));
    std::memcpy(p, &bits, 2);
  }
};

/// Strides of a tensor over the product's axes [batch ..., m, n]; 0 where it is broadcast or has no such axis.
struct LoopStrides {
  std::vector<std::int64_t> batch;
  std::int64_t m = 0, n = 0, k = 0;
};

template <class T>
class LoopKernel final : public Kernel {
  using E = Element<T>;

 public:
  LoopKernel(const BindRequest& request, DType dtype)
      : element_(bytes_each(dtype)),
        perm_a_(regions::checked_permutation(request.params.get_ints("perm_a"), request.inputs[0].dims.size())),
        perm_b_(regions::checked_permutation(request.params.get_ints("perm_b"), request.inputs[1].dims.size())) {
    scale_ = request.params.get_float("scale", 1);
    c_scale_ = request.params.get_float("c_scale", 1);
    fit(request);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  Status run(const KernelIo& io) const noexcept override {
    if (n_ == 0) return Status::ok();
    io.pool->parallel_for(total_, [&](std::int64_t task, int) {
      const char *a = static_cast<const char*>(io.inputs[0]), *b = static_cast<const char*>(io.inputs[1]);
      char* c = static_cast<char*>(io.outputs[0]);
      const std::int64_t m = task % m_;
      std::int64_t rest = task / m_;
      for (std::size_t i = batch_.size(); i-- > 0;) {
        const std::int64_t at = rest % batch_[i];
        rest /= batch_[i];
        a += at * a_.batch[i] * element_;
        b += at * b_.batch[i] * element_;
        c += at * c_.batch[i] * element_;
      }
      a += m * a_.m * element_;
      c += m * c_.m * element_;
      for (std::int64_t n = 0; n < n_; ++n) {
        typename E::Wide sum = 0;
        for (std::int64_t k = 0; k < k_; ++k) sum += E::read(a + k * a_.k * element_) * E::read(b + (n * b_.n + k * b_.k) * element_);
        if (third_ || scale_ != 1) {
          sum = total(sum, third_ ? E::read(static_cast<const char*>(io.inputs[2]) + (m * z_.m + n * z_.n) * element_) : typename E::Wide{0});
        }
        E::write(c + n * c_.n * element_, sum);
      }
    });
    return Status::ok();
  }

 private:
  [[noreturn]] static void refuse(const TensorDesc& a, const TensorDesc& b) {
    throw Error(Code::kInvalidArgument, fmt::format("the extents of a product of {} by {} do not fit", to_string(a.dims), to_string(b.dims)));
  }

  void fit(const BindRequest& request) {
    regions::permute(request.inputs[0], perm_a_, left_);
    regions::permute(request.inputs[1], perm_b_, right_);
    const TensorDesc &a = left_, &b = right_;
    const TensorDesc& c = request.outputs[0];
    const bool rows = a.dims.size() > 1, columns = b.dims.size() > 1;
    const std::size_t batch = std::max(rows ? a.dims.size() - 2 : 0, columns ? b.dims.size() - 2 : 0);
    if (a.dims.empty() || b.dims.empty() || c.dims.size() != batch + rows + columns)
      throw Error(Code::kInvalidArgument, "a matrix product between tensors whose ranks do not fit");
    k_ = a.dims.back();
    if (b.dims[columns ? b.dims.size() - 2 : 0] != k_) refuse(a, b);
    m_ = rows ? c.dims[batch] : 1;
    n_ = columns ? c.dims.back() : 1;
    batch_.assign(c.dims.begin(), c.dims.begin() + static_cast<std::ptrdiff_t>(batch));
    if ((rows && a.dims[a.dims.size() - 2] != m_) || (columns && b.dims.back() != n_)) refuse(a, b);
    const auto set = [&](LoopStrides& strides, const TensorDesc& desc, std::size_t own, std::int64_t m, std::int64_t n, std::int64_t k) {
      strides.batch.assign(batch, 0);
      for (std::size_t i = 0; i < own; ++i) {
        if (desc.dims[i] == 1) continue;
        if (desc.dims[i] != batch_[batch - own + i]) refuse(a, b);
        strides.batch[batch - own + i] = desc.strides[i];
      }
      strides.m = m;
      strides.n = n;
      strides.k = k;
    };
    set(a_, a, rows ? a.dims.size() - 2 : 0, rows ? a.strides[a.dims.size() - 2] : 0, 0, a.strides.back());
    set(b_, b, columns ? b.dims.size() - 2 : 0, 0, columns ? b.strides.back() : 0, b.strides[columns ? b.dims.size() - 2 : 0]);
    set(c_, c, batch, rows ? c.strides[batch] : 0, columns ? c.strides.back() : 0, 0);
    z_.m = z_.n = 0;
    if (request.inputs.size() > 2 && request.inputs[2].dtype != DType::kUndefined) {
      const TensorDesc& z = request.inputs[2];  // Gemm: rank at most 2, broadcast in one direction
      const std::size_t rank = z.dims.size();
      third_ = true;
      if (rank > 2 || (rank >= 1 && z.dims[rank - 1] != 1 && z.dims[rank - 1] != n_) || (rank == 2 && z.dims[0] != 1 && z.dims[0] != m_))
        throw Error(Code::kInvalidArgument, "the tensor that is added to a matrix product does not fit it");
      if (rank >= 1 && z.dims[rank - 1] != 1) z_.n = z.strides[rank - 1];
      if (rank >= 2 && z.dims[rank - 2] != 1) z_.m = z.strides[rank - 2];
    }
    total_ = m_;
    for (const std::int64_t extent : batch_) total_ *= extent;
  }

  /// Integers whose factors are 1 wrap; with others their sum is real, then truncated.
  typename E::Wide total(typename E::Wide sum, typename E::Wide z) const {
    if constexpr (std::is_same_v<typename E::Wide, double>) {
      return third_ ? sum * scale_ + z * c_scale_ : sum * scale_;  // a zero keeps its sign
    } else {
      if (scale_ == 1 && c_scale_ == 1) return sum + z;
      const auto real = [](std::uint64_t whole) { return static_cast<double>(static_cast<std::int64_t>(whole)); };
      const double y = real(sum) * scale_ + real(z) * c_scale_;
      return static_cast<std::uint64_t>(std::fabs(y) < 0x1p63 ? static_cast<std::int64_t>(y) : std::numeric_limits<std::int64_t>::min());
    }
  }

  std::int64_t element_;
  std::vector<std::int64_t> perm_a_, perm_b_;
  TensorDesc left_, right_;  // in the product's order
  std::int64_t m_ = 0, n_ = 0, k_ = 0, total_ = 0;
  Dims batch_;
  LoopStrides a_, b_, c_, z_;
  float scale_ = 1, c_scale_ = 1;
  bool third_ = false;
};

std::unique_ptr<Kernel> bind_loop(const BindRequest& request) {
  if (request.inputs.size() < 2 || request.outputs.size() != 1) throw Error(Code::kCorruptFile, "a matrix product loop with too few tensors");
  const DType dtype = request.outputs[0].dtype;
  for (const TensorDesc& desc : request.inputs)
    if (desc.dtype != DType::kUndefined && desc.dtype != dtype)
      throw Error(Code::kUnsupported, fmt::format("a matrix product loop on {} and {}", dtype_name(desc.dtype), dtype_name(dtype)));
  switch (dtype) {
    case DType::kFloat32: return std::make_unique<LoopKernel<float>>(request, dtype);
    case DType::kFloat64: return std::make_unique<LoopKernel<double>>(request, dtype);
    case DType::kFloat16: return std::make_unique<LoopKernel<F16>>(request, dtype);
    case DType::kBFloat16: return std::make_unique<LoopKernel<Bf16>>(request, dtype);
    case DType::kInt32: return std::make_unique<LoopKernel<std::int32_t>>(request, dtype);
    case DType::kInt64: return std::make_unique<LoopKernel<std::int64_t>>(request, dtype);
    case DType::kUint32: return std::make_unique<LoopKernel<std::uint32_t>>(request, dtype);
    case DType::kUint64: return std::make_unique<LoopKernel<std::uint64_t>>(request, dtype);
    default: throw Error(Code::kUnsupported, fmt::format("a matrix product loop on {} elements", dtype_name(dtype)));
  }
}

// ---- packing ----

std::vector<std::byte> pack_weights(const ir::Attrs& params, std::span<const Tensor> sources) {
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const Dims& dims = weight.dims();
  cpu::GemmProblem p;
  p.trans_b = params.get_int("trans_b", 0) != 0;
  p.k = p.trans_b ? dims.at(1) : dims.at(0);
  p.n = dims.size() == 1 ? 1 : p.trans_b ? dims[0] : dims[1];
  p.b = static_cast<DType>(params.get_int("weight_type", 0));
  p.packed_b = true;
  std::vector<std::byte> packed(cpu::gemm_packed_b_bytes(p));
  cpu::pack_gemm_b(p, weight.raw(), DType::kFloat32, packed.data());
  return packed;
}

/// scale * sources[0] + sources[1], each with one value per column, a single one, or left out.
std::vector<std::byte> pack_bias(const ir::Attrs& params, std::span<const Tensor> sources) {
  const auto columns = static_cast<std::size_t>(params.get_int("columns", 0));
  std::vector<float> bias(columns, 0.0F);
  for (std::size_t i = 0; i < sources.size(); ++i) {
    if (!sources[i].defined()) continue;
    const float scale = i == 0 ? params.get_float("scale", 1) : 1.0F;
    for (std::size_t n = 0; n < columns; ++n)
      bias[n] += scale * static_cast<float>(sources[i].as_double(sources[i].size() == 1 ? 0 : static_cast<std::int64_t>(n)));
  }
  std::vector<std::byte> packed(columns * sizeof(float));
  if (columns > 0) std::memcpy(packed.data(), bias.data(), packed.size());
  return packed;
}

constexpr std::array<KernelType, 2> kKernels{{{"cpu.matmul", bind_matmul, ""}, {"cpu.matmul.loop", bind_loop, ""}}};
constexpr std::array<PackFunction, 2> kPacks{{{"cpu.matmul.pack", pack_weights}, {"cpu.matmul.pack_bias", pack_bias}}};

}  // namespace

KernelSet kernels_matmul_block() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
