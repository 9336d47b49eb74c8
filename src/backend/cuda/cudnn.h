// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// cuDNN 9 as an optional source of convolutions, opened at run time: nothing links it, and a process that runs none of its steps loads neither it nor
// its libraries of engines. Of its interface only the graph API is used: descriptors whose attributes are set by number. The handles and
// numbers are here in our own words.

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/device.h"

namespace lathe::cuda::cudnn {

using Result = int;  ///< 0: success; 3000 to 3999: not supported
using Handle = struct HandleTag*;
using RawDescriptor = void*;

inline constexpr Result kSuccess = 0, kInvalid = 2000, kNotSupported = 3000, kInternalError = 4000;
enum DescriptorType : int {
  kPointwise = 0,
  kConvolution = 1,
  kEngine = 2,
  kEngineConfig = 3,
  kHeuristics = 4,
  kExecutionPlan = 5,
  kKnobChoice = 7,
  kConvolutionForward = 10,
  kPointwiseOperation = 13,
  kOperationGraph = 15,
  kVariantPack = 16,
  kTensor = 17,
};
/// Types of attributes: what the array that is set or read holds.
enum AttributeType : int {
  kTypeHandle = 0,
  kTypeDataType = 1,
  kTypeBoolean = 2,
  kTypeInt64 = 3,
  kTypeFloat = 4,
  kTypeDouble = 5,
  kTypePointer = 6,
  kTypeConvolutionMode = 7,
  kTypeHeuristicsMode = 8,
  kTypeKnob = 9,
  kTypeNumericalNote = 11,
  kTypePointwiseMode = 14,
  kTypeDescriptor = 15,
};
enum Attribute : int {
  kPointwiseMode = 0,
  kPointwisePrecision = 1,
  kPointwiseReluSlope = 5,
  kPointwiseEluAlpha = 6,
  kPointwiseSwishBeta = 8,
  kConvolutionPrecision = 100,
  kConvolutionMode = 101,
  kConvolutionDilations = 102,
  kConvolutionStrides = 103,
  kConvolutionPadsEnd = 104,
  kConvolutionPadsBegin = 105,
  kConvolutionSpatialDims = 106,
  kHeuristicsMode = 200,
  kHeuristicsGraph = 201,
  kHeuristicsResults = 202,
  kConfigEngine = 300,
  kConfigKnobs = 302,
  kPlanHandle = 400,
  kPlanConfig = 401,
  kPlanWorkspace = 402,
  kKnobType = 600,
  kKnobValue = 601,
  kForwardAlpha = 700,
  kForwardBeta = 701,
  kForwardConvolution = 702,
  kForwardW = 703,
  kForwardX = 704,
  kForwardY = 705,
  kOperationPointwise = 750,
  kOperationX = 751,
  kOperationB = 752,
  kOperationY = 753,
  kGraphHandle = 800,
  kGraphOperations = 801,
  kTensorAlignment = 900,
  kTensorType = 901,
  kTensorDims = 902,
  kTensorStrides = 903,
  kTensorId = 906,
  kTensorVirtual = 907,
  kPackIds = 1000,
  kPackPointers = 1001,
  kPackWorkspace = 1003,
  kEngineGraph = 1300,
  kEngineIndex = 1301,
  kEngineNotes = 1303,
};
enum DataType : int { kFloat32 = 0, kFloat16 = 2, kBFloat16 = 9 };
enum Mode : int {
  kCrossCorrelation = 1,
  kHeuristicsInstant = 0,
  kHeuristicsBest = 3,
  kAdd = 0,
  kRelu = 100,
  kTanh = 101,
  kSigmoid = 102,
  kElu = 103,
  kGelu = 104,
  kSwish = 106,
  kGeluTanh = 107,
};
/// What an engine says of its arithmetic.
enum Note : int { kNoteDownConverts = 1, kNoteReducedSums = 2, kNoteFourier = 3, kNoteVaries = 4, kNoteWinograd = 5, kNoteWinogradLast = 8, kNoteKeepsNan = 9 };

// X(member, symbol, result, parameters)
#define LATHE_CUDNN(X)                                                                                                \
  X(version, "cudnnGetVersion", std::size_t, ())                                                                      \
  X(error_string, "cudnnGetErrorString", const char*, (Result))                                                       \
  X(create, "cudnnCreate", Result, (Handle*))                                                                         \
  X(destroy, "cudnnDestroy", Result, (Handle))                                                                        \
  X(set_stream, "cudnnSetStream", Result, (Handle, StreamHandle))                                                     \
  X(descriptor_create, "cudnnBackendCreateDescriptor", Result, (int, RawDescriptor*))                                 \
  X(descriptor_destroy, "cudnnBackendDestroyDescriptor", Result, (RawDescriptor))                                     \
  X(finalize, "cudnnBackendFinalize", Result, (RawDescriptor))                                                        \
  X(set_attribute, "cudnnBackendSetAttribute", Result, (RawDescriptor, int, int, std::int64_t, const void*))          \
  X(get_attribute, "cudnnBackendGetAttribute", Result, (RawDescriptor, int, int, std::int64_t, std::int64_t*, void*)) \
  X(execute, "cudnnBackendExecute", Result, (Handle, RawDescriptor, RawDescriptor))

class Library {
 public:
  /// The process's one; opened at the first call. nullptr: not there, and `why` says what brings it.
  static const Library* find(std::string* why = nullptr);
  /// Throws Error(kMachine) instead.
  static const Library& get();
  /// For tests: what find() would find if the knob LATHE_CUDNN were `asked`.
  static std::unique_ptr<const Library> open(const std::string& asked, std::string& why);

#define LATHE_CUDNN_MEMBER(member, symbol, result, parameters) result(*member) parameters = nullptr;
  LATHE_CUDNN(LATHE_CUDNN_MEMBER)
#undef LATHE_CUDNN_MEMBER
  /// "9.19.1": engines are numbered and chosen by it.
  const std::string& version_text() const noexcept { return version_; }
  Status status(Result result, std::string_view call) const noexcept;
  /// Throws Error where `result` is no success.
  void require(Result result, std::string_view call) const;

 private:
  std::string version_;
};

/// Handles of one device. A handle has a stream and serves one call at a time; there are as many as calls were ever in flight at once.
class Handles {
 public:
  /// The device's, as long as it is open. Throws Error(kMachine).
  static Handles& of(Device& device);
  Handles();
  ~Handles();
  Handles(const Handles&) = delete;
  Handles& operator=(const Handles&) = delete;
  Status take(Handle& handle) noexcept;
  void give_back(Handle handle) noexcept;

 private:
  const Library& library_;
  std::mutex mutex_;
  std::vector<Handle> idle_;
  std::size_t made_ = 0;
};

/// One descriptor of the graph API.
class Descriptor {
 public:
  explicit Descriptor(DescriptorType type);
  ~Descriptor();
  Descriptor(Descriptor&& other) noexcept : raw_(std::exchange(other.raw_, nullptr)) {}
  Descriptor& operator=(Descriptor&&) = delete;
  RawDescriptor raw() const noexcept { return raw_; }

  /// Each throws Error(kUnsupported) naming the attribute, where the library refuses.
  void set(Attribute name, AttributeType type, std::int64_t count, const void* values);
  void set(Attribute name, std::span<const std::int64_t> values) { set(name, kTypeInt64, static_cast<std::int64_t>(values.size()), values.data()); }
  void set(Attribute name, std::int64_t value) { set(name, kTypeInt64, 1, &value); }
  void set(Attribute name, const Descriptor& value) { set(name, kTypeDescriptor, 1, &value.raw_); }
  void set_number(Attribute name, AttributeType type, int value) { set(name, type, 1, &value); }
  void set_flag(Attribute name, bool value) { set(name, kTypeBoolean, 1, &value); }
  void set_double(Attribute name, double value) { set(name, kTypeDouble, 1, &value); }
  void set_float(Attribute name, float value) { set(name, kTypeFloat, 1, &value); }
  void finalize(std::string_view what);
  /// How many of at most `count` elements were written to `values`.
  std::int64_t get(Attribute name, AttributeType type, std::int64_t count, void* values) const;

 private:
  RawDescriptor raw_ = nullptr;
};

}  // namespace lathe::cuda::cudnn
