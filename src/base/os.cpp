// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// POSIX behind os.h.

#include "base/os.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
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

void fail(const std::filesystem::path& path, std::string_view what, int code) {
  Error error(code == ENOMEM ? Code::kOutOfMemory : Code::kIo, fmt::format("{}: {}", what, std::strerror(code)));
  error.in_source(path.string());
  switch (code) {
    case ENOSPC:
    case EDQUOT: throw error.with_remedy("Free some disk space; nothing was changed.");
    case EFBIG: throw error.with_remedy("Raise the limit on file sizes (ulimit -f); nothing was changed.");
    case ENOENT:
    case ENOTDIR:
    case ELOOP:
    case ENAMETOOLONG: throw error.with_remedy("Check the path.");
    case EACCES:
    case EPERM: throw error.with_remedy("Check the permissions.");
    case EROFS: throw error.with_remedy("The file system is read-only: name a place that can be written.");
    case EMFILE:
    case ENFILE: throw error.with_remedy("Raise the limit on open files (ulimit -n).");
    case ENOMEM: throw error.with_remedy("Free some memory, or raise the limit on it (ulimit -v).");
    default: throw error.with_remedy("Look at the disk and at the system's log.");
  }
}

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
    throw Error(Code::kIo, S_ISDIR(info.st_mode) ? "this is a folder, not a file" : "this is not a regular file")
        .in_source(path.string())
        .with_remedy("Give the path of a file.");
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
