// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// cpu.scatter against the ops' references, over types, reductions, strides, indices that meet and extents of nothing; what it says of an index out of bounds.

#include "../../../tests/gpu/scatter_cases.h"

namespace lathe::testing_gpu {
namespace {

TEST(ScatterCpu, UpdatesAsTheReferenceDoes) {
  for (const ScatterCase& c : scatter_cases(true)) {
    SCOPED_TRACE(c.describe());
    ScatterTensors t(c);
    run_on_cpu("cpu.scatter", t.params, {&t.data, &t.indices, &t.updates}, {&t.out});
    t.compare();
    if (HasFailure()) return;
  }
}

TEST(ScatterCpu, NamesAnIndexOutOfBounds) {
  for (const std::int64_t axis : {-1, 1}) {
    ScatterTensors t({.data = {4, 6}, .indices = {3, 2}, .axis = axis});
    Tensor at = t.indices.read();
    at.set_from_int64(5, 6);
    t.indices.fill(at);
    const std::vector<plan::TensorDesc> ins{t.data.desc, t.indices.desc, t.updates.desc}, outs{t.out.desc};
    const void* const in[] = {t.data.data(), t.indices.data(), t.updates.data()};
    void* const out[] = {t.out.data()};
    const ir::Bindings symbols;
    const auto kernel = plan::find_kernel("cpu.scatter")->bind({t.params, ins, outs, {}, {}, symbols, 2});
    const Status status = kernel->run({in, out, nullptr, &default_pool()});
    EXPECT_EQ(status.code(), Code::kInvalidArgument);
    EXPECT_EQ(std::string(status.message()), "index 6 is out of bounds for axis 1 of extent 6");
  }
}

TEST(ScatterCpu, RefusesWhatDoesNotFit) {
  ScatterTensors t({.data = {4, 6}, .indices = {3, 2}, .axis = 1});
  EXPECT_THROW(run_on_cpu("cpu.scatter", t.params, {&t.data, &t.indices, &t.data}, {&t.out}), Error);
  EXPECT_THROW(run_on_cpu("cpu.scatter", t.params, {&t.data, &t.updates, &t.updates}, {&t.out}), Error);
  EXPECT_THROW(run_on_cpu("cpu.scatter", t.params, {&t.data, &t.indices, &t.updates}, {&t.updates}), Error);
  ir::Attrs other = t.params;
  other.set("axis", std::int64_t{2});
  EXPECT_THROW(run_on_cpu("cpu.scatter", other, {&t.data, &t.indices, &t.updates}, {&t.out}), Error);
  other.set("axis", std::int64_t{-1});
  EXPECT_THROW(run_on_cpu("cpu.scatter", other, {&t.data, &t.indices, &t.updates}, {&t.out}), Error);
}

}  // namespace
}  // namespace lathe::testing_gpu
