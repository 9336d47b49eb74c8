// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cuda.random on a GPU: with a seed exactly as the references have it, without one by distribution, no two runs alike; and models whose every step runs there.
// Compiled for the driver that checks calls too, where nothing is compared.

#include <array>
#include <set>

#include "builder/test_models.h"
#include "kernel_runner.h"
#include "random_cases.h"
#include "verified_build.h"

namespace lathe {
namespace {

using testing_gpu::kComputes;

testing_gpu::KernelRunner::Step step_of(testing_gpu::RandomTensors& t) {
  testing_gpu::KernelRunner::Step step;
  step.kernel = "cuda.random";
  step.params = t.params;
  if (t.input.defined()) step.inputs = {&t.x};
  step.outputs = {&t.y};
  return step;
}

/// Twice as many rows as the case has.
void move_from_more(testing_gpu::KernelRunner::Step& step) {
  const auto more = [](plan::TensorDesc desc) {
    desc.dims[0] *= 2;
    return desc;
  };
  step.moves = true;
  for (const auto* t : step.inputs) step.other_inputs.push_back(more(t->desc));
  for (const auto* t : step.outputs) step.other_outputs.push_back(more(t->desc));
}

TEST(GpuRandom, SeedsGiveWhatTheReferencesDo) {
  testing_gpu::run_cases<testing_gpu::RandomTensors>(testing_gpu::seeded_cases(kComputes), [](const auto& c, auto& t) {
    testing_gpu::KernelRunner::Step step = step_of(t);
    if (!c.dims.empty()) move_from_more(step);
    return step;
  });
}

TEST(GpuRandom, WithoutASeedTheDistributionIsRight) {
  testing_gpu::run_cases<testing_gpu::RandomTensors>(
      testing_gpu::unseeded_cases(kComputes),
      [](const auto&, auto& t) {
        testing_gpu::KernelRunner::Step step = step_of(t);
        move_from_more(step);
        return step;
      },
      [](const auto&, auto& t) {
        t.judge(t.y.read());
        EXPECT_TRUE(t.y.is_intact()) << "bytes beside the result were written";
      });
}

/// One bound kernel on two streams at once, by launches and by a replayed graph.
TEST(GpuRandom, NoTwoRunsAreAlike) {
  constexpr std::int64_t kElements = 100000;
  const auto device = cuda::Device::open(0);
  const cuda::Current current(*device);
  const plan::TensorDesc outputs[] = {plan::TensorDesc::row_major(DType::kFloat32, {kElements})};
  ir::Attrs params;
  params.set("kind", std::int64_t{cuda::kRandomNormal});
  params.set("dtype", static_cast<std::int64_t>(DType::kFloat32));
  const auto kernel = plan::find_kernel("cuda.random")->bind({params, {}, outputs, {}, {}, {}, 1, nullptr, device.get(), {}});
  struct Lane {
    cuda::Stream stream;
    cuda::Block scratch, result;
    explicit Lane(const std::shared_ptr<cuda::Device>& on) : stream(on), scratch(on, 256), result(on, kElements * sizeof(float)) {}
  };
  std::array<Lane, 2> lanes{Lane(device), Lane(device)};
  std::array<cuda::Graph, 2> graphs;
  const auto run = [&](Lane& lane) {
    void* const out[] = {lane.result.data()};
    return kernel->run({nullptr, out, lane.scratch.data(), nullptr, lane.stream.handle()});
  };
  for (std::size_t i = 0; i < lanes.size(); ++i)
    ASSERT_TRUE(cuda::Graph::capture(
        device, lanes[i].stream.handle(), [&] { return run(lanes[i]); }, graphs[i]));
  std::set<std::vector<float>> all;
  std::size_t runs = 0;
  for (int round = 0; round < 20; ++round) {
    std::array<std::vector<float>, 2> results;
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      Lane& lane = lanes[i];
      ASSERT_TRUE(round % 2 ? graphs[i].launch(lane.stream.handle()) : run(lane));
      results[i].resize(kElements);
      const cuda::Driver& driver = device->driver();
      driver.require(driver.copy_to_host(results[i].data(), lane.result.address(), lane.result.bytes(), lane.stream.handle()), "download");
    }
    for (std::size_t i = 0; i < lanes.size(); ++i) {
      ASSERT_TRUE(lanes[i].stream.synchronize());
      all.insert(std::move(results[i]));
      ++runs;
    }
  }
  EXPECT_TRUE(!kComputes || all.size() == runs) << all.size() << " different ones of " << runs;
  testing_gpu::expect_right_calls();
}

#ifndef LATHE_FAKE_CUDA
/// Behind and in front of products: what reads the numbers is held against the oracle on the numbers that the engine drew.
TEST(GpuRandom, ModelsAreVerifiedAndLeaveNothingToTheHost) {
  for (const char* precision : {"fp32", "tf32", "fp16", "bf16"})
    for (const bool seeded : {false, true}) {
      SCOPED_TRACE(std::string(precision) + (seeded ? ", seeded" : ""));
      builder::test::ModelMaker m(3);
      ir::Value* x = m.add("MatMul", {m.input("x", {ir::Dim::symbol("batch"), 32}), m.weight({32, 64}, 32)});
      ir::Attrs attrs;
      if (seeded) attrs.set("seed", 3.0F);
      ir::Value *noise = m.add("RandomNormalLike", {x}, attrs), *drops = m.add("Bernoulli", {m.add("Sigmoid", {x})}, attrs);
      ir::Value* y = m.add("MatMul", {m.add("Mul", {m.add("Add", {x, noise}), drops}), m.weight({64, 16}, 64)});
      ir::Value* classes = m.add("Multinomial", {m.add("LogSoftmax", {y})}, attrs);
      verified_build(m.finish({m.add("Relu", {y}), classes}), precision);
    }
}
#endif

}  // namespace
}  // namespace lathe
