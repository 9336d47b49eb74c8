// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The process's log, as an application sets it. Messages go to stderr until a sink takes them.

#include "lathe/services.h"

namespace lathe {

/// Where messages go instead of stderr; nullptr: back to stderr. The sink must outlive its use; its calls may come from several threads
/// at once.
LATHE_API void set_log_sink(LogSink* sink) noexcept;
/// Least level that is logged; the knob LATHE_LOG sets it at the start (default: warning).
LATHE_API void set_log_level(LogLevel level) noexcept;

}  // namespace lathe
