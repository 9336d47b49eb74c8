// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda_regions OUT.cu SEED COUNT: random regions as the CUDA emitter writes them, in one source with limits for cuda_compile. What an engine's fused
// regions are compiled from, without an engine.

#include <fmt/format.h>

#include <cstdlib>
#include <fstream>
#include <iostream>

#include "loops/cpu/random_regions.h"
#include "loops/cuda/emitter.h"

namespace lathe::loops::cuda {
namespace {

std::string source_of(unsigned seed, const std::string& prefix) {
  const cpu::testing::EmitterCase c = cpu::testing::Generator(seed).make();
  std::vector<plan::TensorDesc> buffers;
  std::size_t in = 0, out = 0;
  for (const Buffer& buffer : c.region.buffers) {
    if (buffer.role == Role::kInput) buffers.push_back(c.ins[in++]);
    else if (buffer.role == Role::kOutput) buffers.push_back(c.outs[out++]);
    else buffers.push_back(plan::TensorDesc::row_major(buffer.dtype, *ir::evaluate(buffer.shape, c.symbols)));
  }
  EmitOptions options;
  options.prefix = prefix;
  return emit(c.region, buffers, c.symbols, options).source;
}

}  // namespace
}  // namespace lathe::loops::cuda

int main(int count, char** arguments) {
  if (count != 4) {
    std::cerr << "usage: cuda_regions OUT.cu SEED COUNT\n";
    return 2;
  }
  const auto seed = static_cast<unsigned>(std::strtoul(arguments[2], nullptr, 10));
  std::ofstream file(arguments[1]);
  // A thread of an emitted kernel may keep what it likes in registers; a few spilled words are the compiler's choice, arrays of them a defect.
  file << "//! limits *: registers 255, shared 49152, spill 64\n" << lathe::loops::cuda::device_prelude();
  for (int i = 0; i < std::atoi(arguments[3]); ++i) {
    const auto at = seed + static_cast<unsigned>(i);
    file << fmt::format("namespace n{} {{\n{}}}\n", i, lathe::loops::cuda::source_of(at, fmt::format("r{}_", i)));
  }
  return file.good() ? 0 : 1;
}
