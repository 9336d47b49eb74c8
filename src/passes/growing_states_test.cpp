// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// States of loops that only grow (growing_states.cpp), beside its text cases: loops of any number of trips, and what must stay.

#include <gtest/gtest.h>

#include "ir/text.h"
#include "ir/verify.h"
#include "lathe/status.h"
#include "ops/infer.h"
#include "ops/reference_runner.h"
#include "passes/pass.h"
#include "passes/rewrite_cases.h"

namespace lathe::passes {
namespace {

/// A loop whose body does `work`, which makes a2 of the state a (rows of 3, from `start`), of x and of the constants none and two.
std::shared_ptr<ir::Model> loop(const std::string& work, const std::string& start = "none") {
  const auto model = model_of(ir::parse_graph("graph g(n: int64[], x: float[1, 3], y: float[m, 3]) -> (a9, last) {\n"
                                              "  go: bool[] = const {1}\n"
                                              "  none: float[0, 3] = const {}\n"
                                              "  a9, last = Loop(n, go, " +
                                              start +
                                              ", x) {body=graph b(i: int64, c: bool, a: float[k, 3], t: float[1, 3]) -> (c2, a2, t2) {\n"
                                              "    c2 = Identity(c)\n    t2 = Exp(t)\n" +
                                              work + "  }}\n}\n"),
                              10);
  ops::infer_graph(*model->graph);
  return model;
}

int run(ir::Model& model) {
  const SimplifyOptions options;
  PassContext context{model, options};
  const int rewrites = growing_states(*model.graph, context);
  EXPECT_EQ(ir::find_defects(*model.graph), std::vector<std::string>{});
  ops::infer_graph(*model.graph);
  EXPECT_EQ(growing_states(*model.graph, context), 0) << "once is enough";
  return rewrites;
}

/// What both results are, or the error's first words.
std::vector<Tensor> results(const ir::Model& model, std::int64_t trips, std::string& error) {
  const float row[] = {0.25F, -1.0F, 0.5F}, rows[] = {1.0F, 2.0F, 3.0F, 4.0F, 5.0F, 6.0F};
  const std::int64_t n[] = {trips};
  const Tensor inputs[] = {Tensor::vector(n).reshaped({}), Tensor::from<float>(DType::kFloat32, {1, 3}, row),
                           Tensor::from<float>(DType::kFloat32, {2, 3}, rows)};
  try {
    return ops::ReferenceRunner(*model.graph).run(inputs);
  } catch (const Error& e) {
    error = e.message();
    return {};
  }
}

TEST(GrowingStates, RowsThatAreAppendedAreStackedAtTheEnd) {
  for (const char* work : {"    a2 = Concat(a, t2) {axis=0}\n", "    d = Concat(t, t2) {axis=0}\n    a2 = Concat(a, d) {axis=0}\n"}) {
    const auto before = loop(work), after = loop(work);
    EXPECT_EQ(run(*after), 1);
    for (const std::int64_t trips : {0, 1, 2, 7}) {
      std::string error;
      const auto wanted = results(*before, trips, error), got = results(*after, trips, error);
      ASSERT_EQ(error, "");
      ASSERT_EQ(got.size(), 2u);
      for (std::size_t i = 0; i < got.size(); ++i) EXPECT_TRUE(got[i].dims() == wanted[i].dims() && got[i].same_bytes(wanted[i])) << work << " of " << trips;
    }
  }
}

TEST(GrowingStates, WhatDoesMoreThanGrowStays) {
  for (const char* work : {
           "    s = ReduceSum(a) {keepdims=1, noop_with_empty_axes=0}\n    one = Add(t2, s)\n    a2 = Concat(a, one) {axis=0}\n",  // read by others
           "    a2 = Concat(t2, a) {axis=0}\n",                                                                                    // in front
           "    a2 = Concat(a, y) {axis=0}\n",                                                                                     // by what a run tells
           "    a2 = Concat(a, t2, t2) {axis=0}\n",
           "    a2 = Concat(a, a) {axis=0}\n",
           "    a2 = Identity(a)\n",
       })
    EXPECT_EQ(run(*loop(work)), 0) << work;
  EXPECT_EQ(run(*loop("    a2 = Concat(a, t2) {axis=0}\n", "y")), 0) << "it starts with something";
}

}  // namespace
}  // namespace lathe::passes
