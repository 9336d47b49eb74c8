// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The system calls by which os::AtomicFile writes, as pointers. Tests put others in their place (failing_writes.h); nobody else does.

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

}  // namespace lathe::os
