// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// One Context's runs on a GPU: its stream, copies of what the caller keeps on the host, launches, graphs, host-op steps between copies.

#include <memory>
#include <span>
#include <vector>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "runtime/specialisation.h"

namespace lathe::runtime {

struct RunTimes;

/// Pointers of one call. Where the caller's are the device's own memory they are used as they are.
struct CudaCall {
  std::span<const void* const> inputs;  ///< as given
  std::span<void* const> outputs;       ///< as given; nullptr: stays in the Context
  std::span<const std::size_t> input_bytes, output_bytes;
  std::span<void* const> own_outputs;  ///< device memory for those that are not given there
  std::byte* arena = nullptr;
  void* stream = nullptr;     ///< the caller's; nullptr: the Context's own, and the call returns when all is done
  RunTimes* times = nullptr;  ///< not null: every step is timed
};

class CudaRun {
 public:
  explicit CudaRun(std::shared_ptr<cuda::Device> device);

  const std::shared_ptr<cuda::Device>& device() const noexcept { return device_; }
  cuda::StreamHandle stream() const noexcept { return stream_.handle(); }
  /// Fills fresh device memory with zeros: kernels keep counters in their scratch.
  void clear(void* data, std::size_t bytes);
  /// Fills in the pointers of `spec` and runs it: plain launches the first time, the graph captured behind them from then on. Runs of one
  /// Context on different streams follow each other.
  Status run(Specialisation& spec, const plan::Program& program, const CudaCall& call) noexcept;
  /// One run by plain launches, and the same as a graph for the caller to replay. All of the call's pointers are the device's, and no step is the host's. For
  /// the builder, which compares kernels in the whole run.
  Status record(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::Graph& graph) noexcept;
  /// Waits for a run that is under way on a caller's stream.
  void settle() noexcept;
  /// The host's copy of an output that the caller gave no memory for.
  const void* host_output(std::size_t index) const noexcept { return index < host_outputs_.size() ? host_outputs_[index].data() : nullptr; }
  /// Bytes from the device, for inspection.
  std::vector<std::byte> fetch(const void* data, std::size_t bytes) const;
  /// Replays so far that went through a graph.
  std::int64_t graph_runs() const noexcept { return graph_runs_; }

 private:
  struct Captured {
    std::uint64_t version = 0;          // of the specialisation
    std::vector<const void*> pointers;  // arena, inputs, outputs
    cuda::Graph graph;
  };

  Status enqueue(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream, bool& touches_host) noexcept;
  Status place(Specialisation& spec, const CudaCall& call, cuda::StreamHandle stream, bool& touches_host);
  Status stage(Specialisation& spec, const CudaCall& call, cuda::StreamHandle stream);
  Status give_outputs(const Specialisation& spec, const CudaCall& call, cuda::StreamHandle stream, bool& touches_host);
  /// Events between the steps: none, recorded as they are launched, or nodes of the graph that is captured.
  enum class Marks { kNone, kRecorded, kInGraph };
  Status launch_all(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream, Marks marks = Marks::kNone) noexcept;
  Status launch_or_replay(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream) noexcept;
  Status run_on_host(Specialisation& spec, const BoundStep& step, const CudaCall& call, cuda::StreamHandle stream);
  Status time_steps(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream);
  static bool stands(const Captured& captured, const Specialisation& spec, const CudaCall& call) noexcept;
  Captured* find(const Specialisation& spec, const CudaCall& call) noexcept;
  Status capture(Specialisation& spec, const plan::Program& program, const CudaCall& call, Marks marks, Captured& captured) noexcept;

  std::shared_ptr<cuda::Device> device_;
  cuda::Stream stream_;
  std::vector<cuda::Block> staged_inputs_, host_outputs_;
  std::vector<char> on_device_;   // of the call's outputs: given in the device's memory
  std::vector<Captured> graphs_;  // most recently used first
  Captured timed_;                // with an event between every two steps
  std::vector<cuda::Event> events_;
  cuda::Event done_;                      // of the last run that was not waited for
  cuda::StreamHandle pending_ = nullptr;  // the stream that it is on
  std::int64_t graph_runs_ = 0;
};

}  // namespace lathe::runtime
