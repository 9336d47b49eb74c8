// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The lowerings of all operators (ops/sweep_cases.h) through both emitters: the CPU's as it runs, the CUDA one on the CPU (host_emulation.h),
// each held against the interpreter, which sweep_test.cpp holds against the references.

#include "base/sanitizers.h"
#include "loops/cpu/random_regions.h"
#include "loops/cuda/host_emulation.h"
#include "ops/sweep_cases.h"

namespace lathe::loops::cuda {
namespace {

using cpu::testing::EmitterCase;
using cpu::testing::StridedTensor;

struct Lowered {
  const char* name;
  EmitterCase c;
  std::vector<Tensor> expected;
};

const std::vector<Lowered>& lowered_cases() {
  static const std::vector<Lowered> all = [] {
    std::vector<Lowered> list;
    for (const ops::testing::Case& c : ops::testing::kCases) {
      if (c.decline) continue;
      const ops::testing::Swept swept = ops::testing::read_case(c);
      ops::testing::SweptRegion lowered = ops::testing::lower_case(swept);
      if (!lowered.lowered) continue;  // sweep_test says so
      EmitterCase e{std::move(lowered.region), swept.symbols, std::move(lowered.tensors), {}, {}};
      for (const Tensor& input : e.inputs) e.ins.push_back(plan::TensorDesc::row_major(input.dtype(), input.dims()));
      std::vector<Tensor> expected = interpret(e.region, e.inputs, e.symbols);
      for (const Tensor& output : expected) e.outs.push_back(plan::TensorDesc::row_major(output.dtype(), output.dims()));
      list.push_back({c.name, std::move(e), std::move(expected)});
    }
    return list;
  }();
  return all;
}

/// What the CPU's emitter has no registers or no arithmetic (64 bits without a sign) for; the defining reference runs it there.
constexpr std::string_view kTooLargeForCpu[] = {"grid_sample_cubic", "reduce_mean_uint64", "reduce_l2_uint64"};

void expect_close(const Lowered& l, std::size_t output, const Tensor& actual) {
  const Tensor& want = l.expected[output];
  const double mass = cpu::testing::mass_of(l.c);
  const double unit = want.dtype() == DType::kFloat16 ? 2e-3 : want.dtype() == DType::kBFloat16 ? 1.6e-2 : want.dtype() == DType::kFloat64 ? 1e-9 : 3e-5;
  for (std::int64_t i = 0; i < want.size(); ++i) {
    const double a = actual.as_double(i), w = want.as_double(i);
    const bool good = !is_float(want.dtype()) ? actual.as_int64(i) == want.as_int64(i)
                      : std::isnan(w)         ? std::isnan(a)
                      : std::isinf(w)         ? a == w
                                              : std::fabs(a - w) <= unit * (mass + std::fabs(w));
    ASSERT_TRUE(good) << l.name << ", element " << i << ": " << a << " instead of " << w << "\n" << l.c.region.to_string();
  }
}

TEST(LoweredOps, MatchTheInterpreterOnTheCpu) {
  cpu::testing::for_each_target([](std::string_view target) {
    SCOPED_TRACE(std::string(target));
    for (const Lowered& l : lowered_cases()) {
      if (std::find(std::begin(kTooLargeForCpu), std::end(kTooLargeForCpu), l.name) != std::end(kTooLargeForCpu)) continue;
      try {
        const std::vector<Tensor> actual = cpu::testing::run_emitter(l.c, 1), threaded = cpu::testing::run_emitter(l.c, 3);
        for (std::size_t o = 0; o < actual.size(); ++o) {
          EXPECT_TRUE(actual[o].same_bytes(threaded[o])) << l.name << ": the thread count changes the result";
          expect_close(l, o, actual[o]);
        }
      } catch (const Error& error) {
        ADD_FAILURE() << l.name << ": " << error.what() << "\n" << l.c.region.to_string();
      }
    }
  });
}

TEST(LoweredOps, MatchTheInterpreterAsCudaKernels) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  struct Prepared {
    const Lowered* lowered;
    std::vector<plan::TensorDesc> buffers;
    Emitted emitted;
  };
  std::vector<Prepared> all;
  testing::HostModule module;
  for (const Lowered& l : lowered_cases()) {
    Prepared p{&l, {}, {}};
    std::size_t in = 0, out = 0;
    for (const Buffer& buffer : l.c.region.buffers) {
      if (buffer.role == Role::kInput) p.buffers.push_back(l.c.ins[in++]);
      else if (buffer.role == Role::kOutput) p.buffers.push_back(l.c.outs[out++]);
      else p.buffers.push_back(plan::TensorDesc::row_major(buffer.dtype, *ir::evaluate(buffer.shape, l.c.symbols)));
    }
    EmitOptions options;
    options.multiprocessors = 4;
    options.enough_threads = 16;
    options.prefix = std::string(l.name) + "_";
    try {
      p.emitted = emit(l.c.region, p.buffers, l.c.symbols, options);
    } catch (const Error& error) {
      ADD_FAILURE() << l.name << ": " << error.what() << "\n" << l.c.region.to_string();
      continue;
    }
    module.add(p.emitted);
    all.push_back(std::move(p));
  }
  ASSERT_NO_THROW(module.compile());
  for (const Prepared& p : all) {
    const EmitterCase& c = p.lowered->c;
    std::vector<StridedTensor> tensors;
    std::size_t in = 0, out = 0;
    for (std::size_t b = 0; b < p.buffers.size(); ++b) {
      tensors.emplace_back(p.buffers[b]);
      if (c.region.buffers[b].role == Role::kInput) tensors.back().write(c.inputs[in++]);
    }
    for (const Launch& launch : p.emitted.launches) {
      std::vector<std::byte> parameters = launch.parameters;
      for (std::size_t i = 0; i < launch.pointers.size(); ++i) {
        const std::byte* data = tensors[static_cast<std::size_t>(launch.pointers[i])].data();
        std::memcpy(parameters.data() + i * sizeof data, &data, sizeof data);
      }
      EXPECT_EQ(module.run(launch.kernel, parameters.data(), launch.blocks), "") << p.lowered->name << "\n" << p.emitted.source;
    }
    for (std::size_t b = 0; b < p.buffers.size(); ++b) {
      EXPECT_TRUE(tensors[b].intact()) << p.lowered->name << ": written beside a buffer\n" << p.emitted.source;
      if (c.region.buffers[b].role == Role::kOutput) expect_close(*p.lowered, out++, tensors[b].read());
    }
  }
}

}  // namespace
}  // namespace lathe::loops::cuda
