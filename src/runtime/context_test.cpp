// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Contexts over programs made by hand: results, who owns outputs, messages, shapes held, the choice of a device section.

#include "runtime/context.h"

#include <gtest/gtest.h>

#include <cstring>

#include "engine/engine.h"
#include "engine/test_engines.h"

namespace lathe::runtime {
namespace {

using engine::EngineData;
using engine::test::concat_engine;
using engine::test::ramp;

std::shared_ptr<const Engine> concat() { return Engine::create(concat_engine()); }

InputView view(const Tensor& tensor) { return {tensor.raw(), tensor.dtype(), tensor.dims()}; }

std::vector<float> expected_y() {
  std::vector<float> y;
  for (int i = 0; i < 60; ++i) y.push_back(static_cast<float>(i));
  for (int i = 0; i < 20; ++i) y.push_back(static_cast<float>(100 + i));
  return y;
}

std::vector<float> floats(const InputView& view) {
  std::int64_t count = 1;
  for (const std::int64_t extent : view.dims) count *= extent;
  const auto* data = static_cast<const float*>(view.data);
  return {data, data + count};
}

std::string refused(Context& context, const std::vector<InputView>& inputs, const std::vector<OutputView>& outputs = {}) {
  const Status status = context.run(inputs, outputs);
  EXPECT_FALSE(status);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  return std::string(status.message());
}

TEST(Context, RunsIntoItsOwnMemory) {
  Context context(concat());
  const Tensor x = ramp({1, 3, 4, 5});
  EXPECT_EQ(context.output(0).data, nullptr);
  const InputView in[] = {view(x)};
  ASSERT_TRUE(context.run(in, {}));
  EXPECT_EQ(floats(context.output(0)), expected_y());
  EXPECT_EQ(Dims(context.output(0).dims.begin(), context.output(0).dims.end()), (Dims{1, 4, 4, 5}));
  const auto y = expected_y();
  EXPECT_EQ(floats(context.output(1)), std::vector<float>(y.begin(), y.begin() + 60));
  EXPECT_EQ(context.output(2).data, nullptr);
}

TEST(Context, RunsIntoTheCallersMemory) {
  Context context(concat());
  const Tensor x = ramp({1, 3, 4, 5});
  std::vector<float> y(82, -1), z(60, -1);
  const Dims y_dims{1, 4, 4, 5}, z_dims{60};
  const InputView in[] = {view(x)};
  const OutputView both[] = {{y.data() + 1, DType::kFloat32, y_dims}, {z.data(), DType::kFloat32, z_dims}};
  ASSERT_TRUE(context.run(in, both));
  EXPECT_EQ(std::vector<float>(y.begin() + 1, y.end() - 1), expected_y());
  EXPECT_EQ(y.front(), -1);
  EXPECT_EQ(y.back(), -1);
  EXPECT_EQ(context.output(0).data, y.data() + 1);
  // Only the second one: the first goes back to the Context's own memory.
  std::fill(y.begin(), y.end(), -1);
  std::fill(z.begin(), z.end(), -1);
  const OutputView second[] = {{}, {z.data(), DType::kFloat32, z_dims}};
  ASSERT_TRUE(context.run(in, second));
  EXPECT_EQ(y, std::vector<float>(82, -1));
  EXPECT_EQ(z[59], 59);
  EXPECT_EQ(floats(context.output(0)), expected_y());
}

TEST(Context, NamesWhatTheCallerGotWrong) {
  Context context(concat());
  const Tensor x = ramp({1, 3, 4, 5});
  EXPECT_EQ(refused(context, {}), "0 inputs were given, the engine has 1");
  EXPECT_EQ(refused(context, {view(x), view(x)}), "2 inputs were given, the engine has 1");
  EXPECT_EQ(refused(context, {{x.raw(), DType::kFloat64, x.dims()}}), "input 'x' has type double, expected float");
  const Dims flat{60}, wrong{1, 2, 4, 5}, high{1, 3, 65, 5};
  EXPECT_EQ(refused(context, {{x.raw(), DType::kFloat32, flat}}), "input 'x' has rank 1, expected 4: [1, 3, height, width]");
  EXPECT_EQ(refused(context, {{x.raw(), DType::kFloat32, wrong}}), "input 'x' has shape 1x2x4x5, expected [1, 3, height, width] (axis 1 must be 3)");
  EXPECT_EQ(refused(context, {{x.raw(), DType::kFloat32, high}}), "'height' is 65, above the largest value 64 that the engine was built for");
  EXPECT_EQ(refused(context, {{nullptr, DType::kFloat32, x.dims()}}), "input 'x' has no data");
  std::vector<float> y(80);
  const Dims y_dims{1, 4, 4, 5}, y_wrong{1, 4, 5, 4};
  EXPECT_EQ(refused(context, {view(x)}, {{y.data(), DType::kInt32, y_dims}}), "output 'y' has type int32, expected float");
  EXPECT_EQ(refused(context, {view(x)}, {{y.data(), DType::kFloat32, y_wrong}}), "output 'y' was given the shape 1x4x5x4, this run makes 1x4x4x5");
  EXPECT_EQ(refused(context, {view(x)}, {{}, {}, {}}), "3 outputs were given, the engine has 2");
  // After all that the context still works.
  const InputView in[] = {view(x)};
  ASSERT_TRUE(context.run(in, {}));
  EXPECT_EQ(floats(context.output(0)), expected_y());
}

/// y = x through a channels-last copy, for x: [n, 3, height, width].
EngineData any_shape() {
  EngineData data = concat_engine();
  plan::Program& program = data.sections[0].program;
  const ir::Shape shape{ir::Dim::symbol("n"), 3, ir::Dim::symbol("height"), ir::Dim::symbol("width")};
  program.slots = {engine::test::slot("x", shape, plan::Storage::kInput), engine::test::slot("y", shape, plan::Storage::kOutput),
                   engine::test::slot("", shape, plan::Storage::kArena)};
  program.slots[2].order = {0, 2, 3, 1};
  program.steps = {engine::test::copy_step(0, 2, "in"), engine::test::copy_step(2, 1, "out")};
  program.segments = {{0, 2}};
  program.inputs = {{"x", 0, -1}};
  program.outputs = {{"y", 1, -1}};
  program.symbols.clear();
  return data;
}

/// Runs x of these dims through any_shape() and compares.
::testing::AssertionResult copies(Context& context, const Dims& dims) {
  const Tensor x = ramp(dims, static_cast<float>(dims[0]));
  const InputView in[] = {view(x)};
  if (const Status status = context.run(in, {}); !status) return ::testing::AssertionFailure() << status.message();
  if (std::memcmp(context.output(0).data, x.raw(), x.bytes()) != 0) return ::testing::AssertionFailure() << "another result at " << to_string(dims);
  return ::testing::AssertionSuccess();
}

TEST(Context, SharesASpecialisationAmongTheShapesOfAClass) {
  Context context(Engine::create(any_shape()));
  for (int round = 0; round < 2; ++round)
    for (std::int64_t n = 1; n <= 32; ++n) {
      ASSERT_TRUE(copies(context, {n, 3, 4, 2}));
      ASSERT_LE(context.specialisations(), 7U);
    }
  // Back and forth, within a class and between two.
  for (const std::int64_t n : {32, 17, 32, 5, 31, 8, 18}) ASSERT_TRUE(copies(context, {n, 3, 4, 2}));
  EXPECT_EQ(context.specialisations(), 3U);  // the first sixteen share one: they came a step at a time
}

TEST(Context, GrowingByOneMakesFewSpecialisations) {
  Context context(Engine::create(any_shape()));
  for (std::int64_t width = 1; width <= 512; ++width) ASSERT_TRUE(copies(context, {1, 3, 2, width}));
  EXPECT_LE(context.specialisations(), 10U);
  EXPECT_GE(context.specialisations(), 7U) << "memory for the largest shape at once would be wasteful";
}

TEST(Context, WhatGrowsSideBySideFromNothingMakesFewSpecialisations) {
  for (const std::int64_t batch : {1, 2, 3}) {
    Context context(Engine::create(any_shape()));
    for (std::int64_t past = 0; past <= 512; ++past) ASSERT_TRUE(copies(context, {batch, 3, past, past + 1}));
    EXPECT_LE(context.specialisations(), 10U) << batch;
    EXPECT_GE(context.specialisations(), 7U) << batch;
  }
}

TEST(Context, HoldsAFewClassesAndMakesAnyOther) {
  Context context(Engine::create(any_shape()));
  for (int round = 0; round < 2; ++round)
    for (std::int64_t n = 1; n <= 64; n *= 2)
      for (std::int64_t height = 1; height <= 64; height *= 2) {
        ASSERT_TRUE(copies(context, {n, 3, height, 2}));
        ASSERT_LE(context.specialisations(), 32U);
      }
  EXPECT_EQ(context.specialisations(), 32U);
}

/// y = the last axis of x, of extent n, without its first n - 8: the largest n has the smallest y, and n below 8 is refused.
TEST(Context, PlansForExtentsThatFallAndGoesOnAfterARefusedShape) {
  EngineData data = concat_engine();
  plan::Program& program = data.sections[0].program;
  const ir::Dim n = ir::Dim::symbol("n"), rest = ir::Dim(40) - n;
  program = {};
  program.slots = {engine::test::slot("x", {n, 40}, plan::Storage::kInput), engine::test::slot("", {n, 40}, plan::Storage::kArena),
                   engine::test::slot("", {n, rest}, plan::Storage::kAlias), engine::test::slot("", {n, rest}, plan::Storage::kArena),
                   engine::test::slot("y", {n, rest}, plan::Storage::kOutput)};
  program.slots[1].order = {1, 0};
  program.slots[2].parent = 1;
  program.slots[2].alias_axis = 1;
  program.slots[2].alias_offset = n;
  program.slots[3].order = {1, 0};
  program.steps = {engine::test::copy_step(0, 1), engine::test::copy_step(2, 3), engine::test::copy_step(3, 4)};
  program.segments = {{0, 3}};
  program.inputs = {{"x", 0, -1}};
  program.outputs = {{"y", 4, -1}};
  Context context(Engine::create(std::move(data)));
  for (const std::int64_t rows : {33, 40, 34, 41, 39, 36, 64, 33, 17, 32, 20}) {
    const Tensor x = ramp({rows, 40});
    const InputView in[] = {view(x)};
    const Status status = context.run(in, {});
    ASSERT_EQ(status.is_ok(), rows <= 40) << rows << ": " << status.message();
    if (!status) continue;
    const std::vector<float> y = floats(context.output(0));
    ASSERT_EQ(y.size(), static_cast<std::size_t>(rows * (40 - rows)));
    for (std::int64_t i = 0; i < rows; ++i)
      for (std::int64_t j = 0; j < 40 - rows; ++j) ASSERT_EQ(y[static_cast<std::size_t>(i * (40 - rows) + j)], static_cast<float>(i * 40 + rows + j)) << rows;
  }
}

TEST(Context, RunsEmptyTensors) {
  Context context(Engine::create(any_shape()));
  const Dims none{0, 3, 4, 5};
  const InputView in[] = {{nullptr, DType::kFloat32, none}};
  ASSERT_TRUE(context.run(in, {}));
  EXPECT_EQ(Dims(context.output(0).dims.begin(), context.output(0).dims.end()), none);
}

TEST(Context, PreparesAhead) {
  Context context(concat());
  const std::vector<Dims> dims{{1, 3, 4, 5}};
  ASSERT_TRUE(context.prepare(dims));
  EXPECT_EQ(context.specialisations(), 1U);
  EXPECT_GT(context.arena_bytes(), 0U);
  const Tensor x = ramp({1, 3, 4, 5});
  const InputView in[] = {view(x)};
  ASSERT_TRUE(context.run(in, {}));
  EXPECT_EQ(context.specialisations(), 1U);
  const std::vector<Dims> wrong{{1, 3, 4}};
  EXPECT_EQ(context.prepare(wrong).code(), Code::kInvalidArgument);
  EXPECT_EQ(context.prepare({}).code(), Code::kInvalidArgument);
}

TEST(Context, TimesSteps) {
  Context context(concat());
  const Tensor x = ramp({1, 3, 4, 5});
  const InputView in[] = {view(x)};
  ASSERT_TRUE(context.run(in, {}));
  for (const StepTime& time : context.profile().steps) EXPECT_EQ(time.runs, 0);
  context.start_profile();
  for (int i = 0; i < 5; ++i) ASSERT_TRUE(context.run(in, {}));
  ASSERT_EQ(context.profile().steps.size(), 4U);
  double sum = 0;
  for (const StepTime& time : context.profile().steps) {
    EXPECT_EQ(time.runs, 5);
    EXPECT_GT(time.seconds, 0);
    sum += time.seconds;
  }
  EXPECT_EQ(context.profile().whole.runs, 5);
  EXPECT_GE(context.profile().whole.seconds, sum);
}

class CountingAllocator final : public Allocator {
 public:
  void* allocate(std::size_t bytes, std::size_t alignment, MemorySpace space, void* stream) noexcept override {
    if (refuse) return nullptr;
    if (bytes > limit) return nullptr;
    live += static_cast<std::int64_t>(bytes);
    return default_allocator().allocate(bytes, alignment, space, stream);
  }
  void deallocate(void* pointer, std::size_t bytes, MemorySpace space, void* stream) noexcept override {
    live -= static_cast<std::int64_t>(bytes);
    default_allocator().deallocate(pointer, bytes, space, stream);
  }
  std::int64_t live = 0;
  std::size_t limit = SIZE_MAX;
  bool refuse = false;
};

TEST(Context, TakesItsMemoryFromTheCallersAllocator) {
  CountingAllocator allocator;
  {
    Context context(concat(), &allocator);
    const Tensor x = ramp({1, 3, 4, 5});
    const InputView in[] = {view(x)};
    allocator.refuse = true;
    EXPECT_EQ(context.run(in, {}).code(), Code::kOutOfMemory);
    allocator.refuse = false;
    ASSERT_TRUE(context.run(in, {}));
    EXPECT_GT(allocator.live, 0);
    EXPECT_EQ(floats(context.output(0)), expected_y());
  }
  EXPECT_EQ(allocator.live, 0);
}

TEST(Context, TakesTheShapeItselfWhereTheLargestOfItsClassHasNoMemory) {
  CountingAllocator allocator;
  Context context(Engine::create(any_shape()), &allocator);
  allocator.limit = 33 * 3 * 33 * 2 * sizeof(float) + 64;  // the class ends at 64 x 64
  EXPECT_TRUE(copies(context, {33, 3, 33, 2}));
  EXPECT_EQ(context.specialisations(), 1U);
}

TEST(Context, ReportsAKernelThatCannotBeBound) {
  EngineData data = any_shape();
  data.sections[0].program.slots[2].dtype = DType::kComplex64;
  Context context(Engine::create(std::move(data)));
  const Tensor x = ramp({1, 3, 4, 5});
  const InputView in[] = {view(x)};
  const Status status = context.run(in, {});
  EXPECT_EQ(status.code(), Code::kUnsupported);
  EXPECT_NE(status.message().find("cpu.copy from float to complex64"), std::string::npos) << status.message();
}

TEST(EngineChoice, TakesTheFirstSectionThatFits) {
  EngineData data = concat_engine();
  data.sections.insert(data.sections.begin(), data.sections[0]);
  data.sections[0].device = "cpu";
  EXPECT_EQ(Engine::create(data)->section().device, "cpu");
  EXPECT_EQ(Engine::create(data, "cpu-generic")->section().device, "cpu-generic");
  data.sections[0].needs = "a-later-instruction-set";
  const auto generic = Engine::create(data);
  EXPECT_EQ(generic->section().device, "cpu-generic");
  EXPECT_NE(generic->section_note().find("a-later-instruction-set"), std::string::npos) << generic->section_note();
  // Levels of the other architecture, which a number alone would let pass.
#if defined(__aarch64__)
  data.sections[0].needs = "avx2";
#else
  data.sections[0].needs = "neon";
#endif
  EXPECT_EQ(Engine::create(data)->section().device, "cpu-generic");
  EXPECT_NE(Engine::create(data)->section_note().find("is tuned for " + data.sections[0].needs + ", this machine offers"), std::string::npos);
  data.sections[0].needs = "";
  data.sections[0].program.steps[0].kernel = "cpu.not-yet-made";
  EXPECT_EQ(Engine::create(data)->section().device, "cpu-generic");
  EXPECT_NE(Engine::create(data)->section_note().find("cpu.not-yet-made"), std::string::npos);
  data.sections.pop_back();
  try {
    Engine::create(data);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), Code::kMachine);
    EXPECT_FALSE(error.remedy().empty());
  }
}

TEST(EngineChoice, RunsWhatAFileHolds) {
  const std::vector<std::byte> bytes = engine::write_engine(concat_engine());
  Context context(Engine::create(engine::read_engine(bytes, nullptr)));
  const Tensor x = ramp({1, 3, 4, 5});
  const InputView in[] = {view(x)};
  ASSERT_TRUE(context.run(in, {}));
  EXPECT_EQ(floats(context.output(0)), expected_y());
}

}  // namespace
}  // namespace lathe::runtime
