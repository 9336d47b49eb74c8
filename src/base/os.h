// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// All calls to the operating system: mapped files, atomic file replacement, temporary folders, page size, memory and CPU
// counts. Everything throws Error(kIo) with the path and the system's reason.

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::os {

/// A read-only shared mapping of a whole file; unmapped when the last owner goes.
class MappedFile {
 public:
  static std::shared_ptr<const MappedFile> open(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(const MappedFile&) = delete;
  MappedFile& operator=(const MappedFile&) = delete;
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  MappedFile() = default;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
  std::filesystem::path path_;
};

/// Writes beside the target and renames over it on commit(), so a full disk or Ctrl-C never leaves a half file.
class AtomicFile {
 public:
  explicit AtomicFile(std::filesystem::path target);
  ~AtomicFile();  ///< removes the temporary unless committed
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  void pad_to(std::size_t alignment);  ///< zeros up to a multiple
  std::uint64_t position() const noexcept { return position_; }
  void commit();  ///< flush, fsync, close, rename
  /// Both appear, or neither: for two files that belong together.
  static void commit_both(AtomicFile& first, AtomicFile& second);

 private:
  std::filesystem::path target_, temporary_;
  int fd_ = -1;
  bool in_place_ = false;
  std::uint64_t position_ = 0;
  std::vector<std::byte> buffer_;
  void write_through(std::span<const std::byte> bytes);
  void flush();
  void finish();  ///< all of commit() but the rename
};

/// Throws Error(kIo), or Error(kOutOfMemory) where the system says so: the path, what could not be done, why, and what to do.
[[noreturn]] void fail(const std::filesystem::path& path, std::string_view what, int code = errno);

std::string read_text(const std::filesystem::path& path);
/// The same of a small file that no other user than root can have written, nor, where it is secret, read. Throws Error(kIo) otherwise.
std::string read_guarded(const std::filesystem::path& path, bool secret);
/// A file of mode 0600 that appears whole and in nobody's place; false: there is one already.
bool create_secret(const std::filesystem::path& path, std::string_view text);
/// A folder that this user alone can look into, unless there is one.
void make_own_folder(const std::filesystem::path& path);
std::filesystem::path cache_dir();      ///< LATHE_CACHE_DIR, else XDG_CACHE_HOME/lathe, else ~/.cache/lathe
std::filesystem::path make_temp_dir();  ///< fresh folder under the system's temporary folder
int available_cpus() noexcept;          ///< affinity and cgroup quota considered; at least 1
std::size_t peak_rss_bytes() noexcept;
std::size_t current_rss_bytes() noexcept;
double now_seconds() noexcept;  ///< monotonic clock
std::string cpu_model();        ///< "AMD EPYC 9R14", for reports
/// The file that holds this code: the command, liblathe.so, the Python extension. Empty when it cannot be told.
std::filesystem::path own_binary();
/// Full path of the running executable.
std::filesystem::path executable_path();

}  // namespace lathe::os
