// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What an application may replace: memory, log and progress. Every entry point that does long work or takes memory accepts them.

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "lathe/export.h"

namespace lathe {

enum class MemorySpace : std::uint8_t { kHost = 0, kPinned = 1, kDevice = 2 };  ///< Where memory lies: the host's, the host's that a GPU reaches, a GPU's.

/// Source of memory. Calls may come from several threads at once.
class LATHE_API Allocator {
 public:
  virtual ~Allocator() = default;
  /// At least `bytes` bytes aligned to `alignment` (a power of two, at most 4096), or nullptr. `stream` is the device
  /// stream whose order the memory follows, nullptr on the host.
  virtual void* allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void* stream) noexcept = 0;
  virtual void deallocate(void* pointer, std::size_t bytes, MemorySpace space, void* stream) noexcept = 0;  ///< the same size, space and stream
};

/// The process's default host allocator (aligned operator new).
LATHE_API Allocator& default_allocator() noexcept;

enum class LogLevel : std::uint8_t { kError = 0, kWarning, kInfo, kDebug };  ///< How grave a message is.

class LATHE_API LogSink {  ///< Takes the process's messages: see set_log_sink().
 public:
  virtual ~LogSink() = default;
  virtual void write(LogLevel level, std::string_view message) noexcept = 0;  ///< One message without a line end. Calls may come from several threads at once.
};

/// Progress of long work; estimates are in seconds, negative when unknown.
class LATHE_API Progress {
 public:
  virtual ~Progress() = default;
  /// Called from the working thread. Return false to cancel: the work stops soon with Code::kCancelled and keeps what it tuned.
  virtual bool update(std::string_view phase, std::int64_t done, std::int64_t total, double seconds_left) noexcept = 0;
};

}  // namespace lathe
