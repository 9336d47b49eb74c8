// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of recurrent layers, as they are, on the CPU: every launch of a plan against the ops' references.

#include "../gpu/rnn_cases.h"
#include "base/sanitizers.h"
#include "host_cuda.h"
// Arrays of a block.
#undef __shared__
#define __shared__ static
#include "regions/rnn/rnn.cu"
#include "regions/rnn/rnn_double.cu"

namespace lathe {
namespace {

using regions::RnnKernelKind;

#define LATHE_KERNEL(name)                       \
  if (kernel == "rnn_" #name) return rnn_##name; \
  if (kernel == "rnn_double_" #name) return rnn_double_##name
#define LATHE_STEP(part)         \
  LATHE_KERNEL(step_##part##_1); \
  LATHE_KERNEL(step_##part##_n)
template <class Params>
void (*kernel_of(std::string_view kernel))(const Params) {
  if constexpr (std::is_same_v<Params, cuda::RnnParams>) {
    LATHE_STEP(lstm);
    LATHE_STEP(gru_linear);
    LATHE_STEP(gru_gates);
    LATHE_STEP(gru_candidate);
    LATHE_STEP(plain);
    LATHE_KERNEL(begin);
  } else if constexpr (std::is_same_v<Params, cuda::RnnProjectParams>) {
    LATHE_KERNEL(project_rows);
    LATHE_KERNEL(project_tiles);
  } else if constexpr (std::is_same_v<Params, cuda::RnnPackParams>) {
    LATHE_KERNEL(pack);
  } else {
    LATHE_KERNEL(bias);
  }
  return nullptr;
}
#undef LATHE_STEP
#undef LATHE_KERNEL

TEST(RnnKernels, ComputeWhatTheReferencesDo) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  for (const testing_gpu::RnnCase& c : testing_gpu::rnn_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::RnnTensors t(c);
    regions::RnnPlan plan;
    std::string why;
    const auto spec = regions::rnn_spec(c.op, t.params, why);
    ASSERT_TRUE(spec) << why;
    plan.spec = *spec;
    const auto ways = t.params.get_ints("weights");
    regions::RnnAddresses at;
    struct alignas(64) Piece {
      std::byte bytes[64];
    };
    std::vector<std::vector<Piece>> aligned;
    std::size_t blob = 0;
    for (std::size_t i = 0; i < 4; ++i) {
      plan.weights[i] = static_cast<regions::RnnWeight>(ways[i]);
      if (ways[i] == 1) {
        // At a multiple of 64 bytes, as the runtime has them.
        aligned.emplace_back(t.packed[blob].size() / 64 + 1);
        std::memcpy(aligned.back().data(), t.packed[blob].data(), t.packed[blob].size());
        at.packed[i] = aligned.back().data();
        ++blob;
      }
    }
    const auto ins = t.descs(false), outs = t.descs(true);
    ASSERT_TRUE(regions::rnn_plan(ins, outs, c.in, c.hidden, plan, why)) << why;
    for (std::size_t i = 0; i < at.inputs.size(); ++i)
      if (ins[i].dtype != DType::kUndefined) at.inputs[i] = t.inputs[i].data();
    for (std::size_t i = 0; i < at.outputs.size(); ++i)
      if (outs[i].dtype != DType::kUndefined) at.outputs[i] = t.outputs[i].data();
    // NaN everywhere: what is read before it is written shows.
    std::vector<std::byte> scratch(plan.scratch + 192, std::byte{0xFF});
    at.scratch = scratch.data() + (64 - reinterpret_cast<std::uintptr_t>(scratch.data()) % 64) % 64;
    const auto behind = static_cast<std::size_t>(static_cast<std::byte*>(at.scratch) - scratch.data()) + plan.scratch;
    if (!plan.empty()) {
      ASSERT_TRUE(regions::rnn_launches(plan, at, [&](RnnKernelKind kind, const regions::RnnGrid& grid, const auto& params) {
        const auto name = regions::rnn_kernel_name(kind, plan.wide());
        const auto kernel = kernel_of<std::decay_t<decltype(params)>>(name);
        const std::string wrong = kernel ? host_cuda::launch(grid.x, grid.y, grid.z, grid.block, [&] { kernel(params); }) : "no such kernel";
        EXPECT_EQ(wrong, "") << name;
        return wrong.empty();
      }));
    }
    for (std::size_t i = behind; i < scratch.size(); ++i) ASSERT_EQ(scratch[i], std::byte{0xFF}) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(RnnKernels, ComputeInOneTypeWhereItIsFloat64) {
  using testing_gpu::RnnCase;
  constexpr DType kWide = DType::kFloat64, kOther = DType::kFloat32;
  for (const RnnCase& c : {RnnCase{.x = kWide, .y = kOther, .state = kWide}, RnnCase{.x = kWide, .y = kWide, .state = kOther}, RnnCase{.x = kOther, .y = kWide},
                           RnnCase{.x = DType::kFloat16, .state = kWide}}) {
    SCOPED_TRACE(c.describe());
    const testing_gpu::RnnTensors t(c);
    regions::RnnPlan plan;
    std::string why;
    plan.spec = *regions::rnn_spec(c.op, t.params, why);
    plan.weights = {regions::RnnWeight::kPacked, regions::RnnWeight::kPacked, regions::RnnWeight::kPacked, regions::RnnWeight::kNone};
    const auto ins = t.descs(false), outs = t.descs(true);
    EXPECT_FALSE(regions::rnn_plan(ins, outs, c.in, c.hidden, plan, why));
    EXPECT_NE(why, "");
  }
}

}  // namespace
}  // namespace lathe
