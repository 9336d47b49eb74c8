// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See nvrtc.h. libnvrtc opens its library of built-ins by name while it compiles; that works only where the linker finds it, so it is
// opened here first, from libnvrtc's own folder.

#include "backend/cuda/nvrtc.h"

#include <fmt/format.h>

#include <cstring>
#include <filesystem>

#include "backend/cuda/library.h"
#include "base/beside.h"
#include "base/knobs.h"
#include "lathe/status.h"

namespace lathe::cuda {
namespace {

using Program = struct ProgramTag*;

struct Functions {
  int (*version)(int*, int*);
  int (*create)(Program*, const char*, const char*, int, const char* const*, const char* const*);
  int (*destroy)(Program*);
  int (*compile)(Program, int, const char* const*);
  int (*cubin_size)(Program, std::size_t*);
  int (*cubin)(Program, char*);
  int (*ptx_size)(Program, std::size_t*);
  int (*ptx)(Program, char*);
  int (*log_size)(Program, std::size_t*);
  int (*log)(Program, char*);
  const char* (*error)(int);
};
Functions functions;

struct ProgramOwner {
  Program program = nullptr;
  ~ProgramOwner() {
    if (program) functions.destroy(&program);
  }
};

void require(int result, const char* call) {
  if (result != 0) throw Error(Code::kInternal, fmt::format("{}: {}", call, functions.error(result)));
}

std::vector<std::string> library_names() {
  if (const std::string asked = knob("LATHE_NVRTC"); !asked.empty()) return {asked};
  std::vector<std::string> names;
  for (const std::filesystem::path& file : os::files_beside("libnvrtc.so.13")) names.push_back(file.string());
  for (const std::filesystem::path& packages : package_folders())
    for (const char* file : {"cu13/lib/libnvrtc.so.13", "cuda_nvrtc/lib/libnvrtc.so.12"})
      if (std::error_code error; std::filesystem::exists(packages / file, error)) names.push_back((packages / file).string());
  names.insert(names.end(), {"libnvrtc.so.13", "libnvrtc.so.12", "/usr/local/cuda/lib64/libnvrtc.so"});
  return names;
}

}  // namespace

struct NvrtcOpener {
  Nvrtc nvrtc;
  std::string why;
  NvrtcOpener() {
    if (knob("LATHE_NVRTC") == "none") {
      why = "the knob LATHE_NVRTC is 'none'";
      return;
    }
    std::string reason;
    const Library library = Library::open(library_names(), &reason);
    if (!library) {
      why = fmt::format(
          "NVRTC's library libnvrtc.so cannot be opened ({}); the PyPI package nvidia-cuda-nvrtc brings it (point LATHE_NVRTC at its libnvrtc.so.13)", reason);
      return;
    }
    const auto look_up = [&](auto& member, const char* name) {
      member = reinterpret_cast<std::remove_reference_t<decltype(member)>>(library.symbol_or_null(name));
      if (!member && why.empty()) why = fmt::format("NVRTC has no function {}; version 12 or newer is needed", name);
    };
    look_up(functions.version, "nvrtcVersion");
    look_up(functions.create, "nvrtcCreateProgram");
    look_up(functions.destroy, "nvrtcDestroyProgram");
    look_up(functions.compile, "nvrtcCompileProgram");
    look_up(functions.cubin_size, "nvrtcGetCUBINSize");
    look_up(functions.cubin, "nvrtcGetCUBIN");
    look_up(functions.ptx_size, "nvrtcGetPTXSize");
    look_up(functions.ptx, "nvrtcGetPTX");
    look_up(functions.log_size, "nvrtcGetProgramLogSize");
    look_up(functions.log, "nvrtcGetProgramLog");
    look_up(functions.error, "nvrtcGetErrorString");
    if (!why.empty()) return;
    functions.version(&nvrtc.major_, &nvrtc.minor_);
    const std::string built_ins = fmt::format("libnvrtc-builtins.so.{}.{}", nvrtc.major_, nvrtc.minor_);
    std::vector<std::string> places;
    if (const std::string folder = library.folder_of("nvrtcVersion"); !folder.empty()) places.push_back((std::filesystem::path(folder) / built_ins).string());
    places.push_back(built_ins);
    if (!Library::open(places, &reason))
      why = fmt::format("NVRTC's library {} cannot be opened ({}); the PyPI package nvidia-cuda-nvrtc brings it", built_ins, reason);
  }
};

const Nvrtc* Nvrtc::find(std::string* why) {
  static const NvrtcOpener once;
  if (once.why.empty()) return &once.nvrtc;
  if (why) *why = once.why;
  return nullptr;
}

const Nvrtc& Nvrtc::get() {
  std::string why;
  if (const Nvrtc* nvrtc = find(&why)) return *nvrtc;
  throw Error(Code::kMachine, why).with_remedy("Install it: pip install nvidia-cuda-nvrtc.");
}

Compiled Nvrtc::compile(const CompileRequest& request) const {
  const std::string source(request.source);
  std::vector<const char*> names, texts, options;
  for (const auto& [name, text] : request.headers) {
    names.push_back(name.c_str());
    texts.push_back(text.c_str());
  }
  const std::string arch = "--gpu-architecture=" + request.arch;
  options.push_back(arch.c_str());
  options.push_back("--std=c++17");
  for (const std::string& option : request.options) options.push_back(option.c_str());
  ProgramOwner owner;
  require(functions.create(&owner.program, source.c_str(), request.name.c_str(), static_cast<int>(names.size()), texts.data(), names.data()),
          "nvrtcCreateProgram");
  const int result = functions.compile(owner.program, static_cast<int>(options.size()), options.data());
  Compiled compiled;
  std::size_t bytes = 0;
  if (functions.log_size(owner.program, &bytes) == 0 && bytes > 1) {
    compiled.log.resize(bytes);
    functions.log(owner.program, compiled.log.data());
    compiled.log.resize(std::strlen(compiled.log.c_str()));
  }
  if (result != 0)
    throw Error(Code::kInternal, fmt::format("{} does not compile for {}: {}\n{}", request.name, request.arch, functions.error(result), compiled.log));
  const bool ptx = request.arch.rfind("compute_", 0) == 0;
  require((ptx ? functions.ptx_size : functions.cubin_size)(owner.program, &bytes), "nvrtcGetCUBINSize");
  compiled.image.resize(bytes);
  require((ptx ? functions.ptx : functions.cubin)(owner.program, reinterpret_cast<char*>(compiled.image.data())), "nvrtcGetCUBIN");
  return compiled;
}

}  // namespace lathe::cuda
