// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of support vector machines on CUDA devices: "cuda.svm" binds the kernels of svm.cu to strided tensors; "cuda.svm.pack" lays the lists
// of a step out for them, vectors feature by feature.

#include <array>

#include "ops/ml/ml_kernels.h"
#include "ops/ml/svm_plan.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

using ops::SvmKernelKind;

void require(bool holds, const std::string& what) {
  if (!holds) throw Error(Code::kCorruptFile, "a support vector machine's step with " + what);
}

class SvmKernel final : public Kernel {
 public:
  explicit SvmKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    std::string why;
    require(ops::svm_spec(request.params, plan_.spec, why), why);
    require(request.weights.size() == 1 && request.device_weights.size() == 1, "no lists");
    require(ops::svm_read(request.weights[0], plan_, why), why);
    lists_ = request.device_weights[0];
    fit(request);
    constexpr std::string_view kNames[] = {"svm_respond", "svm_decide", "svm_finish"};
    for (std::size_t i = 0; i < functions_.size(); ++i) functions_[i] = device_.builtin_function("svm", kNames[i]);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return plan_.scratch_bytes(); }

  Status run(const KernelIo& io) const noexcept override {
    cuda::SvmParams params = plan_.params;
    plan_.set_addresses(params, lists_, io.scratch);
    params.rows.x = io.inputs[0];
    params.rows.labels = static_cast<long long*>(io.outputs[0]);
    params.rows.scores = io.outputs[1];
    Status status;
    ops::svm_launches(plan_, params, [&](SvmKernelKind kind, std::uint32_t grid, const cuda::SvmParams& p) {
      cuda::LaunchShape shape;
      shape.grid_x = grid;
      shape.block = cuda::kSvmThreads;
      shape.overlaps = device_.info().major >= 9;
      status = functions_[static_cast<std::size_t>(kind)].launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
      return static_cast<bool>(status);
    });
    return status;
  }

 private:
  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::svm_plan(request.inputs, request.outputs, plan_, why)) throw Error(Code::kUnsupported, "a support vector machine's step: " + why);
  }

  cuda::Device& device_;
  ops::SvmPlan plan_;
  const void* lists_ = nullptr;
  std::array<cuda::Function, 3> functions_;  ///< by kind
};

}  // namespace

std::unique_ptr<Kernel> bind_cuda_svm(const BindRequest& request) { return std::make_unique<SvmKernel>(request); }

std::vector<std::byte> pack_cuda_svm(const ir::Attrs& params, std::span<const Tensor>) {
  const auto labels = params.get_ints("labels"), starts = params.get_ints("starts");
  const auto vectors = params.get_floats("vectors"), coefficients = params.get_floats("coefficients"), rho = params.get_floats("rho"),
             a = params.get_floats("prob_a"), b = params.get_floats("prob_b");
  ops::SvmHeader h;
  h.features = params.get_int("features", 0);
  h.count = params.get_int("count", 0);
  h.classes = static_cast<std::int64_t>(labels.size());
  h.probable = h.count > 0 && h.classes > 0 && !a.empty();
  const auto layout = ops::svm_layout(h);
  require(layout.has_value(), "lists that do not fit");
  const std::vector<float>& source = h.count > 0 ? vectors : coefficients;
  const auto count_of = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  require(count_of(source) == layout->vectors && (h.count == 0 || count_of(coefficients) == layout->coefficients), "vectors that do not fit");
  require(count_of(rho) >= layout->rho && count_of(a) >= layout->probabilities && count_of(b) >= layout->probabilities, "decisions that do not fit");
  require(layout->starts == 0 || count_of(starts) == layout->starts, "classes that do not fit");
  std::vector<std::byte> packed(layout->bytes, std::byte{0});
  std::memcpy(packed.data(), &h, sizeof h);
  const auto put = [&](std::size_t begin, std::int64_t i, const auto& value) {
    std::memcpy(packed.data() + begin + static_cast<std::size_t>(i) * sizeof value, &value, sizeof value);
  };
  const std::int64_t lanes = h.responses();
  for (std::int64_t v = 0; v < lanes; ++v)
    for (std::int64_t k = 0; k < h.features; ++k) put(layout->vectors_at, k * lanes + v, source[static_cast<std::size_t>(v * h.features + k)]);
  for (std::int64_t i = 0; i < layout->coefficients; ++i) put(layout->coefficients_at, i, coefficients[static_cast<std::size_t>(i)]);
  for (std::int64_t i = 0; i < layout->rho; ++i) put(layout->rho_at, i, rho[static_cast<std::size_t>(i)]);
  for (std::int64_t i = 0; i < layout->probabilities; ++i) {
    put(layout->a_at, i, a[static_cast<std::size_t>(i)]);
    put(layout->b_at, i, b[static_cast<std::size_t>(i)]);
  }
  for (std::int64_t i = 0; i < layout->starts; ++i) {
    const std::int64_t start = starts[static_cast<std::size_t>(i)];
    require(start >= 0 && start <= h.count, "classes that do not fit");
    put(layout->starts_at, i, static_cast<std::int32_t>(start));
  }
  for (std::int64_t i = 0; i < layout->labels; ++i) put(layout->labels_at, i, labels[static_cast<std::size_t>(i)]);
  return packed;
}

}  // namespace lathe::plan
