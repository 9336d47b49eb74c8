// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.det and cuda.inverse on a GPU, exactly as the references have it. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "linalg_cases.h"
#ifdef LATHE_FAKE_CUDA
#include "fake_cuda.h"
#endif

namespace lathe {
namespace {

#ifdef LATHE_FAKE_CUDA
constexpr bool kComputes = false;
#else
constexpr bool kComputes = true;
#endif

TEST(GpuMatrices, AreEliminatedAsTheReferenceDoesIt) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::MatrixCase& c : testing_gpu::matrix_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::MatrixTensors t(c);
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
    runner.run(step, [&] {
      if (kComputes) t.compare();
    });
    if (HasFailure()) return;
  }
#ifdef LATHE_FAKE_CUDA
  EXPECT_STREQ(fake_cuda_violations(), "");
#endif
}

}  // namespace
}  // namespace lathe
