// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// dnnl_primitive_execute makes a hash map of its arguments: about ten calls of operator new each time, freed before it returns. Lathe
// promises that a run allocates nothing, so the library's two imports (operator new and operator delete, in its own table of imported
// functions) are pointed here. While a CallHeap lives, the calling thread's allocations come from a small fixed block; at all other times,
// and when the block is full, they go where they went before. Nothing else in the process is changed.

#include <cstddef>

namespace lathe::cpu::onednn {

/// Redirects the imports of the library that `function` belongs to. False when it does not import operator new as a replaceable function.
bool redirect_allocations(const void* function) noexcept;

class CallHeap {
 public:
  CallHeap() noexcept;
  ~CallHeap();
  CallHeap(const CallHeap&) = delete;
  CallHeap& operator=(const CallHeap&) = delete;

 private:
  friend void* allocate(std::size_t bytes);
  friend void release(void* p) noexcept;
  std::byte* block_ = nullptr;  ///< nullptr: all blocks are in use, the heap serves
  std::size_t index_ = 0, used_ = 0;
  int live_ = 0;
  CallHeap* outer_;
};

}  // namespace lathe::cpu::onednn
