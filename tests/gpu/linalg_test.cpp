// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.det and cuda.inverse on a GPU, exactly as the references have it. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "linalg_cases.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

TEST(GpuMatrices, AreEliminatedAsTheReferenceDoesIt) {
  testing_gpu::run_cases<testing_gpu::MatrixTensors>(testing_gpu::matrix_cases(kComputes), [](const auto& c, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = c.inverse ? "cuda.inverse" : "cuda.det";
    step.inputs = {&t.x};
    step.outputs = {&t.y};
    // Also from matrices of another size, which need shared memory where these need scratch or the other way round.
    step.moves = true;
    const std::int64_t n = c.dims.back() > 40 ? 3 : 90;
    Dims other = c.dims;
    other.back() = other[other.size() - 2] = n;
    step.other_inputs = {plan::TensorDesc::row_major(c.type, other)};
    if (!c.inverse) other.resize(other.size() - 2);
    step.other_outputs = {plan::TensorDesc::row_major(t.y.desc.dtype, other)};
    return step;
  });
}

}  // namespace
}  // namespace lathe
