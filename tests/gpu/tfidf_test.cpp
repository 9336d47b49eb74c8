// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.tfidf on a GPU, exactly as the reference has it. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "tfidf_cases.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

TEST(GpuTfIdf, CountsAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::TfIdfTensors>(testing_gpu::tfidf_cases(kComputes), [](const auto&, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.tfidf";
    step.inputs = {&t.x};
    step.outputs = {&t.y};
    step.weights = {t.tables};
    // Also from other rows and lengths.
    step.moves = true;
    plan::TensorDesc x = t.x.desc, y = t.y.desc;
    x.dims.back() = x.dims.back() / 2 + 300;
    if (x.dims.size() == 2) x.dims[0] = y.dims[0] = x.dims[0] / 2 + 3;
    step.other_inputs = {plan::TensorDesc::row_major(x.dtype, x.dims)};
    step.other_outputs = {plan::TensorDesc::row_major(y.dtype, y.dims)};
    return step;
  });
}

}  // namespace
}  // namespace lathe
