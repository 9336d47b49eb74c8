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

CudaRun::CudaRun(std::shared_ptr<cuda::Device> device) : device_(std::move(device)), stream_(device_) {}

void CudaRun::clear(void* data, std::size_t bytes) {
  const cuda::Current current(*device_);
  device_->driver().require(device_->driver().fill_bytes(cuda::address_of(data), 0, bytes, stream_.handle()), "cuMemsetD8Async");
  if (const Status status = stream_.synchronize(); !status) throw Error(status.code(), std::string(status.message()));
}

std::vector<std::byte> CudaRun::fetch(const void* data, std::size_t bytes) const {
  std::vector<std::byte> copy(bytes);
  const cuda::Current current(*device_);
  device_->driver().require(device_->driver().copy_to_host(copy.data(), cuda::address_of(data), bytes, stream_.handle()), "cuMemcpyDtoHAsync");
  if (const Status status = stream_.synchronize(); !status) throw Error(status.code(), std::string(status.message()));
  return copy;
}

Status CudaRun::run(Specialisation& spec, const plan::Program& program, const CudaCall& call) noexcept try {
  const cuda::Current current(*device_);
  if (const Status status = current.status(); !status) return status;
  const cuda::Driver& driver = device_->driver();
  const auto stream = call.stream ? static_cast<cuda::StreamHandle>(call.stream) : stream_.handle();
  staged_inputs_.resize(call.inputs.size());
  host_outputs_.resize(call.own_outputs.size());
  bool touches_host = false;
  for (std::size_t i = 0; i < call.inputs.size(); ++i) {
    spec.input_pointers[i] = call.inputs[i];
    if (call.input_bytes[i] == 0 || cuda::is_device_memory(*device_, call.inputs[i])) continue;
    touches_host = true;
    if (staged_inputs_[i].bytes() < call.input_bytes[i]) staged_inputs_[i] = cuda::Block(device_, call.input_bytes[i]);
    spec.input_pointers[i] = staged_inputs_[i].data();
    if (const auto r = driver.copy_to_device(staged_inputs_[i].address(), call.inputs[i], call.input_bytes[i], stream); r != cuda::kSuccess)
      return driver.status(r, "cuMemcpyHtoDAsync of an input");
  }
  const auto given_on_device = [&](std::size_t i) { return i < call.outputs.size() && call.outputs[i] && cuda::is_device_memory(*device_, call.outputs[i]); };
  for (std::size_t i = 0; i < call.own_outputs.size(); ++i) spec.output_pointers[i] = given_on_device(i) ? call.outputs[i] : call.own_outputs[i];

  if (call.times.empty() && !spec.has_host_steps()) {
    if (Captured* captured = find(spec, call)) {
      ++graph_runs_;
      if (const Status status = captured->graph.launch(stream); !status) return status;
    } else {
      if (const Status status = launch_all(spec, program, call, stream); !status) return status;
      capture(spec, program, call);
    }
  } else if (const Status status = launch_all(spec, program, call, stream); !status) {
    return status;
  }

  for (std::size_t i = 0; i < call.own_outputs.size(); ++i) {
    if (given_on_device(i) || call.output_bytes[i] == 0) continue;
    touches_host = true;
    void* to = i < call.outputs.size() ? call.outputs[i] : nullptr;
    if (!to) {
      if (host_outputs_[i].bytes() < call.output_bytes[i]) host_outputs_[i] = cuda::Block(device_, call.output_bytes[i], MemorySpace::kPinned);
      to = host_outputs_[i].data();
    }
    if (const auto r = driver.copy_to_host(to, cuda::address_of(spec.output_pointers[i]), call.output_bytes[i], stream); r != cuda::kSuccess)
      return driver.status(r, "cuMemcpyDtoHAsync of an output");
  }
  // A caller that keeps everything on the device and gave a stream orders its own work behind ours.
  if (call.stream && !touches_host) return Status::ok();
  return driver.status(driver.stream_synchronize(stream), "running the steps");
} catch (const Error& error) {
  return {error.code(), error.what()};
} catch (const std::exception& error) {
  return {Code::kOutOfMemory, error.what()};
}

Status CudaRun::launch_all(Specialisation& spec, const plan::Program& program, const CudaCall& call, cuda::StreamHandle stream) noexcept {
  const bool timed = !call.times.empty();
  if (timed)
    while (events_.size() <= spec.steps().size()) events_.emplace_back(device_);
  if (timed)
    if (const Status status = events_[0].record(stream); !status) return status;
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
    if (status && timed) status = events_[s + 1].record(stream);
    if (!status) {
      char text[254];
      const auto end = fmt::format_to_n(text, sizeof text, "step '{}': {}", program.steps[s].label, status.message());
      return {status.code(), std::string_view(text, std::min(end.size, sizeof text))};
    }
  }
  if (!timed) return Status::ok();
  if (const Status status = events_[spec.steps().size()].synchronize(); !status) return status;
  for (std::size_t s = 0; s < spec.steps().size(); ++s) {
    call.times[s].seconds += std::max(0.0, events_[s + 1].seconds_since(events_[s]));
    ++call.times[s].runs;
  }
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

CudaRun::Captured* CudaRun::find(const Specialisation& spec, const CudaCall& call) noexcept {
  for (std::size_t g = 0; g < graphs_.size(); ++g) {
    const Captured& c = graphs_[g];
    if (c.version != spec.version() || c.pointers[0] != call.arena) continue;
    const std::size_t inputs = spec.input_pointers.size();
    if (!std::equal(spec.input_pointers.begin(), spec.input_pointers.end(), c.pointers.begin() + 1)) continue;
    if (!std::equal(spec.output_pointers.begin(), spec.output_pointers.end(), c.pointers.begin() + 1 + static_cast<std::ptrdiff_t>(inputs))) continue;
    for (std::size_t i = g; i > 0; --i) std::swap(graphs_[i], graphs_[i - 1]);
    return &graphs_.front();
  }
  return nullptr;
}

/// Behind the plain launches of a first run. A graph that cannot be made is no failure: the launches stay plain.
void CudaRun::capture(Specialisation& spec, const plan::Program& program, const CudaCall& call) noexcept {
  Captured captured;
  captured.version = spec.version();
  captured.pointers.push_back(call.arena);
  captured.pointers.insert(captured.pointers.end(), spec.input_pointers.begin(), spec.input_pointers.end());
  captured.pointers.insert(captured.pointers.end(), spec.output_pointers.begin(), spec.output_pointers.end());
  const Status status = cuda::Graph::capture(
      device_, stream_.handle(), [&] { return launch_all(spec, program, call, stream_.handle()); }, captured.graph);
  if (!status) {
    log(LogLevel::kWarning, "no CUDA graph could be made: {}", status.message());
    return;
  }
  if (graphs_.size() >= kMaxGraphs) graphs_.pop_back();
  graphs_.insert(graphs_.begin(), std::move(captured));
}

}  // namespace lathe::runtime
