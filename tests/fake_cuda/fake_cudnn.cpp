// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A libcudnn for tests on machines without a GPU: the graph API's descriptors with the types and counts of their attributes, what must be set before
// one is finalised, graphs whose tensors fit together, engines of which one computes in another way, plans with workspace. Running one checks
// pointers, alignment and stream, and computes the graph on the host.

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include "backend/cuda/cudnn.h"
#include "fake_cuda.h"
#include "fake_elements.h"
#include "fake_vendor.h"

#define FAKE extern "C" __attribute__((visibility("default")))

namespace {

using namespace lathe::cuda::cudnn;
using fake_cuda::Element;

constexpr std::int64_t kWinogradEngine = 7, kPlainEngine = 38, kOtherEngine = 11, kCarelessEngine = 12;
constexpr std::int64_t kWorkspaceOfOther = 8192;

struct Fake {
  int type = 0;
  bool finalized = false;
  std::map<int, std::vector<char>> attributes;
  template <class T>
  std::vector<T> all(int name) const {
    const auto found = attributes.find(name);
    if (found == attributes.end()) return {};
    std::vector<T> values(found->second.size() / sizeof(T));
    std::memcpy(values.data(), found->second.data(), found->second.size());
    return values;
  }
  template <class T>
  T one(int name, T otherwise = {}) const {
    const auto values = all<T>(name);
    return values.empty() ? otherwise : values[0];
  }
  Fake* part(int name) const { return static_cast<Fake*>(one<void*>(name)); }
};
struct FakeHandle {
  void* stream = nullptr;
  bool busy = false;
};
struct State {
  std::mutex mutex;
  std::set<FakeHandle*> handles;
  std::set<Fake*> descriptors;
  std::size_t runs = 0, asked = 0;
  int most_operations = 100;
  bool refuse_wide_bias = false, fail = false;
};
State& state() {
  static auto* s = new State;
  return *s;
}

Result wrong(const char* call, const std::string& what) {
  fake_cuda_violation(call, what.c_str());
  return kInvalid;
}

struct Kind {
  int type = 0, count = 1;  // 0: any number
  std::size_t bytes = 8;
  bool needed = true;
};
/// What each descriptor takes.
const std::map<int, std::map<int, Kind>>& kinds() {
  static const Kind integer{kTypeInt64, 1, 8, true}, two{kTypeInt64, 2, 8, true}, four{kTypeInt64, 4, 8, true}, type{kTypeDataType, 1, 4, true},
      part{kTypeDescriptor, 1, 8, true}, parts{kTypeDescriptor, 0, 8, true}, maybe_real{kTypeDouble, 1, 8, false}, real{kTypeFloat, 1, 4, true},
      handle{kTypeHandle, 1, 8, true};
  static const std::map<int, std::map<int, Kind>> all{
      {kTensor,
       {{kTensorType, type},
        {kTensorDims, four},
        {kTensorStrides, four},
        {kTensorId, integer},
        {kTensorAlignment, integer},
        {kTensorVirtual, {kTypeBoolean, 1, 1, false}}}},
      {kConvolution,
       {{kConvolutionPrecision, type},
        {kConvolutionMode, {kTypeConvolutionMode, 1, 4, true}},
        {kConvolutionSpatialDims, integer},
        {kConvolutionDilations, two},
        {kConvolutionStrides, two},
        {kConvolutionPadsBegin, two},
        {kConvolutionPadsEnd, two}}},
      {kPointwise,
       {{kPointwiseMode, {kTypePointwiseMode, 1, 4, true}},
        {kPointwisePrecision, type},
        {kPointwiseReluSlope, maybe_real},
        {kPointwiseEluAlpha, maybe_real},
        {kPointwiseSwishBeta, maybe_real}}},
      {kConvolutionForward,
       {{kForwardAlpha, real}, {kForwardBeta, real}, {kForwardConvolution, part}, {kForwardX, part}, {kForwardW, part}, {kForwardY, part}}},
      {kPointwiseOperation, {{kOperationPointwise, part}, {kOperationX, part}, {kOperationB, {kTypeDescriptor, 1, 8, false}}, {kOperationY, part}}},
      {kOperationGraph, {{kGraphHandle, handle}, {kGraphOperations, parts}}},
      {kHeuristics, {{kHeuristicsGraph, part}, {kHeuristicsMode, {kTypeHeuristicsMode, 1, 4, true}}}},
      {kEngine, {{kEngineGraph, part}, {kEngineIndex, integer}}},
      {kKnobChoice, {{kKnobType, {kTypeKnob, 1, 4, true}}, {kKnobValue, integer}}},
      {kEngineConfig, {{kConfigEngine, part}, {kConfigKnobs, {kTypeDescriptor, 0, 8, false}}}},
      {kExecutionPlan, {{kPlanHandle, handle}, {kPlanConfig, part}}},
      {kVariantPack, {{kPackIds, {kTypeInt64, 0, 8, true}}, {kPackPointers, {kTypePointer, 0, 8, true}}, {kPackWorkspace, {kTypePointer, 1, 8, true}}}}};
  return all;
}

bool lives(const Fake* f) {
  const std::lock_guard lock(state().mutex);
  return state().descriptors.count(const_cast<Fake*>(f)) > 0;
}
bool is_handle(void* handle) {
  const std::lock_guard lock(state().mutex);
  return state().handles.count(static_cast<FakeHandle*>(handle)) > 0;
}

Element element(const Fake* tensor) {
  const int type = tensor->one<int>(kTensorType);
  return type == kFloat16 ? Element::kFloat16 : type == kBFloat16 ? Element::kBFloat16 : Element::kFloat32;
}
std::size_t extent(const Fake* tensor) {
  const auto dims = tensor->all<std::int64_t>(kTensorDims), strides = tensor->all<std::int64_t>(kTensorStrides);
  std::int64_t last = 0;
  for (std::size_t i = 0; i < 4; ++i) last += (dims[i] - 1) * strides[i];
  return static_cast<std::size_t>(last + 1) * bytes_of(element(tensor));
}

/// A tensor's values and how to address them: real ones in device memory, virtual ones in doubles.
struct Values {
  const Fake* tensor = nullptr;
  void* memory = nullptr;
  std::vector<double> computed;
  std::array<std::int64_t, 4> dims{}, strides{};
  explicit Values(const Fake* t, void* at) : tensor(t), memory(at) {
    const auto d = t->all<std::int64_t>(kTensorDims), s = t->all<std::int64_t>(kTensorStrides);
    for (std::size_t i = 0; i < 4; ++i) dims[i] = d[i], strides[i] = s[i];
    if (!memory) computed.assign(static_cast<std::size_t>(dims[0] * dims[1] * dims[2] * dims[3]), 0);
  }
  std::int64_t at(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    const std::array<std::int64_t, 4> index{dims[0] == 1 ? 0 : n, dims[1] == 1 ? 0 : c, dims[2] == 1 ? 0 : h, dims[3] == 1 ? 0 : w};
    if (!memory) return ((index[0] * dims[1] + index[1]) * dims[2] + index[2]) * dims[3] + index[3];
    return index[0] * strides[0] + index[1] * strides[1] + index[2] * strides[2] + index[3] * strides[3];
  }
  double read(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w) const {
    const std::int64_t i = at(n, c, h, w);
    return memory ? fake_cuda::read(memory, element(tensor), i) : computed[static_cast<std::size_t>(i)];
  }
  void write(std::int64_t n, std::int64_t c, std::int64_t h, std::int64_t w, double x) {
    const std::int64_t i = at(n, c, h, w);
    if (memory) fake_cuda::write(memory, element(tensor), i, x);
    else computed[static_cast<std::size_t>(i)] = x;
  }
};

double activated(const Fake* pointwise, double x, std::int64_t engine) {
  // One of the engines takes the larger of 0 and NaN for 0.
  if (engine == kCarelessEngine && std::isnan(x) && pointwise->one<int>(kPointwiseMode) == kRelu) return 0;
  switch (pointwise->one<int>(kPointwiseMode)) {
    case kRelu: return x < 0 ? pointwise->one<double>(kPointwiseReluSlope) * x : x;
    case kTanh: return std::tanh(x);
    case kSigmoid: return 1 / (1 + std::exp(-x));
    case kSwish: return x / (1 + std::exp(-pointwise->one<double>(kPointwiseSwishBeta, 1) * x));
    case kElu: return x > 0 ? x : pointwise->one<double>(kPointwiseEluAlpha, 1) * (std::exp(x) - 1);
    case kGelu: return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
    case kGeluTanh: return fake_cuda::gelu_tanh(x);
    default: return NAN;
  }
}

/// Every value, row-major.
std::vector<double> dense(const Values& t) {
  std::vector<double> all;
  for (std::int64_t n = 0; n < t.dims[0]; ++n)
    for (std::int64_t c = 0; c < t.dims[1]; ++c)
      for (std::int64_t i = 0; i < t.dims[2]; ++i)
        for (std::int64_t j = 0; j < t.dims[3]; ++j) all.push_back(t.read(n, c, i, j));
  return all;
}

void convolve(const Fake* op, const Values& x, const Values& w, Values& y) {
  const Fake* conv = op->part(kForwardConvolution);
  const auto pads = conv->all<std::int64_t>(kConvolutionPadsBegin), strides = conv->all<std::int64_t>(kConvolutionStrides),
             dilations = conv->all<std::int64_t>(kConvolutionDilations);
  const std::vector<double> image = dense(x), weights = dense(w);
  const std::int64_t group_in = w.dims[1], groups = x.dims[1] / group_in, group_out = y.dims[1] / groups;
  for (std::int64_t n = 0; n < y.dims[0]; ++n)
    for (std::int64_t o = 0; o < y.dims[1]; ++o)
      for (std::int64_t i = 0; i < y.dims[2]; ++i)
        for (std::int64_t j = 0; j < y.dims[3]; ++j) {
          double sum = 0;
          for (std::int64_t c = 0; c < group_in; ++c)
            for (std::int64_t u = 0; u < w.dims[2]; ++u)
              for (std::int64_t v = 0; v < w.dims[3]; ++v) {
                const std::int64_t row = i * strides[0] - pads[0] + u * dilations[0], column = j * strides[1] - pads[1] + v * dilations[1];
                if (row >= 0 && row < x.dims[2] && column >= 0 && column < x.dims[3])
                  sum += image[static_cast<std::size_t>(((n * x.dims[1] + o / group_out * group_in + c) * x.dims[2] + row) * x.dims[3] + column)] *
                         weights[static_cast<std::size_t>(((o * group_in + c) * w.dims[2] + u) * w.dims[3] + v)];
              }
          y.write(n, o, i, j, sum);
        }
}

/// Why a graph is not one that a plan can run; "" = it is.
std::string fault_of(const Fake* graph) {
  const auto operations = graph->all<void*>(kGraphOperations);
  const Fake* last = nullptr;
  for (std::size_t i = 0; i < operations.size(); ++i) {
    const auto* op = static_cast<const Fake*>(operations[i]);
    if (!lives(op) || !op->finalized) return "an operation that is not finalised";
    if ((i == 0) != (op->type == kConvolutionForward)) return "the graph is no convolution with what follows";
    if (i > 0 && op->part(kOperationX) != last) return "an operation does not follow the one before it";
    last = op->part(i == 0 ? kForwardY : kOperationY);
    if ((last->one<char>(kTensorVirtual) != 0) != (i + 1 < operations.size())) return "inner tensors are virtual, and only those";
    if (i == 0) {
      const auto x = op->part(kForwardX)->all<std::int64_t>(kTensorDims), w = op->part(kForwardW)->all<std::int64_t>(kTensorDims),
                 y = last->all<std::int64_t>(kTensorDims);
      if (w[0] != y[1] || x[0] != y[0] || x[1] % w[1] != 0) return "the extents of a convolution do not fit together";
    }
  }
  return "";
}

Result finalize(Fake* f) {
  constexpr const char* kCall = "cudnnBackendFinalize";
  for (const auto& [name, kind] : kinds().at(f->type)) {
    if (kind.needed && f->attributes.count(name) == 0) return wrong(kCall, "attribute " + std::to_string(name) + " was not set");
    if (kind.type != kTypeDescriptor) continue;
    for (void* part : f->all<void*>(name))
      if (!lives(static_cast<Fake*>(part)) || !static_cast<Fake*>(part)->finalized) return wrong(kCall, "a part that is not finalised");
  }
  if (f->type == kOperationGraph || f->type == kExecutionPlan) {
    if (!fake_cuda_has_context()) return wrong(kCall, "no context is current");
    if (!is_handle(f->one<void*>(f->type == kOperationGraph ? kGraphHandle : kPlanHandle))) return wrong(kCall, "no such handle");
  }
  if (f->type == kOperationGraph) {
    if (const std::string why = fault_of(f); !why.empty()) return wrong(kCall, why);
    const auto operations = f->all<void*>(kGraphOperations);
    const std::lock_guard lock(state().mutex);
    if (static_cast<int>(operations.size()) > state().most_operations) return 3001;
    for (void* each : operations) {
      const auto* op = static_cast<const Fake*>(each);
      if (op->type != kPointwiseOperation || !op->attributes.count(kOperationB) || !state().refuse_wide_bias) continue;
      const Fake* b = op->part(kOperationB);
      if (b->all<std::int64_t>(kTensorDims)[0] == 1 && b->all<std::int64_t>(kTensorDims)[2] == 1 && b->one<int>(kTensorType) == kFloat32) return 3003;
    }
  }
  if (f->type == kEngine) {
    const auto index = f->one<std::int64_t>(kEngineIndex);
    if (index != kWinogradEngine && index != kPlainEngine && index != kOtherEngine && index != kCarelessEngine) return 3000;
  }
  f->finalized = true;
  return kSuccess;
}

void fill(Fake* f, int name, const void* value, std::size_t bytes) {
  const auto* from = static_cast<const char*>(value);
  f->attributes[name].assign(from, from + bytes);
}

}  // namespace

FAKE std::size_t cudnnGetVersion() { return 91901; }
FAKE const char* cudnnGetErrorString(Result result) { return result == 3001 ? "FAKE_NOT_SUPPORTED_GRAPH_PATTERN" : "FAKE_ERROR"; }
FAKE Result cudnnCreate(Handle* handle) {
  if (!fake_cuda_has_context()) return wrong("cudnnCreate", "no context is current");
  const std::lock_guard lock(state().mutex);
  if (state().fail) return 1001;
  auto* made = new FakeHandle;
  state().handles.insert(made);
  *handle = reinterpret_cast<Handle>(made);
  return kSuccess;
}
FAKE Result cudnnDestroy(Handle handle) {
  if (!fake_cuda_has_context()) wrong("cudnnDestroy", "no context is current");
  const std::lock_guard lock(state().mutex);
  if (state().handles.erase(reinterpret_cast<FakeHandle*>(handle)) == 0) return wrong("cudnnDestroy", "no such handle");
  delete reinterpret_cast<FakeHandle*>(handle);
  return kSuccess;
}
FAKE Result cudnnSetStream(Handle handle, lathe::cuda::StreamHandle stream) {
  if (!is_handle(handle)) return wrong("cudnnSetStream", "no such handle");
  reinterpret_cast<FakeHandle*>(handle)->stream = stream;
  return kSuccess;
}
FAKE Result cudnnBackendCreateDescriptor(int type, RawDescriptor* descriptor) {
  if (kinds().count(type) == 0) return wrong("cudnnBackendCreateDescriptor", "no such type");
  auto* made = new Fake;
  made->type = type;
  const std::lock_guard lock(state().mutex);
  state().descriptors.insert(made);
  *descriptor = made;
  return kSuccess;
}
FAKE Result cudnnBackendDestroyDescriptor(RawDescriptor descriptor) {
  const std::lock_guard lock(state().mutex);
  if (state().descriptors.erase(static_cast<Fake*>(descriptor)) == 0) return wrong("cudnnBackendDestroyDescriptor", "no such descriptor");
  delete static_cast<Fake*>(descriptor);
  return kSuccess;
}
FAKE Result cudnnBackendFinalize(RawDescriptor descriptor) {
  auto* f = static_cast<Fake*>(descriptor);
  if (!lives(f) || f->finalized) return wrong("cudnnBackendFinalize", "no such descriptor, or finalised before");
  return finalize(f);
}
FAKE Result cudnnBackendSetAttribute(RawDescriptor descriptor, int name, int type, std::int64_t count, const void* values) {
  constexpr const char* kCall = "cudnnBackendSetAttribute";
  auto* f = static_cast<Fake*>(descriptor);
  if (!lives(f) || f->finalized) return wrong(kCall, "no such descriptor, or finalised before");
  const auto& all = kinds().at(f->type);
  const auto kind = all.find(name);
  if (kind == all.end() || kind->second.type != type || count < 1 || (kind->second.count != 0 && kind->second.count != count))
    return wrong(kCall, "attribute " + std::to_string(name) + " of descriptor " + std::to_string(f->type) + " is of another type or number");
  fill(f, name, values, static_cast<std::size_t>(count) * kind->second.bytes);
  return kSuccess;
}
FAKE Result cudnnBackendGetAttribute(RawDescriptor descriptor, int name, int type, std::int64_t count, std::int64_t* written, void* values) {
  constexpr const char* kCall = "cudnnBackendGetAttribute";
  auto* f = static_cast<Fake*>(descriptor);
  if (!lives(f)) return wrong(kCall, "no such descriptor");
  const auto part = [&](std::int64_t i) { return static_cast<Fake*>(static_cast<void**>(values)[i]); };
  if (f->type == kHeuristics && name == kHeuristicsResults && type == kTypeDescriptor && f->finalized) {
    {
      const std::lock_guard lock(state().mutex);
      ++state().asked;
    }
    const std::int64_t engines[] = {kWinogradEngine, kCarelessEngine, kPlainEngine, kOtherEngine};
    *written = std::min<std::int64_t>(count, 4);
    for (std::int64_t i = 0; i < *written; ++i) fill(part(i), kEngineIndex, &engines[i], 8);
    return kSuccess;
  }
  if (f->type == kEngineConfig && name == kConfigEngine && type == kTypeDescriptor && count == 1) {
    const auto index = f->one<std::int64_t>(kEngineIndex);
    fill(part(0), kEngineIndex, &index, 8);
    *written = 1;
    return kSuccess;
  }
  if (f->type == kEngineConfig && name == kConfigKnobs && type == kTypeDescriptor) {
    *written = f->one<std::int64_t>(kEngineIndex) == kOtherEngine ? 1 : 0;
    const int knob = 5;
    const std::int64_t value = 3;
    for (std::int64_t i = 0; i < *written; ++i) fill(part(i), kKnobType, &knob, 4), fill(part(i), kKnobValue, &value, 8);
    return kSuccess;
  }
  if (f->type == kEngine && name == kEngineIndex && type == kTypeInt64) return *written = 1, std::memcpy(values, f->attributes.at(name).data(), 8), kSuccess;
  if (f->type == kEngine && name == kEngineNotes && type == kTypeNumericalNote) {
    *written = 1;
    static_cast<int*>(values)[0] = f->one<std::int64_t>(kEngineIndex) == kWinogradEngine ? kNoteWinograd : 0;
    return kSuccess;
  }
  if (f->type == kKnobChoice && name == kKnobType && type == kTypeKnob) return *written = 1, std::memcpy(values, f->attributes.at(name).data(), 4), kSuccess;
  if (f->type == kKnobChoice && name == kKnobValue && type == kTypeInt64) return *written = 1, std::memcpy(values, f->attributes.at(name).data(), 8), kSuccess;
  if (f->type == kExecutionPlan && name == kPlanWorkspace && type == kTypeInt64 && f->finalized) {
    *written = 1;
    *static_cast<std::int64_t*>(values) = f->part(kPlanConfig)->part(kConfigEngine)->one<std::int64_t>(kEngineIndex) == kOtherEngine ? kWorkspaceOfOther : 0;
    return kSuccess;
  }
  return wrong(kCall, "attribute " + std::to_string(name) + " of descriptor " + std::to_string(f->type) + " is not told");
}

FAKE Result cudnnBackendExecute(Handle handle, RawDescriptor plan_raw, RawDescriptor pack_raw) {
  constexpr const char* kCall = "cudnnBackendExecute";
  const auto *plan = static_cast<const Fake*>(plan_raw), *pack = static_cast<const Fake*>(pack_raw);
  if (!fake_cuda_has_context()) return wrong(kCall, "no context is current");
  if (!is_handle(handle)) return wrong(kCall, "no such handle");
  if (!lives(plan) || !plan->finalized || !lives(pack) || !pack->finalized) return wrong(kCall, "a plan or pack that is not finalised");
  {
    const std::lock_guard lock(state().mutex);
    if (std::exchange(reinterpret_cast<FakeHandle*>(handle)->busy, true)) return wrong(kCall, "a handle in two calls at once");
    ++state().runs;
  }
  const auto done = [&](Result result) {
    reinterpret_cast<FakeHandle*>(handle)->busy = false;
    return result;
  };
  const Fake* engine = plan->part(kPlanConfig)->part(kConfigEngine);
  const auto ids = pack->all<std::int64_t>(kPackIds);
  const auto pointers = pack->all<void*>(kPackPointers);
  if (ids.size() != pointers.size()) return done(wrong(kCall, "ids and pointers differ in number"));
  if (engine->one<std::int64_t>(kEngineIndex) == kOtherEngine) {
    void* workspace = pack->one<void*>(kPackWorkspace);
    if (!fake_cuda_covers(workspace, kWorkspaceOfOther)) return done(wrong(kCall, "workspace that is not inside one block"));
    std::memset(fake_cuda_host(workspace), 0x5A, kWorkspaceOfOther);
  }
  std::map<const Fake*, Values> values;
  std::string fault;
  const auto find = [&](const Fake* tensor) -> Values& {
    if (const auto found = values.find(tensor); found != values.end()) return found->second;
    void* memory = nullptr;
    if (!tensor->one<char>(kTensorVirtual)) {
      for (std::size_t i = 0; i < ids.size(); ++i)
        if (ids[i] == tensor->one<std::int64_t>(kTensorId)) memory = pointers[i];
      if (!memory || !fake_cuda_covers(memory, extent(tensor))) fault = "a tensor that is not inside one block";
      else if (reinterpret_cast<std::uintptr_t>(memory) % static_cast<std::uint64_t>(tensor->one<std::int64_t>(kTensorAlignment)) != 0)
        fault = "a tensor that begins at less than its alignment";
      else memory = fake_cuda_host(memory);
    }
    return values.emplace(tensor, Values(tensor, fault.empty() ? memory : nullptr)).first->second;
  };
  if (const int failed = fake_cuda_enqueue(reinterpret_cast<FakeHandle*>(handle)->stream)) return done(failed);
  for (void* each : engine->part(kEngineGraph)->all<void*>(kGraphOperations)) {
    const auto* op = static_cast<const Fake*>(each);
    if (op->type == kConvolutionForward) {
      const Values &x = find(op->part(kForwardX)), &w = find(op->part(kForwardW));
      Values& y = find(op->part(kForwardY));
      if (!fault.empty()) return done(wrong(kCall, fault));
      convolve(op, x, w, y);
      continue;
    }
    const Fake* pointwise = op->part(kOperationPointwise);
    const Values& x = find(op->part(kOperationX));
    const Values* b = op->attributes.count(kOperationB) ? &find(op->part(kOperationB)) : nullptr;
    Values& y = find(op->part(kOperationY));
    if (!fault.empty()) return done(wrong(kCall, fault));
    const bool add = pointwise->one<int>(kPointwiseMode) == kAdd;
    if (add != (b != nullptr)) return done(wrong(kCall, "an operation with too few or too many operands"));
    for (std::int64_t n = 0; n < y.dims[0]; ++n)
      for (std::int64_t c = 0; c < y.dims[1]; ++c)
        for (std::int64_t i = 0; i < y.dims[2]; ++i)
          for (std::int64_t j = 0; j < y.dims[3]; ++j)
            y.write(n, c, i, j,
                    add ? x.read(n, c, i, j) + b->read(n, c, i, j) : activated(pointwise, x.read(n, c, i, j), engine->one<std::int64_t>(kEngineIndex)));
  }
  return done(kSuccess);
}

FAKE fake_vendor_live fake_cudnn_count() {
  const std::lock_guard lock(state().mutex);
  return {state().handles.size(), state().descriptors.size(), state().runs, state().asked};
}
FAKE void fake_cudnn_refuse(int most_operations, int wide_bias) {
  const std::lock_guard lock(state().mutex);
  state().most_operations = most_operations;
  state().refuse_wide_bias = wide_bias != 0;
}
FAKE void fake_cudnn_fail(int fail) {
  const std::lock_guard lock(state().mutex);
  state().fail = fail != 0;
}
