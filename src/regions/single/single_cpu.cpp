// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of "cpu.reference": rebuilds the node from the step's parameters and evaluates it. It allocates while it runs, which
// nothing else does.

#include <array>
#include <cstring>

#include <fmt/format.h>

#include "ops/evaluate.h"
#include "ops/step_node.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

class ReferenceKernel final : public Kernel {
 public:
  explicit ReferenceKernel(const BindRequest& request)
      : inputs_(request.inputs.begin(), request.inputs.end()),
        outputs_(request.outputs.begin(), request.outputs.end()),
        half_storage_(request.params.get_int("half_storage", 0) != 0) {
    std::vector<ir::Value*> values;
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const TensorDesc& desc = inputs_[i];
      if (desc.dtype == DType::kUndefined) {
        values.push_back(nullptr);
        continue;
      }
      if (!desc.is_dense_row_major()) throw Error(Code::kInternal, "a reference step reads a tensor that is not dense row-major");
      ir::Shape shape(desc.dims.begin(), desc.dims.end());
      const void* constant = i < request.constants.size() ? request.constants[i] : nullptr;
      const std::string name = fmt::format("in{}", i);
      if (constant)
        values.push_back(
            graph_.add_constant(name, Tensor::view(desc.dtype, desc.dims, constant, dtype_bytes(desc.dtype, desc.elements()), nullptr).make_aligned()));
      else values.push_back(graph_.add_input(name, ir::Type::tensor(widened(desc.dtype), shape)));
    }
    std::vector<std::string> names;
    for (std::size_t i = 0; i < outputs_.size(); ++i) names.push_back(outputs_[i].dtype == DType::kUndefined ? "" : fmt::format("out{}", i));
    node_ = graph_.add_node(request.params.get_string("domain", ""), request.params.get_string("op", ""), values, names, ops::node_attributes(request.params));
    for (std::size_t i = 0; i < outputs_.size(); ++i)
      if (ir::Value* output = node_->output(i))
        output->type = ir::Type::tensor(widened(outputs_[i].dtype), ir::Shape(outputs_[i].dims.begin(), outputs_[i].dims.end()));
    if (!ops::can_evaluate(*node_)) throw Error(Code::kUnsupported, fmt::format("this build has no definition of the op '{}'", node_->op));
    for (const TensorDesc& desc : outputs_)
      if (desc.dtype != DType::kUndefined && !desc.is_dense_row_major())
        throw Error(Code::kInternal, "a reference step writes a tensor that is not dense row-major");
  }

  Status run(const KernelIo& io) const noexcept override try {
    std::vector<Tensor> inputs(inputs_.size());
    for (std::size_t i = 0; i < inputs_.size(); ++i) {
      const TensorDesc& desc = inputs_[i];
      if (desc.dtype == DType::kUndefined) continue;
      if (node_->input(i)->is_constant()) {
        inputs[i] = node_->input(i)->constant;
        continue;
      }
      const Tensor view = Tensor::view(desc.dtype, desc.dims, io.inputs[i], dtype_bytes(desc.dtype, desc.elements()), nullptr).make_aligned();
      inputs[i] = desc.dtype == widened(desc.dtype) ? view : view.cast(widened(desc.dtype));
    }
    ops::EvaluateOptions options;
    options.oracle = true;
    const std::vector<Tensor> results = ops::evaluate_node(*node_, inputs, options);
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const TensorDesc& desc = outputs_[i];
      if (desc.dtype == DType::kUndefined) continue;
      if (results[i].dims() != desc.dims)  // inputs that say where (axes, sizes) may contradict the shape that the model declares
        return Status(Code::kInvalidArgument,
                      fmt::format("the data make a result of shape {}, but the model says {}", to_string(results[i].dims()), to_string(desc.dims)));
      const Tensor stored = results[i].dtype() == desc.dtype ? results[i] : results[i].cast(desc.dtype);
      if (stored.bytes() > 0) std::memcpy(io.outputs[i], stored.raw(), stored.bytes());
    }
    return Status::ok();
  } catch (const Error& error) {
    // The model was found valid when it was built: what its definition does not take now is the caller's.
    return Status(error.code() == Code::kInvalidModel ? Code::kInvalidArgument : error.code(), error.message());
  } catch (const std::bad_alloc&) {
    return Status(Code::kOutOfMemory, "no memory while a reference step ran");
  } catch (...) {
    return Status(Code::kInternal, "a reference step failed");
  }

 private:
  /// Narrow storage of a float32 tensor (precision plan): the op itself computes in its own type.
  DType widened(DType dtype) const { return dtype == DType::kBFloat16 || (dtype == DType::kFloat16 && half_storage_) ? DType::kFloat32 : dtype; }

  std::vector<TensorDesc> inputs_, outputs_;
  bool half_storage_;
  ir::Graph graph_;
  ir::Node* node_ = nullptr;
};

std::unique_ptr<Kernel> bind_reference(const BindRequest& request) { return std::make_unique<ReferenceKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.reference", bind_reference, ""}}};

}  // namespace

KernelSet kernels_single() { return {kKernels, {}}; }

}  // namespace lathe::plan
