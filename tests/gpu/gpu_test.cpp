// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What needs a GPU (`make test-gpu`): random regions through cuda.loops against the interpreter, copies between memory orders, and engines
// from building to many contexts on many threads.

#include <gtest/gtest.h>

#include <thread>

#include "backend/cuda/memory.h"
#include "backend/cuda/stream.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "loops/cpu/random_regions.h"
#include "runtime/context.h"

namespace lathe {
namespace {

using loops::cpu::testing::EmitterCase;
using loops::cpu::testing::StridedTensor;

class Gpu : public testing::Test {
 protected:
  void SetUp() override { device = cuda::Device::open(0); }
  std::shared_ptr<cuda::Device> device;
};

/// A guarded tensor's memory on the device; the tensor begins at a multiple of 64 bytes plus `shift`.
class Mirror {
 public:
  Mirror(const std::shared_ptr<cuda::Device>& device, StridedTensor& host, std::size_t shift)
      : host_(host), block_(device, host.store().size() + 512), at_((64 - host.begin() % 64) % 64 + shift) {}
  void* data() const { return static_cast<std::byte*>(block_.data()) + at_ + host_.begin(); }
  void upload(const cuda::Driver& driver, cuda::StreamHandle stream) {
    driver.require(driver.copy_to_device(block_.address() + at_, host_.store().data(), host_.store().size(), stream), "upload");
  }
  void download(const cuda::Driver& driver, cuda::StreamHandle stream) {
    driver.require(driver.copy_to_host(host_.store().data(), block_.address() + at_, host_.store().size(), stream), "download");
  }

 private:
  StridedTensor& host_;
  cuda::Block block_;
  std::size_t at_;
};

void check_region(const std::shared_ptr<cuda::Device>& device, unsigned seed, std::size_t shift) {
  const EmitterCase c = loops::cpu::testing::Generator(seed).make();
  const cuda::Current current(*device);
  const cuda::Stream stream(device);
  const cuda::Driver& driver = device->driver();
  ir::Attrs params;
  params.set("region", c.region.serialize());
  const std::vector<const void*> constants(c.ins.size(), nullptr);
  std::unique_ptr<plan::Kernel> kernel;
  try {
    kernel = plan::find_kernel("cuda.loops")->bind({params, c.ins, c.outs, constants, {}, c.symbols, 1, nullptr, device.get(), {}});
  } catch (const Error& error) {
    FAIL() << "seed " << seed << ": " << error.what();
  }
  std::vector<StridedTensor> tensors;
  tensors.reserve(c.ins.size() + c.outs.size());
  for (std::size_t i = 0; i < c.ins.size(); ++i) tensors.emplace_back(c.ins[i]).write(c.inputs[i]);
  for (const plan::TensorDesc& desc : c.outs) tensors.emplace_back(desc);
  std::vector<Mirror> mirrors;
  mirrors.reserve(tensors.size());
  std::vector<const void*> in;
  std::vector<void*> out;
  for (StridedTensor& tensor : tensors) {
    mirrors.emplace_back(device, tensor, shift * dtype_bytes(tensor.desc().dtype, 1));
    mirrors.back().upload(driver, stream.handle());
    if (in.size() < c.ins.size()) in.push_back(mirrors.back().data());
    else out.push_back(mirrors.back().data());
  }
  const cuda::Block scratch(device, kernel->scratch_bytes() + 256);
  const Status status = kernel->run({in.data(), out.data(), scratch.data(), nullptr, stream.handle()});
  ASSERT_TRUE(status) << "seed " << seed << ": " << status.message();
  for (Mirror& mirror : mirrors) mirror.download(driver, stream.handle());
  const Status done = stream.synchronize();
  ASSERT_TRUE(done) << "seed " << seed << ": " << done.message() << "\n" << c.region.to_string();
  const std::vector<Tensor> expected = loops::interpret(c.region, c.inputs, c.symbols);
  const double mass = loops::cpu::testing::mass_of(c);
  for (std::size_t o = 0; o < expected.size(); ++o) {
    StridedTensor& tensor = tensors[c.ins.size() + o];
    ASSERT_TRUE(tensor.intact()) << "seed " << seed << ": written beside output " << o << "\n" << c.region.to_string();
    const Tensor actual = tensor.read();
    for (std::int64_t i = 0; i < actual.size(); ++i) {
      const bool good = is_float(actual.dtype()) ? loops::cpu::testing::close(actual.as_double(i), expected[o].as_double(i), actual.dtype(), mass)
                                                 : actual.as_int64(i) == expected[o].as_int64(i);
      ASSERT_TRUE(good) << "seed " << seed << " output " << o << " element " << i << ": " << actual.as_double(i) << " instead of " << expected[o].as_double(i)
                        << "\n"
                        << c.region.to_string();
    }
  }
}

TEST_F(Gpu, RandomRegionsMatchTheInterpreter) {
  for (unsigned seed = 0; seed < 300 && !HasFatalFailure(); ++seed) check_region(device, seed + 20000, seed % 3 == 0 ? 1 : 0);
}

TEST_F(Gpu, CopiesChangeOrderAndType) {
  std::mt19937 random(7);
  const cuda::Current current(*device);
  const cuda::Stream stream(device);
  const cuda::Driver& driver = device->driver();
  for (int round = 0; round < 60 && !HasFatalFailure(); ++round) {
    const Dims dims{1 + static_cast<std::int64_t>(random() % 3), 1 + static_cast<std::int64_t>(random() % 70), 1 + static_cast<std::int64_t>(random() % 40),
                    1 + static_cast<std::int64_t>(random() % 40)};
    static constexpr DType kFloats[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16};
    static constexpr DType kOthers[] = {DType::kInt64, DType::kUint8, DType::kInt32, DType::kBool};
    const bool real = round % 2 == 0;
    const DType from = real ? kFloats[random() % 3] : kOthers[random() % 4], to = real ? kFloats[random() % 3] : from;
    StridedTensor src(loops::cpu::testing::random_layout(from, dims, random)), dst(loops::cpu::testing::random_layout(to, dims, random));
    Tensor values(from, dims);
    for (std::int64_t i = 0; i < values.size(); ++i)
      real ? values.set_from_double(i, static_cast<double>(random() % 4001) / 1000.0 - 2) : values.set_from_int64(i, static_cast<std::int64_t>(random() % 2));
    src.write(values);
    const plan::TensorDesc in = src.desc(), out = dst.desc();
    const void* none = nullptr;
    const auto kernel = plan::find_kernel("cuda.copy")
                            ->bind({ir::Attrs{}, std::span(&in, 1), std::span(&out, 1), std::span(&none, 1), {}, ir::Bindings{}, 1, nullptr, device.get(), {}});
    Mirror a(device, src, 0), b(device, dst, 0);
    a.upload(driver, stream.handle());
    b.upload(driver, stream.handle());
    const void* const inputs[] = {a.data()};
    void* const outputs[] = {b.data()};
    ASSERT_TRUE(kernel->run({inputs, outputs, nullptr, nullptr, stream.handle()}));
    b.download(driver, stream.handle());
    ASSERT_TRUE(stream.synchronize());
    ASSERT_TRUE(dst.intact());
    const Tensor expected = values.cast(to), actual = dst.read();
    ASSERT_TRUE(actual.same_bytes(expected)) << to_string(dims) << " from " << dtype_name(from) << " to " << dtype_name(to);
  }
}

std::shared_ptr<ir::Model> small_model() {
  builder::test::ModelMaker m(3);
  const ir::Dim batch = ir::Dim::symbol("batch");
  ir::Value* x = m.input("x", {batch, 64, 24, 24});
  ir::Attrs axis;
  axis.set("axis", -1);
  ir::Value* y = m.add("Softmax", {m.silu(x)}, axis);
  y = m.add("Add", {y, m.weight({64, 1, 1}, 1)});
  ir::Attrs perm;
  perm.set("perm", std::vector<std::int64_t>{0, 2, 3, 1});
  return m.finish({m.add("Transpose", {m.add("Relu", {y})}, perm)});
}

std::shared_ptr<const runtime::Engine> build(std::string precision = "fp32") {
  builder::BuildOptions options;
  options.device = "cuda";
  options.precision = builder::parse_precision(precision);
  builder::BuildResult result = builder::build_engine(small_model(), options);  // throws where verification fails
  EXPECT_TRUE(result.report.verify.passed);
  EXPECT_TRUE(result.report.host_steps.empty());
  return runtime::Engine::create(std::move(result.engine));
}

Status run(runtime::Context& context, std::int64_t batch, std::vector<float>& x) {
  x.assign(static_cast<std::size_t>(batch * 64 * 24 * 24), 0.5F);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(i % 97) / 50.0F - 1;
  const std::int64_t dims[] = {batch, 64, 24, 24};
  const runtime::InputView view{x.data(), DType::kFloat32, dims};
  return context.run(std::span(&view, 1), {});
}

TEST_F(Gpu, BatchesRunFromOneEngineThroughGraphs) {
  const auto engine = build();
  runtime::Context context(engine);
  std::vector<float> x, first;
  for (std::int64_t batch = 1; batch <= 32; ++batch) {
    for (int repeat = 0; repeat < 3; ++repeat) {
      const Status status = run(context, batch, x);
      ASSERT_TRUE(status) << status.message();
      const auto* y = static_cast<const float*>(context.output(0).data);
      if (first.empty()) first.assign(y, y + 64 * 24 * 24);
      // The first image is the same in every batch.
      for (std::size_t i = 0; i < first.size(); ++i) ASSERT_NEAR(y[i], first[i], 1e-6) << "batch " << batch << " repeat " << repeat;
    }
  }
  EXPECT_GE(context.graph_runs(), 64) << "every run but the first of a shape is one replay";
}

TEST_F(Gpu, EightThreadsWithAContextEach) {
  const auto engine = build();
  std::vector<std::thread> threads;
  std::atomic<int> failures{0};
  for (int t = 0; t < 8; ++t)
    threads.emplace_back([&, t] {
      runtime::Context context(engine);
      std::vector<float> x;
      for (int i = 0; i < 200; ++i)
        if (!run(context, 1 + (t + i) % 4, x)) ++failures;
    });
  for (std::thread& thread : threads) thread.join();
  EXPECT_EQ(failures, 0);
}

TEST_F(Gpu, OutOfMemoryIsOneStatusAndTheNextRunIsFine) {
  const auto engine = build();
  runtime::Context context(engine);
  std::vector<float> x;
  ASSERT_TRUE(run(context, 1, x));
  std::vector<cuda::Block> all;
  for (std::size_t bytes = std::size_t{16} << 30; bytes >= std::size_t{16} << 20;) {
    try {
      all.emplace_back(device, bytes);
    } catch (const Error& error) {
      ASSERT_EQ(error.code(), Code::kOutOfMemory) << error.what();
      bytes /= 2;
    }
  }
  for (int attempt = 0; attempt < 2; ++attempt) {
    const Status status = run(context, 2000, x);
    ASSERT_EQ(status.code(), Code::kOutOfMemory) << status.message();
    ASSERT_TRUE(run(context, 1, x));
  }
  all.clear();
  const Status status = run(context, 2000, x);
  ASSERT_TRUE(status) << status.message();
}

TEST_F(Gpu, StepsAreTimedByTheDevice) {
  const auto engine = build("fp16");
  runtime::Context context(engine);
  std::vector<float> x;
  for (int i = 0; i < 3; ++i) ASSERT_TRUE(run(context, 32, x));
  context.start_profile();
  for (int i = 0; i < 20; ++i) ASSERT_TRUE(run(context, 32, x));
  const runtime::RunTimes& times = context.profile();
  EXPECT_TRUE(times.replayed);
  EXPECT_EQ(times.whole.runs, 20);
  double steps = 0;
  for (const runtime::StepTime& step : times.steps) steps += step.seconds;
  // 5 MB in and out at terabytes a second, and the marks taken off: neither nothing nor the host's milliseconds.
  EXPECT_GT(steps / 20, 2e-6);
  EXPECT_LT(steps / 20, 1e-3);
  EXPECT_GT(times.whole.seconds / 20, 2e-6);
  EXPECT_LT(times.whole.seconds / 20, 1e-3);
}

TEST_F(Gpu, ContextsComeAndGoWithoutKeepingMemory) {
  const auto engine = build();
  const cuda::Current current(*device);
  std::vector<float> x;
  const auto used = [&] {
    std::size_t free = 0, total = 0;
    device->driver().require(device->driver().memory_info(&free, &total), "cuMemGetInfo");
    return total - free;
  };
  const auto cycle = [&] {
    runtime::Context context(engine);
    ASSERT_TRUE(run(context, 2, x));
    ASSERT_TRUE(run(context, 2, x));
  };
  for (int i = 0; i < 50; ++i) cycle();
  const std::size_t before = used();
  for (int i = 0; i < 2000 && !HasFatalFailure(); ++i) cycle();
  EXPECT_LT(static_cast<double>(used()) - static_cast<double>(before), 1 << 20);
}

}  // namespace
}  // namespace lathe
