// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// NVRTC, NVIDIA's compiler of CUDA C++ at run time, opened when first needed. The builder compiles fused regions with it and the
// build of Lathe its own kernels; an engine that has its code cached runs without.

#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace lathe::cuda {

struct CompileRequest {
  std::string_view source;
  std::string name = "kernel.cu";                            ///< in messages
  std::string arch;                                          ///< "sm_90a" for machine code, "compute_80" for PTX
  std::vector<std::pair<std::string, std::string>> headers;  ///< name in #include -> text
  std::vector<std::string> options;
};

struct Compiled {
  std::vector<std::byte> image;  ///< cubin, or PTX ending in a zero byte
  std::string log;               ///< warnings; with --ptxas-options=-v the use of registers and memory
};

class Nvrtc {
 public:
  /// nullptr where the library is missing, and `why` says which and what package brings it.
  static const Nvrtc* find(std::string* why = nullptr);
  /// Throws Error(kMachine) instead.
  static const Nvrtc& get();

  int major() const noexcept { return major_; }
  int minor() const noexcept { return minor_; }
  /// Throws Error(kInternal) with the compiler's log when the source does not compile.
  Compiled compile(const CompileRequest& request) const;

 private:
  friend struct NvrtcOpener;
  int major_ = 0, minor_ = 0;
};

}  // namespace lathe::cuda
