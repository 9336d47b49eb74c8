// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The plain kernels of Conv and ConvTranspose, as they are, on the CPU, against the ops' references.

#include "../gpu/plain_conv_cases.h"
#include "host_cuda.h"

#include "regions/plain_conv/plain_conv.cu"

namespace lathe {
namespace {

TEST(PlainConvKernels, ConvolveAsTheReferencesDo) {
  for (const testing_gpu::PlainConvCase& c : testing_gpu::plain_conv_cases(false)) {
    SCOPED_TRACE(c.describe());
    testing_gpu::PlainConvTensors t(c);
    std::string why;
    const auto spec = regions::plain_conv_spec(t.params, c.transposed, c.x.size() - 2, why);
    ASSERT_TRUE(spec) << why;
    regions::PlainConvPlan plan;
    ASSERT_TRUE(regions::plain_conv_plan(*spec, t.x.desc, t.w.desc, c.bias ? &t.b.desc : nullptr, t.y.desc, plan, why)) << why;
    cuda::PlainConvParams p = plan.params;
    p.x = t.x.data(), p.w = t.w.data(), p.b = c.bias ? t.b.data() : nullptr, p.y = t.y.data();
    const auto kernel = plan.wide ? plain_conv_double : plain_conv_float;
    if (plan.grid > 0) {
      ASSERT_EQ(host_cuda::launch(plan.grid, 1, 1, cuda::kPlainConvThreads, [&] { kernel(p); }), "");
    }
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(PlainConvKernels, NonsenseIsRefused) {
  const auto refuses = [](Dims x, Dims w, Dims y, const ir::Attrs& attrs = {}, bool transposed = false, DType type = DType::kFloat32, Dims bias = {-1}) {
    regions::PlainConvPlan plan;
    std::string why;
    const auto desc = [&](Dims dims) { return plan::TensorDesc::row_major(type, std::move(dims)); };
    const auto spec = regions::plain_conv_spec(attrs, transposed, x.size() - 2, why);
    const bool given = bias != Dims{-1};
    const plan::TensorDesc added = desc(given ? bias : Dims{});
    return !(spec && regions::plain_conv_plan(*spec, desc(x), desc(w), given ? &added : nullptr, desc(y), plan, why)) && !why.empty();
  };
  const auto with = [](const char* name, const auto& value) {
    ir::Attrs attrs;
    attrs.set(name, value);
    return attrs;
  };
  using Ints = std::vector<std::int64_t>;
  EXPECT_FALSE(refuses({1, 4, 9}, {6, 4, 3}, {1, 6, 7}));
  EXPECT_FALSE(refuses({1, 4, 9}, {6, 4, 3}, {1, 6, 7}, {}, false, DType::kFloat32, {6}));
  EXPECT_FALSE(refuses({1, 4, 9}, {4, 6, 3}, {1, 6, 11}, {}, true));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3}, {1, 6, 7}, {}, false, DType::kFloat32, {5}));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3}, {1, 6, 7}, {}, false, DType::kFloat32, {}));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3}, {1, 6, 7}, {}, false, DType::kInt32));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3}, {1, 6, 8}));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3}, {2, 6, 7}));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3}, {1, 5, 7}));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 3, 3}, {1, 6, 7}));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 0}, {1, 6, 10}));
  EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3, 1}, {1, 6, 7}));
  EXPECT_TRUE(refuses({1, 4}, {6, 4}, {1, 6}));
  EXPECT_TRUE(refuses({1, 4, 2, 2, 2, 2}, {6, 4, 1, 1, 1, 1}, {1, 6, 2, 2, 2, 2}));
  for (const std::int64_t group : {-1, 0, 3}) EXPECT_TRUE(refuses({1, 4, 9}, {6, 4, 3}, {1, 6, 7}, with("group", group)));
  constexpr std::int64_t kFar = std::int64_t{1} << 62;
  for (const bool transposed : {false, true})
    for (const std::int64_t number : {std::int64_t{0}, std::int64_t{-1}, kFar, -kFar})
      for (const char* name : {"strides", "dilations"})
        EXPECT_TRUE(refuses({1, 4, 9}, {4, 4, 3}, {1, 4, 7}, with(name, Ints{number}), transposed)) << name << number;
  EXPECT_TRUE(refuses({1, 4, 9}, {4, 4, 3}, {1, 4, 7}, with("pads", Ints{kFar, kFar})));
  EXPECT_TRUE(refuses({1, 4, 9}, {4, 4, 3}, {1, 4, 7}, with("pads", Ints{0})));
  EXPECT_TRUE(refuses({1, 4, 9}, {4, 4, 3}, {1, 4, 7}, with("kernel_shape", Ints{2})));
  EXPECT_TRUE(refuses({1, 4, 9}, {4, 4, 3}, {1, 4, 11}, with("output_shape", Ints{1, 2}), true));
  EXPECT_TRUE(refuses({1, 4, 9}, {4, 4, 3}, {1, 4, 7}, with("auto_pad", "ANY")));
}

}  // namespace
}  // namespace lathe
