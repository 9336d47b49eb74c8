// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// oneDNN as an optional source of kernels, opened at run time: nothing links it, and a process that asks for none of its kernels loads
// neither it nor its OpenMP runtime. Lathe's pool is the only source of threads, so everything runs in the calling thread alone.

#include <oneapi/dnnl/dnnl.h>

#include <memory>
#include <span>
#include <string>
#include <string_view>

#include "lathe/dtype.h"

namespace lathe::cpu::onednn {

// clang-format off
#define LATHE_ONEDNN_FUNCTIONS(X)                                                                                                 \
  X(version) X(set_max_cpu_isa) X(get_effective_cpu_isa) X(engine_create) X(engine_destroy) X(stream_create) X(stream_destroy)    \
  X(memory_desc_create_with_tag) X(memory_desc_destroy) X(memory_desc_get_size) X(memory_desc_query)                              \
  X(memory_create) X(memory_destroy) X(memory_set_data_handle)                                                                    \
  X(post_ops_create) X(post_ops_destroy) X(post_ops_append_eltwise) X(post_ops_append_binary)                                     \
  X(primitive_attr_create) X(primitive_attr_destroy) X(primitive_attr_set_post_ops) X(primitive_attr_set_scratchpad_mode)         \
  X(convolution_forward_primitive_desc_create) X(reorder_primitive_desc_create)                                                   \
  X(primitive_desc_destroy) X(primitive_desc_query) X(primitive_desc_query_md)                                                    \
  X(primitive_create) X(primitive_destroy) X(primitive_execute)
// clang-format on

struct Functions {
#define LATHE_ONEDNN_MEMBER(name) decltype(&dnnl_##name) name = nullptr;
  LATHE_ONEDNN_FUNCTIONS(LATHE_ONEDNN_MEMBER)
#undef LATHE_ONEDNN_MEMBER
  int (*omp_get_max_threads)() = nullptr;
  void (*omp_set_num_threads)(int) = nullptr;
};

class Library {
 public:
  /// The process's one; opened at the first call. nullptr: not there, and `why` says why.
  static const Library* find(std::string* why = nullptr);
  /// Throws Error(kMachine) when it is not there.
  static const Library& get();
  /// For tests: what find() would find if the knob LATHE_ONEDNN were `asked`.
  static std::unique_ptr<const Library> open(const std::string& asked, std::string& why);
  Library() = default;
  ~Library() {
    if (engine_) functions_.engine_destroy(engine_);
  }
  Library(const Library&) = delete;
  Library& operator=(const Library&) = delete;

  const Functions& functions() const noexcept { return functions_; }
  dnnl_engine_t engine() const noexcept { return engine_; }
  bool multiplies_bf16() const noexcept { return bf16_; }
  std::string_view version() const noexcept { return version_; }
  /// What its choice of memory formats depends on: version, instruction set, cache sizes. Packed weights are good where this is the same.
  const std::string& identity() const noexcept { return identity_; }

 private:
  Functions functions_;
  dnnl_engine_t engine_ = nullptr;
  bool bf16_ = false;
  std::string version_, identity_;
};

/// Functions of a library that is known to be there.
const Functions& functions();

/// While it lives, the calling thread's OpenMP regions have one thread. The thread's own setting comes back.
class SingleThread {
 public:
  SingleThread() noexcept;
  ~SingleThread();
  SingleThread(const SingleThread&) = delete;
  SingleThread& operator=(const SingleThread&) = delete;

 private:
  int before_;
};
/// A thread's first call costs two allocations, the OpenMP runtime's record of it and the library's thread-local block: made here for the
/// threads of the pool, at binding. A caller's own thread has them from its first run.
void prepare_pool_threads();

/// Executes in the calling thread. Allocates nothing: see onednn_heap.h.
dnnl_status_t execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream, std::span<const dnnl_exec_arg_t> args) noexcept;

/// Throws Error(kUnsupported or kOutOfMemory) naming the call.
void require(dnnl_status_t status, std::string_view call);

template <auto kDestroy>
struct Destroy {
  template <class T>
  void operator()(T* handle) const noexcept {
    (functions().*kDestroy)(handle);
  }
};
using Stream = std::unique_ptr<dnnl_stream, Destroy<&Functions::stream_destroy>>;
using MemoryDesc = std::unique_ptr<dnnl_memory_desc, Destroy<&Functions::memory_desc_destroy>>;
using Memory = std::unique_ptr<dnnl_memory, Destroy<&Functions::memory_destroy>>;
using PostOps = std::unique_ptr<dnnl_post_ops, Destroy<&Functions::post_ops_destroy>>;
using Attributes = std::unique_ptr<dnnl_primitive_attr, Destroy<&Functions::primitive_attr_destroy>>;
using PrimitiveDesc = std::unique_ptr<dnnl_primitive_desc, Destroy<&Functions::primitive_desc_destroy>>;
using Primitive = std::unique_ptr<dnnl_primitive, Destroy<&Functions::primitive_destroy>>;

dnnl_data_type_t data_type(DType dtype);  ///< kFloat32 or kBFloat16
Stream make_stream();
MemoryDesc make_desc(std::span<const std::int64_t> dims, dnnl_data_type_t type, dnnl_format_tag_t tag);
/// Of memory to be given with memory_set_data_handle, or of what lies at `data`.
Memory make_memory(const_dnnl_memory_desc_t desc, void* data = nullptr);
std::string describe(const_dnnl_memory_desc_t desc);  ///< every field that addresses depend on, as text

}  // namespace lathe::cpu::onednn
