// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// POSIX behind os.h.

#include "base/os.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <sstream>

#include "base/knobs.h"
#include "lathe/status.h"

namespace lathe::os {
namespace {

[[noreturn]] void fail(const std::filesystem::path& path, std::string_view what, int code = errno) {
  Error error(Code::kIo, fmt::format("{}: {}", what, std::strerror(code)));
  error.in_source(path.string());
  if (code == ENOSPC || code == EDQUOT) error.with_remedy("Free some disk space; nothing was changed.");
  else if (code == EFBIG) error.with_remedy("Raise the limit on file sizes (ulimit -f); nothing was changed.");
  else if (code == ENOENT) error.with_remedy("Check the path.");
  else if (code == EACCES) error.with_remedy("Check the permissions.");
  throw error;
}

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
  const ssize_t done = ::write(fd, data, bytes);
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

}  // namespace

std::shared_ptr<const MappedFile> MappedFile::open(const std::filesystem::path& path) {
  const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  if (fd < 0) fail(path, "the file cannot be opened");
  struct stat info {};
  if (fstat(fd, &info) != 0) {
    const int code = errno;
    ::close(fd);
    fail(path, "the file cannot be examined", code);
  }
  if (!S_ISREG(info.st_mode)) {
    ::close(fd);
    throw Error(Code::kIo, S_ISDIR(info.st_mode) ? "this is a folder, not a file" : "this is not a regular file").in_source(path.string());
  }
  std::shared_ptr<MappedFile> file(new MappedFile());
  file->path_ = path;
  file->size_ = static_cast<std::size_t>(info.st_size);
  if (file->size_ > 0) {
    void* data = mmap(nullptr, file->size_, PROT_READ, MAP_SHARED, fd, 0);
    if (data == MAP_FAILED) {
      const int code = errno;
      ::close(fd);
      file->size_ = 0;
      fail(path, "the file cannot be mapped", code);
    }
    file->data_ = static_cast<const std::byte*>(data);
  }
  ::close(fd);
  return file;
}

MappedFile::~MappedFile() {
  if (data_) munmap(const_cast<std::byte*>(data_), size_);
}

AtomicFile::AtomicFile(std::filesystem::path target) : target_(std::move(target)) {
  const std::filesystem::path folder = target_.has_parent_path() ? target_.parent_path() : std::filesystem::path(".");
  std::error_code ignored;
  if (!std::filesystem::is_directory(folder, ignored))
    throw Error(Code::kIo, fmt::format("the folder '{}' does not exist", folder.string())).in_source(target_.string()).with_remedy("Create it first.");
  if (std::filesystem::is_directory(target_, ignored)) throw Error(Code::kIo, "this is a folder; a file name is needed").in_source(target_.string());
  // Devices (/dev/stdout, /dev/full) are written in place: there is nothing to rename over.
  struct stat info {};
  if (stat(target_.c_str(), &info) == 0 && !S_ISREG(info.st_mode)) {
    fd_ = ::open(target_.c_str(), O_WRONLY | O_CLOEXEC);
  } else {
    // Without a name until commit(), where the file system can: then not even a killed process leaves a trace.
    const bool linkable = access("/proc/self/fd", X_OK) == 0;
    if (linkable) fd_ = ::open(folder.c_str(), O_TMPFILE | O_WRONLY | O_CLOEXEC, 0666);
    if (!linkable || (fd_ < 0 && (errno == EOPNOTSUPP || errno == EISDIR || errno == ENOENT || errno == EINVAL))) {
      temporary_ = temporary_name(target_);
      fd_ = ::open(temporary_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
      if (fd_ < 0) {
        const int code = errno;
        temporary_.clear();
        errno = code;
      }
    }
  }
  if (fd_ < 0) fail(target_, "the file cannot be created");
  buffer_.reserve(kBuffer);
}

AtomicFile::~AtomicFile() {
  if (fd_ >= 0) ::close(fd_);
  if (!committed_ && !temporary_.empty()) ::unlink(temporary_.c_str());
}

void AtomicFile::flush() {
  const std::byte* data = buffer_.data();
  std::size_t left = buffer_.size();
  while (left > 0) {
    const ssize_t done = write_some(fd_, data, left);
    if (done < 0) {
      if (errno == EINTR) continue;
      fail(target_, "the file cannot be written");
    }
    data += done;
    left -= static_cast<std::size_t>(done);
  }
  buffer_.clear();
}

void AtomicFile::write(std::span<const std::byte> bytes) {
  position_ += bytes.size();
  if (buffer_.size() + bytes.size() <= kBuffer) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
    return;
  }
  flush();
  while (!bytes.empty()) {  // large parts go straight from where they are
    const ssize_t done = write_some(fd_, bytes.data(), bytes.size());
    if (done < 0) {
      if (errno == EINTR) continue;
      fail(target_, "the file cannot be written");
    }
    bytes = bytes.subspan(static_cast<std::size_t>(done));
  }
}

void AtomicFile::write(std::string_view text) { write(std::as_bytes(std::span(text.data(), text.size()))); }

void AtomicFile::pad_to(std::size_t alignment) {
  const std::size_t over = static_cast<std::size_t>(position_ % alignment);
  if (over == 0) return;
  const std::vector<std::byte> zeros(alignment - over, std::byte{0});
  write(std::span<const std::byte>(zeros));
}

void AtomicFile::commit() {
  flush();
  struct stat info {};
  if (fstat(fd_, &info) != 0) fail(target_, "the file cannot be examined");
  if (S_ISREG(info.st_mode)) {  // others were written in place
    if (fsync(fd_) != 0) fail(target_, "the file cannot be flushed to the disk");
    if (temporary_.empty()) {
      // A link cannot replace a file, a rename can.
      const std::filesystem::path name = temporary_name(target_);
      ::unlink(name.c_str());
      if (linkat(AT_FDCWD, fmt::format("/proc/self/fd/{}", fd_).c_str(), AT_FDCWD, name.c_str(), AT_SYMLINK_FOLLOW) != 0)
        fail(target_, "the finished file cannot be given its name");
      temporary_ = name;
    }
    if (::rename(temporary_.c_str(), target_.c_str()) != 0) fail(target_, "the finished file cannot be moved into place");
  }
  committed_ = true;
  if (::close(fd_) != 0) {
    fd_ = -1;
    fail(target_, "the file cannot be closed");
  }
  fd_ = -1;
}

std::string read_text(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  if (!file) fail(path, "the file cannot be opened");
  std::ostringstream text;
  text << file.rdbuf();
  return text.str();
}

std::filesystem::path cache_dir() {
  if (const std::string set = knob("LATHE_CACHE_DIR"); !set.empty()) return set;
  if (const char* xdg = std::getenv("XDG_CACHE_HOME"); xdg && *xdg) return std::filesystem::path(xdg) / "lathe";
  if (const char* home = std::getenv("HOME"); home && *home) return std::filesystem::path(home) / ".cache" / "lathe";
  return std::filesystem::temp_directory_path() / "lathe-cache";
}

std::filesystem::path make_temp_dir() {
  std::string name = (std::filesystem::temp_directory_path() / "lathe-XXXXXX").string();
  if (!mkdtemp(name.data())) fail(name, "a temporary folder cannot be made");
  return name;
}

int available_cpus() noexcept {
  int count = 1;
  cpu_set_t set;
  CPU_ZERO(&set);
  if (sched_getaffinity(0, sizeof set, &set) == 0) count = std::max(1, CPU_COUNT(&set));
  std::ifstream quota("/sys/fs/cgroup/cpu.max");
  std::string limit;
  double period = 0;
  if (quota >> limit >> period && limit != "max" && period > 0) {
    const double cpus = std::strtod(limit.c_str(), nullptr) / period;
    if (cpus > 0) count = std::min(count, std::max(1, static_cast<int>(std::ceil(cpus))));
  }
  return count;
}

std::size_t peak_rss_bytes() noexcept {
  // Not getrusage: its maximum is inherited over exec, so a small process started by a large one would report the large one's peak.
  std::FILE* file = std::fopen("/proc/self/status", "r");
  if (!file) return 0;
  char line[256];
  unsigned long long kib = 0;
  while (std::fgets(line, sizeof line, file))
    if (std::sscanf(line, "VmHWM: %llu kB", &kib) == 1) break;
  std::fclose(file);
  return static_cast<std::size_t>(kib) * 1024;
}

std::size_t current_rss_bytes() noexcept {
  std::ifstream file("/proc/self/statm");
  std::size_t size = 0, resident = 0;
  file >> size >> resident;
  return resident * static_cast<std::size_t>(sysconf(_SC_PAGESIZE));
}

double now_seconds() noexcept { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

std::string cpu_model() {
  std::ifstream file("/proc/cpuinfo");
  std::string line;
  while (std::getline(file, line))
    if (line.rfind("model name", 0) == 0) {
      const auto colon = line.find(": ");
      if (colon != std::string::npos) return line.substr(colon + 2);
    }
  return "unknown CPU";
}

std::filesystem::path own_binary() {
  Dl_info info{};
  if (dladdr(reinterpret_cast<const void*>(&own_binary), &info) == 0 || !info.dli_fname) return executable_path();
  // Of the executable itself the name is the one that it was called by: pip's command is a script of another place.
  Dl_info program{};
  const auto* const headers = reinterpret_cast<const void*>(getauxval(AT_PHDR));  // NOLINT(performance-no-int-to-ptr): the kernel's address
  if (dladdr(headers, &program) != 0 && program.dli_fbase == info.dli_fbase) return executable_path();
  std::error_code error;
  const std::filesystem::path path = info.dli_fname;
  return path.is_absolute() && std::filesystem::exists(path, error) ? path : executable_path();
}

std::filesystem::path executable_path() {
  std::error_code error;
  auto path = std::filesystem::read_symlink("/proc/self/exe", error);
  return error ? std::filesystem::path() : path;
}

}  // namespace lathe::os
