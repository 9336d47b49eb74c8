// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A libcuda for tests on machines without a GPU. It runs no kernel, but keeps memory (copies and fills work), and checks every call:
// handles, lifetimes, extents of copies, a current context, launch limits, pointers inside the parameters of launches, capture. Device
// pointers carry a tag that makes them useless on the host, so host code that dereferences one dies at once. A wrong call is
// recorded (fake_cuda_violations) and answered with an error, as the driver would at best.

#include "fake_cuda.h"

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <mutex>
#include <new>
#include <set>
#include <string>
#include <vector>

#include "backend/cuda/driver.h"
#include "backend/cuda/kernels/gemm_params.h"
#include "cubin.h"

#define FAKE extern "C" __attribute__((visibility("default"))) Result

namespace {

using namespace lathe::cuda;

constexpr std::uint64_t kTag = std::uint64_t{1} << 55;  // no address of the host has it
constexpr int kContextDestroyed = 709, kInvalidContext = 201, kInvalidHandle = 400, kCaptureInvalidated = 901, kCaptureUnmatched = 903;
constexpr std::size_t kGuard = 256;
constexpr unsigned char kGuardByte = 0xA5;

struct Memory {
  std::size_t bytes = 0;
  void* real = nullptr;  // guard, block, guard
};
struct FakeFunction {
  std::string name;
  unsigned parameter_bytes = 0;
  int dynamic_shared = 49152;
  struct FakeModule* module = nullptr;
};
struct FakeModule {
  std::map<std::string, FakeFunction> functions;
};
struct FakeEvent {
  bool timing = true;
  long at = -1;
};
struct KernelTicks {
  long alone = 0, among = 0;
};
struct FakeStream {
  bool capturing = false, broken = false;
  std::vector<std::string> kernels;  // captured
  std::size_t captured = 0;
  long ticks = 0;                                   // of what was captured
  std::vector<std::pair<FakeEvent*, long>> events;  // nodes of the capture that record, and the ticks before
};
struct FakeGraph {
  std::size_t nodes = 0;
  long ticks = 0;
  std::vector<std::pair<FakeEvent*, long>> events;
};

struct State {
  std::mutex mutex;
  int retained = 0;
  char context = 0;  // its address is the handle
  std::size_t limit = std::size_t{1} << 30, used = 0;
  unsigned char fill = kGuardByte;
  std::map<DevicePointer, Memory> blocks;
  std::map<void*, std::size_t> pinned;
  std::set<FakeStream*> streams;
  std::set<FakeEvent*> events;
  std::set<FakeModule*> modules;
  std::set<FakeGraph*> graphs, execs;
  std::size_t launches = 0, graph_launches = 0, captured = 0;
  long clock = 0, launch_ticks = 0, slow_ticks = 0;
  std::size_t records = 0;
  std::map<std::string, KernelTicks> kernel_ticks;  // by part of a name
  std::string violations;
  std::map<std::string, std::pair<int, int>> failures;
  std::map<std::string, std::size_t> calls;
  std::map<const void*, std::size_t> waits;
  std::map<DevicePointer, std::size_t> launched_with;
};

/// Streams that are there without being made: the legacy default stream and the thread's.
bool is_default_stream(const void* stream) { return reinterpret_cast<std::uintptr_t>(stream) == 1 || reinterpret_cast<std::uintptr_t>(stream) == 2; }

State& state() {
  static auto* s = new State;  // outlives every static of the tests
  return *s;
}
thread_local std::vector<void*> context_stack;

KernelTicks ticks_of(const std::string& kernel) {
  const std::pair<const std::string, KernelTicks>* best = nullptr;
  for (const auto& entry : state().kernel_ticks)
    if (kernel.find(entry.first) != std::string::npos && (!best || entry.first.size() > best->first.size())) best = &entry;
  return best ? best->second : KernelTicks{};
}

/// One call: holds the lock, answers planned failures, records what was wrong.
class Call {
 public:
  explicit Call(const char* name, bool needs_context = true) : name_(name), lock_(state().mutex) {
    ++state().calls[name];
    if (auto it = state().failures.find(name); it != state().failures.end() && --it->second.first == 0) {
      planned_ = it->second.second;
      state().failures.erase(it);
    }
    if (planned_ == 0 && needs_context && (context_stack.empty() || context_stack.back() != &state().context))
      planned_ = wrong("no context is current", kInvalidContext);
    if (planned_ == 0 && needs_context && state().retained == 0) planned_ = wrong("the context was released", kContextDestroyed);
  }
  explicit operator bool() const { return planned_ == 0; }
  Result result() const { return planned_; }
  Result wrong(const std::string& what, Result result = kErrorInvalidValue) {
    state().violations += std::string(name_) + ": " + what + "\n";
    return result;
  }
  /// Every byte of [pointer, pointer + bytes) in one live block.
  bool covers(DevicePointer pointer, std::size_t bytes) {
    auto it = state().blocks.upper_bound(pointer);
    if (it == state().blocks.begin()) return false;
    --it;
    return pointer >= it->first && pointer + bytes <= it->first + it->second.bytes;
  }
  Result use_stream(StreamHandle handle) {
    if (is_default_stream(handle)) return kSuccess;
    auto* stream = reinterpret_cast<FakeStream*>(handle);
    if (stream && state().streams.count(stream) == 0) return wrong("no such stream", kInvalidHandle);
    if (stream && stream->capturing) {
      ++stream->captured;
      ++state().captured;
    }
    return kSuccess;
  }
  /// Calls that a capturing thread must not make.
  Result forbid_capture() {
    for (const FakeStream* stream : state().streams)
      if (stream->capturing) return wrong("not allowed while a stream captures", kCaptureInvalidated);
    return kSuccess;
  }

 private:
  const char* name_;
  std::unique_lock<std::mutex> lock_;
  Result planned_ = 0;
};

void* real_of(DevicePointer pointer) { return reinterpret_cast<void*>(pointer & ~kTag); }

Result allocate(Call& call, DevicePointer* pointer, std::size_t bytes) {
  if (!pointer || bytes == 0) return call.wrong("no bytes or no place for the pointer");
  State& s = state();
  if (s.used + bytes > s.limit) return kErrorOutOfMemory;
  void* real = std::aligned_alloc(256, (bytes + 2 * kGuard + 255) / 256 * 256);
  if (!real) return kErrorOutOfMemory;
  std::memset(real, kGuardByte, bytes + 2 * kGuard);
  std::memset(static_cast<std::byte*>(real) + kGuard, s.fill, bytes);
  *pointer = (reinterpret_cast<std::uint64_t>(real) + kGuard) | kTag;
  s.blocks[*pointer] = {bytes, real};
  s.used += bytes;
  return kSuccess;
}

Result release(Call& call, DevicePointer pointer) {
  State& s = state();
  const auto it = s.blocks.find(pointer);
  if (it == s.blocks.end()) return call.wrong("not the start of a live block");
  const auto* bytes = static_cast<const unsigned char*>(it->second.real);
  for (std::size_t i = 0; i < kGuard; ++i)
    if (bytes[i] != kGuardByte || bytes[kGuard + it->second.bytes + i] != kGuardByte) {
      call.wrong("something was written beside the block");
      break;
    }
  s.used -= it->second.bytes;
  std::free(it->second.real);
  s.blocks.erase(it);
  return kSuccess;
}

}  // namespace

FAKE cuInit(unsigned flags) {
  Call call("cuInit", false);
  if (!call) return call.result();
  return flags == 0 ? kSuccess : call.wrong("flags must be 0");
}
FAKE cuDriverGetVersion(int* version) { return *version = 13000, kSuccess; }
FAKE cuGetErrorName(Result result, const char** text) {
  *text = result == kErrorOutOfMemory ? "CUDA_ERROR_OUT_OF_MEMORY" : result == kErrorNoDevice ? "CUDA_ERROR_NO_DEVICE" : "CUDA_ERROR_OTHER";
  return kSuccess;
}
FAKE cuGetErrorString(Result result, const char** text) {
  *text = result == kErrorOutOfMemory ? "out of memory" : result == kErrorNoDevice ? "no device" : "some error of the fake driver";
  return kSuccess;
}
FAKE cuDeviceGetCount(int* count) {
  Call call("cuDeviceGetCount", false);
  *count = 1;
  return call.result();
}
FAKE cuDeviceGet(DeviceId* id, int ordinal) {
  Call call("cuDeviceGet", false);
  *id = 7;
  return ordinal == 0 ? call.result() : call.wrong("no such ordinal", kErrorInvalidDevice);
}
FAKE cuDeviceGetName(char* name, int bytes, DeviceId id) {
  Call call("cuDeviceGetName", false);
  std::snprintf(name, static_cast<std::size_t>(bytes), "Fake GPU");
  return id == 7 ? call.result() : call.wrong("no such device", kErrorInvalidDevice);
}
FAKE cuDeviceTotalMem_v2(std::size_t* bytes, DeviceId id) {
  Call call("cuDeviceTotalMem", false);
  *bytes = state().limit;
  return id == 7 ? call.result() : call.wrong("no such device", kErrorInvalidDevice);
}
FAKE cuDeviceGetAttribute(int* value, int which, DeviceId id) {
  Call call("cuDeviceGetAttribute", false);
  static const std::map<int, int> values{{kClockRate, 1980000},
                                         {kMultiprocessorCount, 132},
                                         {kMemoryClockRate, 2619000},
                                         {kMemoryBusWidth, 5120},
                                         {kL2CacheBytes, 52428800},
                                         {kMaxThreadsPerMultiprocessor, 2048},
                                         {kComputeCapabilityMajor, 9},
                                         {kComputeCapabilityMinor, 0},
                                         {kMaxSharedMemoryPerMultiprocessor, 233472},
                                         {kMaxSharedMemoryPerBlockOptin, 232448},
                                         {kMemoryPoolsSupported, 1}};
  const auto found = values.find(which);
  if (id != 7 || found == values.end()) return call.wrong("no such device or attribute");
  *value = found->second;
  return call.result();
}
FAKE cuDevicePrimaryCtxRetain(ContextHandle* context, DeviceId id) {
  Call call("cuDevicePrimaryCtxRetain", false);
  if (!call) return call.result();
  if (id != 7) return call.wrong("no such device", kErrorInvalidDevice);
  ++state().retained;
  *context = reinterpret_cast<ContextHandle>(&state().context);
  return kSuccess;
}
FAKE cuDevicePrimaryCtxRelease_v2(DeviceId) {
  Call call("cuDevicePrimaryCtxRelease", false);
  State& s = state();
  if (s.retained == 0) return call.wrong("released more often than retained", kInvalidContext);
  if (--s.retained == 0 && (!s.blocks.empty() || !s.streams.empty() || !s.events.empty() || !s.modules.empty() || !s.graphs.empty() || !s.execs.empty()))
    return call.wrong("the context ends while blocks, streams, events, modules or graphs live");
  return kSuccess;
}
FAKE cuCtxPushCurrent_v2(ContextHandle context) {
  Call call("cuCtxPushCurrent", false);
  if (!call) return call.result();
  if (reinterpret_cast<char*>(context) != &state().context || state().retained == 0) return call.wrong("no such context", kInvalidContext);
  context_stack.push_back(context);
  return kSuccess;
}
FAKE cuCtxPopCurrent_v2(ContextHandle* context) {
  Call call("cuCtxPopCurrent", false);
  if (context_stack.empty()) return call.wrong("nothing was pushed", kInvalidContext);
  if (context) *context = reinterpret_cast<ContextHandle>(context_stack.back());
  context_stack.pop_back();
  return kSuccess;
}
FAKE cuMemGetInfo_v2(std::size_t* free, std::size_t* total) {
  Call call("cuMemGetInfo");
  *total = state().limit;
  *free = state().limit - state().used;
  return call.result();
}
FAKE cuMemAlloc_v2(DevicePointer* pointer, std::size_t bytes) {
  Call call("cuMemAlloc");
  if (!call) return call.result();
  if (const Result r = call.forbid_capture()) return r;
  return allocate(call, pointer, bytes);
}
FAKE cuMemFree_v2(DevicePointer pointer) {
  Call call("cuMemFree");
  return call ? release(call, pointer) : call.result();
}
FAKE cuMemAllocAsync(DevicePointer* pointer, std::size_t bytes, StreamHandle stream) {
  Call call("cuMemAllocAsync");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  return allocate(call, pointer, bytes);
}
FAKE cuMemFreeAsync(DevicePointer pointer, StreamHandle stream) {
  Call call("cuMemFreeAsync");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  return release(call, pointer);
}
FAKE cuMemAllocHost_v2(void** pointer, std::size_t bytes) {
  Call call("cuMemAllocHost");
  if (!call) return call.result();
  if (bytes == 0) return call.wrong("no bytes");
  *pointer = std::malloc(bytes);
  state().pinned[*pointer] = bytes;
  return kSuccess;
}
FAKE cuMemFreeHost(void* pointer) {
  Call call("cuMemFreeHost");
  if (!call) return call.result();
  if (state().pinned.erase(pointer) == 0) return call.wrong("not pinned memory of ours");
  std::free(pointer);
  return kSuccess;
}
FAKE cuPointerGetAttribute(void* value, int which, DevicePointer pointer) {
  Call call("cuPointerGetAttribute", false);
  if (!call.covers(pointer, 1)) return kErrorInvalidValue;  // what the driver says of plain host memory: no fault of the caller
  if (which == kPointerMemoryType) *static_cast<unsigned*>(value) = kMemoryTypeDevice;
  else if (which == kPointerDeviceOrdinal) *static_cast<int*>(value) = 0;
  else return call.wrong("no such attribute");
  return kSuccess;
}
FAKE cuMemcpyHtoDAsync_v2(DevicePointer to, const void* from, std::size_t bytes, StreamHandle stream) {
  Call call("cuMemcpyHtoDAsync");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  if (!from || !call.covers(to, bytes)) return call.wrong("the target is not inside one block");
  std::memcpy(real_of(to), from, bytes);
  return kSuccess;
}
FAKE cuMemcpyDtoHAsync_v2(void* to, DevicePointer from, std::size_t bytes, StreamHandle stream) {
  Call call("cuMemcpyDtoHAsync");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  if (!to || !call.covers(from, bytes)) return call.wrong("the source is not inside one block");
  std::memcpy(to, real_of(from), bytes);
  return kSuccess;
}
FAKE cuMemcpyDtoDAsync_v2(DevicePointer to, DevicePointer from, std::size_t bytes, StreamHandle stream) {
  Call call("cuMemcpyDtoDAsync");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  if (!call.covers(to, bytes) || !call.covers(from, bytes)) return call.wrong("source or target is not inside one block");
  std::memmove(real_of(to), real_of(from), bytes);
  return kSuccess;
}
FAKE cuMemcpy2DAsync_v2(const RowsCopy* copy, StreamHandle stream) {
  Call call("cuMemcpy2DAsync");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  if (copy->from_memory != kMemoryTypeDevice || copy->to_memory != kMemoryTypeDevice) return call.wrong("not from the device to the device");
  if (copy->from_x || copy->from_y || copy->to_x || copy->to_y) return call.wrong("Lathe puts offsets into the pointers");
  constexpr std::size_t kLargestPitch = 0x7fffffff;
  if (copy->bytes > copy->from_pitch || copy->bytes > copy->to_pitch || copy->from_pitch > kLargestPitch || copy->to_pitch > kLargestPitch)
    return call.wrong("no such pitch");
  if (copy->rows == 0 || copy->bytes == 0) return kSuccess;
  if (!call.covers(copy->from, (copy->rows - 1) * copy->from_pitch + copy->bytes) || !call.covers(copy->to, (copy->rows - 1) * copy->to_pitch + copy->bytes))
    return call.wrong("source or target is not inside one block");
  for (std::size_t row = 0; row < copy->rows; ++row)
    std::memmove(real_of(copy->to + row * copy->to_pitch), real_of(copy->from + row * copy->from_pitch), copy->bytes);
  return kSuccess;
}
FAKE cuMemsetD8Async(DevicePointer to, unsigned char value, std::size_t bytes, StreamHandle stream) {
  Call call("cuMemsetD8Async");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  if (!call.covers(to, bytes)) return call.wrong("the target is not inside one block");
  std::memset(real_of(to), value, bytes);
  return kSuccess;
}
FAKE cuStreamCreate(StreamHandle* handle, unsigned flags) {
  Call call("cuStreamCreate");
  if (!call) return call.result();
  if (flags > kStreamNonBlocking) return call.wrong("no such flags");
  auto* stream = new FakeStream;
  state().streams.insert(stream);
  *handle = reinterpret_cast<StreamHandle>(stream);
  return kSuccess;
}
FAKE cuStreamDestroy_v2(StreamHandle handle) {
  Call call("cuStreamDestroy");
  if (!call) return call.result();
  auto* stream = reinterpret_cast<FakeStream*>(handle);
  if (state().streams.erase(stream) == 0) return call.wrong("no such stream", kInvalidHandle);
  if (stream->capturing) call.wrong("it still captures");
  delete stream;
  return kSuccess;
}
FAKE cuStreamSynchronize(StreamHandle handle) {
  Call call("cuStreamSynchronize");
  if (!call) return call.result();
  if (is_default_stream(handle)) return kSuccess;
  auto* stream = reinterpret_cast<FakeStream*>(handle);
  if (state().streams.count(stream) == 0) return call.wrong("no such stream", kInvalidHandle);
  return stream->capturing ? call.wrong("it captures", kCaptureInvalidated) : kSuccess;
}
FAKE cuStreamWaitEvent(StreamHandle stream, EventHandle event, unsigned flags) {
  Call call("cuStreamWaitEvent");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  ++state().waits[stream];
  return flags == 0 && state().events.count(reinterpret_cast<FakeEvent*>(event)) ? kSuccess : call.wrong("no such event", kInvalidHandle);
}
FAKE cuStreamBeginCapture_v2(StreamHandle handle, int mode) {
  Call call("cuStreamBeginCapture");
  if (!call) return call.result();
  auto* stream = reinterpret_cast<FakeStream*>(handle);
  if (state().streams.count(stream) == 0 || mode < 0 || mode > 2) return call.wrong("no such stream or mode", kInvalidHandle);
  if (stream->capturing) return call.wrong("it captures already", kCaptureInvalidated);
  *stream = FakeStream();
  stream->capturing = true;
  return kSuccess;
}
FAKE cuStreamEndCapture(StreamHandle handle, GraphHandle* graph) {
  Call call("cuStreamEndCapture");
  if (!call) return call.result();
  auto* stream = reinterpret_cast<FakeStream*>(handle);
  if (state().streams.count(stream) == 0 || !stream->capturing) return call.wrong("it does not capture", kCaptureUnmatched);
  stream->capturing = false;
  const bool alone = std::set<std::string>(stream->kernels.begin(), stream->kernels.end()).size() <= 1;
  long ticks = stream->ticks;
  for (const std::string& kernel : stream->kernels) ticks += alone ? ticks_of(kernel).alone : ticks_of(kernel).among;
  auto* made = new FakeGraph{stream->captured, ticks, stream->events};
  state().graphs.insert(made);
  *graph = reinterpret_cast<GraphHandle>(made);
  return kSuccess;
}
FAKE cuGraphInstantiateWithFlags(GraphExecHandle* exec, GraphHandle graph, unsigned long long) {
  Call call("cuGraphInstantiate");
  if (!call) return call.result();
  if (state().graphs.count(reinterpret_cast<FakeGraph*>(graph)) == 0) return call.wrong("no such graph", kInvalidHandle);
  auto* made = new FakeGraph(*reinterpret_cast<FakeGraph*>(graph));
  state().execs.insert(made);
  *exec = reinterpret_cast<GraphExecHandle>(made);
  return kSuccess;
}
FAKE cuGraphDestroy(GraphHandle graph) {
  Call call("cuGraphDestroy", false);
  if (state().graphs.erase(reinterpret_cast<FakeGraph*>(graph)) == 0) return call.wrong("no such graph", kInvalidHandle);
  delete reinterpret_cast<FakeGraph*>(graph);
  return kSuccess;
}
FAKE cuGraphLaunch(GraphExecHandle exec, StreamHandle stream) {
  Call call("cuGraphLaunch");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  if (state().execs.count(reinterpret_cast<FakeGraph*>(exec)) == 0) return call.wrong("no such graph", kInvalidHandle);
  // In a graph that records, a node takes a tick beside those that were planned.
  const FakeGraph& graph = *reinterpret_cast<FakeGraph*>(exec);
  for (const auto& [event, ticks] : graph.events) {
    if (state().events.count(event) == 0) return call.wrong("the graph records an event that is gone", kInvalidHandle);
    event->at = state().clock + ticks;
  }
  if (!graph.events.empty()) state().clock += static_cast<long>(graph.nodes);
  ++state().graph_launches;
  state().clock += graph.ticks + (state().records / 4 % 2 == 1 ? state().slow_ticks : 0);
  return kSuccess;
}
FAKE cuGraphExecDestroy(GraphExecHandle exec) {
  Call call("cuGraphExecDestroy", false);
  if (state().execs.erase(reinterpret_cast<FakeGraph*>(exec)) == 0) return call.wrong("no such graph", kInvalidHandle);
  delete reinterpret_cast<FakeGraph*>(exec);
  return kSuccess;
}
FAKE cuEventCreate(EventHandle* handle, unsigned flags) {
  Call call("cuEventCreate");
  if (!call) return call.result();
  auto* event = new FakeEvent{(flags & kEventDisableTiming) == 0, -1};
  state().events.insert(event);
  *handle = reinterpret_cast<EventHandle>(event);
  return kSuccess;
}
FAKE cuEventDestroy_v2(EventHandle event) {
  Call call("cuEventDestroy");
  if (!call) return call.result();
  if (state().events.erase(reinterpret_cast<FakeEvent*>(event)) == 0) return call.wrong("no such event", kInvalidHandle);
  delete reinterpret_cast<FakeEvent*>(event);
  return kSuccess;
}
FAKE cuEventRecord(EventHandle event, StreamHandle stream) {
  Call call("cuEventRecord");
  if (!call) return call.result();
  if (const Result r = call.use_stream(stream)) return r;
  if (state().events.count(reinterpret_cast<FakeEvent*>(event)) == 0) return call.wrong("no such event", kInvalidHandle);
  ++state().records;
  reinterpret_cast<FakeEvent*>(event)->at = ++state().clock;
  return kSuccess;
}
FAKE cuEventRecordWithFlags(EventHandle event, StreamHandle handle, unsigned flags) {
  Call call("cuEventRecordWithFlags");
  if (!call) return call.result();
  if (const Result r = call.use_stream(handle)) return r;
  auto* stream = reinterpret_cast<FakeStream*>(handle);
  if (state().events.count(reinterpret_cast<FakeEvent*>(event)) == 0) return call.wrong("no such event", kInvalidHandle);
  if (flags != kEventRecordExternal || is_default_stream(handle) || !stream || !stream->capturing)
    return call.wrong("an external record is for a stream that captures");
  stream->events.emplace_back(reinterpret_cast<FakeEvent*>(event), static_cast<long>(stream->captured) + stream->ticks);
  return kSuccess;
}
FAKE cuEventSynchronize(EventHandle event) {
  Call call("cuEventSynchronize");
  if (!call) return call.result();
  return state().events.count(reinterpret_cast<FakeEvent*>(event)) ? kSuccess : call.wrong("no such event", kInvalidHandle);
}
FAKE cuEventElapsedTime(float* milliseconds, EventHandle from, EventHandle to) {
  Call call("cuEventElapsedTime");
  if (!call) return call.result();
  const auto *a = reinterpret_cast<FakeEvent*>(from), *b = reinterpret_cast<FakeEvent*>(to);
  if (state().events.count(const_cast<FakeEvent*>(a)) == 0 || state().events.count(const_cast<FakeEvent*>(b)) == 0)
    return call.wrong("no such event", kInvalidHandle);
  if (!a->timing || !b->timing || a->at < 0 || b->at < 0) return call.wrong("an event without a time", kInvalidHandle);
  *milliseconds = 0.01F * static_cast<float>(b->at - a->at);
  return kSuccess;
}
FAKE cuModuleLoadData(ModuleHandle* handle, const void* image) {
  Call call("cuModuleLoadData");
  if (!call) return call.result();
  if (const Result r = call.forbid_capture()) return r;
  auto kernels = fake_cuda::kernels_of(image);
  if (kernels.empty()) return call.wrong("the image is no cubin with kernels", kErrorNoBinaryForGpu);
  auto* module = new FakeModule;
  for (const auto& [name, bytes] : kernels) module->functions[name] = {name, bytes, 49152, module};
  state().modules.insert(module);
  *handle = reinterpret_cast<ModuleHandle>(module);
  return kSuccess;
}
FAKE cuModuleUnload(ModuleHandle handle) {
  Call call("cuModuleUnload");
  if (!call) return call.result();
  if (state().modules.erase(reinterpret_cast<FakeModule*>(handle)) == 0) return call.wrong("no such module", kInvalidHandle);
  delete reinterpret_cast<FakeModule*>(handle);
  return kSuccess;
}
FAKE cuModuleGetFunction(FunctionHandle* function, ModuleHandle handle, const char* name) {
  Call call("cuModuleGetFunction");
  if (!call) return call.result();
  auto* module = reinterpret_cast<FakeModule*>(handle);
  if (state().modules.count(module) == 0) return call.wrong("no such module", kInvalidHandle);
  const auto found = module->functions.find(name);
  if (found == module->functions.end()) return kErrorNotFound;
  *function = reinterpret_cast<FunctionHandle>(&found->second);
  return kSuccess;
}

namespace {
FakeFunction* find_function(FunctionHandle handle) {
  for (FakeModule* module : state().modules)
    for (auto& [name, function] : module->functions)
      if (reinterpret_cast<FunctionHandle>(&function) == handle) return &function;
  return nullptr;
}
}  // namespace

FAKE cuFuncGetAttribute(int* value, int which, FunctionHandle handle) {
  Call call("cuFuncGetAttribute");
  if (!call) return call.result();
  const FakeFunction* function = find_function(handle);
  if (!function) return call.wrong("no such function, or its module was unloaded", kInvalidHandle);
  *value = which == kMaxThreadsPerBlock ? 1024 : which == kRegisters ? 32 : which == kMaxDynamicSharedBytes ? function->dynamic_shared : 0;
  return kSuccess;
}
FAKE cuFuncSetAttribute(FunctionHandle handle, int which, int value) {
  Call call("cuFuncSetAttribute");
  if (!call) return call.result();
  FakeFunction* function = find_function(handle);
  if (!function) return call.wrong("no such function, or its module was unloaded", kInvalidHandle);
  if (which != kMaxDynamicSharedBytes || value < 0 || value > 232448) return call.wrong("no such attribute, or more shared memory than a block may have");
  function->dynamic_shared = value;
  return kSuccess;
}
namespace {
/// What the driver asks of every map: alignments, extents, strides.
Result check_map(Call& call, const void* map, unsigned rank, const void* address, const std::uint64_t* extents, const std::uint64_t* strides) {
  if (reinterpret_cast<std::uintptr_t>(map) % 64 != 0) return call.wrong("the map is not aligned to 64 bytes");
  if (reinterpret_cast<std::uintptr_t>(address) % 16 != 0) return call.wrong("the tensor is not aligned to 16 bytes");
  for (unsigned d = 0; d < rank; ++d)
    if (extents[d] == 0 || extents[d] > (std::uint64_t{1} << 32)) return call.wrong("an extent out of limits");
  for (unsigned d = 0; d + 1 < rank; ++d)
    if (strides[d] % 16 != 0 || strides[d] == 0 || strides[d] >= (std::uint64_t{1} << 40)) return call.wrong("a stride out of limits");
  return kSuccess;
}
}  // namespace

FAKE cuTensorMapEncodeTiled(void* map, int, unsigned rank, void* address, const std::uint64_t* extents, const std::uint64_t* strides, const unsigned* box,
                            const unsigned* steps, int, int, int, int) {
  Call call("cuTensorMapEncodeTiled", false);
  if (!call) return call.result();
  for (unsigned d = 0; d < rank; ++d)
    if (box[d] == 0 || box[d] > 256 || steps[d] == 0 || steps[d] > 8) return call.wrong("a box out of limits");
  return check_map(call, map, rank, address, extents, strides);
}
FAKE cuTensorMapEncodeIm2col(void* map, int, unsigned rank, void* address, const std::uint64_t* extents, const std::uint64_t* strides, const int* lower,
                             const int* upper, unsigned channels, unsigned pixels, const unsigned* steps, int, int, int, int) {
  Call call("cuTensorMapEncodeIm2col", false);
  if (!call) return call.result();
  if (rank != 4 || channels > 256 || pixels > 1024) return call.wrong("a box out of limits");
  for (int d = 0; d < 2; ++d)
    if (lower[d] < -128 || lower[d] > 127 || upper[d] < -128 || upper[d] > 127 || steps[d + 1] == 0 || steps[d + 1] > 8)
      return call.wrong("a corner out of limits");
  return check_map(call, map, rank, address, extents, strides);
}

FAKE cuLaunchKernelEx(const LaunchSpec* spec, FunctionHandle handle, void** parameters, void** extra) {
  Call call("cuLaunchKernelEx");
  if (!call) return call.result();
  FakeFunction* function = find_function(handle);
  if (!function) return call.wrong("no such function, or its module was unloaded", kInvalidHandle);
  if (const Result r = call.use_stream(spec->stream)) return r;
  const auto* grid = spec->grid;
  const auto* block = spec->block;
  if (grid[0] == 0 || grid[1] == 0 || grid[2] == 0 || grid[0] > 2147483647u || grid[1] > 65535 || grid[2] > 65535)
    return call.wrong(function->name + ": a grid out of limits");
  if (block[0] == 0 || block[1] == 0 || block[2] == 0 || block[0] > 1024 || block[1] > 1024 || block[2] > 64 || block[0] * block[1] * block[2] > 1024)
    return call.wrong(function->name + ": a block out of limits");
  if (spec->shared_bytes > static_cast<unsigned>(function->dynamic_shared)) return call.wrong(function->name + ": more dynamic shared memory than was allowed");
  for (unsigned i = 0; i < spec->attribute_count; ++i) {
    const LaunchAttribute& attribute = spec->attributes[i];
    if (attribute.id == kLaunchAttributeCluster) {
      const auto* cluster = attribute.extents;
      if (cluster[0] * cluster[1] * cluster[2] > 8) return call.wrong(function->name + ": a cluster of more than 8 blocks");
      for (int d = 0; d < 3; ++d)
        if (cluster[d] == 0 || grid[d] % cluster[d] != 0) return call.wrong(function->name + ": the grid is no multiple of the cluster");
    } else if (attribute.id != kLaunchAttributeProgrammaticSerialization) {
      return call.wrong(function->name + ": an unknown attribute");
    }
  }
  if (extra || (function->parameter_bytes > 0 && (!parameters || !parameters[0]))) return call.wrong(function->name + ": no parameters");
  // Kernels of Lathe take one struct: each word that looks like a device pointer must lie in a live block.
  using lathe::cuda::PipeParams;
  static const PipeParams sample;
  const auto offset = [&](const void* field) { return static_cast<unsigned>(static_cast<const char*>(field) - reinterpret_cast<const char*>(&sample)); };
  for (unsigned at = 0; at + 8 <= function->parameter_bytes; at += 8) {
    // Nobody fills what lies between the last number of a product and its map, which is aligned.
    if (function->parameter_bytes == sizeof(PipeParams) && at > offset(&sample.map_kind) && at < offset(&sample.map)) continue;
    std::uint64_t word = 0;
    std::memcpy(&word, static_cast<const char*>(parameters[0]) + at, 8);
    if ((word >> 48) == (kTag >> 48) && !call.covers(word, 1))
      return call.wrong(function->name + ": a pointer to memory that is not there, at byte " + std::to_string(at));
    if ((word >> 48) == (kTag >> 48)) ++state().launched_with[std::prev(state().blocks.upper_bound(word))->first];
  }
  ++state().launches;
  auto* stream = reinterpret_cast<FakeStream*>(spec->stream);
  const bool capturing = stream && !is_default_stream(stream) && stream->capturing;
  (capturing ? stream->ticks : state().clock) += state().launch_ticks;
  if (capturing) stream->kernels.push_back(function->name);
  else state().clock += ticks_of(function->name).alone;
  return kSuccess;
}

#define FAKE_TEST extern "C" __attribute__((visibility("default")))

FAKE_TEST fake_cuda_live fake_cuda_count() {
  const std::lock_guard lock(state().mutex);
  const State& s = state();
  return {s.used,
          s.blocks.size(),
          s.pinned.size(),
          s.streams.size(),
          s.events.size(),
          s.modules.size(),
          s.graphs.size() + s.execs.size(),
          static_cast<std::size_t>(s.retained),
          s.launches,
          s.graph_launches,
          s.captured};
}
FAKE_TEST const char* fake_cuda_violations() { return state().violations.c_str(); }
FAKE_TEST void fake_cuda_reset() {
  const std::lock_guard lock(state().mutex);
  state().violations.clear();
  state().failures.clear();
  state().calls.clear();
  state().waits.clear();
  state().launched_with.clear();
  state().launches = state().graph_launches = state().captured = 0;
  state().limit = std::size_t{1} << 30;
  state().fill = kGuardByte;
  state().launch_ticks = state().slow_ticks = 0;
  state().kernel_ticks.clear();
}
FAKE_TEST void fake_cuda_fail(const char* name, int nth, int result) {
  const std::lock_guard lock(state().mutex);
  state().failures[name] = {nth, result};
}
namespace {
template <class Key>
std::size_t count_of(const std::map<Key, std::size_t>& counts, const Key& key) {
  const std::lock_guard lock(state().mutex);
  const auto found = counts.find(key);
  return found == counts.end() ? 0 : found->second;
}
}  // namespace
FAKE_TEST std::size_t fake_cuda_launched_with(unsigned long long block) { return count_of(state().launched_with, static_cast<DevicePointer>(block)); }
FAKE_TEST std::size_t fake_cuda_waits(const void* stream) { return count_of(state().waits, stream); }
FAKE_TEST std::size_t fake_cuda_calls(const char* name) { return count_of(state().calls, std::string(name)); }
FAKE_TEST void fake_cuda_set_memory(std::size_t bytes) {
  const std::lock_guard lock(state().mutex);
  state().limit = bytes;
}
FAKE_TEST void fake_cuda_set_fill(int byte) {
  const std::lock_guard lock(state().mutex);
  state().fill = static_cast<unsigned char>(byte);
}
FAKE_TEST void fake_cuda_set_launch_ticks(long ticks) {
  const std::lock_guard lock(state().mutex);
  state().launch_ticks = ticks;
}
FAKE_TEST void fake_cuda_set_kernel_ticks(const char* part, long alone, long among) {
  const std::lock_guard lock(state().mutex);
  state().kernel_ticks[part] = {alone, among};
}
FAKE_TEST void fake_cuda_set_slow_stretches(long ticks) {
  const std::lock_guard lock(state().mutex);
  state().slow_ticks = ticks;
}
FAKE_TEST void fake_cuda_violation(const char* call, const char* what) {
  const std::lock_guard lock(state().mutex);
  state().violations += std::string(call) + ": " + what + "\n";
}
FAKE_TEST int fake_cuda_has_context() {
  const std::lock_guard lock(state().mutex);
  return !context_stack.empty() && context_stack.back() == &state().context && state().retained > 0;
}
FAKE_TEST int fake_cuda_covers(const void* pointer, std::size_t bytes) {
  Call call("fake_cuda_covers", false);
  return call.covers(reinterpret_cast<DevicePointer>(pointer), bytes);
}
FAKE_TEST void* fake_cuda_host(const void* pointer) { return real_of(reinterpret_cast<DevicePointer>(pointer)); }
FAKE_TEST int fake_cuda_enqueue(void* stream) {
  Call call("fake_cuda_enqueue", false);
  const Result result = call.use_stream(reinterpret_cast<StreamHandle>(stream));
  if (result != kSuccess) return result;
  ++state().launches;
  auto* on = reinterpret_cast<FakeStream*>(stream);
  if (on && !is_default_stream(on) && on->capturing) on->kernels.emplace_back("library");
  else state().clock += ticks_of("library").alone;
  return result;
}
