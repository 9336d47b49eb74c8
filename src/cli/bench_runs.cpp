// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See bench_runs.h.

#include "cli/bench_runs.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <numeric>

#include "api/impl.h"
#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "base/os.h"

namespace lathe::cli {

Timings::Timings(std::vector<double> seconds) : sorted_(std::move(seconds)) { std::sort(sorted_.begin(), sorted_.end()); }

double Timings::at(double share) const {
  return sorted_.empty() ? 0 : sorted_[static_cast<std::size_t>(share * static_cast<double>(sorted_.size() - 1) + 0.5)];
}
double Timings::sum() const { return std::accumulate(sorted_.begin(), sorted_.end(), 0.0); }
double Timings::mean() const { return sorted_.empty() ? 0 : sum() / static_cast<double>(sorted_.size()); }

namespace {

void require(const Status& status) {
  if (!status) throw Error(status.code(), std::string(status.message()));
}

std::size_t bytes_of(DType dtype, std::span<const std::int64_t> shape) {
  return dtype_bytes(dtype, std::accumulate(shape.begin(), shape.end(), std::int64_t{1}, std::multiplies<>()));
}

/// Page-locked and device memory of one input or output.
struct Pair {
  cuda::Block host, device;
  Pair(const std::shared_ptr<cuda::Device>& on, std::size_t bytes) : host(on, bytes, MemorySpace::kPinned), device(on, bytes) {}
};

}  // namespace

struct SplitRun::Impl {
  Impl(const Engine& engine, std::span<const ConstTensorView> views, bool with_transfers)
      : context(engine.create_context()), inputs(views.begin(), views.end()), transfers(with_transfers) {
    for (const IoInfo& info : engine.outputs()) output_types.push_back(info.dtype);
    if (const runtime::CudaEngine* cuda = engine.impl()->engine->cuda()) device = cuda->device();
    if (!device) return;
    const cuda::Current current(*device);
    stream = std::make_unique<cuda::Stream>(device);
    std::vector<std::vector<std::int64_t>> shapes;
    for (ConstTensorView& view : inputs) {
      shapes.emplace_back(view.shape.begin(), view.shape.end());
      const std::size_t bytes = bytes_of(view.dtype, view.shape);
      in.emplace_back(device, bytes);
      if (bytes == 0) continue;
      std::memcpy(in.back().host.data(), view.data, bytes);
      view.data = in.back().device.data();
    }
    copy_in();
    // Only a run tells the extents that follow from data.
    dynamic = engine.impl()->engine->program().dynamic;
    require(dynamic ? context.run(inputs, {}, stream->handle()) : context.prepare(shapes));
    for (std::size_t i = 0; i < output_types.size(); ++i) {
      const ConstTensorView view = context.output(i);
      output_shapes.emplace_back(view.shape.begin(), view.shape.end());
      // Of a dynamic engine, sequences and texts have no view: they come to the host.
      out.emplace_back(device, view.dtype == DType::kUndefined ? 0 : bytes_of(output_types[i], view.shape));
    }
    for (std::size_t i = 0; i < output_types.size(); ++i)
      output_views.push_back(out[i].device.bytes() > 0 ? TensorView{out[i].device.data(), output_types[i], output_shapes[i]} : TensorView{});
  }

  void copy_in() {
    for (const Pair& pair : in)
      if (pair.host.bytes() > 0)
        device->driver().require(device->driver().copy_to_device(pair.device.address(), pair.host.data(), pair.host.bytes(), stream->handle()),
                                 "cuMemcpyHtoDAsync");
    require(stream->synchronize());
  }
  void copy_out() {
    for (const Pair& pair : out)
      if (pair.host.bytes() > 0)
        device->driver().require(device->driver().copy_to_host(pair.host.data(), pair.device.address(), pair.host.bytes(), stream->handle()),
                                 "cuMemcpyDtoHAsync");
    require(stream->synchronize());
  }

  Context context;
  std::vector<ConstTensorView> inputs;
  std::vector<DType> output_types;
  bool transfers, dynamic = false;
  // Of an engine on a GPU:
  std::shared_ptr<cuda::Device> device;
  std::unique_ptr<cuda::Stream> stream;
  std::vector<Pair> in, out;
  std::vector<Dims> output_shapes;
  std::vector<TensorView> output_views;
};

SplitRun::SplitRun(const Engine& engine, std::span<const ConstTensorView> inputs, bool transfers) : impl_(std::make_unique<Impl>(engine, inputs, transfers)) {}
SplitRun::~SplitRun() = default;

Context& SplitRun::context() { return impl_->context; }

SplitRun::Moments SplitRun::once() {
  Impl& impl = *impl_;
  Moments moments;
  moments.begin = moments.copied_in = os::now_seconds();
  if (!impl.device) {
    require(impl.context.run(impl.inputs));
    moments.enqueued = moments.computed = moments.copied_out = os::now_seconds();
    return moments;
  }
  const cuda::Current current(*impl.device);
  if (impl.transfers) {
    impl.copy_in();
    moments.copied_in = os::now_seconds();
  }
  Status status = impl.context.run(impl.inputs, impl.output_views, impl.stream->handle());
  if (status.code() == Code::kInvalidArgument && impl.dynamic && !impl.output_views.empty()) {
    impl.output_views.clear();  // outputs of another size at each run come to the host
    status = impl.context.run(impl.inputs, impl.output_views, impl.stream->handle());
  }
  require(status);
  moments.enqueued = os::now_seconds();
  require(impl.stream->synchronize());
  moments.computed = moments.copied_out = os::now_seconds();
  if (impl.transfers) {
    impl.copy_out();
    moments.copied_out = os::now_seconds();
  }
  return moments;
}

std::vector<Tensor> SplitRun::outputs() {
  Impl& impl = *impl_;
  std::vector<Tensor> tensors;
  if (impl.device) {
    const cuda::Current current(*impl.device);
    impl.copy_out();
  }
  for (std::size_t i = 0; i < impl.output_types.size(); ++i) {
    const ConstTensorView view = impl.context.output(i);
    Tensor tensor(impl.output_types[i], Dims(view.shape.begin(), view.shape.end()));
    if (tensor.bytes() > 0) std::memcpy(tensor.mutable_raw(), impl.device ? impl.out[i].host.data() : view.data, tensor.bytes());
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

}  // namespace lathe::cli
