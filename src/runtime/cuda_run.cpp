// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cuda_run.h.

#include "runtime/cuda_run.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/log.h"
#include "base/thread_pool.h"
#include "plan/shape_program.h"
#include "runtime/context.h"

namespace lathe::runtime {
namespace {

constexpr std::size_t kMaxGraphs = 16;
constexpr std::size_t kLeastFetchedAhead = 32u << 10;
constexpr std::size_t kMostFetchedAhead = 12u << 20;  ///< bytes of a step's weights: a quarter of an H100's second-level cache
// Sets of the caller's addresses that one shape has graphs for. A caller whose addresses keep changing has its tensors copied on the device
// instead: microseconds, where making a graph anew takes milliseconds.
constexpr std::ptrdiff_t kDirectGraphs = 4;

const void* address(const Ref& ref, const Specialisation& spec, std::byte* arena) noexcept {
  switch (ref.kind) {
    case Ref::kArena: return arena + ref.offset;
    case Ref::kConstant: return ref.constant;
    case Ref::kInput: return static_cast<const std::byte*>(spec.input_pointers[static_cast<std::size_t>(ref.index)]) + ref.offset;
    case Ref::kOutput: return static_cast<const std::byte*>(spec.output_pointers[static_cast<std::size_t>(ref.index)]) + ref.offset;
    case Ref::kNone: break;
  }
  return nullptr;
}

/// The first address in `memory` (64 bytes longer than what it holds) that any CPU kernel can take.
std::byte* aligned(std::vector<std::byte>& memory) noexcept {
  const auto at = reinterpret_cast<std::uintptr_t>(memory.data());
  return memory.data() + (64 - at % 64) % 64;
}

}  // namespace

CudaRun::CudaRun(std::shared_ptr<cuda::Device> device) : device_(std::move(device)), stream_(device_), done_(device_, false) {}

void CudaRun::clear(void* data, std::size_t bytes) {
  const cuda::Current current(*device_);
  device_->driver().require(device_->driver().fill_bytes(cuda::address_of(data), 0, bytes, stream_.handle()), "cuMemsetD8Async");
  if (const Status status = stream_.synchronize(); !status) throw Error(status.code(), std::string(status.message()));
}

void CudaRun::settle() noexcept {
  if (!pending_) return;
  const cuda::Current current(*device_);
  if (const Status status = done_.synchronize(); !status) log(LogLevel::kWarning, "the last run cannot be waited for: {}", status.message());
  pending_ = nullptr;
}

std::vector<std::byte> CudaRun::fetch(const void* data, std::size_t bytes) const {
  std::vector<std::byte> copy(bytes);
  const cuda::Current current(*device_);
  device_->driver().require(device_->driver().copy_to_host(copy.data(), cuda::address_of(data), bytes, stream_.handle()), "cuMemcpyDtoHAsync");
  if (const Status status = stream_.synchronize(); !status) throw Error(status.code(), std::string(status.message()));
  return copy;
}

Status CudaRun::run(Specialisation& spec, const plan::Program& program, const CudaCall& call) noexcept {
  const cuda::Current current(*device_);
  if (const Status status = current.status(); !status) return status;
  const auto stream = call.stream ? static_cast<cuda::StreamHandle>(call.stream) : stream_.handle();
  // Activations are shared by all runs: one on another stream waits for the last.
  if (pending_ && pending_ != stream)
    if (const Status status = done_.hold(stream); !status) return status;
  pending_ = nullptr;
  bool touches_host = false;
  if (const Status status = enqueue(spec, program, call, stream, touches_host); !status) {
    // What was enqueued before the failure still uses the activations and the caller's tensors.
    device_->driver().stream_synchronize(stream);
    return status;
  }
  // A caller that keeps everything on the device and gave a stream orders its own work behind ours.
  if (call.stream && !touches_host) {
    pending_ = stream;
    return done_.record(stream);
  }
  return device_->driver().status(device_->driver().stream_synchronize(stream), "running the steps");
}

Status CudaRun::record(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::Graph& graph) noexcept {
  const cuda::Current current(*device_);
  if (const Status status = current.status(); !status) return status;
  std::copy(call.inputs.begin(), call.inputs.end(), spec.input_pointers.begin());
  std::copy(call.outputs.begin(), call.outputs.end(), spec.output_pointers.begin());
  const Status launched = launch_all(spec, program, call, stream_.handle());
  const Status over = device_->driver().status(device_->driver().stream_synchronize(stream_.handle()), "running the steps");
  if (!launched) return launched;
  if (!over) return over;
  return cuda::Graph::capture(
      device_, stream_.handle(), [&] { return launch_all(spec, program, call, stream_.handle()); }, graph);
}

Status CudaRun::enqueue(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream, bool& touches_host) noexcept try {
  if (const Status status = place(spec, call, stream, touches_host); !status) return status;
  if (call.times) {
    if (const Status status = time_steps(spec, program, call, stream); !status) return status;
  } else if (spec.has_host_steps()) {
    if (const Status status = launch_all(spec, program, call, stream); !status) return status;
  } else if (const Status status = launch_or_replay(spec, program, call, stream); !status) {
    return status;
  }
  return give_outputs(spec, call, stream, touches_host);
} catch (const Error& error) {
  return {error.code(), error.what()};
} catch (const std::exception& error) {
  return {Code::kOutOfMemory, error.what()};
}

/// Where each input and output lies for this run; what the host keeps is brought to the device.
Status CudaRun::place(Specialisation& spec, const CudaCall& call, cuda::StreamHandle stream, bool& touches_host) {
  const cuda::Driver& driver = device_->driver();
  staged_inputs_.resize(call.inputs.size());
  host_outputs_.resize(call.own_outputs.size());
  on_device_.resize(call.own_outputs.size());
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    spec.input_pointers[i] = call.inputs[i];
    if (call.input_bytes[i] == 0 || cuda::is_device_memory(*device_, call.inputs[i])) continue;
    touches_host = true;
    if (staged_inputs_[i].bytes() < call.input_bytes[i]) staged_inputs_[i] = cuda::Block(device_, call.input_bytes[i]);
    spec.input_pointers[i] = staged_inputs_[i].data();
    if (const auto r = driver.copy_to_device(staged_inputs_[i].address(), call.inputs[i], call.input_bytes[i], stream); r != cuda::kSuccess)
      return driver.status(r, "cuMemcpyHtoDAsync of an input");
  }
  for (std::size_t i = 0; i < call.own_outputs.size(); ++i) {
    on_device_[i] = i < call.outputs.size() && call.outputs[i] && cuda::is_device_memory(*device_, call.outputs[i]);
    spec.output_pointers[i] = on_device_[i] ? call.outputs[i] : call.own_outputs[i];
  }
  return Status::ok();
}

/// The Context's own memory for all inputs and outputs, so that one graph serves every caller's addresses.
Status CudaRun::stage(Specialisation& spec, const CudaCall& call, cuda::StreamHandle stream) {
  const cuda::Driver& driver = device_->driver();
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    if (call.input_bytes[i] == 0 || spec.input_pointers[i] != call.inputs[i]) continue;
    if (staged_inputs_[i].bytes() < call.input_bytes[i]) staged_inputs_[i] = cuda::Block(device_, call.input_bytes[i]);
    spec.input_pointers[i] = staged_inputs_[i].data();
    if (const auto r = driver.copy_on_device(staged_inputs_[i].address(), cuda::address_of(call.inputs[i]), call.input_bytes[i], stream); r != cuda::kSuccess)
      return driver.status(r, "cuMemcpyDtoDAsync of an input");
  }
  for (std::size_t i = 0; i < call.own_outputs.size(); ++i) spec.output_pointers[i] = call.own_outputs[i];
  return Status::ok();
}

/// Outputs that the steps did not write where the caller wants them.
Status CudaRun::give_outputs(const Specialisation& spec, const CudaCall& call, cuda::StreamHandle stream, bool& touches_host) {
  const cuda::Driver& driver = device_->driver();
  for (std::size_t i = 0; i < call.own_outputs.size(); ++i) {
    if (call.output_bytes[i] == 0) continue;
    void* to = i < call.outputs.size() ? call.outputs[i] : nullptr;
    if (on_device_[i]) {
      if (spec.output_pointers[i] == to) continue;
      if (const auto r = driver.copy_on_device(cuda::address_of(to), cuda::address_of(spec.output_pointers[i]), call.output_bytes[i], stream);
          r != cuda::kSuccess)
        return driver.status(r, "cuMemcpyDtoDAsync of an output");
      continue;
    }
    touches_host = true;
    if (!to) {
      if (host_outputs_[i].bytes() < call.output_bytes[i]) host_outputs_[i] = cuda::Block(device_, call.output_bytes[i], MemorySpace::kPinned);
      to = host_outputs_[i].data();
    }
    if (const auto r = driver.copy_to_host(to, cuda::address_of(spec.output_pointers[i]), call.output_bytes[i], stream); r != cuda::kSuccess)
      return driver.status(r, "cuMemcpyDtoHAsync of an output");
  }
  return Status::ok();
}

Status CudaRun::launch_or_replay(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream) noexcept {
  Captured* captured = find(spec, call);
  if (!captured && std::count_if(graphs_.begin(), graphs_.end(), [&](const Captured& c) { return c.version == spec.version(); }) >= kDirectGraphs) {
    if (const Status status = stage(spec, call, stream); !status) return status;
    captured = find(spec, call);
  }
  if (captured) {
    ++graph_runs_;
    return captured->graph.launch(stream);
  }
  if (const Status status = launch_all(spec, program, call, stream); !status) return status;
  // A graph that cannot be made is no failure: the launches stay plain.
  Captured made;
  if (const Status status = capture(spec, program, call, Marks::kNone, made); !status) {
    log(LogLevel::kWarning, "no CUDA graph could be made: {}", status.message());
    return Status::ok();
  }
  if (graphs_.size() >= kMaxGraphs) graphs_.pop_back();
  graphs_.insert(graphs_.begin(), std::move(made));
  return Status::ok();
}

Status CudaRun::launch_all(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream, Marks marks) noexcept {
  const auto mark = [&](std::size_t at) {
    return marks == Marks::kNone ? Status::ok() : marks == Marks::kInGraph ? events_[at].record_in_graph(stream) : events_[at].record(stream);
  };
  if (const Status status = mark(0); !status) return status;
  // A step's kernel asks the cache for the weights behind it: at small batches they come from memory while the multiprocessors wait.
  const auto weighs = [&](std::size_t s) {
    const BoundStep& step = spec.steps()[s];
    return !step.device_weights.empty() && step.weights[0].size() >= kLeastFetchedAhead;
  };
  std::size_t ahead = 0;
  for (std::size_t s = 0; s < spec.steps().size(); ++s) {
    const BoundStep& step = spec.steps()[s];
    for (ahead = std::max(ahead, s + 1); ahead < spec.steps().size() && !weighs(ahead);) ++ahead;
    plan::KernelIo io{spec.in.data(), spec.out.data(), call.arena + spec.scratch_offset(), nullptr, stream};
    if (ahead < spec.steps().size()) {
      io.next_weights = spec.steps()[ahead].device_weights[0];
      io.next_bytes = std::min(spec.steps()[ahead].weights[0].size(), kMostFetchedAhead);
    }
    Status status;
    if (step.kernel) {
      if (step.on_host) {
        status = run_on_host(spec, step, call, stream);
      } else {
        for (std::size_t i = 0; i < step.inputs.size(); ++i) spec.in[i] = address(step.inputs[i], spec, call.arena);
        for (std::size_t i = 0; i < step.outputs.size(); ++i) spec.out[i] = const_cast<void*>(address(step.outputs[i], spec, call.arena));
        status = step.kernel->run(io);
      }
    }
    if (status) status = mark(s + 1);
    if (!status) {
      char text[254];
      const auto end = fmt::format_to_n(text, sizeof text, "step '{}': {}", program.steps[s].label, status.message());
      return {status.code(), std::string_view(text, std::min(end.size, sizeof text))};
    }
  }
  return mark(spec.steps().size() + 1);  // behind an event alone: what an event takes
}

/// One run as it is, between two events, and one with an event between every two steps. Those stand in a graph, so that no step waits for the
/// host's next call; host-op steps cannot, there the host's time counts.
Status CudaRun::time_steps(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream) {
  RunTimes& times = *call.times;
  const std::size_t steps = spec.steps().size();
  while (events_.size() < steps + 4) events_.emplace_back(device_);
  const cuda::Event &start = events_[steps + 2], &stop = events_[steps + 3];
  const auto once = [&] { return spec.has_host_steps() ? launch_all(spec, program, call, stream) : launch_or_replay(spec, program, call, stream); };
  const std::int64_t replays = graph_runs_;
  if (const Status status = start.record(stream); !status) return status;
  if (const Status status = once(); !status) return status;
  if (const Status status = stop.record(stream); !status) return status;
  const bool replayed = graph_runs_ > replays;

  Marks marks = Marks::kRecorded;
  if (!spec.has_host_steps()) {
    if (!timed_.graph || !stands(timed_, spec, call)) {
      Captured made;
      if (const Status status = capture(spec, program, call, Marks::kInGraph, made); !status)
        log(LogLevel::kWarning, "steps are timed without a CUDA graph: {}", status.message());
      timed_ = std::move(made);
    }
    if (timed_.graph) marks = Marks::kInGraph;
  }
  if (const Status status = marks == Marks::kInGraph ? timed_.graph.launch(stream) : launch_all(spec, program, call, stream, marks); !status) return status;
  if (const auto r = device_->driver().stream_synchronize(stream); r != cuda::kSuccess) return device_->driver().status(r, "running the steps");
  const double event = std::max(0.0, events_[steps + 1].seconds_since(events_[steps]));
  for (std::size_t s = 0; s < steps; ++s) {
    times.steps[s].seconds += std::max(0.0, events_[s + 1].seconds_since(events_[s]) - event);
    ++times.steps[s].runs;
  }
  // The first run of a shape launches its kernels one by one and makes the graph: not what later runs take.
  if (replayed || graphs_.empty()) {
    times.whole.seconds += std::max(0.0, stop.seconds_since(start));
    ++times.whole.runs;
  }
  times.replayed = replayed;
  return Status::ok();
}

/// What the step reads comes to the host, what it writes goes back. Only the span that a tensor's elements lie in moves; other tensors
/// between them are brought along unchanged.
Status CudaRun::run_on_host(Specialisation& spec, const BoundStep& step, const CudaCall& call, cuda::StreamHandle stream) {
  const cuda::Driver& driver = device_->driver();
  std::vector<std::vector<std::byte>> copies(step.inputs.size() + step.outputs.size());
  const auto bring = [&](const Ref& ref, const plan::TensorDesc& desc, std::vector<std::byte>& copy) -> Status {
    if (desc.dtype == DType::kUndefined) return Status::ok();
    copy.resize(dtype_bytes(desc.dtype, plan::span_elements(desc)) + 64);
    const std::size_t bytes = copy.size() - 64;
    return bytes == 0 ? Status::ok()
                      : driver.status(driver.copy_to_host(aligned(copy), cuda::address_of(address(ref, spec, call.arena)), bytes, stream),
                                      "cuMemcpyDtoHAsync for a host step");
  };
  for (std::size_t i = 0; i < step.inputs.size(); ++i) {
    spec.in[i] = step.constants[i];
    if (step.constants[i] || step.input_descs[i].dtype == DType::kUndefined) continue;
    if (const Status status = bring(step.inputs[i], step.input_descs[i], copies[i]); !status) return status;
    spec.in[i] = aligned(copies[i]);
  }
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    spec.out[i] = nullptr;
    if (step.output_descs[i].dtype == DType::kUndefined) continue;
    auto& copy = copies[step.inputs.size() + i];
    if (const Status status = bring(step.outputs[i], step.output_descs[i], copy); !status) return status;
    spec.out[i] = aligned(copy);
  }
  if (const Status status = driver.status(driver.stream_synchronize(stream), "cuStreamSynchronize before a host step"); !status) return status;
  std::vector<std::byte> scratch(step.kernel->scratch_bytes() + 64);
  if (const Status status = step.kernel->run({spec.in.data(), spec.out.data(), aligned(scratch), &default_pool()}); !status) return status;
  for (std::size_t i = 0; i < step.outputs.size(); ++i) {
    auto& copy = copies[step.inputs.size() + i];
    if (copy.size() <= 64) continue;
    if (const auto r = driver.copy_to_device(cuda::address_of(address(step.outputs[i], spec, call.arena)), aligned(copy), copy.size() - 64, stream);
        r != cuda::kSuccess)
      return driver.status(r, "cuMemcpyHtoDAsync behind a host step");
  }
  return driver.status(driver.stream_synchronize(stream), "cuStreamSynchronize behind a host step");
}

bool CudaRun::stands(const Captured& c, const Specialisation& spec, const CudaCall& call) noexcept {
  if (c.version != spec.version() || c.pointers[0] != call.arena) return false;
  const auto outputs = c.pointers.begin() + 1 + static_cast<std::ptrdiff_t>(spec.input_pointers.size());
  return std::equal(spec.input_pointers.begin(), spec.input_pointers.end(), c.pointers.begin() + 1) &&
         std::equal(spec.output_pointers.begin(), spec.output_pointers.end(), outputs);
}

CudaRun::Captured* CudaRun::find(const Specialisation& spec, const CudaCall& call) noexcept {
  for (std::size_t g = 0; g < graphs_.size(); ++g) {
    if (!stands(graphs_[g], spec, call)) continue;
    for (std::size_t i = g; i > 0; --i) std::swap(graphs_[i], graphs_[i - 1]);
    return &graphs_.front();
  }
  return nullptr;
}

/// Behind the plain launches of a first run: nothing is loaded any more.
Status CudaRun::capture(Specialisation& spec, const plan::Program& program, const CudaCall& call, Marks marks, Captured& captured) noexcept {
  captured.version = spec.version();
  captured.pointers.push_back(call.arena);
  captured.pointers.insert(captured.pointers.end(), spec.input_pointers.begin(), spec.input_pointers.end());
  captured.pointers.insert(captured.pointers.end(), spec.output_pointers.begin(), spec.output_pointers.end());
  return cuda::Graph::capture(
      device_, stream_.handle(), [&] { return launch_all(spec, program, call, stream_.handle(), marks); }, captured.graph);
}

}  // namespace lathe::runtime
