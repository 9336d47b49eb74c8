// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A libcublasLt for tests on machines without a GPU: checks handles, a current context, sizes of attributes, that layouts fit together, workspace,
// alignment and that matrices lie in live device memory, and computes the product on the host. Column-major, as the library is.

#include <cstdint>
#include <cstring>
#include <mutex>
#include <set>

#include "backend/cuda/cublaslt.h"
#include "fake_cuda.h"
#include "fake_elements.h"
#include "fake_vendor.h"

#define FAKE extern "C" __attribute__((visibility("default")))

namespace {

using namespace lathe::cuda::cublaslt;
using fake_cuda::Element;

struct FakeDesc {
  int compute = 0;
  std::int32_t trans_a = 0, trans_b = 0;
  std::uint32_t epilogue = kEpilogueNone;
  const void* bias = nullptr;
};
struct FakeLayout {
  int type = 0;
  std::uint64_t rows = 0, columns = 0;
  std::int64_t leading = 0;
  std::int32_t batch = 1;
  std::int64_t stride = 0;
};
struct FakePreference {
  std::uint64_t workspace = 0;
  std::uint32_t alignment[4] = {256, 256, 256, 256};
};
struct State {
  std::mutex mutex;
  std::set<const void*> handles, objects;
  std::size_t runs = 0, asked = 0;
  bool refuse_unaligned = false, fail = false;
};
State& state() {
  static auto* s = new State;
  return *s;
}

Result wrong(const char* call, const char* what) {
  fake_cuda_violation(call, what);
  return kInvalidValue;
}

Element element(int type) { return type == kFloat16 ? Element::kFloat16 : type == kBFloat16 ? Element::kBFloat16 : Element::kFloat32; }

template <class T>
bool lives(T* object) {
  const std::lock_guard lock(state().mutex);
  return state().objects.count(object) > 0;
}
template <class T>
T* made(T* object) {
  const std::lock_guard lock(state().mutex);
  state().objects.insert(object);
  return object;
}
template <class T>
Result end(const char* call, void* handle) {
  const std::lock_guard lock(state().mutex);
  if (state().objects.erase(handle) == 0) return wrong(call, "no such object");
  delete static_cast<T*>(handle);
  return kSuccess;
}
template <class T>
bool take(T& into, const void* from, std::size_t bytes) {
  if (bytes != sizeof into) return false;
  std::memcpy(&into, from, bytes);
  return true;
}

/// Elements from the first to the last of a matrix' batch.
std::size_t extent(const FakeLayout& l) {
  return static_cast<std::size_t>((l.batch - 1) * l.stride + (static_cast<std::int64_t>(l.columns) - 1) * l.leading) + l.rows;
}

/// m, n, k where everything fits together.
bool shape(const FakeDesc& d, const FakeLayout& a, const FakeLayout& b, const FakeLayout& c, const FakeLayout& r, std::uint64_t (&mnk)[3], const char*& why) {
  mnk[0] = d.trans_a ? a.columns : a.rows;
  mnk[1] = d.trans_b ? b.rows : b.columns;
  mnk[2] = d.trans_a ? a.rows : a.columns;
  if ((d.trans_b ? b.columns : b.rows) != mnk[2]) why = "the inner extents differ";
  else if (c.rows != mnk[0] || c.columns != mnk[1] || r.rows != mnk[0] || r.columns != mnk[1]) why = "C or D has other extents than the product";
  else if (a.type != b.type || c.type != r.type) why = "types differ";
  else if (a.batch != b.batch || a.batch != c.batch || a.batch != r.batch || a.batch < 1) why = "batches differ";
  for (const FakeLayout* l : {&a, &b, &c, &r})
    if (l->leading < static_cast<std::int64_t>(l->rows) || l->rows == 0 || l->columns == 0) why = "a leading extent is less than the rows";
  return why == nullptr;
}

std::uint64_t signature(const FakeDesc& d, const FakeLayout* const* layouts) {
  std::uint64_t hash = d.epilogue * 31 + static_cast<std::uint64_t>(d.compute + 2 * d.trans_a + d.trans_b);
  for (int i = 0; i < 4; ++i)
    for (const std::uint64_t v : {layouts[i]->rows, layouts[i]->columns, static_cast<std::uint64_t>(layouts[i]->leading),
                                  static_cast<std::uint64_t>(layouts[i]->batch), static_cast<std::uint64_t>(layouts[i]->stride)})
      hash = hash * 1099511628211ULL + v;
  return hash;
}

}  // namespace

FAKE std::size_t cublasLtGetVersion() { return 130204; }
FAKE Result cublasLtCreate(Handle* handle) {
  if (!fake_cuda_has_context()) return wrong("cublasLtCreate", "no context is current");
  const std::lock_guard lock(state().mutex);
  if (state().fail) return 1;
  *handle = reinterpret_cast<Handle>(new char);
  state().handles.insert(*handle);
  return kSuccess;
}
FAKE Result cublasLtDestroy(Handle handle) {
  const std::lock_guard lock(state().mutex);
  if (state().handles.erase(handle) == 0) return wrong("cublasLtDestroy", "no such handle");
  if (!fake_cuda_has_context()) wrong("cublasLtDestroy", "no context is current");
  delete reinterpret_cast<char*>(handle);
  return kSuccess;
}
FAKE Result cublasLtMatmulDescCreate(MatmulDesc* desc, int compute, int scale) {
  if ((compute != kCompute32F && compute != kComputeTF32) || scale != kFloat32) return wrong("cublasLtMatmulDescCreate", "unknown types");
  *desc = reinterpret_cast<MatmulDesc>(made(new FakeDesc{compute, 0, 0, kEpilogueNone, nullptr}));
  return kSuccess;
}
FAKE Result cublasLtMatmulDescDestroy(MatmulDesc desc) { return end<FakeDesc>("cublasLtMatmulDescDestroy", desc); }
FAKE Result cublasLtMatmulDescSetAttribute(MatmulDesc desc, int name, const void* value, std::size_t bytes) {
  auto* d = reinterpret_cast<FakeDesc*>(desc);
  if (!lives(d)) return wrong("cublasLtMatmulDescSetAttribute", "no such object");
  const bool good = name == kMatmulTransA     ? take(d->trans_a, value, bytes)
                    : name == kMatmulTransB   ? take(d->trans_b, value, bytes)
                    : name == kMatmulEpilogue ? take(d->epilogue, value, bytes)
                    : name == kMatmulBias     ? take(d->bias, value, bytes)
                                              : false;
  return good ? kSuccess : wrong("cublasLtMatmulDescSetAttribute", "no such attribute, or one of another size");
}
FAKE Result cublasLtMatrixLayoutCreate(Layout* layout, int type, std::uint64_t rows, std::uint64_t columns, std::int64_t leading) {
  if (type != kFloat32 && type != kFloat16 && type != kBFloat16) return wrong("cublasLtMatrixLayoutCreate", "no such type");
  *layout = reinterpret_cast<Layout>(made(new FakeLayout{type, rows, columns, leading, 1, 0}));
  return kSuccess;
}
FAKE Result cublasLtMatrixLayoutDestroy(Layout layout) { return end<FakeLayout>("cublasLtMatrixLayoutDestroy", layout); }
FAKE Result cublasLtMatrixLayoutSetAttribute(Layout layout, int name, const void* value, std::size_t bytes) {
  auto* l = reinterpret_cast<FakeLayout*>(layout);
  if (!lives(l)) return wrong("cublasLtMatrixLayoutSetAttribute", "no such object");
  const bool good = name == kLayoutRows          ? take(l->rows, value, bytes)
                    : name == kLayoutColumns     ? take(l->columns, value, bytes)
                    : name == kLayoutLeading     ? take(l->leading, value, bytes)
                    : name == kLayoutBatch       ? take(l->batch, value, bytes)
                    : name == kLayoutBatchStride ? take(l->stride, value, bytes)
                                                 : false;
  return good ? kSuccess : wrong("cublasLtMatrixLayoutSetAttribute", "no such attribute, or one of another size");
}
FAKE Result cublasLtMatmulPreferenceCreate(Preference* preference) {
  *preference = reinterpret_cast<Preference>(made(new FakePreference));
  return kSuccess;
}
FAKE Result cublasLtMatmulPreferenceDestroy(Preference preference) { return end<FakePreference>("cublasLtMatmulPreferenceDestroy", preference); }
FAKE Result cublasLtMatmulPreferenceSetAttribute(Preference preference, int name, const void* value, std::size_t bytes) {
  auto* p = reinterpret_cast<FakePreference*>(preference);
  if (!lives(p)) return wrong("cublasLtMatmulPreferenceSetAttribute", "no such object");
  if (name == kPreferWorkspace && take(p->workspace, value, bytes)) return kSuccess;
  if (name >= kPreferAlignmentA && name <= kPreferAlignmentD && take(p->alignment[name - kPreferAlignmentA], value, bytes)) return kSuccess;
  return wrong("cublasLtMatmulPreferenceSetAttribute", "no such attribute, or one of another size");
}

FAKE Result cublasLtMatmulAlgoGetHeuristic(Handle handle, MatmulDesc desc, Layout a, Layout b, Layout c, Layout d, Preference preference, int wanted,
                                           Heuristic* results, int* count) {
  constexpr const char* kCall = "cublasLtMatmulAlgoGetHeuristic";
  const auto* m = reinterpret_cast<FakeDesc*>(desc);
  const auto* p = reinterpret_cast<FakePreference*>(preference);
  const FakeLayout* layouts[] = {reinterpret_cast<FakeLayout*>(a), reinterpret_cast<FakeLayout*>(b), reinterpret_cast<FakeLayout*>(c),
                                 reinterpret_cast<FakeLayout*>(d)};
  if (!fake_cuda_has_context()) return wrong(kCall, "no context is current");
  if (!lives(m) || !lives(p)) return wrong(kCall, "no such object");
  for (const FakeLayout* l : layouts)
    if (!lives(l)) return wrong(kCall, "no such layout");
  bool refuse = false;
  {
    const std::lock_guard lock(state().mutex);
    if (state().handles.count(handle) == 0) return wrong(kCall, "no such handle");
    ++state().asked;
    refuse = state().refuse_unaligned;
  }
  std::uint64_t mnk[3];
  const char* why = nullptr;
  if (!shape(*m, *layouts[0], *layouts[1], *layouts[2], *layouts[3], mnk, why)) return wrong(kCall, why);
  if ((m->epilogue & kEpilogueBias) && !m->bias) return wrong(kCall, "a bias that is nowhere");
  *count = 0;
  const int a_type = layouts[0]->type, d_type = layouts[3]->type;
  if (d_type != a_type && d_type != kFloat32) return kNotSupported;
  const std::uint32_t alignment = p->alignment[0];
  if (refuse && alignment < 16) return kNotSupported;
  // The best for large products, for small ones, one that needs workspace; the same one twice as the library does.
  const std::uint64_t ids[] = {mnk[1] > 512 ? 66U : 21U, mnk[1] > 512 ? 21U : 66U, 6U, 6U};
  for (int i = 0; i < 4 && i < wanted; ++i) {
    Heuristic& h = results[(*count)++];
    h = {};
    h.algorithm.data[0] = 0x4C54;
    h.algorithm.data[1] = alignment < 16 ? 1 : ids[i];
    h.algorithm.data[2] = alignment;
    h.algorithm.data[3] = signature(*m, layouts);
    h.workspace = ids[i] == 6 ? 4096 : 0;
    h.algorithm.data[4] = h.workspace;
    if (h.workspace > p->workspace) --*count;
  }
  return kSuccess;
}

FAKE Result cublasLtMatmulAlgoConfigGetAttribute(const Algorithm* algorithm, int name, void* value, std::size_t bytes, std::size_t* written) {
  if (algorithm->data[0] != 0x4C54) return wrong("cublasLtMatmulAlgoConfigGetAttribute", "no algorithm");
  const bool narrow = name == kConfigInnerShape || name == kConfigCluster;
  if (name < 0 || name >= kConfigCount || bytes != (narrow ? 2U : 4U)) return wrong("cublasLtMatmulAlgoConfigGetAttribute", "no such attribute or size");
  std::memset(value, 0, bytes);
  const auto id = static_cast<std::int32_t>(algorithm->data[1]);
  if (name == kConfigId) std::memcpy(value, &id, sizeof id);
  *written = bytes;
  return kSuccess;
}

FAKE Result cublasLtMatmul(Handle handle, MatmulDesc desc, const void* alpha, const void* a, Layout a_layout, const void* b, Layout b_layout, const void* beta,
                           const void* c, Layout c_layout, void* d, Layout d_layout, const Algorithm* algorithm, void* workspace, std::size_t workspace_bytes,
                           lathe::cuda::StreamHandle stream) {
  constexpr const char* kCall = "cublasLtMatmul";
  const auto* m = reinterpret_cast<FakeDesc*>(desc);
  const FakeLayout* layouts[] = {reinterpret_cast<FakeLayout*>(a_layout), reinterpret_cast<FakeLayout*>(b_layout), reinterpret_cast<FakeLayout*>(c_layout),
                                 reinterpret_cast<FakeLayout*>(d_layout)};
  if (!fake_cuda_has_context()) return wrong(kCall, "no context is current");
  {
    const std::lock_guard lock(state().mutex);
    if (state().handles.count(handle) == 0) return wrong(kCall, "no such handle");
    ++state().runs;
  }
  if (!lives(m)) return wrong(kCall, "no such object");
  if (!algorithm || algorithm->data[0] != 0x4C54 || algorithm->data[3] != signature(*m, layouts)) return wrong(kCall, "an algorithm for another problem");
  const void* matrices[] = {a, b, c, d};
  for (int i = 0; i < 4; ++i) {
    if (!fake_cuda_covers(matrices[i], extent(*layouts[i]) * bytes_of(element(layouts[i]->type)))) return wrong(kCall, "a matrix is not inside one block");
    if (reinterpret_cast<std::uintptr_t>(matrices[i]) % algorithm->data[2] != 0) return wrong(kCall, "a matrix begins at less than its alignment");
  }
  if (workspace_bytes < algorithm->data[4]) return wrong(kCall, "too little workspace");
  if (workspace_bytes > 0 && (!fake_cuda_covers(workspace, workspace_bytes) || reinterpret_cast<std::uintptr_t>(workspace) % 256 != 0))
    return wrong(kCall, "workspace that is not inside one block, or begins anywhere");
  std::uint64_t mnk[3];
  const char* why = nullptr;
  if (!shape(*m, *layouts[0], *layouts[1], *layouts[2], *layouts[3], mnk, why)) return wrong(kCall, why);
  const Element in = element(layouts[0]->type), out = element(layouts[3]->type);
  const bool biased = (m->epilogue & kEpilogueBias) != 0;
  if (biased && !fake_cuda_covers(m->bias, mnk[0] * bytes_of(out))) return wrong(kCall, "the bias is not inside one block");
  if (const int failed = fake_cuda_enqueue(stream)) return failed;
  float scale, add;
  std::memcpy(&scale, alpha, sizeof scale);
  std::memcpy(&add, beta, sizeof add);
  if (workspace_bytes > 0) std::memset(fake_cuda_host(workspace), 0x5A, workspace_bytes);
  const auto at = [](const FakeLayout& l, std::int64_t item, std::uint64_t row, std::uint64_t column) {
    return item * l.stride + static_cast<std::int64_t>(column) * l.leading + static_cast<std::int64_t>(row);
  };
  for (std::int64_t item = 0; item < layouts[0]->batch; ++item)
    for (std::uint64_t j = 0; j < mnk[1]; ++j)
      for (std::uint64_t i = 0; i < mnk[0]; ++i) {
        double sum = 0;
        for (std::uint64_t k = 0; k < mnk[2]; ++k)
          sum += fake_cuda::read(fake_cuda_host(a), in, m->trans_a ? at(*layouts[0], item, k, i) : at(*layouts[0], item, i, k)) *
                 fake_cuda::read(fake_cuda_host(b), in, m->trans_b ? at(*layouts[1], item, j, k) : at(*layouts[1], item, k, j));
        sum *= scale;
        if (add != 0) sum += add * fake_cuda::read(fake_cuda_host(c), out, at(*layouts[2], item, i, j));
        if (biased) sum += fake_cuda::read(fake_cuda_host(m->bias), out, static_cast<std::int64_t>(i));
        if (m->epilogue & kEpilogueGeluTanh) sum = fake_cuda::gelu_tanh(sum);
        fake_cuda::write(fake_cuda_host(d), out, at(*layouts[3], item, i, j), sum);
      }
  return kSuccess;
}

FAKE fake_vendor_live fake_cublaslt_count() {
  const std::lock_guard lock(state().mutex);
  return {state().handles.size(), state().objects.size(), state().runs, state().asked};
}
FAKE void fake_cublaslt_refuse_unaligned(int refuse) {
  const std::lock_guard lock(state().mutex);
  state().refuse_unaligned = refuse != 0;
}
FAKE void fake_cublaslt_fail(int fail) {
  const std::lock_guard lock(state().mutex);
  state().fail = fail != 0;
}
