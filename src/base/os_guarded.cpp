// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Files that other users of the machine must not have written or read: the part of os.h behind keys.

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>

#include "base/os.h"
#include "lathe/status.h"

namespace lathe::os {
namespace {

constexpr std::size_t kMost = 64 << 10;

/// Root may write anywhere anyway.
void check_owner(const struct stat& info, const std::filesystem::path& path, bool secret, const char* kind) {
  if (info.st_uid != geteuid() && info.st_uid != 0)
    throw Error(Code::kIo, fmt::format("the {} belongs to another user", kind))
        .in_source(path.string())
        .with_remedy("Keep keys in a folder of your own (LATHE_CACHE_DIR).");
  const mode_t open = info.st_mode & (secret ? 0077 : 0022);
  if (open != 0)
    throw Error(Code::kIo, fmt::format("other users can {} the {} (mode {:04o})", secret ? "read or write" : "write", kind, info.st_mode & 07777))
        .in_source(path.string())
        .with_remedy(fmt::format("chmod {} {}", secret ? "600" : "go-w", path.string()));
}

struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0) ::close(fd);
  }
};

}  // namespace

std::string read_guarded(const std::filesystem::path& path, bool secret) {
  struct stat info {};
  const std::filesystem::path folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
  if (stat(folder.c_str(), &info) != 0) fail(folder, "the folder cannot be examined", errno);
  check_owner(info, folder, false, "folder");
  const Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0) fail(path, "the file cannot be opened", errno);
  if (fstat(file.fd, &info) != 0) fail(path, "the file cannot be examined", errno);
  if (!S_ISREG(info.st_mode)) throw Error(Code::kIo, "this is not a regular file").in_source(path.string());
  check_owner(info, path, secret, "file");
  if (info.st_size > static_cast<off_t>(kMost)) throw Error(Code::kIo, "the file is too large for a key").in_source(path.string());
  std::string text(static_cast<std::size_t>(info.st_size), '\0');
  std::size_t have = 0;
  while (have < text.size()) {
    const ssize_t got = ::read(file.fd, text.data() + have, text.size() - have);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) fail(path, "the file cannot be read", errno);
    if (got == 0) break;
    have += static_cast<std::size_t>(got);
  }
  text.resize(have);
  return text;
}

bool create_secret(const std::filesystem::path& path, std::string_view text) {
  static std::atomic<unsigned> counter{0};
  const std::filesystem::path fresh = path.parent_path() / fmt::format(".{}.{}-{}", path.filename().string(), getpid(), counter++);
  int code = 0;
  {
    const Descriptor file{::open(fresh.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600)};
    if (file.fd < 0) fail(path, "the file cannot be created", errno);
    while (!text.empty() && code == 0) {
      const ssize_t done = ::write(file.fd, text.data(), text.size());
      if (done >= 0) text.remove_prefix(static_cast<std::size_t>(done));
      else if (errno != EINTR) code = errno;
    }
    if (code == 0 && (fchmod(file.fd, 0600) != 0 || fsync(file.fd) != 0)) code = errno;
  }
  // It gets its name when it is whole, and never in place of another.
  if (code == 0 && ::link(fresh.c_str(), path.c_str()) != 0) code = errno;
  if (code == EPERM || code == EOPNOTSUPP || code == ENOSYS)  // a file system without links
    code = renameat2(AT_FDCWD, fresh.c_str(), AT_FDCWD, path.c_str(), RENAME_NOREPLACE) == 0 ? 0 : errno;
  ::unlink(fresh.c_str());
  if (code == EEXIST) return false;
  if (code != 0) fail(path, "the file cannot be written", code);
  return true;
}

void make_own_folder(const std::filesystem::path& path) {
  std::error_code error;
  if (path.has_parent_path()) std::filesystem::create_directories(path.parent_path(), error);
  if (::mkdir(path.c_str(), 0700) != 0 && errno != EEXIST) fail(path, "the folder cannot be made", errno);
}

}  // namespace lathe::os
