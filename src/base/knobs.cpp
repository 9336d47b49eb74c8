// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The table of knobs. docs/knobs.md is generated from it.

#include "base/knobs.h"

#include <array>
#include <cassert>
#include <cstdlib>

namespace lathe {
namespace {

constexpr std::array<Knob, 12> kKnobs{{
    {"LATHE_THREADS", "0", "Threads of the process's pool; 0 = as many as the affinity mask and the cgroup quota allow."},
    {"LATHE_LOG", "warning", "Least level that is logged: error, warning, info, debug."},
    {"LATHE_CACHE_DIR", "", "Folder of the caches and of this user's keys; default XDG_CACHE_HOME/lathe or ~/.cache/lathe."},
    {"LATHE_CPU_FEATURES", "", "Mask the CPU down: generic, avx2, avx512, avx512bf16, neon, or a list of features to keep."},
    {"LATHE_MAX_TRIPS", "10000000", "Trips after which a Loop is taken for endless and the run fails; 0 = no limit."},
    {"LATHE_DUMP_AFTER", "", "Print the graph after the pass of this name (or 'all')."},
    {"LATHE_CUDA_DRIVER", "", "The NVIDIA driver's library to open instead of libcuda.so.1; none = leave GPUs alone."},
    {"LATHE_NVRTC", "", "The NVRTC library to open, as a path; none = compile nothing for GPUs."},
    {"LATHE_CUBLASLT", "", "The cuBLASLt library to open, as a path; none = build and run without its kernels."},
    {"LATHE_CUDNN", "", "The cuDNN library to open, as a path; none = build and run without its kernels."},
    {"LATHE_ONEDNN", "", "The oneDNN library to open, as a path; none = build and run without its kernels."},
    {"LATHE_PYTHON", "", "Python that the command starts for export, paired benchmarks and scripts (`lathe python`)."},
}};

const Knob& row(std::string_view name) {
  for (const Knob& knob : kKnobs)
    if (knob.name == name) return knob;
  assert(false && "knobs are read by the names of the table");
  return kKnobs[0];
}

}  // namespace

std::span<const Knob> knob_table() noexcept { return kKnobs; }

std::string knob(std::string_view name) {
  const Knob& knob = row(name);
  const char* value = std::getenv(std::string(knob.name).c_str());
  return value ? std::string(value) : std::string(knob.default_value);
}

long knob_int(std::string_view name) { return std::strtol(knob(name).c_str(), nullptr, 10); }

bool knob_bool(std::string_view name) {
  const std::string value = knob(name);
  return !value.empty() && value != "0" && value != "false" && value != "no";
}

}  // namespace lathe
