// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Compiles one file of CUDA kernels with NVRTC when Lathe is built: cuda_compile SOURCE.cu ARCH OUTPUT INCLUDE_FOLDER [DEPENDENCY_FILE]
//
// Machine code (ARCH sm_...) is held against the limits that stand in the source:
//   //! limits KERNEL: registers 128, shared 49152, spill 0
// KERNEL may end in '*' (a prefix); the first line that matches counts, and each kernel needs one. `shared` is static shared memory,
// `spill` bytes of spilled registers. A kernel over its limits, or without any, fails the build.
//
// OUTPUT.key keeps a hash of all that the image depends on (source, headers, compiler, options): where it is the same, the image is kept, so a
// change to this tool or to what it is linked with compiles no kernel again.

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <iostream>
#include <regex>
#include <set>
#include <sstream>

#include "backend/cuda/nvrtc.h"
#include "base/hash.h"
#include "base/os.h"
#include "lathe/status.h"

namespace lathe {
namespace {

struct Limits {
  std::string pattern;
  long registers = 0, shared = 0, spill = 0;
  bool matches(const std::string& kernel) const {
    return pattern.back() == '*' ? kernel.rfind(pattern.substr(0, pattern.size() - 1), 0) == 0 : kernel == pattern;
  }
};

std::vector<Limits> limits_of(const std::string& source) {
  static const std::regex line(R"(//! limits (\S+): registers (\d+), shared (\d+), spill (\d+))");
  std::vector<Limits> limits;
  for (auto it = std::sregex_iterator(source.begin(), source.end(), line); it != std::sregex_iterator(); ++it)
    limits.push_back({(*it)[1], std::stol((*it)[2]), std::stol((*it)[3]), std::stol((*it)[4])});
  return limits;
}

/// Kernels over their limits, as text; empty when all fit. `log` is what ptxas says with -v.
std::string check(const std::string& log, const std::vector<Limits>& limits) {
  static const std::regex entry(R"(Compiling entry function '([^']+)')"), spill(R"((\d+) bytes spill stores)"), registers(R"(Used (\d+) registers)"),
      shared(R"((\d+) bytes smem)");
  std::istringstream lines(log);
  std::string line, kernel, wrong;
  long spilled = 0;
  int kernels = 0;
  for (std::smatch found; std::getline(lines, line);) {
    if (std::regex_search(line, found, entry)) kernel = found[1], spilled = 0;
    if (std::regex_search(line, found, spill)) spilled = std::stol(found[1]);
    if (kernel.empty() || !std::regex_search(line, found, registers)) continue;
    const long used = std::stol(found[1]), bytes = std::regex_search(line, found, shared) ? std::stol(found[1]) : 0;
    ++kernels;
    const Limits* limit = nullptr;
    for (const Limits& candidate : limits)
      if (!limit && candidate.matches(kernel)) limit = &candidate;
    if (!limit) wrong += fmt::format("  {}: no line '//! limits' names it\n", kernel);
    else if (used > limit->registers || bytes > limit->shared || spilled > limit->spill)
      wrong += fmt::format("  {}: {} registers, {} bytes shared, {} bytes spilled; allowed are {}, {}, {}\n", kernel, used, bytes, spilled, limit->registers,
                           limit->shared, limit->spill);
    kernel.clear();
  }
  if (kernels == 0) wrong += "  the compiler reported no kernel\n";
  return wrong;
}

/// Headers that a source includes, through all levels, for the build's dependency file.
void collect_headers(const std::filesystem::path& file, const std::filesystem::path& root, std::set<std::string>& seen) {
  static const std::regex include(R"re(^\s*#\s*include\s*"([^"]+)")re");
  std::istringstream lines(os::read_text(file));
  std::string line;
  for (std::smatch found; std::getline(lines, line);)
    if (std::regex_search(line, found, include))
      for (const std::filesystem::path& folder : {root, file.parent_path()})
        if (const auto header = folder / found[1].str(); std::filesystem::exists(header) && seen.insert(header.string()).second)
          collect_headers(header, root, seen);
}

/// Hash of what the image is made from.
std::string key_of(const cuda::CompileRequest& request, const std::set<std::string>& headers) {
  constexpr std::string_view kVersion = "1";  // of the checks above
  std::string all = fmt::format("{}\n{}.{}\n{}\n{}\n", kVersion, cuda::Nvrtc::get().major(), cuda::Nvrtc::get().minor(), request.arch, request.source);
  for (const std::string& option : request.options) all += option.find("-path=") == std::string::npos ? option + "\n" : "";
  for (const std::string& header : headers) all += os::read_text(header) + "\n";
  return hash128(all.data(), all.size()).hex();
}

int run(int count, char** arguments) {
  if (count < 5) {
    std::cerr << "usage: cuda_compile SOURCE.cu ARCH OUTPUT INCLUDE_FOLDER [DEPENDENCY_FILE]\n";
    return 2;
  }
  const std::filesystem::path source = arguments[1], output = arguments[3], root = arguments[4];
  const std::string text = os::read_text(source);
  cuda::CompileRequest request;
  request.source = text;
  request.name = source.string();
  request.arch = arguments[2];
  // Without the compiler's cache: what comes out of it has no report of registers to check.
  request.options = {"--include-path=" + root.string(), "--include-path=" + source.parent_path().string(), "--ptxas-options=-v", "--device-int128",
                     "--no-cache"};
  std::set<std::string> headers;
  collect_headers(source, root, headers);
  if (count > 5) {
    std::string rule = output.string() + ":";
    for (const std::string& header : headers) rule += " " + header;
    os::AtomicFile dependencies(arguments[5]);
    dependencies.write(rule + "\n");
    dependencies.commit();
  }
  const std::filesystem::path key_file = output.string() + ".key";
  const std::string key = key_of(request, headers);
  if (std::filesystem::exists(output) && std::filesystem::exists(key_file) && os::read_text(key_file) == key) {
    std::filesystem::last_write_time(output, std::filesystem::file_time_type::clock::now());
    return 0;
  }
  std::filesystem::remove(key_file);
  const cuda::Compiled compiled = cuda::Nvrtc::get().compile(request);
  if (request.arch.rfind("sm_", 0) == 0)
    if (const std::string wrong = check(compiled.log, limits_of(text)); !wrong.empty()) {
      std::cerr << fmt::format("{} for {}: kernels over their limits\n{}", source.string(), request.arch, wrong);
      return 1;
    }
  os::AtomicFile file(output);
  file.write(compiled.image);
  file.commit();
  os::AtomicFile keys(key_file);
  keys.write(key);
  keys.commit();
  return 0;
}

}  // namespace
}  // namespace lathe

int main(int count, char** arguments) {
  try {
    return lathe::run(count, arguments);
  } catch (const std::exception& error) {
    std::cerr << error.what() << '\n';
    return 1;
  }
}
