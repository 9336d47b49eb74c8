// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Values that lie on a device are cut and joined there: without a fetch, and to the same elements as on the host.

#include <atomic>
#include <thread>

#include "backend/cuda/device.h"
#include "engine_fixture.h"
#include "ops/control/join.h"
#include "ops/evaluate.h"
#include "runtime/device_values.h"

namespace lathe {
namespace {

class RemoteTensors : public FakeEngine {
 protected:
  Tensor numbers(DType dtype, const Dims& dims) {
    Tensor t(dtype, dims);
    for (std::int64_t i = 0; i < t.size(); ++i) t.set_from_int64(i, (i + first_) % 120);
    first_ += 7;
    return t;
  }
  /// The tensor on the device and nowhere else.
  Tensor away(const Tensor& t) {
    const Tensor& both = kept_.emplace_back(values_->bring(t));
    return values_->wrap(t.dtype(), t.dims(), both.remote_bytes()->address());
  }

  void SetUp() override {
    FakeEngine::SetUp();
    values_ = runtime::DeviceValues::create(cuda::Device::open(), nullptr);
  }
  void TearDown() override {
    kept_.clear();
    values_.reset();
    FakeEngine::TearDown();
  }

  std::shared_ptr<runtime::DeviceValues> values_;
  std::vector<Tensor> kept_;
  std::int64_t first_ = 0;
};

TEST_F(RemoteTensors, AreCutAndJoinedWhereTheyLie) {
  for (const DType dtype : {DType::kFloat32, DType::kFloat16, DType::kInt64, DType::kBool})
    for (const Dims& dims : {Dims{3, 40, 50}, Dims{1, 70, 90}, Dims{6000}, Dims{2, 3, 1000, 1}})
      for (std::int64_t axis = 0; axis < static_cast<std::int64_t>(dims.size()); ++axis) {
        SCOPED_TRACE(std::string(dtype_name(dtype)) + " " + to_string(dims) + " axis " + std::to_string(axis));
        const Tensor here = numbers(dtype, dims), there = away(here);
        const std::int64_t extent = dims[static_cast<std::size_t>(axis)], begin = extent / 3, count = extent - extent / 2;
        const Tensor cut = ops::take_along(there, axis, begin, count);
        EXPECT_FALSE(cut.is_on_host());
        EXPECT_TRUE(cut.same_bytes(ops::take_along(here, axis, begin, count)));
        Dims longer = dims;
        longer[static_cast<std::size_t>(axis)] = extent + 2 * count;
        const Tensor joined = ops::joined({cut, there, cut}, axis, longer);
        EXPECT_FALSE(joined.is_on_host());
        const Tensor own = ops::take_along(here, axis, begin, count);
        EXPECT_TRUE(joined.same_bytes(ops::joined({own, here, own}, axis, longer)));
      }
}

TEST_F(RemoteTensors, AreRepeatedWhereTheyLie) {
  for (const Dims& dims : {Dims{1, 50, 60}, Dims{50, 1, 60}, Dims{50, 60, 1}})
    for (const std::int64_t count : {0, 1, 2, 3, 7, 255, 256, 257, 700}) {
      const std::int64_t axis = std::find(dims.begin(), dims.end(), 1) - dims.begin();
      SCOPED_TRACE(to_string(dims) + " times " + std::to_string(count));
      const Tensor here = numbers(DType::kFloat32, dims), repeated = ops::repeated_along(away(here), axis, count);
      EXPECT_EQ(repeated.is_on_host(), count == 0);
      const std::vector<Tensor> parts(static_cast<std::size_t>(count), here);
      Dims longer = dims;
      longer[static_cast<std::size_t>(axis)] = count;
      ASSERT_EQ(repeated.dims(), longer);
      if (count > 0) {
        EXPECT_TRUE(repeated.same_bytes(ops::joined(parts, axis, longer)));
      }
    }
}

TEST_F(RemoteTensors, ManyThreadsMayBeTheFirstToLook) {
  const Tensor here = numbers(DType::kFloat32, {300, 100});
  for (int round = 0; round < 20; ++round) {
    const Tensor there = away(here);
    fake_cuda_reset();
    std::atomic<std::int64_t> wrong = 0;
    std::vector<std::thread> threads;
    for (int t = 0; t < 4; ++t)
      threads.emplace_back([&] {
        for (std::int64_t i = 0; i < there.size(); ++i) wrong += there.as_double(i) != here.as_double(i);
      });
    for (std::thread& thread : threads) thread.join();
    EXPECT_EQ(wrong.load(), 0);
    EXPECT_EQ(fake_cuda_calls("cuMemcpyDtoHAsync"), 1u) << "one fetch for all";
  }
}

TEST_F(RemoteTensors, PartsOfTheHostFollowUnlessAllIsSmall) {
  const Tensor large = away(numbers(DType::kFloat32, {40, 50})), part = numbers(DType::kFloat32, {40, 3});
  EXPECT_FALSE(ops::joined({part, large, part}, 1, {40, 56}).is_on_host());
  EXPECT_TRUE(ops::joined({part, large, part}, 1, {40, 56}).same_bytes(ops::joined({part, large.local(), part}, 1, {40, 56})));
  const Tensor sizes = away(numbers(DType::kInt64, {2})), more = numbers(DType::kInt64, {2});
  EXPECT_TRUE(ops::joined({more, sizes}, 0, {4}).is_on_host());
}

TEST_F(RemoteTensors, NodesThatOnlyMoveLeaveThemThere) {
  ir::Graph graph;
  const auto input = [&](const char* name, const Tensor& t) {
    return graph.add_input(name, ir::Type::tensor(t.dtype(), ir::Shape(t.dims().begin(), t.dims().end())));
  };
  const Tensor here = numbers(DType::kFloat32, {2, 60, 70}), there = away(here), one = numbers(DType::kFloat32, {2, 60, 1});
  const auto vector = [](std::vector<std::int64_t> v) { return Tensor::vector(v); };
  ir::Value *x = input("x", here), *y = input("y", one), *b = input("b", vector({5, -60})), *e = input("e", vector({1000, -2})),
            *a = input("a", vector({1, 2}));
  ir::Attrs axis;
  axis.set("axis", 2);
  const auto check = [&](const ir::Node* node, std::vector<Tensor> inputs) {
    const std::vector<Tensor> wanted = ops::evaluate_node(*node, inputs);
    for (Tensor& t : inputs)
      if (t.dims() == here.dims()) t = there;
    const std::vector<Tensor> got = ops::evaluate_node(*node, inputs);
    ASSERT_EQ(got.size(), wanted.size());
    for (std::size_t i = 0; i < got.size(); ++i) {
      EXPECT_FALSE(got[i].is_on_host()) << node->op;
      EXPECT_TRUE(got[i].same_bytes(wanted[i])) << node->op;
    }
  };
  check(graph.add_node("", "Slice", {x, b, e, a}, {"sliced"}), {here, vector({5, -60}), vector({1000, -2}), vector({1, 2})});
  check(graph.add_node("", "Concat", {x, y}, {"both"}, axis), {here, one});
  check(graph.add_node("", "Split", {x, input("s", vector({30, 40}))}, {"left", "right"}, axis), {here, vector({30, 40})});
  check(graph.add_node("", "Unsqueeze", {x, a}, {"wide"}), {here, vector({1, 2})});
  check(graph.add_node("", "Expand", {x, input("f", vector({3, 1, 1, 60, 70}))}, {"more"}), {here, vector({3, 1, 1, 1, 1})});
  // Every second element is no range: the host does it.
  const ir::Node* steps = graph.add_node("", "Slice", {x, b, e, a, input("t", vector({2, 1}))}, {"some"});
  EXPECT_TRUE(ops::evaluate_node(*steps, std::vector<Tensor>{there, vector({5, -60}), vector({1000, -2}), vector({1, 2}), vector({2, 1})})[0].is_on_host());
}

}  // namespace
}  // namespace lathe
