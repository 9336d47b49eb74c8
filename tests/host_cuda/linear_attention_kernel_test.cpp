// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The kernels of LinearAttention, as they are, on the CPU, against the op's reference.

#include "../gpu/linear_attention_cases.h"
#include "base/sanitizers.h"
#include "host_cuda.h"
#include "ops/linear_attention/linear_attention.cu"

namespace lathe {

namespace cuda {
alignas(16) unsigned char linear_attention_storage[kLinearShared + 1024];
}

namespace {

TEST(LinearAttentionKernels, ComputeWhatTheReferenceDoes) {
#if LATHE_ADDRESS_SANITIZER || LATHE_THREAD_SANITIZER
  GTEST_SKIP() << "sanitizers do not follow fibers";
#endif
  bool used[3] = {};
  for (const testing_gpu::LinearAttentionCase& c : testing_gpu::linear_attention_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::LinearAttentionTensors t(c);
    cuda::LinearAttentionParams p;
    ops::LinearLaunch launch;
    std::string why;
    ASSERT_TRUE(ops::linear_attention_plan(c.descs(false), c.descs(true), c.heads * c.group, c.heads, c.scale, p, why)) << why;
    ASSERT_TRUE(ops::linear_attention_launch(p, launch, why)) << why;
    const void* in[ops::kLinearInputs] = {};
    void* out[ops::kLinearOutputs] = {};
    for (std::size_t i = 0; i < t.inputs.size(); ++i)
      if (t.inputs[i].desc.dtype != DType::kUndefined) in[i] = t.inputs[i].data();
    for (std::size_t i = 0; i < t.outputs.size(); ++i)
      if (t.outputs[i].desc.dtype != DType::kUndefined) out[i] = t.outputs[i].data();
    ops::linear_attention_addresses({in, out, nullptr, nullptr}, p);
    // NaN everywhere: what is read before it is written shows.
    const std::size_t floats = launch.scratch_bytes / sizeof(float);
    std::vector<std::uint32_t> scratch(floats + 16, 0xFFFFFFFFu);
    p.in_memory = reinterpret_cast<float*>(scratch.data());
    const auto kernel = launch.kind == ops::LinearKernelKind::kWhole  ? linear_attention_whole
                        : launch.kind == ops::LinearKernelKind::kPart ? linear_attention_part
                                                                      : linear_attention_memory;
    if (launch.grid > 0) {
      used[static_cast<std::size_t>(launch.kind)] = true;
      ASSERT_EQ(host_cuda::launch(
                    launch.grid, 1, 1, launch.block, [&] { kernel(p); }, cuda::linear_attention_storage, sizeof cuda::linear_attention_storage, launch.shared),
                "");
    }
    for (std::size_t i = floats; i < scratch.size(); ++i) ASSERT_EQ(scratch[i], 0xFFFFFFFFu) << "written behind the workspace";
    t.compare();
    if (HasFailure()) return;
  }
  EXPECT_TRUE(used[0] && used[1] && used[2]) << "a kernel that no case runs";
}

}  // namespace
}  // namespace lathe
