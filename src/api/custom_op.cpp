// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// register_op of the public API. An operator that has the source of a CUDA kernel alone gets its function here: the kernel, run on the first GPU with
// copies there and back. So the CPU's section of an engine, and the oracle, have it too.

#include "lathe/custom_op.h"

#include <memory>
#include <mutex>

#include "api/impl.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "ops/custom/custom.h"
#include "ops/step_node.h"
#include "plan/kernel.h"

namespace lathe {
namespace {

void require(const Status& status) {
  if (!status) throw Error(status.code(), std::string(status.message()));
}

/// The first GPU, opened at the first call and kept with the operator: its kernels stay loaded.
class FirstGpu {
 public:
  std::shared_ptr<cuda::Device> get() {
    const std::lock_guard lock(mutex_);
    if (!device_) device_ = cuda::Device::open(0);
    return device_;
  }

 private:
  std::mutex mutex_;
  std::shared_ptr<cuda::Device> device_;
};

void run_on_gpu(const std::shared_ptr<cuda::Device>& device, const std::string& domain, const std::string& name, const CustomCall& call) {
  const cuda::Current current(*device);
  require(current.status());
  ir::Attrs params;
  ops::set_node(params, domain, name, call.attributes.impl());
  params.set("name", "on the GPU");
  std::vector<plan::TensorDesc> inputs, outputs;
  std::vector<const void*> constants, in;
  std::vector<void*> out;
  std::vector<cuda::Block> memory;
  const cuda::Stream stream(device);
  const auto bytes_of = [](const plan::TensorDesc& desc) { return dtype_bytes(desc.dtype, desc.elements()); };
  const auto place = [&](const auto& view, std::vector<plan::TensorDesc>& descs) {
    descs.push_back(view.dtype == DType::kUndefined ? plan::TensorDesc() : plan::TensorDesc::row_major(view.dtype, Dims(view.shape.begin(), view.shape.end())));
    memory.emplace_back(device, view.dtype == DType::kUndefined ? 1 : std::max<std::size_t>(bytes_of(descs.back()), 1));
    return view.dtype == DType::kUndefined ? nullptr : memory.back().data();
  };
  for (const ConstTensorView& view : call.inputs) {
    void* const to = place(view, inputs);
    in.push_back(to);
    constants.push_back(view.data);
    if (to && bytes_of(inputs.back()) > 0)
      device->driver().require(device->driver().copy_to_device(cuda::address_of(to), view.data, bytes_of(inputs.back()), stream.handle()), "cuMemcpyHtoDAsync");
  }
  for (const TensorView& view : call.outputs) out.push_back(place(view, outputs));
  const ir::Bindings none;
  const std::unique_ptr<plan::Kernel> kernel =
      plan::find_kernel("cuda.custom")->bind({params, inputs, outputs, constants, {}, none, 1, nullptr, device.get(), {}});
  plan::KernelIo io{in.data(), out.data(), nullptr, nullptr};
  io.stream = stream.handle();
  require(kernel->run(io));
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (out[i] && bytes_of(outputs[i]) > 0)
      device->driver().require(device->driver().copy_to_host(call.outputs[i].data, cuda::address_of(out[i]), bytes_of(outputs[i]), stream.handle()),
                               "cuMemcpyDtoHAsync");
  require(stream.synchronize());
}

}  // namespace

void register_op(CustomOp op) {
  api::guarded("register an operator", [&] {
    if (!op.run && !op.cuda.empty())
      op.run = [gpu = std::make_shared<FirstGpu>(), domain = op.domain, name = op.name](const CustomCall& call) { run_on_gpu(gpu->get(), domain, name, call); };
    ops::add_custom_op(std::move(op));
  });
}

}  // namespace lathe
