// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The NVIDIA driver, opened at run time: a table of the functions that Lathe calls, the few types and numbers of its binary interface
// in our own words, and the one place where a result code becomes a Status or an Error. No CUDA header is needed to build Lathe.

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

#include "lathe/status.h"

namespace lathe::cuda {

// Handles of the driver are pointers to things that only it knows.
using Result = int;
using DeviceId = int;
using DevicePointer = std::uint64_t;
using ContextHandle = struct ContextTag*;
using StreamHandle = struct StreamTag*;
using EventHandle = struct EventTag*;
using ModuleHandle = struct ModuleTag*;
using FunctionHandle = struct FunctionTag*;
using GraphHandle = struct GraphTag*;
using GraphExecHandle = struct GraphExecTag*;

// Numbers of the binary interface.
inline constexpr Result kSuccess = 0, kErrorInvalidValue = 1, kErrorOutOfMemory = 2, kErrorNoDevice = 100, kErrorInvalidDevice = 101,
                        kErrorNoBinaryForGpu = 209, kErrorInvalidPtx = 218, kErrorUnsupportedPtxVersion = 222, kErrorNotFound = 500, kErrorNotReady = 600;
enum DeviceAttribute : int {
  kClockRate = 13,
  kMultiprocessorCount = 16,
  kMemoryClockRate = 36,
  kMemoryBusWidth = 37,
  kL2CacheBytes = 38,
  kMaxThreadsPerMultiprocessor = 39,
  kComputeCapabilityMajor = 75,
  kComputeCapabilityMinor = 76,
  kMaxSharedMemoryPerMultiprocessor = 81,
  kMaxSharedMemoryPerBlockOptin = 97,
  kMemoryPoolsSupported = 115,
};
enum FunctionAttribute : int { kMaxThreadsPerBlock = 0, kStaticSharedBytes = 1, kLocalBytes = 3, kRegisters = 4, kMaxDynamicSharedBytes = 8 };
inline constexpr int kPointerMemoryType = 2, kPointerDeviceOrdinal = 9;
inline constexpr unsigned kMemoryTypeHost = 1, kMemoryTypeDevice = 2;
inline constexpr unsigned kStreamNonBlocking = 1, kEventDisableTiming = 2, kEventRecordExternal = 1;
/// Handles that mean a stream without being made: the process's default stream, and the calling thread's.
inline const StreamHandle kLegacyStream = reinterpret_cast<StreamHandle>(1), kPerThreadStream = reinterpret_cast<StreamHandle>(2);
inline constexpr int kCaptureThreadLocal = 1;
inline constexpr int kMapElements16 = 1, kMapSwizzle128 = 3, kMapPromote256 = 3;  ///< of a tensor map: 2-byte elements; swizzle; bytes fetched at once
inline constexpr int kLaunchAttributeCluster = 4, kLaunchAttributeProgrammaticSerialization = 6;

/// An entry of LaunchSpec::attributes.
struct LaunchAttribute {
  int id = 0, padding = 0;
  union {
    std::int32_t flag;
    std::uint32_t extents[3];
    char bytes[64];
  };
};
static_assert(sizeof(LaunchAttribute) == 72, "as the driver lays it out");

/// What cuLaunchKernelEx takes.
struct LaunchSpec {
  unsigned grid[3] = {1, 1, 1}, block[3] = {1, 1, 1};
  unsigned shared_bytes = 0;
  StreamHandle stream = nullptr;
  LaunchAttribute* attributes = nullptr;
  unsigned attribute_count = 0;
};
static_assert(sizeof(LaunchSpec) == 56, "as the driver lays it out");

/// What cuMemcpy2DAsync takes: rows of bytes from and to memory of the device, whose beginnings lie a pitch apart.
struct RowsCopy {
  std::size_t from_x = 0, from_y = 0;
  unsigned from_memory = kMemoryTypeDevice;
  const void* from_host = nullptr;
  DevicePointer from = 0;
  void* from_array = nullptr;
  std::size_t from_pitch = 0;
  std::size_t to_x = 0, to_y = 0;
  unsigned to_memory = kMemoryTypeDevice;
  void* to_host = nullptr;
  DevicePointer to = 0;
  void* to_array = nullptr;
  std::size_t to_pitch = 0;
  std::size_t bytes = 0, rows = 0;
};
static_assert(sizeof(RowsCopy) == 128, "as the driver lays it out");

// X(member, symbol, parameters)
#define LATHE_CUDA_DRIVER(X)                                                                               \
  X(init, "cuInit", (unsigned))                                                                            \
  X(driver_version, "cuDriverGetVersion", (int*))                                                          \
  X(error_name, "cuGetErrorName", (Result, const char**))                                                  \
  X(error_string, "cuGetErrorString", (Result, const char**))                                              \
  X(device_count, "cuDeviceGetCount", (int*))                                                              \
  X(device_get, "cuDeviceGet", (DeviceId*, int))                                                           \
  X(device_name, "cuDeviceGetName", (char*, int, DeviceId))                                                \
  X(device_memory, "cuDeviceTotalMem_v2", (std::size_t*, DeviceId))                                        \
  X(device_attribute, "cuDeviceGetAttribute", (int*, int, DeviceId))                                       \
  X(primary_retain, "cuDevicePrimaryCtxRetain", (ContextHandle*, DeviceId))                                \
  X(primary_release, "cuDevicePrimaryCtxRelease_v2", (DeviceId))                                           \
  X(context_push, "cuCtxPushCurrent_v2", (ContextHandle))                                                  \
  X(context_pop, "cuCtxPopCurrent_v2", (ContextHandle*))                                                   \
  X(memory_info, "cuMemGetInfo_v2", (std::size_t*, std::size_t*))                                          \
  X(allocate, "cuMemAlloc_v2", (DevicePointer*, std::size_t))                                              \
  X(release, "cuMemFree_v2", (DevicePointer))                                                              \
  X(allocate_async, "cuMemAllocAsync", (DevicePointer*, std::size_t, StreamHandle))                        \
  X(release_async, "cuMemFreeAsync", (DevicePointer, StreamHandle))                                        \
  X(allocate_host, "cuMemAllocHost_v2", (void**, std::size_t))                                             \
  X(release_host, "cuMemFreeHost", (void*))                                                                \
  X(pointer_attribute, "cuPointerGetAttribute", (void*, int, DevicePointer))                               \
  X(copy_to_device, "cuMemcpyHtoDAsync_v2", (DevicePointer, const void*, std::size_t, StreamHandle))       \
  X(copy_to_host, "cuMemcpyDtoHAsync_v2", (void*, DevicePointer, std::size_t, StreamHandle))               \
  X(copy_on_device, "cuMemcpyDtoDAsync_v2", (DevicePointer, DevicePointer, std::size_t, StreamHandle))     \
  X(copy_rows_on_device, "cuMemcpy2DAsync_v2", (const RowsCopy*, StreamHandle))                            \
  X(fill_bytes, "cuMemsetD8Async", (DevicePointer, unsigned char, std::size_t, StreamHandle))              \
  X(stream_create, "cuStreamCreate", (StreamHandle*, unsigned))                                            \
  X(stream_destroy, "cuStreamDestroy_v2", (StreamHandle))                                                  \
  X(stream_synchronize, "cuStreamSynchronize", (StreamHandle))                                             \
  X(stream_wait_event, "cuStreamWaitEvent", (StreamHandle, EventHandle, unsigned))                         \
  X(stream_begin_capture, "cuStreamBeginCapture_v2", (StreamHandle, int))                                  \
  X(stream_end_capture, "cuStreamEndCapture", (StreamHandle, GraphHandle*))                                \
  X(graph_instantiate, "cuGraphInstantiateWithFlags", (GraphExecHandle*, GraphHandle, unsigned long long)) \
  X(graph_destroy, "cuGraphDestroy", (GraphHandle))                                                        \
  X(graph_launch, "cuGraphLaunch", (GraphExecHandle, StreamHandle))                                        \
  X(graph_exec_destroy, "cuGraphExecDestroy", (GraphExecHandle))                                           \
  X(event_create, "cuEventCreate", (EventHandle*, unsigned))                                               \
  X(event_destroy, "cuEventDestroy_v2", (EventHandle))                                                     \
  X(event_record, "cuEventRecord", (EventHandle, StreamHandle))                                            \
  X(event_record_with, "cuEventRecordWithFlags", (EventHandle, StreamHandle, unsigned))                    \
  X(event_synchronize, "cuEventSynchronize", (EventHandle))                                                \
  X(event_elapsed, "cuEventElapsedTime", (float*, EventHandle, EventHandle))                               \
  X(module_load, "cuModuleLoadData", (ModuleHandle*, const void*))                                         \
  X(module_unload, "cuModuleUnload", (ModuleHandle))                                                       \
  X(module_function, "cuModuleGetFunction", (FunctionHandle*, ModuleHandle, const char*))                  \
  X(function_attribute, "cuFuncGetAttribute", (int*, int, FunctionHandle))                                 \
  X(function_set_attribute, "cuFuncSetAttribute", (FunctionHandle, int, int))                              \
  X(launch, "cuLaunchKernelEx", (const LaunchSpec*, FunctionHandle, void**, void**))
/// Newer than the oldest driver that is good enough: null there. Maps of tensors for the copy engine of compute capability 9.0.
#define LATHE_CUDA_DRIVER_OPTIONAL(X)                                                                                                                     \
  X(map_tiled, "cuTensorMapEncodeTiled",                                                                                                                  \
    (void*, int, unsigned, void*, const std::uint64_t*, const std::uint64_t*, const unsigned*, const unsigned*, int, int, int, int))                      \
  X(map_image, "cuTensorMapEncodeIm2col",                                                                                                                 \
    (void*, int, unsigned, void*, const std::uint64_t*, const std::uint64_t*, const int*, const int*, unsigned, unsigned, const unsigned*, int, int, int, \
     int))

struct Driver {
#define LATHE_CUDA_MEMBER(member, symbol, parameters) Result(*member) parameters = nullptr;
  LATHE_CUDA_DRIVER(LATHE_CUDA_MEMBER)
  LATHE_CUDA_DRIVER_OPTIONAL(LATHE_CUDA_MEMBER)
#undef LATHE_CUDA_MEMBER
  int version = 0;  ///< 13000 for CUDA 13.0

  /// The driver of this process, opened and initialised by the first call; nullptr where there is none, and `why` says what is missing.
  static const Driver* find(std::string* why = nullptr);
  /// The same; throws Error(kMachine) naming the library and the package that brings it.
  static const Driver& get();

  /// "cuMemAlloc: out of memory (CUDA_ERROR_OUT_OF_MEMORY)", without allocating.
  Status status(Result result, std::string_view call) const noexcept;
  /// Throws Error where `result` is no success.
  void require(Result result, std::string_view call) const;
};

/// How failures of the driver are classed: out of memory, a machine that lacks something, a defect of ours.
Code code_of(Result result) noexcept;

}  // namespace lathe::cuda
