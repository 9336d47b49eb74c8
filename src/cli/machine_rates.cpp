// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See machine_rates.h. A few tens of milliseconds each, the best of several runs.

#include "cli/machine_rates.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "backend/cpu/conv.h"
#include "base/os.h"
#include "base/tensor.h"
#include "base/thread_pool.h"

namespace lathe::cli {
namespace {

template <class F>
double best_seconds(F&& run) {
  run();
  double best = 1e9, spent = 0;
  while (spent < 0.05) {
    const double start = os::now_seconds();
    run();
    const double seconds = os::now_seconds() - start;
    best = std::min(best, seconds);
    spent += seconds;
  }
  return best;
}

}  // namespace

MachineRates measure_machine_rates() {
  ThreadPool& pool = default_pool();
  MachineRates rates{};
  {
    // A pointwise convolution that fits the cache: a matrix product at its best.
    cpu::ConvProblem p;
    p.h = p.w = 28;
    p.cin = p.cout = 256;
    const auto plan = cpu::conv_plans(p, cpu::cpu_features(), pool.size(), true).front();
    const auto bytes = [](std::size_t n) { return Tensor(DType::kUint8, {static_cast<std::int64_t>(n)}); };
    Tensor weights = bytes(cpu::conv_weight_bytes(p, plan)), src = bytes(28 * 28 * 256 * 4), dst = bytes(28 * 28 * 256 * 4),
           scratch = bytes(std::max<std::size_t>(64, cpu::conv_scratch_bytes(p, plan, pool.size())));
    cpu::ConvArgs args;
    args.src = src.raw();
    args.weights = weights.raw();
    args.dst = dst.mutable_raw();
    args.scratch = scratch.mutable_raw();
    rates.flops = p.flops() / best_seconds([&] { cpu::run_conv(p, plan, {}, args, pool); });
  }
  {
    constexpr std::int64_t kBytes = std::int64_t{64} << 20, kPieces = 64;
    std::vector<char> from(kBytes, 1), to(kBytes, 0);
    const double seconds = best_seconds([&] {
      pool.parallel_for(kPieces,
                        [&](std::int64_t i, int) { std::memcpy(to.data() + i * (kBytes / kPieces), from.data() + i * (kBytes / kPieces), kBytes / kPieces); });
    });
    rates.bytes = 2.0 * kBytes / seconds;
  }
  return rates;
}

}  // namespace lathe::cli
