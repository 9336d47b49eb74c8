// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.trees and cuda.svm on a GPU against the references: labels and plain sums exactly, functions of sums within what two libraries differ by.
// Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "ml_cases.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

void run_all(const std::vector<testing_gpu::MlCase>& cases) {
  testing_gpu::run_cases<testing_gpu::MlTensors>(
      cases,
      [](const auto&, auto& t) {
        testing_gpu::KernelRunner::Step step;
        step.kernel = t.kernel;
        step.params = t.params;
        step.inputs = {&t.x};
        step.outputs = {&t.labels, &t.scores};
        step.weights = {t.tables};
        step.moves = true;
        step.other_inputs = t.other_inputs;
        step.other_outputs = t.other_outputs;
        return step;
      },
      [](const auto& c, auto& t) { t.compare(c.op.starts_with("Tree") && c.attrs.get_string("post_transform", "NONE") == "NONE"); });
}

TEST(GpuTrees, VoteAsTheReferenceDoes) { run_all(testing_gpu::tree_cases(kComputes)); }

TEST(GpuSvm, DecidesAsTheReferenceDoes) { run_all(testing_gpu::svm_cases(kComputes)); }

}  // namespace
}  // namespace lathe
