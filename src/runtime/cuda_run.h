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

struct StepTime;

/// Pointers of one call. Where the caller's are the device's own memory they are used as they are.
struct CudaCall {
  std::span<const void* const> inputs;  ///< as given
  std::span<void* const> outputs;       ///< as given; nullptr: stays in the Context
  std::span<const std::size_t> input_bytes, output_bytes;
  std::span<void* const> own_outputs;  ///< device memory for those that are not given there
  std::byte* arena = nullptr;
  void* stream = nullptr;     ///< the caller's; nullptr: the Context's own, and the call returns when all is done
  std::span<StepTime> times;  ///< not empty: every step is timed
};

class CudaRun {
 public:
  explicit CudaRun(std::shared_ptr<cuda::Device> device);

  const std::shared_ptr<cuda::Device>& device() const noexcept { return device_; }
  /// Fills fresh device memory with zeros: kernels keep counters in their scratch.
  void clear(void* data, std::size_t bytes);
  /// Fills in the pointers of `spec` and runs it: plain launches the first time, the graph captured behind them from then on.
  Status run(Specialisation& spec, const plan::Program& program, const CudaCall& call) noexcept;
  /// The host's copy of an output that the caller gave no memory for.
  const void* host_output(std::size_t index) const noexcept { return host_outputs_[index].data(); }
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

  Status launch_all(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream) noexcept;
  Status run_on_host(Specialisation& spec, const BoundStep& step, const CudaCall& call, cuda::StreamHandle stream);
  Captured* find(const Specialisation& spec, const CudaCall& call) noexcept;
  void capture(Specialisation& spec, const plan::Program& program, const CudaCall& call) noexcept;

  std::shared_ptr<cuda::Device> device_;
  cuda::Stream stream_;
  std::vector<cuda::Block> staged_inputs_, host_outputs_;
  std::vector<Captured> graphs_;  // most recently used first
  std::vector<cuda::Event> events_;
  std::int64_t graph_runs_ = 0;
};

}  // namespace lathe::runtime
