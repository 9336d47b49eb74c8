// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What references share: movement by runs of bytes beside movement element by element.
#include "ops/ref_util.h"

#include <gtest/gtest.h>

#include <numeric>
#include <random>

#include "ir/text.h"
#include "ops/evaluate.h"

namespace lathe::ops {
namespace {

Tensor numbered(DType dtype, Dims dims) {
  if (dtype == DType::kString) {
    std::vector<std::string> texts(static_cast<std::size_t>(element_count(dims)));
    for (std::size_t i = 0; i < texts.size(); ++i) texts[i] = std::to_string(i);
    return Tensor::strings(dims, texts);
  }
  Tensor tensor(dtype, dims);
  for (std::int64_t i = 0; i < tensor.size(); ++i) tensor.set_from_double(i, static_cast<double>(i % 7));
  return tensor;
}

std::string text_at(const Tensor& t, std::int64_t i) {
  return t.dtype() == DType::kString ? t.string_data()[static_cast<std::size_t>(i)] : std::to_string(t.as_double(i));
}

TEST(RefUtil, StridedMovesAsElementByElement) {
  std::mt19937 random(5);
  const auto draw = [&](int least, int most) { return std::uniform_int_distribution<std::int64_t>(least, most)(random); };
  const DType types[] = {DType::kUint8, DType::kFloat16, DType::kFloat32, DType::kFloat64, DType::kInt16, DType::kInt4, DType::kUint2, DType::kString};
  for (int trial = 0; trial < 400; ++trial) {
    const DType dtype = types[trial % 8];
    Dims extents(static_cast<std::size_t>(draw(0, 4)));
    for (auto& extent : extents) extent = draw(1, 5);
    const Tensor source = numbered(dtype, extents);
    // Axes of the source in any order, repeated, skipped over, backwards.
    const Dims strides = strides_of(extents);
    Dims dims, steps;
    std::int64_t offset = 0;
    std::vector<std::size_t> order(extents.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    if (trial % 2) std::shuffle(order.begin(), order.end(), random);
    for (const std::size_t axis : order) {
      if (draw(0, 3) == 0) {
        dims.push_back(draw(0, 6) == 0 ? 0 : draw(1, 3));
        steps.push_back(0);
      }
      const std::int64_t step = draw(0, 2) == 0 ? draw(1, 3) : 1, first = draw(0, static_cast<int>(extents[axis]) - 1);
      const bool back = draw(0, 3) == 0;
      dims.push_back(back ? first / step + 1 : (extents[axis] - 1 - first) / step + 1);
      steps.push_back((back ? -step : step) * strides[axis]);
      offset += first * strides[axis];
    }
    const Tensor expected = remap_nd(source, dims, [&](const Dims& i) { return std::inner_product(i.begin(), i.end(), steps.begin(), offset); });
    const Tensor moved = strided(source, dims, steps, offset);
    ASSERT_EQ(moved.dims(), expected.dims());
    ASSERT_EQ(moved.dtype(), dtype);
    for (std::int64_t i = 0; i < moved.size(); ++i) ASSERT_EQ(text_at(moved, i), text_at(expected, i)) << "trial " << trial << ", element " << i;
  }
}

TEST(RefUtil, PlacesInAMask) {
  std::mt19937 random(6);
  const auto graph = ir::parse_graph("graph g(x: bool[n, m]) -> (y) {\n  y = NonZero(x)\n}");
  for (const double share : {0.0, 0.03, 0.5, 1.0}) {
    for (const std::int64_t columns : {0, 1, 7, 8, 9, 31, 64}) {
      Tensor mask(DType::kBool, {3, columns});
      std::vector<std::int64_t> rows, at;
      for (std::int64_t i = 0; i < mask.size(); ++i) {
        const bool set = std::bernoulli_distribution(share)(random);
        mask.set_from_int64(i, set);
        if (set) rows.push_back(i / columns), at.push_back(i % columns);
      }
      rows.insert(rows.end(), at.begin(), at.end());
      const std::vector<Tensor> inputs{mask};
      const Tensor found = evaluate_node(*graph->find("y")->producer, inputs).front();
      ASSERT_EQ(found.dims(), (Dims{2, static_cast<std::int64_t>(at.size())}));
      ASSERT_EQ(found.to_int64_vector(), rows);
    }
  }
}

}  // namespace
}  // namespace lathe::ops
