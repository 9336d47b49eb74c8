// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.linear_attention against the op's reference: all rules, types, strides, odd extents, everything that may be left out; what fits no kernel.

#include "../../../tests/gpu/linear_attention_cases.h"

namespace lathe::testing_gpu {
namespace {

TEST(LinearAttention, IsAsTheReferenceHasIt) {
  for (const LinearAttentionCase& c : linear_attention_cases(true)) {
    SCOPED_TRACE(c.describe());
    LinearAttentionTensors t(c);
    run_on_cpu("cpu.linear_attention", t.params, t.input_list(), t.output_list());
    t.compare();
    if (HasFailure()) return;
  }
}

/// A sequence cut in two, the second part of which begins with the state that the first one left.
TEST(LinearAttention, StepsOfOneSequenceGoOn) {
  const LinearAttentionCase whole{.batch = 2, .steps = 9, .keys = 24, .values = 20, .decay_per_key = true};
  LinearAttentionTensors calls(whole);
  std::int64_t done = 0;
  for (const std::int64_t steps : {4, 5}) {
    const auto part = [&](GuardedTensor& of, std::int64_t first) {
      GuardedTensor t = of;
      t.desc.dims[1] = steps;
      t.begin += static_cast<std::size_t>(first * t.desc.strides[1]) * dtype_bytes(t.desc.dtype, 1);
      return t;
    };
    std::vector<GuardedTensor> inputs;
    for (std::size_t i = 0; i < calls.inputs.size(); ++i) inputs.push_back(i == ops::kLinearPast ? calls.inputs[i] : part(calls.inputs[i], done));
    std::vector<GuardedTensor*> list;
    for (GuardedTensor& tensor : inputs) list.push_back(&tensor);
    GuardedTensor y = part(calls.outputs[0], done);
    run_on_cpu("cpu.linear_attention", calls.params, list, {&y, &calls.outputs[1]});
    calls.outputs[0].bytes = y.bytes;
    calls.inputs[ops::kLinearPast] = calls.outputs[1];
    done += steps;
  }
  calls.compare();
}

/// Bound at other extents, then moved to those of each case.
TEST(LinearAttention, MovesToOtherExtents) {
  for (const std::int64_t steps : {1, 0, 6})
    for (const std::int64_t batch : {1, 5}) {
      const LinearAttentionCase c{.batch = batch, .steps = steps, .group = 2, .keys = 24, .values = 40},
          bound{.batch = 4, .steps = 3, .group = 2, .keys = 24, .values = 40};
      SCOPED_TRACE(c.describe());
      LinearAttentionTensors t(c);
      const auto ins = c.descs(false), outs = c.descs(true), bound_ins = bound.descs(false), bound_outs = bound.descs(true);
      const std::vector<const void*> constants(ins.size(), nullptr);
      const ir::Bindings symbols;
      const auto kernel = plan::find_kernel("cpu.linear_attention")->bind({t.params, bound_ins, bound_outs, constants, {}, symbols, 2});
      ASSERT_TRUE(kernel->rebind({t.params, ins, outs, constants, {}, symbols, 2}));
      std::vector<const void*> in;
      std::vector<void*> out;
      for (GuardedTensor* tensor : t.input_list()) in.push_back(tensor->data());
      for (GuardedTensor* tensor : t.output_list()) out.push_back(tensor->data());
      std::vector<float> scratch(kernel->scratch_bytes() / sizeof(float) + 1, NAN);
      ASSERT_TRUE(kernel->run({in.data(), out.data(), scratch.data(), &default_pool()}));
      t.compare();
    }
}

TEST(LinearAttention, RefusesWhatDoesNotFit) {
  const LinearAttentionCase c{.group = 2, .keys = 8, .values = 4};
  const auto ins = c.descs(false), outs = c.descs(true);
  const auto fits = [&](const std::vector<plan::TensorDesc>& inputs, const std::vector<plan::TensorDesc>& outputs, std::int64_t queries = 4,
                        std::int64_t heads = 2) {
    cuda::LinearAttentionParams p;
    ops::LinearLaunch launch;
    std::string why;
    return ops::linear_attention_plan(inputs, outputs, queries, heads, 0, p, why) && ops::linear_attention_launch(p, launch, why);
  };
  ASSERT_TRUE(fits(ins, outs));
  EXPECT_FALSE(fits(ins, outs, 4, 0));
  EXPECT_FALSE(fits(ins, outs, 3, 2));
  EXPECT_FALSE(fits(ins, outs, 2, 2));
  EXPECT_FALSE(fits(ins, outs, std::int64_t{1} << 62, 2));
  EXPECT_FALSE(fits({ins.begin(), ins.begin() + 5}, outs));
  EXPECT_FALSE(fits(ins, {outs[0]}));
  for (std::size_t i = 0; i < ins.size() + outs.size(); ++i)
    for (std::size_t axis = 0; axis < 4; ++axis)
      for (const std::int64_t extent : {std::int64_t{-1}, std::int64_t{7}, (std::int64_t{1} << 31) - 1, std::int64_t{1} << 31, std::int64_t{1} << 62}) {
        auto inputs = ins, outputs = outs;
        plan::TensorDesc& desc = i < ins.size() ? inputs[i] : outputs[i - ins.size()];
        if (axis >= desc.dims.size()) continue;
        desc.dims[axis] = extent;
        EXPECT_FALSE(fits(inputs, outputs)) << "tensor " << i << ", axis " << axis << ": " << extent;
      }
  for (std::size_t i = 0; i < ins.size(); ++i) {
    auto inputs = ins;
    inputs[i].dtype = DType::kFloat64;
    EXPECT_FALSE(fits(inputs, outs)) << i;
    inputs[i] = plan::TensorDesc::row_major(DType::kFloat32, {3});
    EXPECT_FALSE(fits(inputs, outs)) << i;
    inputs[i] = {};
    EXPECT_EQ(fits(inputs, outs), i >= ops::kLinearPast) << i;
  }
  // Extents that fit each other, and whose products are no numbers of 64 bits.
  const std::int64_t most = (std::int64_t{1} << 31) - 1;
  const auto huge = [&](std::int64_t batch, std::int64_t steps, std::int64_t heads, std::int64_t keys, std::int64_t values) {
    const auto rows = [&](std::int64_t columns) { return plan::TensorDesc{DType::kFloat32, {batch, steps, columns}, {1, 1, 1}}; };
    const plan::TensorDesc none, state{DType::kFloat32, {batch, heads, keys, values}, {1, 1, 1, 1}};
    return fits({rows(heads * keys), rows(heads * keys), rows(heads * values), none, none, none}, {rows(heads * values), state}, heads, heads);
  };
  EXPECT_FALSE(huge(most, most, most, 1, 1));
  EXPECT_FALSE(huge(most, 1, 2, 1, 1));
  EXPECT_FALSE(huge(most, most, 1, most, most));
  EXPECT_FALSE(huge(1, most, 1, most, most));
  EXPECT_FALSE(huge(most, 1, 1, 16, most));
}

}  // namespace
}  // namespace lathe::testing_gpu
