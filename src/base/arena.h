// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Memory given out by moving a pointer and taken back all at once, for work that is done again and again on data of about one size: what
// was taken back stays reserved, so that only the first times reach the heap.

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <memory_resource>
#include <span>
#include <type_traits>
#include <vector>

namespace lathe {

class Arena final : public std::pmr::memory_resource {
 public:
  Arena() = default;
  /// Takes back everything: nothing that was given out may be used any more.
  void reset() noexcept { chunk_ = used_ = 0; }
  std::size_t reserved() const noexcept { return reserved_; }

 private:
  struct Chunk {
    std::unique_ptr<std::byte[]> data;
    std::size_t bytes;
  };
  static constexpr std::size_t kLeast = std::size_t{32} << 10;

  void* do_allocate(std::size_t bytes, std::size_t alignment) override {
    for (; chunk_ < chunks_.size(); ++chunk_, used_ = 0) {
      const auto start = reinterpret_cast<std::uintptr_t>(chunks_[chunk_].data.get());
      const std::size_t at = (start + used_ + alignment - 1) / alignment * alignment - start;
      if (at + bytes > chunks_[chunk_].bytes) continue;
      used_ = at + bytes;
      return chunks_[chunk_].data.get() + at;
    }
    const std::size_t fresh = std::max({kLeast, reserved_, bytes + alignment});
    chunks_.push_back({std::make_unique_for_overwrite<std::byte[]>(fresh), fresh});
    reserved_ += fresh;
    return do_allocate(bytes, alignment);
  }
  void do_deallocate(void*, std::size_t, std::size_t) override {}
  bool do_is_equal(const memory_resource& other) const noexcept override { return this == &other; }

  std::vector<Chunk> chunks_;
  std::size_t chunk_ = 0, used_ = 0, reserved_ = 0;
};

/// `count` value-initialised elements that live as long as what `memory` gave out.
template <class T>
std::span<T> make_span(std::pmr::memory_resource& memory, std::size_t count) {
  static_assert(std::is_trivially_destructible_v<T>, "nobody destroys them");
  if (count == 0) return {};
  T* data = static_cast<T*>(memory.allocate(count * sizeof(T), alignof(T)));
  std::uninitialized_value_construct_n(data, count);
  return {data, count};
}

}  // namespace lathe
