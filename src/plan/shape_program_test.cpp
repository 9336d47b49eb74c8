// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// From input shapes to symbols and strided descs; every message that a wrong shape can bring.

#include "plan/shape_program.h"

#include <gtest/gtest.h>

#include <functional>

namespace lathe::plan {
namespace {

using ir::Dim;

Slot make_slot(ir::Shape shape, Storage storage) {
  Slot slot;
  slot.dtype = DType::kFloat32;
  slot.shape = std::move(shape);
  slot.storage = storage;
  return slot;
}

/// images: [batch, 3, height, width], mask: [batch, 2 * height].
Program two_inputs() {
  const Dim batch = Dim::symbol("batch"), height = Dim::symbol("height"), width = Dim::symbol("a width");
  Program program;
  program.slots = {make_slot({batch, 3, height, width}, Storage::kInput), make_slot({batch, Dim(2) * height}, Storage::kInput)};
  program.inputs = {{"images", 0, -1}, {"mask", 1, -1}};
  program.symbols = {{"batch", 1, 1, 8}, {"height", 2, 4, -1}};
  return program;
}

std::string refused(const Program& program, std::vector<Dims> dims) {
  ir::Bindings bindings;
  const Status status = bind_symbols(program, dims, bindings);
  EXPECT_FALSE(status);
  EXPECT_EQ(status.code(), Code::kInvalidArgument);
  return std::string(status.message());
}

TEST(BindSymbols, SolvesSymbolsWithAnyName) {
  ir::Bindings bindings;
  const std::vector<Dims> dims{{2, 3, 5, 7}, {2, 10}};
  ASSERT_TRUE(bind_symbols(two_inputs(), dims, bindings));
  EXPECT_EQ(bindings.at("batch"), 2);
  EXPECT_EQ(bindings.at("height"), 5);
  EXPECT_EQ(bindings.at("a width"), 7) << "the bare name, as expressions look it up";
}

TEST(BindSymbols, NamesInputAxisExpectedAndGot) {
  const Program program = two_inputs();
  EXPECT_EQ(refused(program, {{2, 3, 5}, {2, 10}}), "input 'images' has rank 3, expected 4: [batch, 3, height, 'a width']");
  EXPECT_EQ(refused(program, {{2, 4, 5, 7}, {2, 10}}), "input 'images' has shape 2x4x5x7, expected [batch, 3, height, 'a width'] (axis 1 must be 3)");
  EXPECT_EQ(refused(program, {{2, 3, 5, 7}, {2, 11}}), "input 'mask' has shape 2x11, expected [batch, 2*height] (axis 1 must be 10)");
  EXPECT_EQ(refused(program, {{2, 3, 5, 7}, {3, 10}}), "input 'mask' has extent 3 on axis 0, but 'batch' is 2 in another input or axis");
  EXPECT_EQ(refused(program, {{2, 3, -5, 7}, {2, 10}}), "input 'images' has the negative extent -5 on axis 2");
  EXPECT_EQ(refused(program, {{9, 3, 5, 7}, {9, 10}}), "'batch' is 9, above the largest value 8 that the engine was built for");
  EXPECT_EQ(refused(program, {{2, 3, 1, 7}, {2, 2}}), "'height' is 1, below the least value 2 that the engine was built for");
}

TEST(BindSymbols, RefusesExpressionsThatNothingSolves) {
  Program program = two_inputs();
  program.slots[0].shape[2] = Dim(3) * Dim::symbol("height");
  EXPECT_EQ(refused(program, {{2, 3, 6, 7}, {2, 4}}), "input 'images': the extent 3*height of axis 2 cannot be told from the inputs' shapes");
}

TEST(ResolveSlots, GivesStridesOffsetsAndRoots) {
  Program program;
  program.slots = {make_slot({2, 8, 3, 5}, Storage::kArena), make_slot({2, 4, 3, 5}, Storage::kAlias), make_slot({2, 2, 3, 5}, Storage::kAlias),
                   make_slot({240}, Storage::kAlias), make_slot({}, Storage::kArena)};
  program.slots[0].order = {0, 2, 3, 1};
  program.slots[1].parent = 0;
  program.slots[1].alias_axis = 1;
  program.slots[1].alias_offset = 4;
  program.slots[2].parent = 1;
  program.slots[2].alias_axis = 1;
  program.slots[2].alias_offset = 1;
  program.slots[3].parent = 0;
  const auto resolved = resolve_slots(program, {});
  EXPECT_EQ(resolved[0].desc.strides, (std::vector<std::int64_t>{120, 1, 40, 8}));
  EXPECT_EQ(resolved[1].root, 0);
  EXPECT_EQ(resolved[1].offset, 4);
  EXPECT_EQ(resolved[1].desc.strides, resolved[0].desc.strides);
  EXPECT_EQ(resolved[2].root, 0);
  EXPECT_EQ(resolved[2].offset, 5);
  EXPECT_EQ(resolved[2].desc.dims, (Dims{2, 2, 3, 5}));
  EXPECT_TRUE(resolved[2].desc.is_channels_last());
  EXPECT_EQ(span_elements(resolved[2].desc), 120 + 2 * 40 + 4 * 8 + 1 + 1);
  EXPECT_EQ(resolved[3].desc.strides, (std::vector<std::int64_t>{1}));
  EXPECT_EQ(resolved[4].desc.elements(), 1);
}

TEST(ResolveSlots, RefusesWhatDoesNotFit) {
  const auto refused_slots = [](const std::function<void(Program&)>& damage, const ir::Bindings& bindings, Code code) {
    Program program;
    const Dim n = Dim::symbol("n");
    program.slots = {make_slot({n, 8}, Storage::kArena), make_slot({n, 4}, Storage::kAlias)};
    program.slots[1].parent = 0;
    program.slots[1].alias_axis = 1;
    damage(program);
    try {
      resolve_slots(program, bindings);
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), code) << error.what();
      return error.message();
    }
    ADD_FAILURE() << "nothing was thrown";
    return std::string();
  };
  const ir::Bindings three{{"n", 3}};
  const auto nothing = [](Program&) {};
  EXPECT_NE(refused_slots(nothing, {}, Code::kInvalidArgument).find("[n, 8] cannot be told"), std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[1].alias_offset = 5; }, three, Code::kCorruptFile).find("outside the tensor"), std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[1].alias_offset = -1; }, three, Code::kCorruptFile).find("outside"), std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[1].alias_offset = Dim(INT64_MAX); }, three, Code::kCorruptFile).find("outside"), std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[0].shape[0] = 3, p.slots[1].shape[0] = 4; }, three, Code::kCorruptFile).find("outside"), std::string::npos);
  // Where a symbol stands the caller's shapes may be at fault, and a part that is too short is none either.
  for (const std::int64_t rows : {2, 4})
    EXPECT_NE(refused_slots([&](Program& p) { p.slots[1].shape[0] = rows; }, three, Code::kInvalidArgument).find("do not fit each other"), std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[1].alias_axis = -1; }, three, Code::kInvalidArgument).find("number of elements"), std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[0].shape[0] = p.slots[1].shape[0] = 3, p.slots[1].alias_axis = -1; }, three, Code::kCorruptFile)
                .find("number of elements"),
            std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[1].parent = 1; }, three, Code::kCorruptFile).find("alias of itself"), std::string::npos);
  EXPECT_NE(refused_slots([](Program& p) { p.slots[0].shape[1] = Dim::symbol("n") - 4; }, three, Code::kInvalidArgument).find("too small"), std::string::npos);
  EXPECT_NE(refused_slots(nothing, {{"n", std::int64_t{1} << 40}}, Code::kInvalidArgument).find("too large"), std::string::npos);
}

TEST(TensorDesc, KnowsItsLayout) {
  TensorDesc desc = TensorDesc::row_major(DType::kFloat32, {2, 3, 4, 5});
  EXPECT_TRUE(desc.is_dense_row_major());
  EXPECT_FALSE(desc.is_channels_last());
  desc.strides = {60, 1, 15, 3};
  EXPECT_TRUE(desc.is_channels_last());
  EXPECT_FALSE(desc.is_dense_row_major());
  desc.strides = {200, 1, 50, 10};  // a slice of a buffer with 10 channels
  EXPECT_TRUE(desc.is_channels_last());
  desc.strides = {200, 1, 50, 2};  // pixels overlap
  EXPECT_FALSE(desc.is_channels_last());
}

}  // namespace
}  // namespace lathe::plan
