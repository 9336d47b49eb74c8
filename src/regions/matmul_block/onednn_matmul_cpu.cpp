// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of matmul_block by oneDNN, and the packing of its weights.

#include <array>

#include "base/thread_pool.h"
#include "plan/kernel_list.h"
#include "regions/matmul_block/onednn_matmul_params.h"

namespace lathe::plan {
namespace {

namespace onednn = cpu::onednn;

class OnednnMatMulKernel final : public Kernel {
 public:
  explicit OnednnMatMulKernel(const BindRequest& request)
      : spec_((regions::require_onednn(request.params), regions::read_matmul_spec(request.params))),
        perm_a_(request.params.get_ints("perm_a")),
        perm_out_(request.params.get_ints("perm_out")),
        conv_((fit(request), spec_)) {
    regions::prepare_onednn(conv_, spec_, request.params, request.weights, strides_, request.threads);
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); }) && conv_.move_to(strides_);
  }
  std::size_t scratch_bytes() const noexcept override { return conv_.scratch_bytes(); }

  Status run(const KernelIo& io) const noexcept override {
    const onednn::ConvTensors tensors{io.inputs[0], spec_.residual ? io.inputs[1] : nullptr, io.outputs[0], io.scratch};
    if (spec_.residual && tensors.residual == tensors.dst && items_ > 0)
      return {Code::kInternal, "a matrix product by oneDNN cannot write over the residual that it adds"};
    if (!conv_.run(tensors, items_, *io.pool)) return {Code::kInternal, "oneDNN failed to run a matrix product"};
    return Status::ok();
  }

 private:
  void fit(const BindRequest& request) {
    const cpu::ConvProblem& p = spec_.problem;
    if (request.inputs.size() != (spec_.residual ? 2U : 1U) || request.outputs.size() != 1)
      throw Error(Code::kCorruptFile, "a matrix product step with too few or too many tensors");
    const TensorDesc &a = request.inputs[0], &c = request.outputs[0];
    if (a.dtype != p.src || c.dtype != p.dst || (spec_.residual && request.inputs[1].dtype != spec_.residual_type) || !permutes(perm_a_, a) ||
        !permutes(perm_out_, c))
      throw Error(Code::kCorruptFile, "a matrix product step whose tensors are not those of its parameters");
    regions::permute(a, perm_a_, request_.a);
    regions::unpermute(c, perm_out_, request_.c);
    request_.packed_k = p.cin;
    request_.packed_n = p.cout;
    if (spec_.residual) request_.residual = request.inputs[1];
    std::string why;
    const bool good = regions::matmul_layout(request_, layout_, why);
    if (good && layout_.empty) {  // a batch of nothing
      items_ = 0;
      strides_ = {p.cin, p.w * p.cin, p.cout, p.w * p.cout, spec_.residual ? p.cout : 0, spec_.residual ? p.w * p.cout : 0};
      return;
    }
    if (!good || !regions::onednn_strides(layout_, p.w, spec_.residual, strides_, why))
      throw Error(Code::kInvalidArgument, fmt::format("a matrix product cannot run on these shapes: {}", why));
    items_ = layout_.problem.m / p.w;
  }

  static bool permutes(const std::vector<std::int64_t>& perm, const TensorDesc& desc) {
    std::uint64_t seen = 0;
    for (const std::int64_t axis : perm) {
      if (axis < 0 || axis >= static_cast<std::int64_t>(std::min<std::size_t>(desc.dims.size(), 64)) || (seen >> axis & 1) != 0) return false;
      seen |= std::uint64_t{1} << axis;
    }
    return perm.empty() || perm.size() == desc.dims.size();
  }

  onednn::ConvSpec spec_;
  std::vector<std::int64_t> perm_a_, perm_out_;
  regions::MatMulRequest request_;
  regions::MatMulLayout layout_;
  onednn::ConvStrides strides_;
  std::int64_t items_ = 0;
  onednn::Conv conv_;  // last: made when the tensors are known to fit
};

std::unique_ptr<Kernel> bind_matmul(const BindRequest& request) { return std::make_unique<OnednnMatMulKernel>(request); }

std::vector<std::byte> pack_matmul(const ir::Attrs& params, std::span<const Tensor> sources) {
  regions::require_onednn(params);
  const onednn::Conv conv(regions::read_matmul_spec(params));
  const Tensor weight = sources[0].cast(DType::kFloat32).make_aligned();
  const float* const from = weight.data<float>().data();
  if (params.get_int("trans_b", 0) != 0) return conv.pack(from);  // [n, k] already
  const std::int64_t k = weight.dims().at(0), n = weight.dims().at(1);
  std::vector<float> columns(static_cast<std::size_t>(k * n));
  for (std::int64_t i = 0; i < k; ++i)
    for (std::int64_t j = 0; j < n; ++j) columns[static_cast<std::size_t>(j * k + i)] = from[i * n + j];
  return conv.pack(columns.data());
}

constexpr std::array<KernelType, 1> kKernels{{{"cpu.matmul.onednn", bind_matmul, "avx2", regions::onednn_unfit}}};
constexpr std::array<PackFunction, 1> kPacks{{{"cpu.matmul.onednn.pack", pack_matmul}}};

}  // namespace

KernelSet kernels_onednn_matmul() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
