// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The system calls by which os::AtomicFile writes, as pointers. Tests put others in their place (failing_writes.h); nobody else does. And what
// a process that ends at once has to take away.

#include <sys/types.h>

#include <cstddef>

namespace lathe::os {

struct FileCalls {
  int (*open)(const char* path, int flags, mode_t mode);
  ssize_t (*write)(int fd, const void* data, std::size_t bytes);
  int (*fsync)(int fd);
  int (*close)(int fd);
  int (*link_fd)(int fd, const char* path);  ///< gives the nameless file a name
  int (*rename)(const char* from, const char* to);
};

FileCalls& file_calls() noexcept;

/// Takes away the hidden files of all AtomicFiles that are not committed. For a signal handler that ends the process: async-signal-safe.
void remove_temporaries() noexcept;

}  // namespace lathe::os
