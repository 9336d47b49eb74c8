// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.copy against element-by-element copies over layouts, slices, types and odd extents; guard bytes around the destination.

#include <gtest/gtest.h>

#include <cstring>

#include "base/half.h"
#include "base/thread_pool.h"
#include "plan/kernel.h"

namespace lathe::plan {
namespace {

std::vector<std::int64_t> strides_of(const Dims& dims, bool channels_last, std::int64_t pixel) {
  if (!channels_last) return TensorDesc::row_major(DType::kFloat32, dims).strides;
  std::vector<std::int64_t> strides(dims.size());
  strides[1] = 1;
  std::int64_t stride = pixel;
  for (std::size_t axis = dims.size(); axis-- > 2;) {
    strides[axis] = stride;
    stride *= dims[axis];
  }
  strides[0] = stride;
  return strides;
}

template <class F>
void for_each_index(const Dims& dims, F&& f) {
  Dims index(dims.size(), 0);
  std::int64_t count = 1;
  for (const std::int64_t d : dims) count *= d;
  for (std::int64_t i = 0; i < count; ++i) {
    f(index);
    for (std::size_t axis = dims.size(); axis-- > 0;) {
      if (++index[axis] < dims[axis]) break;
      index[axis] = 0;
    }
  }
}

std::int64_t offset(const Dims& index, const std::vector<std::int64_t>& strides) {
  std::int64_t at = 0;
  for (std::size_t i = 0; i < index.size(); ++i) at += index[i] * strides[i];
  return at;
}

TEST(CopyCpu, MovesEveryElementOnceInEveryLayout) {
  const KernelType* type = find_kernel("cpu.copy");
  ASSERT_NE(type, nullptr);
  ThreadPool pool(2);
  const ir::Attrs attrs;
  const ir::Bindings symbols;
  for (const Dims& dims :
       {Dims{1, 3, 5, 7}, Dims{2, 64, 33, 17}, Dims{1, 255, 20, 20}, Dims{3, 1, 4, 4}, Dims{2, 5, 1, 1}, Dims{1, 16, 9}, Dims{2, 4, 3, 5, 6}})
    for (const bool src_last : {false, true})
      for (const bool dst_last : {false, true})
        for (const std::int64_t extra : {0, 5})
          for (const bool to_bf16 : {false, true}) {
            TensorDesc src{DType::kFloat32, dims, strides_of(dims, src_last, dims[1] + (src_last ? extra : 0))};
            TensorDesc dst{to_bf16 ? DType::kBFloat16 : DType::kFloat32, dims, strides_of(dims, dst_last, dims[1] + (dst_last ? extra : 0))};
            Dims last = dims;
            for (auto& d : last) --d;
            std::vector<float> input(static_cast<std::size_t>(offset(last, src.strides)) + 1);
            for (std::size_t i = 0; i < input.size(); ++i) input[i] = static_cast<float>(i % 251) - 100.0F;
            const std::size_t width = to_bf16 ? 2 : 4, guard = 64;
            std::vector<unsigned char> output((static_cast<std::size_t>(offset(last, dst.strides)) + 1) * width + 2 * guard, 0xA5);
            std::vector<unsigned char> expected = output;
            for_each_index(dims, [&](const Dims& index) {
              const float value = input[static_cast<std::size_t>(offset(index, src.strides))];
              unsigned char* at = expected.data() + guard + static_cast<std::size_t>(offset(index, dst.strides)) * width;
              const std::uint16_t bits = float_to_bfloat16(value);
              if (to_bf16) std::memcpy(at, &bits, 2);
              else std::memcpy(at, &value, 4);
            });
            const TensorDesc ins[] = {src}, outs[] = {dst};
            const void* constants[] = {nullptr};
            const auto kernel = type->bind({attrs, ins, outs, constants, {}, symbols, 2});
            const void* in[] = {input.data()};
            void* out[] = {output.data() + guard};
            ASSERT_TRUE(kernel->run({in, out, nullptr, &pool}));
            ASSERT_EQ(output, expected) << to_string(dims) << " src_last=" << src_last << " dst_last=" << dst_last << " extra=" << extra;
          }
}

}  // namespace
}  // namespace lathe::plan
