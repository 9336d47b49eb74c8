// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.rnn on a GPU against the ops' references: everything that the format allows of LSTM, GRU and RNN, odd extents, unaligned rows, weights that are
// no constants. Compiled for the driver that checks calls too, where nothing is compared.

#include "kernel_runner.h"
#include "regions/cuda_params.h"
#include "regions/rnn/rnn_product.h"
#include "recurrent_models.h"
#include "rnn_cases.h"
#include "verified_build.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

TEST(GpuRnn, ComputesWhatTheReferencesDo) {
  testing_gpu::KernelRunner runner(cuda::Device::open(0));
  for (const testing_gpu::RnnCase& c : testing_gpu::rnn_cases(kComputes)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::RnnTensors t(c);
    testing_gpu::KernelRunner::Step step;
    step.kernel = "cuda.rnn";
    step.params = t.params;
    for (auto& tensor : t.inputs) step.inputs.push_back(&tensor);
    for (auto& tensor : t.outputs) step.outputs.push_back(&tensor);
    step.weights = t.packed;
    // From other steps and batches.
    step.moves = true;
    const auto moved = [&](std::vector<plan::TensorDesc> descs, std::size_t which) {
      for (std::size_t i = 0; i < descs.size(); ++i) {
        plan::TensorDesc& desc = descs[i];
        const bool weight = which == 0 && i >= regions::kRnnW;
        if (desc.dtype == DType::kUndefined || weight) continue;
        const bool has_steps = i == 0;  // X and Y
        for (std::size_t axis = 0; axis < desc.dims.size(); ++axis) {
          const std::size_t steps = has_steps ? (c.batch_first ? 1 : 0) : 9, batch = desc.dims.size() == 1   ? 0
                                                                                     : c.batch_first         ? 0
                                                                                     : desc.dims.size() == 4 ? 2
                                                                                                             : 1;
          if (axis == steps) desc.dims[axis] += 3;
          if (axis == batch) desc.dims[axis] += 2;
        }
        desc.strides = regions::testing::strides_in(ops::Layout::kRowMajor, desc.dims, desc.dims.size() == 1 ? 0 : c.extra);
      }
      return descs;
    };
    step.other_inputs = moved(t.descs(false), 0);
    step.other_outputs = moved(t.descs(true), 1);
    const auto compare = [&] {
      if (kComputes) t.compare();
    };
    runner.run(step, compare);
    if (HasFailure()) return;
    if (c.given || c.in == 0 || c.batch == 0 || c.x == DType::kFloat64) continue;
    // The projection as a product.
    const auto product = regions::product_of(*regions::cuda_element(c.x), false);
    regions::RnnPlan plan;
    std::string why;
    plan.spec = *regions::rnn_spec(c.op, t.params, why);
    const auto ways = t.params.get_ints("weights");
    for (std::size_t i = 0; i < ways.size(); ++i) plan.weights[i] = static_cast<regions::RnnWeight>(ways[i]);
    const auto ins = t.descs(false), outs = t.descs(true);
    ASSERT_TRUE(regions::rnn_plan(ins, outs, c.in, c.hidden, plan, why)) << why;
    const auto setup = regions::rnn_product(plan, ins[0], product, why);
    ASSERT_TRUE(setup) << why;
    step.params.set("product", static_cast<std::int64_t>(product));
    ir::Attrs pack;
    pack.set("product", static_cast<std::int64_t>(product));
    step.weights[0] = plan::find_pack_function("cuda.rnn.pack_product")->pack(pack, std::span(&t.w, 1));
    for (const cuda::GemmPlan& gemm : cuda::gemm_plans(*setup, cuda::limits_of(runner.device().info()), 2)) {
      SCOPED_TRACE("projection by " + cuda::describe(gemm));
      regions::write_gemm_plan(gemm, static_cast<std::int64_t>(setup->params.rows) * setup->items, step.params);
      runner.run(step, compare);
      if (HasFailure()) return;
    }
  }
  testing_gpu::expect_right_calls();
}

#ifndef LATHE_FAKE_CUDA
/// Built, timed and verified: nothing on the host, nothing pinned to float32.
TEST(GpuRnn, EnginesAreVerified) {
  for (const testing_gpu::Layer& layer : testing_gpu::recurrent_layers())
    for (const char* precision : {"fp32", "fp16", "tf32", "bf16"}) {
      if (precision[0] != 'f' && (layer.layout || layer.given)) continue;
      SCOPED_TRACE(layer.op + " " + layer.direction + " in " + precision);
      std::map<std::string, builder::ShapeRange> shapes;
      const std::vector<std::int64_t> small{1, 1, 16}, usual = layer.layout ? std::vector<std::int64_t>{3, 12, 16} : std::vector<std::int64_t>{12, 3, 16},
                                                       large = layer.layout ? std::vector<std::int64_t>{16, 40, 16} : std::vector<std::int64_t>{40, 16, 16};
      if (!layer.constant_initial) shapes["x"] = {small, usual, large};
      else shapes["x"] = {{1, 3, 16}, {12, 3, 16}, {40, 3, 16}};
      verified_build(testing_gpu::recurrent_model(layer), precision, 0.2, shapes);
    }
}
#endif

}  // namespace
}  // namespace lathe
