// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Times the blocked oracles on contractions as verification meets them: graphs of one node, whole runs (conversion to double, packing
// and rounding back included). Prints GFLOP/s; at least 20 on two cores keep verification of a 30 GFLOP model under two seconds.
//   oracle_bench [rounds]
#include <chrono>
#include <cstdio>
#include <cstdlib>

#include "base/thread_pool.h"
#include "ir/text.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"

namespace {

using namespace lathe;

struct Problem {
  const char *name, *inputs, *body;
  double flops;
};

constexpr Problem kProblems[] = {
    {"conv 3x3, 64 to 64 channels, 80x80", "x: float[1, 64, 80, 80], k: float[64, 64, 3, 3]", "y = Conv(x, k) {pads=[1, 1, 1, 1]}", 2.0 * 6400 * 64 * 576},
    {"conv 3x3, 256 to 256 channels, 20x20", "x: float[1, 256, 20, 20], k: float[256, 256, 3, 3]", "y = Conv(x, k) {pads=[1, 1, 1, 1]}",
     2.0 * 400 * 256 * 2304},
    {"conv 1x1, 256 to 128 channels, 40x40", "x: float[1, 256, 40, 40], k: float[128, 256, 1, 1]", "y = Conv(x, k)", 2.0 * 1600 * 128 * 256},
    {"conv 7x7 of an image, stride 2", "x: float[1, 3, 224, 224], k: float[64, 3, 7, 7]", "y = Conv(x, k) {pads=[3, 3, 3, 3], strides=[2, 2]}",
     2.0 * 112 * 112 * 64 * 147},
    {"conv 3x3 depthwise, 384 channels, 28x28", "x: float[1, 384, 28, 28], k: float[384, 1, 3, 3]", "y = Conv(x, k) {group=384, pads=[1, 1, 1, 1]}",
     2.0 * 784 * 384 * 9},
    {"conv transpose 4x4, 128 to 64 channels, 32x32", "x: float[1, 128, 32, 32], k: float[128, 64, 4, 4]",
     "y = ConvTranspose(x, k) {strides=[2, 2], pads=[1, 1, 1, 1]}", 2.0 * 1024 * 128 * 1024},
    {"matmul 512 x 768 x 3072", "a: float[512, 768], b: float[768, 3072]", "y = MatMul(a, b)", 2.0 * 512 * 768 * 3072},
    {"matmul 12 heads, 196 x 64 x 196", "a: float[12, 196, 64], b: float[12, 64, 196]", "y = MatMul(a, b)", 2.0 * 12 * 196 * 64 * 196},
    {"gemm of one row, 2048 to 1000", "a: float[1, 2048], b: float[1000, 2048]", "y = Gemm(a, b) {transB=1}", 2.0 * 2048 * 1000},
};

}  // namespace

int main(int argc, char** argv) {
  const int rounds = argc > 1 ? std::max(1, std::atoi(argv[1])) : 5;
  std::printf("%d threads\n", default_pool().size());
  double all_flops = 0, all_seconds = 0;
  for (const Problem& problem : kProblems) {
    const auto graph = ir::parse_graph(std::string("graph g(") + problem.inputs + ") -> (y) {\n" + problem.body + "\n}");
    ops::infer_graph(*graph);
    std::vector<Tensor> inputs;
    for (const ir::Value* input : graph->inputs()) {
      Tensor tensor(input->dtype(), *ir::evaluate(input->shape(), {}));
      for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_double(i, static_cast<double>(i * 7919 % 2003) / 1000 - 1);
      inputs.push_back(std::move(tensor));
    }
    ops::ReferenceRunner runner(*graph, {.oracle = true});
    double best = 1e30;
    for (int round = 0; round < rounds; ++round) {
      const auto started = std::chrono::steady_clock::now();
      runner.run(inputs);
      best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count());
    }
    std::printf("%-48s %7.1f GFLOP/s %8.2f ms\n", problem.name, problem.flops / best * 1e-9, best * 1e3);
    all_flops += problem.flops;
    all_seconds += best;
  }
  std::printf("%-48s %7.1f GFLOP/s\n", "all", all_flops / all_seconds * 1e-9);
}
