// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The process's log: one sink, by default stderr with "lathe: " in front, level from the knob LATHE_LOG.

#include <fmt/format.h>

#include "lathe/services.h"

namespace lathe {

/// Replaces the sink (nullptr: back to stderr). The sink must outlive its use.
void set_log_sink(LogSink* sink) noexcept;
void set_log_level(LogLevel level) noexcept;
bool log_enabled(LogLevel level) noexcept;
void log_message(LogLevel level, std::string_view message) noexcept;

template <class... Args>
void log(LogLevel level, fmt::format_string<Args...> format, Args&&... args) {
  if (log_enabled(level)) log_message(level, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace lathe
