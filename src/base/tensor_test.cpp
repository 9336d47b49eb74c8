// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Casts of large tensors, which take a way of their own, against element by element.

#include "base/tensor.h"

#include <gtest/gtest.h>

#include <bit>
#include <cmath>
#include <cstring>
#include <limits>
#include <vector>

namespace lathe {
namespace {

/// Values of every magnitude, and those that round to even, overflow or are no numbers.
std::vector<float> values(std::int64_t count) {
  std::vector<float> all(static_cast<std::size_t>(count));
  std::uint32_t bits = 1;
  for (float& value : all) {
    bits = bits * 1664525u + 1013904223u;
    value = std::bit_cast<float>(bits);
  }
  const float inf = std::numeric_limits<float>::infinity();
  const float special[] = {0.0F, -0.0F, inf, -inf, std::nanf(""), 65504.0F, 65519.9F, 65520.0F, 5.9604645e-8F, 2.9802322e-8F, 1.00048828125F, 1.00146484375F};
  std::copy(std::begin(special), std::end(special), all.begin());
  return all;
}

TEST(TensorCast, LargeTensorsAsElementByElement) {
  for (const std::int64_t count : {std::int64_t{1}, std::int64_t{12}, std::int64_t{65537}, std::int64_t{300001}}) {
    const std::vector<float> from = values(std::max<std::int64_t>(count, 12));
    const Tensor whole = Tensor::from<float>(DType::kFloat32, {count}, std::span(from).first(static_cast<std::size_t>(count)));
    for (const DType type : {DType::kFloat16, DType::kBFloat16}) {
      const Tensor narrow = whole.cast(type), back = narrow.cast(DType::kFloat32);
      Tensor expected(type, {count});
      for (std::int64_t i = 0; i < count; ++i) expected.set_from_double(i, whole.as_double(i));
      ASSERT_TRUE(narrow.same_bytes(expected)) << count << " " << dtype_name(type);
      for (std::int64_t i = 0; i < count; ++i) {
        const double want = narrow.as_double(i), got = back.as_double(i);
        ASSERT_TRUE(want == got || (std::isnan(want) && std::isnan(got))) << i;
      }
    }
  }
}

TEST(TensorCast, StorageAtAnyAddress) {
  std::vector<std::byte> bytes(4 * 100 + 1);
  for (int i = 0; i < 100; ++i) {
    const float value = static_cast<float>(i) / 7;
    std::memcpy(bytes.data() + 1 + 4 * i, &value, 4);
  }
  const Tensor odd = Tensor::view(DType::kFloat32, {100}, bytes.data() + 1, 400, nullptr);
  const Tensor narrow = odd.cast(DType::kFloat16);
  for (int i = 0; i < 100; ++i) EXPECT_NEAR(narrow.as_double(i), i / 7.0, 0.01);
}

}  // namespace
}  // namespace lathe
