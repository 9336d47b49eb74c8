// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Streams, events and graphs of a device. Creating may throw; using returns Status. The device's context must be current while they
// are used (see Current); creating and destroying see to it themselves.

#include <cstddef>
#include <memory>

#include "backend/cuda/device.h"

namespace lathe::cuda {

class Stream {
 public:
  explicit Stream(std::shared_ptr<Device> device);
  ~Stream();
  Stream(const Stream&) = delete;
  Stream& operator=(const Stream&) = delete;
  StreamHandle handle() const noexcept { return handle_; }
  Status synchronize() const noexcept;

 private:
  std::shared_ptr<Device> device_;
  StreamHandle handle_ = nullptr;
};

class Event {
 public:
  explicit Event(std::shared_ptr<Device> device, bool timing = true);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&&) = delete;
  EventHandle handle() const noexcept { return handle_; }
  Status record(StreamHandle stream) const noexcept;
  /// On a capturing stream: a node of the graph that records at every replay, so that the event can be read behind it.
  Status record_in_graph(StreamHandle stream) const noexcept;
  /// What is enqueued on `stream` from now on starts behind this event.
  Status hold(StreamHandle stream) const noexcept;
  Status synchronize() const noexcept;
  /// Seconds from `start` to this event; negative when either has not happened.
  double seconds_since(const Event& start) const noexcept;

 private:
  std::shared_ptr<Device> device_;
  EventHandle handle_ = nullptr;
};

/// Launches captured once and replayed by one call.
class Graph {
 public:
  Graph() = default;
  ~Graph();
  Graph(Graph&& other) noexcept;
  Graph& operator=(Graph&& other) noexcept;
  explicit operator bool() const noexcept { return exec_ != nullptr; }
  /// Captures what `enqueue` (-> Status) puts on the stream. After a failure the stream captures no more.
  template <class Enqueue>
  static Status capture(const std::shared_ptr<Device>& device, StreamHandle stream, Enqueue&& enqueue, Graph& graph) noexcept {
    if (const Status begun = begin(*device, stream); !begun) return begun;
    const Status filled = enqueue();
    return end(device, stream, filled, graph);
  }
  Status launch(StreamHandle stream) const noexcept;

 private:
  static Status begin(const Device& device, StreamHandle stream) noexcept;
  static Status end(const std::shared_ptr<Device>& device, StreamHandle stream, const Status& filled, Graph& graph) noexcept;
  std::shared_ptr<Device> device_;
  GraphExecHandle exec_ = nullptr;
};

}  // namespace lathe::cuda
