// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.custom": the function of a custom operator, called on the step's own tensors. The views that it is given lie in the step's scratch, so Lathe
// itself neither copies nor allocates; what the function does is its own matter.

#include <algorithm>
#include <array>
#include <new>

#include "ops/custom/step.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

class CustomKernel final : public Kernel {
 public:
  explicit CustomKernel(const BindRequest& request) : step_(request.params) { fit(request); }
  // The shape rule may allocate, as all that is not Lathe's.
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  std::size_t scratch_bytes() const noexcept override { return (inputs_.size() + outputs_.size()) * sizeof(TensorView); }

  Status run(const KernelIo& io) const noexcept override {
    auto* inputs = static_cast<ConstTensorView*>(io.scratch);
    for (std::size_t i = 0; i < inputs_.size(); ++i) new (inputs + i) ConstTensorView{i < given_ ? io.inputs[i] : nullptr, inputs_[i].dtype, inputs_[i].dims};
    auto* outputs = reinterpret_cast<TensorView*>(inputs + inputs_.size());
    for (std::size_t i = 0; i < outputs_.size(); ++i) new (outputs + i) TensorView{i < asked_ ? io.outputs[i] : nullptr, outputs_[i].dtype, outputs_[i].dims};
    try {
      const CustomAttributes attributes(step_.attrs());
      step_.op().run(CustomCall{{inputs, inputs_.size()}, {outputs, outputs_.size()}, attributes});
      return Status::ok();
    } catch (...) {
      return ops::custom_failure(step_.where());
    }
  }

 private:
  void fit(const BindRequest& request) {
    step_.check(request);
    inputs_.assign(request.inputs.begin(), request.inputs.end());
    outputs_.assign(request.outputs.begin(), request.outputs.end());
    given_ = inputs_.size();
    asked_ = outputs_.size();
    const ops::CustomArity arity = ops::custom_arity(step_.op());
    inputs_.resize(std::max(given_, arity.inputs));
    outputs_.resize(std::max(asked_, arity.outputs));
  }

  static_assert(sizeof(TensorView) == sizeof(ConstTensorView));
  ops::CustomStep step_;
  std::vector<TensorDesc> inputs_, outputs_;
  std::size_t given_ = 0, asked_ = 0;  // of them the step has; the others are left out
};

std::unique_ptr<Kernel> bind_custom(const BindRequest& request) { return std::make_unique<CustomKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.custom", bind_custom, ""}}};

}  // namespace

KernelSet kernels_custom() { return {kKernels, {}}; }

}  // namespace lathe::plan
