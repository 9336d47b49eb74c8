// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See log.h.

#include "base/log.h"
#include "lathe/log.h"

#include <atomic>
#include <cstdio>
#include <new>

#include "base/knobs.h"
#include "base/printable.h"

namespace lathe {
namespace {

class StderrSink final : public LogSink {
 public:
  void write(LogLevel level, std::string_view message) noexcept override {
    static constexpr const char* kNames[] = {"error", "warning", "info", "debug"};
    std::fprintf(stderr, "lathe: %s: %.*s\n", kNames[static_cast<int>(level)], static_cast<int>(message.size()), message.data());
  }
};

LogSink& stderr_sink() {
  static StderrSink sink;
  return sink;
}

std::atomic<LogSink*> g_sink{nullptr};

std::atomic<LogLevel>& level() {
  static std::atomic<LogLevel> value = [] {
    const std::string text = knob("LATHE_LOG");
    return text == "error" ? LogLevel::kError : text == "info" ? LogLevel::kInfo : text == "debug" ? LogLevel::kDebug : LogLevel::kWarning;
  }();
  return value;
}

class HostAllocator final : public Allocator {
 public:
  void* allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void*) noexcept override {
    if (space == MemorySpace::kDevice) return nullptr;
    return ::operator new(bytes, std::align_val_t(alignment < 64 ? 64 : alignment), std::nothrow);
  }
  void deallocate(void* pointer, std::size_t, MemorySpace, void*) noexcept override { ::operator delete(pointer, std::align_val_t(64)); }
};

}  // namespace

void set_log_sink(LogSink* sink) noexcept { g_sink.store(sink); }
void set_log_level(LogLevel value) noexcept { level().store(value); }
bool log_enabled(LogLevel value) noexcept { return value <= level().load(std::memory_order_relaxed); }

void log_message(LogLevel value, std::string_view message) noexcept {
  LogSink* const set = g_sink.load();
  LogSink& sink = set ? *set : stderr_sink();
  if (value > LogLevel::kWarning) return sink.write(value, message);  // whole graphs, with their lines
  try {
    sink.write(value, printable(message));  // names come from files of strangers
  } catch (const std::bad_alloc&) {
    sink.write(value, message);
  }
}

Allocator& default_allocator() noexcept {
  static HostAllocator allocator;
  return allocator;
}

}  // namespace lathe
