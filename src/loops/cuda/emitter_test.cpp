// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Random regions through the CUDA emitter, run on the CPU (host_emulation.h) and held against the interpreter; and all of them through
// NVRTC where it is installed, since only it knows the device's rules.

#include <fmt/format.h>

#include "backend/cuda/nvrtc.h"
#include "base/sanitizers.h"
#include "loops/cpu/random_regions.h"
#include "loops/cuda/host_emulation.h"

namespace lathe::loops::cuda {
namespace {

using cpu::testing::EmitterCase;
using cpu::testing::StridedTensor;

struct Prepared {
  EmitterCase c;
  std::vector<plan::TensorDesc> buffers;
  Emitted emitted;
};

Prepared prepare(EmitterCase c, std::string prefix) {
  Prepared p{std::move(c), {}, {}};
  std::size_t in = 0, out = 0;
  for (const Buffer& buffer : p.c.region.buffers) {
    if (buffer.role == Role::kInput) p.buffers.push_back(p.c.ins[in++]);
    else if (buffer.role == Role::kOutput) p.buffers.push_back(p.c.outs[out++]);
    else p.buffers.push_back(plan::TensorDesc::row_major(buffer.dtype, *ir::evaluate(buffer.shape, p.c.symbols)));
  }
  EmitOptions options;
  options.multiprocessors = 4;
  options.enough_threads = 16;
  options.prefix = std::move(prefix);
  p.emitted = emit(p.c.region, p.buffers, p.c.symbols, options);
  return p;
}

/// `shift` bytes more than aligned, so that the plain form of a kernel runs.
void run_and_compare(const Prepared& p, const testing::HostModule& module, bool aligned, const std::string& what) {
  std::vector<StridedTensor> tensors;
  std::size_t in = 0;
  for (std::size_t b = 0; b < p.buffers.size(); ++b) {
    tensors.emplace_back(p.buffers[b]);
    if (p.c.region.buffers[b].role == Role::kInput) tensors.back().write(p.c.inputs[in++]);
  }
  for (const Launch& launch : p.emitted.launches) {
    const bool plain = !aligned && !launch.unaligned_kernel.empty();
    std::vector<std::byte> parameters = plain ? launch.unaligned_parameters : launch.parameters;
    for (std::size_t i = 0; i < launch.pointers.size(); ++i) {
      const std::byte* data = tensors[static_cast<std::size_t>(launch.pointers[i])].data();
      std::memcpy(parameters.data() + i * sizeof data, &data, sizeof data);
    }
    const std::string wrong = module.run(plain ? launch.unaligned_kernel : launch.kernel, parameters.data(), plain ? launch.unaligned_blocks : launch.blocks);
    ASSERT_EQ(wrong, "") << what << "\n" << p.c.region.to_string() << p.emitted.source;
  }
  const std::vector<Tensor> expected = interpret(p.c.region, p.c.inputs, p.c.symbols);
  const double mass = mass_of(p.c);
  std::size_t o = 0;
  for (std::size_t b = 0; b < p.buffers.size(); ++b) {
    ASSERT_TRUE(tensors[b].intact()) << what << ": written beside a buffer\n" << p.c.region.to_string() << p.emitted.source;
    if (p.c.region.buffers[b].role != Role::kOutput) continue;
    const Tensor actual = tensors[b].read();
    const Tensor& want = expected[o++];
    for (std::int64_t i = 0; i < want.size(); ++i) {
      const bool good =
          is_float(want.dtype()) ? cpu::testing::close(actual.as_double(i), want.as_double(i), want.dtype(), mass) : actual.as_int64(i) == want.as_int64(i);
      ASSERT_TRUE(good) << what << " output " << o - 1 << " element " << i << ": " << actual.as_double(i) << " instead of " << want.as_double(i) << "\n"
                        << p.c.region.to_string() << p.emitted.source;
    }
  }
}

TEST(CudaEmitter, RandomRegionsMatchTheInterpreterOnTheCpu) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  constexpr unsigned kRegions = 80;
  std::vector<Prepared> regions;
  testing::HostModule module;
  for (unsigned seed = 0; seed < kRegions; ++seed) {
    EmitterCase c = cpu::testing::Generator(seed + 5000).make();
    try {
      regions.push_back(prepare(std::move(c), "r" + std::to_string(seed) + "_"));
    } catch (const Error& error) {
      FAIL() << "seed " << seed << ": " << error.what();
    }
    module.add(regions.back().emitted);
  }
  ASSERT_NO_THROW(module.compile());
  for (unsigned seed = 0; seed < kRegions && !HasFatalFailure(); ++seed) {
    run_and_compare(regions[seed], module, true, "seed " + std::to_string(seed));
    run_and_compare(regions[seed], module, false, "seed " + std::to_string(seed) + " unaligned");
  }
}

TEST(CudaEmitter, RandomRegionsCompileForTheDevice) {
  const ::lathe::cuda::Nvrtc* nvrtc = ::lathe::cuda::Nvrtc::find();
  if (!nvrtc) GTEST_SKIP() << "no NVRTC here";
  std::string all(device_prelude());
  for (unsigned seed = 0; seed < 15; ++seed) {
    const Prepared p = prepare(cpu::testing::Generator(seed + 7000).make(), "r" + std::to_string(seed) + "_");
    all += "namespace n" + std::to_string(seed) + " {\n" + p.emitted.source + "}\n";
  }
  EXPECT_NO_THROW(nvrtc->compile({all, "regions.cu", "sm_90a", {}, {}}));
}

TEST(CudaEmitter, ShapesOfOneStructureShareTheirSource) {
  // y = sigmoid(x) * x over [n, 64] channels-last images: other extents, same text.
  const auto source = [](std::int64_t n, std::int64_t side) {
    LoopRegion region = parse_region(R"(region {
  $0 input "x": float[n, 64, h, h]
  $1 output "y": float[n, 64, h, h]
  %0 = $0[i0, i1, i2, i3]
  stage (n, 64, h, h) $1[i0, i1, i2, i3] = mul(%0, sigmoid(%0))
})");
    plan::TensorDesc desc{DType::kFloat16, {n, 64, side, side}, {side * side * 64, 1, side * 64, 64}};
    return emit(region, std::vector{desc, desc}, {{"n", n}, {"h", side}}, {}).source;
  };
  EXPECT_EQ(source(1, 80), source(3, 61));
  EXPECT_NE(source(1, 80).find("Pack<half_t, 8>"), std::string::npos) << "16 bytes a thread";
}

TEST(CudaEmitter, NormalisationIsOneLaunch) {
  LoopRegion region = parse_region(R"(region {
  $0 input "x": float[rows, 768]
  $1 output "y": float[rows, 768]
  $2 temp "max": float[rows]
  $3 temp "sum": float[rows]
  %0 = exp(sub($0[i0, i1], $2[i0]))
  stage (rows, 768 reduce) $2[i0] = max<float> $0[i0, i1]
  stage (rows, 768 reduce) $3[i0] = sum<float> %0
  stage (rows, 768) $1[i0, i1] = div(%0, $3[i0])
})");
  const plan::TensorDesc x = plan::TensorDesc::row_major(DType::kFloat32, {197, 768}), row = plan::TensorDesc::row_major(DType::kFloat32, {197});
  const Emitted emitted = emit(region, std::vector{x, x, row, row}, {{"rows", 197}}, {});
  ASSERT_EQ(emitted.launches.size(), 1u);
  EXPECT_EQ(emitted.launches[0].blocks, 197u);
}

/// A Concat of `parts` tensors of different lengths along the first axis.
EmitterCase wide_concat(int parts) {
  std::string buffers, stages;
  EmitterCase c;
  std::int64_t total = 0;
  for (int i = 0; i < parts; ++i) {
    const std::int64_t length = i % 5;
    buffers += fmt::format("  ${} input \"p{}\": float[{}, 3]\n", i, i, length);
    stages += fmt::format("  stage ({}, 3) ${}[add(i0, {}), i1] = ${}[i0, i1]\n", length, parts, total, i);
    Tensor part(DType::kFloat32, {length, 3});
    for (std::int64_t k = 0; k < part.size(); ++k) part.set_from_double(k, static_cast<double>(100 * i + k));
    c.ins.push_back(plan::TensorDesc::row_major(DType::kFloat32, part.dims()));
    c.inputs.push_back(std::move(part));
    total += length;
  }
  c.region = parse_region(fmt::format("region {{\n{}  ${} output \"y\": float[{}, 3]\n{}}}", buffers, parts, total, stages));
  c.outs = {plan::TensorDesc::row_major(DType::kFloat32, {total, 3})};
  return c;
}

TEST(CudaEmitter, ALaunchOfTooManyParametersIsCut) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  const Prepared p = prepare(wide_concat(300), "wide");
  EXPECT_GT(p.emitted.launches.size(), 1u);
  for (const Launch& launch : p.emitted.launches) EXPECT_LE(launch.parameters.size(), kMaxParameterBytes);
  testing::HostModule module;
  module.add(p.emitted);
  ASSERT_NO_THROW(module.compile());
  run_and_compare(p, module, true, "300 parts");
  EXPECT_EQ(prepare(wide_concat(8), "narrow").emitted.launches.size(), 1u);
}

}  // namespace
}  // namespace lathe::loops::cuda
