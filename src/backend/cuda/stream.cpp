// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See stream.h.

#include "backend/cuda/stream.h"

#include <utility>

namespace lathe::cuda {

Stream::Stream(std::shared_ptr<Device> device) : device_(std::move(device)) {
  const Current current(*device_);
  device_->driver().require(device_->driver().stream_create(&handle_, kStreamNonBlocking), "cuStreamCreate");
}

Stream::~Stream() {
  const Current current(*device_);
  device_->driver().stream_destroy(handle_);
}

Status Stream::synchronize() const noexcept { return device_->driver().status(device_->driver().stream_synchronize(handle_), "cuStreamSynchronize"); }

Event::Event(std::shared_ptr<Device> device, bool timing) : device_(std::move(device)) {
  const Current current(*device_);
  device_->driver().require(device_->driver().event_create(&handle_, timing ? 0 : kEventDisableTiming), "cuEventCreate");
}

Event::~Event() {
  if (!handle_) return;
  const Current current(*device_);
  device_->driver().event_destroy(handle_);
}

Event::Event(Event&& other) noexcept : device_(std::move(other.device_)), handle_(std::exchange(other.handle_, nullptr)) {}

Status Event::record(StreamHandle stream) const noexcept { return device_->driver().status(device_->driver().event_record(handle_, stream), "cuEventRecord"); }
Status Event::record_in_graph(StreamHandle stream) const noexcept {
  return device_->driver().status(device_->driver().event_record_with(handle_, stream, kEventRecordExternal), "cuEventRecordWithFlags");
}
Status Event::hold(StreamHandle stream) const noexcept {
  return device_->driver().status(device_->driver().stream_wait_event(stream, handle_, 0), "cuStreamWaitEvent");
}
Status Event::synchronize() const noexcept { return device_->driver().status(device_->driver().event_synchronize(handle_), "cuEventSynchronize"); }

double Event::seconds_since(const Event& start) const noexcept {
  float milliseconds = 0;
  return device_->driver().event_elapsed(&milliseconds, start.handle_, handle_) == kSuccess ? milliseconds * 1e-3 : -1;
}

Graph::~Graph() {
  if (!exec_) return;
  const Current current(*device_);
  device_->driver().graph_exec_destroy(exec_);
}

Graph::Graph(Graph&& other) noexcept : device_(std::move(other.device_)), exec_(std::exchange(other.exec_, nullptr)) {}

Graph& Graph::operator=(Graph&& other) noexcept {
  std::swap(device_, other.device_);
  std::swap(exec_, other.exec_);
  return *this;
}

Status Graph::begin(const Device& device, StreamHandle stream) noexcept {
  return device.driver().status(device.driver().stream_begin_capture(stream, kCaptureThreadLocal), "cuStreamBeginCapture");
}

Status Graph::end(const std::shared_ptr<Device>& device, StreamHandle stream, const Status& filled, Graph& graph) noexcept {
  const Driver& driver = device->driver();
  GraphHandle captured = nullptr;
  const Status ended = driver.status(driver.stream_end_capture(stream, &captured), "cuStreamEndCapture");
  if (!filled || !ended) {
    if (captured) driver.graph_destroy(captured);
    return filled ? ended : filled;
  }
  Graph made;
  made.device_ = device;
  const Status instantiated = driver.status(driver.graph_instantiate(&made.exec_, captured, 0), "cuGraphInstantiate");
  driver.graph_destroy(captured);
  if (instantiated) graph = std::move(made);
  return instantiated;
}

Status Graph::launch(StreamHandle stream) const noexcept { return device_->driver().status(device_->driver().graph_launch(exec_, stream), "cuGraphLaunch"); }

}  // namespace lathe::cuda
