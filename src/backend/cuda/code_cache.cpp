// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See code_cache.h. A file is named by its source's hash and holds the hash of the code, then the code; a damaged one is compiled anew.

#include "backend/cuda/code_cache.h"

#include <cstring>
#include <filesystem>

#include "backend/cuda/nvrtc.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/os.h"
#include "lathe/status.h"

namespace lathe::cuda {
namespace {

std::vector<std::byte> read_file(const std::filesystem::path& path) {
  if (!std::filesystem::exists(path)) return {};
  const std::shared_ptr<const os::MappedFile> file = os::MappedFile::open(path);
  const auto bytes = file->bytes();
  Hash128 expected;
  if (bytes.size() <= sizeof expected) return {};
  std::memcpy(&expected, bytes.data(), sizeof expected);
  const auto code = bytes.subspan(sizeof expected);
  const Hash128 actual = hash128(code.data(), code.size());
  if (std::memcmp(&expected, &actual, sizeof expected) != 0) return {};
  return {code.begin(), code.end()};
}

void write_file(const std::filesystem::path& path, std::span<const std::byte> code) {
  std::filesystem::create_directories(path.parent_path());
  const Hash128 hash = hash128(code.data(), code.size());
  os::AtomicFile file(path);
  file.write(std::as_bytes(std::span(&hash, 1)));
  file.write(code);
  file.commit();
}

}  // namespace

CodeKey code_key(std::string_view source, const std::string& arch) {
  // All that the code depends on; options of the compiler, should there ever be any, belong here.
  std::string text = "region\n" + arch + "\n";
  text += source;
  return trust::digest(std::as_bytes(std::span(text)));
}

std::vector<std::byte> cached_code(std::string_view source, const std::string& arch, const CodeKey& key) {
  std::filesystem::path path;
  try {
    path = os::cache_dir() / "cuda" / (trust::hex(key) + ".cubin");
    if (std::vector<std::byte> code = read_file(path); !code.empty()) return code;
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, "the cache of compiled GPU code cannot be read: {}", error.what());
  }
  std::string why;
  const Nvrtc* nvrtc = Nvrtc::find(&why);
  if (!nvrtc)
    throw Error(Code::kMachine, "a fused region is not compiled for this GPU yet, and it cannot be here: " + why)
        .with_remedy("Install NVRTC (pip install nvidia-cuda-nvrtc), or run the engine once where NVRTC is installed and keep LATHE_CACHE_DIR.");
  const Compiled compiled = nvrtc->compile({source, "region.cu", arch, {}, {}});
  try {
    if (!path.empty()) write_file(path, compiled.image);
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, "compiled GPU code is not kept: {}", error.what());
  }
  return compiled.image;
}

}  // namespace lathe::cuda
