// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.topk on a GPU, exactly as the reference has it: all types, axes and extents around those of the kernels' pieces, ties, NaN, unaligned rows.
// Compiled for the driver that checks calls too, where nothing is compared.

#include "builder/test_models.h"
#include "kernel_runner.h"
#include "verified_build.h"

namespace lathe {
namespace {

TEST(GpuTopK, SelectsAsTheReferenceDoes) {
  testing_gpu::run_cases<testing_gpu::TopKTensors>(testing_gpu::topk_cases(true), [](const auto& c, auto& t) {
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.topk";
    step.params.set("axis", c.axis);
    step.params.set("largest", static_cast<std::int64_t>(c.largest));
    step.inputs = {&t.x};
    step.outputs = {&t.values, &t.indices};
    testing_gpu::TopKCase other = c;
    other.dims[other.along()] = c.dims[c.along()] + 3000;
    for (auto& extent : other.dims)
      if (extent > 100000) extent /= 2;
    if (other.dims[other.along()] < other.k) other.dims[other.along()] = other.k;
    step.moves = true;
    step.other_inputs = {testing_gpu::rows_desc(c.type, other.dims, c.extra)};
    for (const auto* out : {&t.values, &t.indices})
      step.other_outputs.push_back(out->desc.dtype == DType::kUndefined ? plan::TensorDesc()
                                                                        : testing_gpu::rows_desc(out->desc.dtype, other.result_dims(), c.extra));
    return step;
  });
}

#ifndef LATHE_FAKE_CUDA
TEST(GpuTopK, EnginesAreVerified) {
  for (const char* precision : {"fp32", "bf16", "fp16"})
    for (const std::int64_t k : {1, 5, 300}) {
      SCOPED_TRACE(fmt::format("{} of 300 in {}", k, precision));
      builder::test::ModelMaker m(static_cast<std::uint32_t>(k));
      // Places among products in narrow types are others, and the product would be pinned to float32.
      const std::int64_t width = std::string_view(precision) == "fp32" ? 32 : 300;
      ir::Value* x = m.input("x", {ir::Dim::symbol("batch"), 7, width});
      if (width == 32) x = m.add("MatMul", {x, m.weight({32, 300}, 32)});
      ir::Node* top = m.add_all("TopK", {x, m.ints({k})}, 2);
      verified_build(m.finish({m.add("Exp", {top->output(0)}), top->output(1)}), precision, 0.2, {{"x", {{1, 7, width}, {2, 7, width}, {9, 7, width}}}});
    }
}
#endif

}  // namespace
}  // namespace lathe
