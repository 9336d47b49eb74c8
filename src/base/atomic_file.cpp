// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// os::AtomicFile (os.h): every file that Lathe writes is written here, by the calls of file_calls.h.

#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <ctime>

#include "base/file_calls.h"
#include "base/os.h"
#include "lathe/status.h"

namespace lathe::os {
namespace {

constexpr std::size_t kBuffer = std::size_t{1} << 20;

/// Beside the target, hidden, new for each call.
std::filesystem::path temporary_name(const std::filesystem::path& target) {
  static std::atomic<unsigned> counter{0};
  return target.parent_path() / fmt::format(".{}.{}-{}", target.filename().string().substr(0, 200), getpid(), counter++);
}

/// write(2), where a file that reaches the process's size limit is an error (EFBIG) and not the end of the process (SIGXFSZ).
ssize_t write_some(int fd, const std::byte* data, std::size_t bytes) {
  sigset_t over_limit, before;
  sigemptyset(&over_limit);
  sigaddset(&over_limit, SIGXFSZ);
  pthread_sigmask(SIG_BLOCK, &over_limit, &before);
  const ssize_t done = file_calls().write(fd, data, bytes);
  const int code = errno;
  if (done < 0 && code == EFBIG && !sigismember(&before, SIGXFSZ)) {
    const timespec now{};
    while (sigtimedwait(&over_limit, nullptr, &now) == -1 && errno == EINTR) {
    }
  }
  pthread_sigmask(SIG_SETMASK, &before, nullptr);
  errno = code;
  return done;
}

int link_nameless(int fd, const char* path) { return linkat(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd).c_str(), AT_FDCWD, path, AT_SYMLINK_FOLLOW); }

/// Names of hidden files that exist, where a signal handler finds them. A file that gets no place here is only not taken away by it.
struct Registry {
  struct Place {
    std::atomic<int> state{0};  // 0: free, 1: being written, 2: a name
    char name[4096];
  };
  std::array<Place, 16> places;
  Place* add(const std::string& name) noexcept {
    for (Place& place : places) {
      int free = 0;
      if (name.size() >= sizeof place.name || !place.state.compare_exchange_strong(free, 1)) continue;
      std::memcpy(place.name, name.c_str(), name.size() + 1);
      place.state = 2;
      return &place;
    }
    return nullptr;
  }
  void remove(const std::string& name) noexcept {
    for (Place& place : places)
      if (place.state == 2 && name == place.name) {
        place.state = 0;
        return;
      }
  }
};
Registry registry;

void forget(std::filesystem::path& temporary) noexcept {
  registry.remove(temporary.native());
  temporary.clear();
}

}  // namespace

void remove_temporaries() noexcept {
  for (Registry::Place& place : registry.places)
    if (place.state == 2) ::unlink(place.name);
}

FileCalls& file_calls() noexcept {
  static FileCalls calls{
      [](const char* path, int flags, mode_t mode) { return ::open(path, flags, mode); }, ::write, ::fsync, ::close, link_nameless, ::rename};
  return calls;
}

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
  const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : std::filesystem::path(".");
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    throw Error(Code::kIo, std::filesystem::exists(folder, ignored) ? fmt::format("'{}' is no folder", folder.string())
                                                                    : fmt::format("the folder '{}' does not exist", folder.string()))
        .in_source(target_.string())
        .with_remedy("Name a folder that exists.");
  if (std::filesystem::is_directory(target_, ignored))
    throw Error(Code::kIo, "this is a folder; a file name is needed").in_source(target_.string()).with_remedy("Add a file name.");
  // Devices (/dev/stdout, /dev/full) are written in place: there is nothing to rename over.
  struct stat info {};
  in_place_ = stat(target_.c_str(), &info) == 0 && !S_ISREG(info.st_mode);
  if (in_place_) {
    fd_ = file_calls().open(target_.c_str(), O_WRONLY | O_CLOEXEC, 0);
  } else {
    // Without a name until commit(), where the file system can: then not even a killed process leaves a trace.
    const bool linkable = access("/proc/self/fd", X_OK) == 0;
    if (linkable) fd_ = file_calls().open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (!linkable || (fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL))) {
      temporary_ = temporary_name(target_);
      registry.add(temporary_.string());
      fd_ = file_calls().open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      const int code = errno;
      if (fd_ < 0) forget(temporary_);
      errno = code;
    }
  }
  if (fd_ < 0) fail(target_, "the file cannot be created");
  buffer_.reserve(kBuffer);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) file_calls().close(fd_);
  if (temporary_.empty()) return;
  ::unlink(temporary_.c_str());
  forget(temporary_);
}

void AtomicFile::write_through(std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t done = write_some(fd_, bytes.data(), bytes.size());
    if (done < 0) {
      if (errno == EINTR) continue;
      fail(target_, "the file cannot be written");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void AtomicFile::flush() {
  write_through(buffer_);
  buffer_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  position_ += bytes.size();
  if (buffer_.size() + bytes.size() <= kBuffer) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return;
  }
  flush();
  write_through(bytes);  // large parts go straight from where they are
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::pad_to(std::size_t alignment) {
  const std::size_t over = static_cast<std::size_t>(position_ % alignment);
  if (over == 0) return;
  const std::vector<std::byte> zeros(alignment - over, std::byte{0});
  write(std::span<const std::byte>(zeros));
}

void AtomicFile::finish() {
  if (fd_ < 0) return;
  flush();
  if (!in_place_) {
    if (file_calls().fsync(fd_) != 0) fail(target_, "the file cannot be flushed to the disk");
    if (temporary_.empty()) {
      // A link cannot replace a file, a rename can.
      temporary_ = temporary_name(target_);
      registry.add(temporary_.string());
      ::unlink(temporary_.c_str());
      if (file_calls().link_fd(fd_, temporary_.c_str()) != 0) {
        const int code = errno;
        forget(temporary_);
        fail(target_, "the finished file cannot be given its name", code);
      }
    }
  }
  const int fd = fd_;
  fd_ = -1;
  if (file_calls().close(fd) != 0) fail(target_, "the file cannot be closed");
}

void AtomicFile::commit() {
  finish();
  if (in_place_) return;
  if (file_calls().rename(temporary_.c_str(), target_.c_str()) != 0) fail(target_, "the finished file cannot be moved into place");
  forget(temporary_);
}

void AtomicFile::commit_both(AtomicFile& first, AtomicFile& second) {
  first.finish();
  second.finish();
  // What the first replaces comes back when the second cannot follow.
  const std::filesystem::path kept = temporary_name(first.target_);
  const bool replaces = !first.in_place_ && ::link(first.target_.c_str(), kept.c_str()) == 0;
  try {
    first.commit();
    try {
      second.commit();
    } catch (const Error&) {
      if (replaces) ::rename(kept.c_str(), first.target_.c_str());
      else if (!first.in_place_) ::unlink(first.target_.c_str());
      throw;
    }
  } catch (const Error&) {
    if (replaces) ::unlink(kept.c_str());
    throw;
  }
  if (replaces) ::unlink(kept.c_str());
}

}  // namespace lathe::os
