// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See onednn.h.

#include "backend/cpu/onednn.h"

#include <dlfcn.h>
#include <fmt/format.h>

#include <array>
#include <atomic>
#include <filesystem>
#include <mutex>
#include <thread>
#include <vector>

#include "backend/cpu/features.h"
#include "backend/cpu/onednn_heap.h"
#include "base/beside.h"
#include "base/knobs.h"
#include "base/os.h"
#include "base/thread_pool.h"
#include "lathe/status.h"

namespace lathe::cpu::onednn {
namespace {

constexpr std::string_view kFile = "libdnnl.so.3";

Functions shared_functions;

std::vector<std::string> library_names(const std::string& asked) {
  if (!asked.empty()) return {asked};
  std::vector<std::string> names;
  for (const std::filesystem::path& file : os::files_beside(kFile)) names.push_back(file.string());
  names.emplace_back(kFile);
  return names;
}

/// The limit that the knob LATHE_CPU_FEATURES sets for our kernels holds for oneDNN's too.
std::string limit_instructions(const Functions& f) {
  const Isa level = cpu_features().isa();
  if (level == detect_cpu_features().isa()) return level == Isa::kGeneric ? "the CPU has no AVX2" : "";
  if (level == Isa::kGeneric) return "the knob LATHE_CPU_FEATURES leaves no AVX2";
  const dnnl_cpu_isa_t isa = level == Isa::kAvx2 ? dnnl_cpu_isa_avx2 : level == Isa::kAvx512 ? dnnl_cpu_isa_avx512_core : dnnl_cpu_isa_avx512_core_bf16;
  if (f.set_max_cpu_isa(isa) != dnnl_success && (f.get_effective_cpu_isa() & ~isa) != 0)
    return "oneDNN is in use already and cannot be held to LATHE_CPU_FEATURES any more";
  return "";
}

struct Opened {
  std::string why;  // before the library: opening writes it
  std::unique_ptr<const Library> library;
  Opened() : library(Library::open(knob("LATHE_ONEDNN"), why)) {}
};

}  // namespace

std::unique_ptr<const Library> Library::open(const std::string& asked, std::string& why) {
  if (asked == "none") {
    why = "the knob LATHE_ONEDNN is 'none'";
    return nullptr;
  }
  void* handle = nullptr;
  std::string reason;
  for (const std::string& name : library_names(asked)) {
    handle = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (handle) break;
    if (const char* text = dlerror()) reason = text;
  }
  if (!handle) {
    why = fmt::format("oneDNN's library {} cannot be opened ({}); the PyPI package onednn-cpu-gomp brings it (point LATHE_ONEDNN at its {})", kFile, reason,
                      kFile);
    return nullptr;
  }
  auto library = std::make_unique<Library>();
  Functions& f = library->functions_;
  const auto look_up = [&](auto& member, const char* name) {
    member = reinterpret_cast<std::remove_reference_t<decltype(member)>>(dlsym(handle, name));
    if (!member && why.empty()) why = fmt::format("oneDNN's library has no function {}; version 3.2 or newer, built for OpenMP, is needed", name);
  };
#define LATHE_ONEDNN_LOOK_UP(name) look_up(f.name, "dnnl_" #name);
  LATHE_ONEDNN_FUNCTIONS(LATHE_ONEDNN_LOOK_UP)
#undef LATHE_ONEDNN_LOOK_UP
  look_up(f.omp_get_max_threads, "omp_get_max_threads");
  look_up(f.omp_set_num_threads, "omp_set_num_threads");
  if (!why.empty()) return nullptr;
  const dnnl_version_t& version = *f.version();
  library->version_ = fmt::format("{}.{}.{}", version.major, version.minor, version.patch);
  if (version.major != 3 || version.minor < 2) {
    why = fmt::format("oneDNN is version {}; 3.2 or a newer 3 is needed", library->version_);
  } else if (version.cpu_runtime != DNNL_RUNTIME_OMP) {
    why = fmt::format("oneDNN {} is not built for OpenMP: its threads cannot be held back", library->version_);
  } else if (!redirect_allocations(reinterpret_cast<const void*>(f.primitive_execute))) {
    why = fmt::format("oneDNN {} does not let its calls of operator new be redirected", library->version_);
  } else {
    why = limit_instructions(f);
  }
  if (!why.empty()) return nullptr;
  if (f.engine_create(&library->engine_, dnnl_cpu, 0) != dnnl_success) {
    why = fmt::format("oneDNN {} makes no CPU engine", library->version_);
    return nullptr;
  }
  const auto isa = static_cast<unsigned>(f.get_effective_cpu_isa());
  library->bf16_ = (isa & dnnl_cpu_isa_avx512_core_bf16) == dnnl_cpu_isa_avx512_core_bf16;
  library->identity_ = fmt::format("{} isa {:x} L1 {} L2 {}", library->version_, isa, cache_sizes().l1d, cache_sizes().l2);
  static std::once_flag once;
  std::call_once(once, [&] { shared_functions = f; });
  return library;
}

const Library* Library::find(std::string* why) {
  static const Opened& once = *new Opened;  // kernels in statics and threads that are still at work may outlive any order of destruction
  if (!once.library && why) *why = once.why;
  return once.library.get();
}

const Library& Library::get() {
  std::string why;
  if (const Library* library = find(&why)) return *library;
  throw Error(Code::kMachine, "a step by oneDNN cannot run: " + why).with_remedy("Install oneDNN, or build the engine again on this machine.");
}

const Functions& functions() { return shared_functions; }

SingleThread::SingleThread() noexcept : before_(functions().omp_get_max_threads()) {
  if (before_ != 1) functions().omp_set_num_threads(1);
}
SingleThread::~SingleThread() {
  if (before_ != 1) functions().omp_set_num_threads(before_);
}

void prepare_pool_threads() {
  static std::mutex mutex;
  static int attempts = 3;
  const std::scoped_lock lock(mutex);
  if (attempts == 0) return;
  const Functions& f = functions();
  const std::array<std::int64_t, 1> dims{16};
  const MemoryDesc desc = make_desc(dims, dnnl_f32, dnnl_a);
  dnnl_primitive_desc_t raw = nullptr;
  require(f.reorder_primitive_desc_create(&raw, desc.get(), Library::get().engine(), desc.get(), Library::get().engine(), nullptr), "reorder");
  const PrimitiveDesc copy_desc(raw);
  dnnl_primitive_t primitive = nullptr;
  require(f.primitive_create(&primitive, copy_desc.get()), "reorder");
  const Primitive copy(primitive);
  struct Work {
    std::array<float, 16> from{}, to{};
    Memory source, target;
    Stream stream;
  };
  ThreadPool& pool = default_pool();
  std::vector<Work> work(static_cast<std::size_t>(pool.size()));
  for (Work& each : work) {
    each.source = make_memory(desc.get(), each.from.data());
    each.target = make_memory(desc.get(), each.to.data());
    each.stream = make_stream();
  }
  std::atomic<int> arrived{0};
  // Each task waits for the others, so that each thread has one; not for ever, since the pool may be at other work: then the next time.
  const double until = os::now_seconds() + 0.2;
  pool.parallel_for(pool.size(), [&](std::int64_t task, int) {
    const Work& mine = work[static_cast<std::size_t>(task)];
    const dnnl_exec_arg_t args[] = {{DNNL_ARG_FROM, mine.source.get()}, {DNNL_ARG_TO, mine.target.get()}};
    (void)execute(copy.get(), mine.stream.get(), args);  // what it makes does not matter
    arrived.fetch_add(1);
    while (arrived.load() < pool.size() && os::now_seconds() < until) std::this_thread::yield();
  });
  attempts = os::now_seconds() < until ? 0 : attempts - 1;
}

dnnl_status_t execute(const_dnnl_primitive_t primitive, dnnl_stream_t stream, std::span<const dnnl_exec_arg_t> args) noexcept {
  const SingleThread one;
  const CallHeap heap;
  return functions().primitive_execute(primitive, stream, static_cast<int>(args.size()), args.data());
}

void require(dnnl_status_t status, std::string_view call) {
  if (status == dnnl_success) return;
  if (status == dnnl_out_of_memory) throw Error(Code::kOutOfMemory, fmt::format("oneDNN's {} found no memory", call));
  throw Error(Code::kUnsupported, status == dnnl_unimplemented ? fmt::format("oneDNN has no {} for it", call)
                                                               : fmt::format("oneDNN's {} failed (status {})", call, static_cast<int>(status)));
}

dnnl_data_type_t data_type(DType dtype) { return dtype == DType::kBFloat16 ? dnnl_bf16 : dnnl_f32; }

Stream make_stream() {
  dnnl_stream_t stream = nullptr;
  require(functions().stream_create(&stream, Library::get().engine(), dnnl_stream_in_order), "stream");
  return Stream(stream);
}

MemoryDesc make_desc(std::span<const std::int64_t> dims, dnnl_data_type_t type, dnnl_format_tag_t tag) {
  dnnl_memory_desc_t desc = nullptr;
  require(functions().memory_desc_create_with_tag(&desc, static_cast<int>(dims.size()), dims.data(), type, tag), "memory description");
  return MemoryDesc(desc);
}

Memory make_memory(const_dnnl_memory_desc_t desc, void* data) {
  dnnl_memory_t memory = nullptr;
  require(functions().memory_create(&memory, desc, Library::get().engine(), data), "memory");
  return Memory(memory);
}

std::string describe(const_dnnl_memory_desc_t desc) {
  const auto ask = [&](dnnl_query_t what, void* into) { require(functions().memory_desc_query(desc, what, into), "memory description"); };
  int rank = 0, blocks = 0;
  dnnl_data_type_t type = dnnl_data_type_undef;
  dnnl_dims_t *dims = nullptr, *padded = nullptr, *strides = nullptr, *sizes = nullptr, *axes = nullptr;
  ask(dnnl_query_ndims_s32, &rank);
  ask(dnnl_query_data_type, &type);
  ask(dnnl_query_dims, &dims);
  ask(dnnl_query_padded_dims, &padded);
  ask(dnnl_query_strides, &strides);
  ask(dnnl_query_inner_nblks_s32, &blocks);
  ask(dnnl_query_inner_blks, &sizes);
  ask(dnnl_query_inner_idxs, &axes);
  std::string text = fmt::format("t{}", static_cast<int>(type));
  for (int i = 0; i < rank; ++i) text += fmt::format(" {}/{}*{}", (*dims)[i], (*padded)[i], (*strides)[i]);
  for (int i = 0; i < blocks; ++i) text += fmt::format(" {}@{}", (*sizes)[i], (*axes)[i]);
  return text + fmt::format(" {}B", functions().memory_desc_get_size(desc));
}

}  // namespace lathe::cpu::onednn
