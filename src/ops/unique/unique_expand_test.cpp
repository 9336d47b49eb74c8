// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Unique by a sort and marks gives what the reference gives, over types, ties, NaN, zeros of both signs and no element at all; what is left alone.
#include <gtest/gtest.h>

#include <cmath>

#include "ir/text.h"
#include "ops/expansion.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"

namespace lathe::ops {
namespace {

Tensor many_equal(DType dtype, Dims dims) {
  Tensor x(dtype, std::move(dims));
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t draw = (i * 7919 + 13) % 101 % 11;
    if (is_float(dtype))
      x.set_from_double(i, draw == 0 ? std::nan("") : draw == 1 ? -0.0 : draw == 2 ? 0.0 : draw == 3 ? INFINITY : 0.5 * static_cast<double>(draw - 6));
    else x.set_from_int64(i, dtype == DType::kBool ? draw % 2 : is_signed_integer(dtype) ? draw - 5 : draw == 0 ? -1 : draw);
  }
  return x;
}

std::shared_ptr<ir::Graph> parsed(const std::string& text) {
  auto graph = ir::parse_graph(text);
  infer_graph(*graph);
  return graph;
}

TEST(UniqueExpansion, GivesWhatTheReferenceGives) {
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kBFloat16, DType::kFloat64, DType::kInt8, DType::kInt32,
                              DType::kInt64,   DType::kUint8,   DType::kUint16,   DType::kUint64,  DType::kBool};
  for (const DType type : kTypes)
    for (const int sorted : {0, 1})
      for (const std::int64_t rows : {0, 1, 40}) {
        SCOPED_TRACE(std::string(dtype_name(type)) + " rows " + std::to_string(rows) + (sorted ? " sorted" : ""));
        const auto graph = parsed("graph g(x: " + std::string(dtype_name(type)) +
                                  "[n, 3]) -> (y, i, v, c) {\n  y, i, v, c = Unique(x) {sorted=" + std::to_string(sorted) + "}\n}\n");
        const Tensor x = many_equal(type, {rows, 3});
        const auto expected = ReferenceRunner(*graph).run(std::span(&x, 1));
        ASSERT_TRUE(expand_node(*graph->outputs()[0]->producer));
        infer_graph(*graph);
        const auto actual = ReferenceRunner(*graph).run(std::span(&x, 1));
        for (std::size_t o = 0; o < expected.size(); ++o)
          EXPECT_TRUE(actual[o].same_bytes(expected[o]))
              << "output " << o << ": " << to_string(actual[o].dims()) << " instead of " << to_string(expected[o].dims());
        if (HasFailure()) return;
      }
}

TEST(UniqueExpansion, SlicesForAGpuAreWhatTheReferenceGives) {
  constexpr DType kTypes[] = {DType::kFloat32, DType::kFloat16, DType::kFloat64, DType::kInt8, DType::kInt64, DType::kUint64, DType::kBool};
  for (const DType type : kTypes)
    for (const int sorted : {0, 1})
      for (const int axis : {0, 1, -1})
        for (const std::int64_t rows : {0, 1, 40}) {
          SCOPED_TRACE(std::string(dtype_name(type)) + " rows " + std::to_string(rows) + " axis " + std::to_string(axis) + (sorted ? " sorted" : ""));
          const auto graph = parsed("graph g(x: " + std::string(dtype_name(type)) + "[n, 2, 3]) -> (y, i, v, c) {\n  y, i, v, c = Unique(x) {sorted=" +
                                    std::to_string(sorted) + ", axis=" + std::to_string(axis) + "}\n}\n");
          const Tensor x = many_equal(type, {rows, 2, 3});
          const auto expected = ReferenceRunner(*graph).run(std::span(&x, 1));
          EXPECT_FALSE(expand_node(*graph->outputs()[0]->producer)) << "on a CPU it stays";
          ASSERT_TRUE(expand_node_for_gpu(*graph->outputs()[0]->producer));
          infer_graph(*graph);
          const auto actual = ReferenceRunner(*graph).run(std::span(&x, 1));
          for (std::size_t o = 0; o < expected.size(); ++o)
            EXPECT_TRUE(actual[o].same_bytes(expected[o]))
                << "output " << o << ": " << to_string(actual[o].dims()) << " instead of " << to_string(expected[o].dims());
          if (HasFailure()) return;
        }
}

TEST(UniqueExpansion, WhatIsLeftAlone) {
  for (const char* text : {"graph g(x: float[n, 3]) -> (y) {\n  y = Unique(x) {axis=0}\n}\n", "graph g(x: string[n]) -> (y) {\n  y = Unique(x)\n}\n",
                           "graph g(x: float) -> (y) {\n  y = Unique(x)\n}\n"}) {
    const auto graph = parsed(text);
    EXPECT_FALSE(expand_node(*graph->outputs()[0]->producer)) << text;
  }
}

}  // namespace
}  // namespace lathe::ops
