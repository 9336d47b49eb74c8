// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See onednn_heap.h. Blocks are a static region: a pointer into it is never given to the heap's free, whenever and wherever it is freed. A
// block in which something outlived its call (a lazily made object) is not used again.

#include "backend/cpu/onednn_heap.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <new>
#include <string_view>

namespace lathe::cpu::onednn {
namespace {

constexpr std::size_t kBlocks = 256, kBlockBytes = 4096;
alignas(64) std::byte region[kBlocks * kBlockBytes];
std::atomic<bool> taken[kBlocks];

thread_local CallHeap* current = nullptr;

void* (*next_new)(std::size_t) = nullptr;
void (*next_delete)(void*) = nullptr;

}  // namespace

void* allocate(std::size_t bytes) {
  if (CallHeap* const heap = current; heap && heap->block_) {
    const std::size_t size = (bytes + 15) & ~std::size_t{15};
    if (size >= bytes && size <= kBlockBytes - heap->used_) {
      std::byte* const p = heap->block_ + heap->used_;
      heap->used_ += size;
      ++heap->live_;
      return p;
    }
  }
  return next_new(bytes);
}

void release(void* p) noexcept {
  auto* const at = static_cast<std::byte*>(p);
  if (at < region || at >= region + sizeof region) return next_delete(p);
  if (CallHeap* const heap = current; heap && heap->block_ && at >= heap->block_ && at < heap->block_ + kBlockBytes) --heap->live_;
}

CallHeap::CallHeap() noexcept : outer_(current) {
  // A thread begins at the block that it had last: no two threads fight for one cache line.
  thread_local std::size_t last = 0;
  for (std::size_t i = 0; i < kBlocks; ++i) {
    const std::size_t at = (last + i) % kBlocks;
    if (taken[at].load(std::memory_order_relaxed) || taken[at].exchange(true, std::memory_order_acquire)) continue;
    last = index_ = at;
    block_ = region + at * kBlockBytes;
    break;
  }
  current = this;
}

CallHeap::~CallHeap() {
  current = outer_;
  if (block_ && live_ == 0) taken[index_].store(false, std::memory_order_release);
}

namespace {

struct Dynamic {
  ElfW(Addr) base = 0;
  const ElfW(Sym) * symbols = nullptr;
  const char* names = nullptr;
  const ElfW(Rela) * tables[2] = {};
  std::size_t bytes[2] = {};
  bool now = false;  ///< all imports are resolved at loading, and their table is read-only since
};

Dynamic read_dynamic(const link_map& map) noexcept {
  Dynamic d;
  d.base = map.l_addr;
  for (const ElfW(Dyn)* entry = map.l_ld; entry->d_tag != DT_NULL; ++entry) {
    const auto address = entry->d_un.d_ptr;
    switch (entry->d_tag) {
      case DT_SYMTAB: d.symbols = reinterpret_cast<const ElfW(Sym)*>(address); break;
      case DT_STRTAB: d.names = reinterpret_cast<const char*>(address); break;
      case DT_JMPREL: d.tables[0] = reinterpret_cast<const ElfW(Rela)*>(address); break;
      case DT_PLTRELSZ: d.bytes[0] = entry->d_un.d_val; break;
      case DT_RELA: d.tables[1] = reinterpret_cast<const ElfW(Rela)*>(address); break;
      case DT_RELASZ: d.bytes[1] = entry->d_un.d_val; break;
      case DT_BIND_NOW: d.now = true; break;
      case DT_FLAGS: d.now = d.now || (entry->d_un.d_val & DF_BIND_NOW) != 0; break;
      case DT_FLAGS_1: d.now = d.now || (entry->d_un.d_val & DF_1_NOW) != 0; break;
      default: break;
    }
  }
  return d;
}

/// Writes to a slot of the table of imports, which the linker may have made read-only.
bool write_slot(void** slot, void* value, bool read_only) noexcept {
  const auto page = static_cast<std::uintptr_t>(sysconf(_SC_PAGESIZE));
  void* const begin = reinterpret_cast<void*>(reinterpret_cast<std::uintptr_t>(slot) & ~(page - 1));
  if (mprotect(begin, page, PROT_READ | PROT_WRITE) != 0) return false;
  std::atomic_ref<void*>(*slot).store(value);
  return !read_only || mprotect(begin, page, PROT_READ) == 0;
}

}  // namespace

bool redirect_allocations(const void* function) noexcept {
#if defined(__x86_64__)
  Dl_info info{};
  link_map* map = nullptr;
  if (dladdr1(function, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 || !map) return false;
  const Dynamic d = read_dynamic(*map);
  if (!d.symbols || !d.names) return false;
  struct Import {
    std::string_view name;
    void* ours;
    void** next;
    void** slot;
  };
  Import imports[] = {{"_Znwm", reinterpret_cast<void*>(&allocate), reinterpret_cast<void**>(&next_new), nullptr},
                      {"_ZdlPv", reinterpret_cast<void*>(&release), reinterpret_cast<void**>(&next_delete), nullptr}};
  for (int t = 0; t < 2; ++t)
    for (std::size_t i = 0; d.tables[t] && i < d.bytes[t] / sizeof(ElfW(Rela)); ++i) {
      const ElfW(Rela)& r = d.tables[t][i];
      const auto type = ELF64_R_TYPE(r.r_info);
      if (type != R_X86_64_JUMP_SLOT && type != R_X86_64_GLOB_DAT) continue;
      const char* const name = d.names + d.symbols[ELF64_R_SYM(r.r_info)].st_name;
      // Sized and array forms would pass by the redirection; then freed memory would not come back to it.
      if (std::strcmp(name, "_ZdlPvm") == 0 || std::strcmp(name, "_Znam") == 0 || std::strcmp(name, "_ZdaPv") == 0) return false;
      for (Import& import : imports)
        if (import.name == name) {
          if (import.slot) return false;
          import.slot = reinterpret_cast<void**>(d.base + r.r_offset);
        }
    }
  for (const Import& import : imports)
    if (!import.slot) return false;
  if (*imports[0].slot == imports[0].ours && *imports[1].slot == imports[1].ours) return true;
  // Another copy of this code in the process may have been here before: then its functions are the next ones.
  for (const Import& import : imports) *import.next = *import.slot;
  // operator delete first: it must know the block's pointers before there are any.
  return write_slot(imports[1].slot, imports[1].ours, d.now) && write_slot(imports[0].slot, imports[0].ours, d.now);
#else
  (void)function;
  return false;
#endif
}

}  // namespace lathe::cpu::onednn
