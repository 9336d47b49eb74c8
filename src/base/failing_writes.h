// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// For tests: a disk that ends anywhere. While a FailingWrites lives, call number n of os::AtomicFile to the system fails (or that one and all
// that follow, as on a full disk); a write that fails has written half before.

#include <cerrno>

#include "base/file_calls.h"

namespace lathe::test {

class FailingWrites {
 public:
  /// The call of this number fails with `code`; 0: none does, they are only counted.
  FailingWrites(int nth, int code, bool ever_after) : before_(os::file_calls()) {
    state() = {nth, code, ever_after, 0, false, before_};
    os::file_calls() = {[](const char* path, int flags, mode_t mode) { return refused() ? -1 : state().real.open(path, flags, mode); },
                        [](int fd, const void* data, std::size_t bytes) -> ssize_t {
                          if (!refused()) return state().real.write(fd, data, bytes);
                          const int why = errno;
                          if (bytes > 1 && state().real.write(fd, data, bytes / 2) < 0) return -1;
                          errno = why;
                          return -1;
                        },
                        [](int fd) { return refused() ? -1 : state().real.fsync(fd); },
                        [](int fd) {
                          const bool fails = refused();
                          const int why = errno, result = state().real.close(fd);  // a close that fails closes as well
                          if (!fails) return result;
                          errno = why;
                          return -1;
                        },
                        [](int fd, const char* path) { return refused() ? -1 : state().real.link_fd(fd, path); },
                        [](const char* from, const char* to) { return refused() ? -1 : state().real.rename(from, to); }};
  }
  ~FailingWrites() { os::file_calls() = before_; }
  FailingWrites(const FailingWrites&) = delete;
  FailingWrites& operator=(const FailingWrites&) = delete;
  static int calls() { return state().calls; }
  static bool failed() { return state().failed; }

 private:
  struct State {
    int nth, code;
    bool ever_after;
    int calls;
    bool failed;
    os::FileCalls real;
  };
  static State& state() {
    static State only{};
    return only;
  }
  static bool refused() {
    State& s = state();
    ++s.calls;
    if (s.nth == 0 || s.calls < s.nth || (s.calls > s.nth && !s.ever_after)) return false;
    s.failed = true;
    errno = s.code;
    return true;
  }
  os::FileCalls before_;
};

}  // namespace lathe::test
