// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The verifier itself under test: for each of its conditions there is an engine that it alone refuses. With the condition passed over, that
// engine is found sound, or the verifier runs astray where the runtime would have: in a process of its own. So no condition can be taken
// out, or weakened, without a case that fails. Numbers of real programs, field by field: src/runtime/program_mutation_test.cpp.

#include "engine/semantic_verifier.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <functional>
#include <limits>
#include <set>

#include "engine/test_engines.h"

namespace lathe::engine {
namespace {

using plan::Program;
using plan::Storage;

constexpr std::int32_t kFar = std::numeric_limits<std::int32_t>::max();  // no memory there

struct Case {
  Check check;
  std::function<void(EngineData&)> damage;
  /// What also refuses the engine; the condition then stands for its message alone. kCheckCount: nothing may.
  int also = kCheckCount;
  bool dynamic = false;  ///< damages the dynamic engine, not the rich one
};

/// The generic program of the rich engine: slots 0 x, 1 y, 2 a channels-last copy, 3 and 4 slices of y, 5 the constant w, 6 z, 7 a view of z, 8 late.
Program& main_program(EngineData& data) { return data.sections.at(1).program; }

plan::SlotId add_slot(Program& program, ir::Shape shape, Storage storage, DType dtype = DType::kFloat32) {
  program.slots.push_back(test::slot("", std::move(shape), storage, dtype));
  return static_cast<plan::SlotId>(program.slots.size() - 1);
}

/// A slice [offset, offset + 2) of axis 0 of a new slot of 4 x 5.
plan::Slot& add_slice(Program& program, std::int64_t offset, ir::Shape shape = {2, 5}, DType dtype = DType::kFloat32) {
  const plan::SlotId parent = add_slot(program, {4, 5}, Storage::kArena, dtype);
  plan::Slot& slice = program.slots[static_cast<std::size_t>(add_slot(program, std::move(shape), Storage::kAlias, dtype))];
  slice.parent = parent;
  slice.alias_axis = 0;
  slice.alias_offset = offset;
  return slice;
}

std::function<void(EngineData&)> in_program(std::function<void(Program&)> damage) {
  return [damage = std::move(damage)](EngineData& data) { damage(main_program(data)); };
}
/// Where all programs must have the same inputs and outputs.
std::function<void(EngineData&)> in_all(std::function<void(Program&)> damage) {
  return [damage = std::move(damage)](EngineData& data) {
    for (DeviceSection& section : data.sections) damage(section.program);
  };
}
std::function<void(EngineData&)> in_slot(std::size_t slot, std::function<void(plan::Slot&)> damage) {
  return in_program([slot, damage = std::move(damage)](Program& program) { damage(program.slots.at(slot)); });
}
std::function<void(EngineData&)> in_step(std::size_t step, std::function<void(plan::Step&)> damage) {
  return in_program([step, damage = std::move(damage)](Program& program) { damage(program.steps.at(step)); });
}
std::function<void(EngineData&)> in_symbol(std::int64_t min, std::int64_t opt, std::int64_t max) {
  return in_program([=](Program& program) { program.symbols[0] = {"height", min, opt, max}; });
}

std::vector<Case> cases() {
  const ir::Dim width = ir::Dim::symbol("width"), height = ir::Dim::symbol("height");
  std::vector<Case> list;
  const auto add = [&](Check check, std::function<void(EngineData&)> damage, int also = kCheckCount) { list.push_back({check, std::move(damage), also}); };

  add(Check::kSlotCount, in_program([](Program& p) { p.slots.resize(kMaxItems + 1, test::slot("", {}, Storage::kArena)); }));
  add(Check::kSlotType, in_slot(2, [](plan::Slot& s) { s.dtype = DType::kUndefined; }));
  add(Check::kStringConstant, in_slot(5, [](plan::Slot& s) {
        s.dtype = DType::kString;
        s.shape = {0};
      }));
  add(Check::kSlotRank, in_program([](Program& p) { add_slot(p, ir::Shape(kMaxRank + 1, 1), Storage::kArena); }));
  add(Check::kOrderSize, in_slot(2, [](plan::Slot& s) { s.order = {1, 0}; }));
  add(Check::kOrder, in_slot(2, [](plan::Slot& s) { s.order = {0, 2, 3, 2}; }));
  add(Check::kOrder, in_slot(2, [](plan::Slot& s) { s.order = {0, 2, 3, kFar}; }));
  add(Check::kOrder, in_slot(2, [](plan::Slot& s) { s.order = {0, 2, 3, std::numeric_limits<std::int32_t>::min()}; }));
  add(Check::kSlotBytes, in_program([](Program& p) { add_slot(p, {std::int64_t{1} << 40, 1 << 10}, Storage::kArena); }));
  add(Check::kSlotBytes, in_program([](Program& p) { add_slot(p, {std::int64_t{1} << 62, 4, 4}, Storage::kArena); }));
  add(Check::kSlotBytes, in_program([](Program& p) { add_slot(p, {ir::Dim(-1)}, Storage::kArena); }));
  add(Check::kConstantBlob, in_slot(5, [](plan::Slot& s) { s.blob = kFar; }));
  add(Check::kConstantShape, in_slot(5, [=](plan::Slot& s) { s.shape[3] = width; }));
  add(Check::kConstantOrder, in_slot(5, [](plan::Slot& s) { s.order = {0, 2, 3, 1}; }));
  add(Check::kConstantBytes, in_slot(5, [](plan::Slot& s) { s.shape[3] = 6; }));
  add(Check::kStrayBlob, in_slot(2, [](plan::Slot& s) { s.blob = 0; }));
  add(Check::kAliasParent, in_slot(7, [](plan::Slot& s) { s.parent = kFar; }));
  add(Check::kStrayParent, in_slot(2, [](plan::Slot& s) { s.parent = 1; }));
  add(Check::kStrayAxis, in_slot(2, [](plan::Slot& s) { s.alias_axis = 0; }));
  add(Check::kAliasCycle, in_slot(7, [](plan::Slot& s) { s.parent = 7; }));
  add(Check::kAliasChain, in_program([](Program& p) {
        const auto first = static_cast<plan::SlotId>(p.slots.size());
        const auto last = first + static_cast<plan::SlotId>(kMaxAliasChain);
        for (plan::SlotId i = first; i < last; ++i) p.slots[static_cast<std::size_t>(add_slot(p, {3}, Storage::kAlias))].parent = i + 1;
        add_slot(p, {3}, Storage::kArena);
      }));
  add(Check::kAliasType, in_slot(7, [](plan::Slot& s) { s.dtype = DType::kInt32; }));
  add(Check::kAliasSpace, in_slot(7, [](plan::Slot& s) { s.space = MemorySpace::kDevice; }));
  add(Check::kViewSize, in_program([](Program& p) {
        plan::Slot& view = add_slice(p, 0, {19});
        view.alias_axis = -1;
      }));
  add(Check::kSlicePacked, in_program([](Program& p) { add_slice(p, 0, {2, 5}, DType::kInt4); }));
  for (const std::int32_t axis : {2, kFar, -2}) add(Check::kSliceAxis, in_program([axis](Program& p) { add_slice(p, 0, {4, 5}).alias_axis = axis; }));
  add(Check::kSliceRank, in_program([](Program& p) { add_slice(p, 0, {2}); }));
  add(Check::kSliceBegin, in_program([](Program& p) { add_slice(p, -1); }));
  add(Check::kSliceEnd, in_program([](Program& p) { add_slice(p, 3); }));
  add(Check::kSliceEnd, in_program([](Program& p) { add_slice(p, std::numeric_limits<std::int64_t>::max()); }));
  add(Check::kSliceEnd, in_program([](Program& p) { add_slice(p, 0, {5, 5}); }));
  add(Check::kSliceExtent, in_program([](Program& p) { add_slice(p, 1, {2, 4}); }));

  add(Check::kInputSlot, in_program([](Program& p) { p.inputs[0].slot = kFar; }));
  add(Check::kInputStorage, in_all([](Program& p) { p.inputs.push_back({"more", add_slot(p, {1}, Storage::kOutput), -1}); }));
  add(Check::kInputOrder, in_slot(0, [](plan::Slot& s) { s.order = {0, 2, 3, 1}; }));
  add(Check::kInputText, in_all([](Program& p) { p.inputs[0].name = "\xff"; }));
  add(Check::kInputName, in_all([](Program& p) { p.inputs.push_back({"x", add_slot(p, {1}, Storage::kInput), -1}); }));
  add(Check::kDonation, in_program([](Program& p) { p.inputs[0].donated_to = 2; }));
  add(Check::kDonation, in_program([](Program& p) { p.inputs[0].donated_to = -2; }));
  add(Check::kOutputSlot, in_program([](Program& p) { p.outputs[0].slot = kFar; }));
  // An output elsewhere is not written as one, or counted as one: this condition says it in plainer words.
  add(Check::kOutputStorage, in_program([](Program& p) { p.outputs[0].slot = 8; }), static_cast<int>(Check::kInterface));
  add(Check::kOutputOrder, in_slot(6, [](plan::Slot& s) { s.order = {0}; }));
  add(Check::kOutputText, in_all([](Program& p) { p.outputs[0].name = "\xff"; }));
  add(Check::kInterface, in_program([](Program& p) { add_slot(p, {1}, Storage::kInput); }));
  add(Check::kInterface, in_all([](Program& p) { p.inputs.push_back({"again", 0, -1}); }));
  add(Check::kUnboundSymbol, in_slot(2, [](plan::Slot& s) { s.shape[2] = ir::Dim::symbol("nowhere"); }));
  add(Check::kUnboundSymbol, in_slot(3, [](plan::Slot& s) { s.alias_offset = ir::Dim::symbol("nowhere"); }));
  add(Check::kSymbolTwice, in_program([](Program& p) { p.symbols.push_back({"height", 1, 2, 3}); }));
  add(Check::kSymbolMin, in_symbol(-1, 4, 64));
  add(Check::kSymbolOpt, in_symbol(2, 1, 64));
  add(Check::kSymbolOpt, in_symbol(1, -2, 64));
  add(Check::kSymbolMax, in_symbol(1, 4, 3));
  add(Check::kSymbolMax, in_symbol(4, -1, 3));
  add(Check::kSymbolMax, in_symbol(1, 4, -2));

  add(Check::kStepCount, in_program([](Program& p) {
        plan::Step view;
        view.kind = plan::StepKind::kView;
        p.steps.resize(kMaxItems + 1, view);
        p.segments = {{0, static_cast<std::int32_t>(p.steps.size())}};
      }));
  add(Check::kStepInput, in_step(1, [](plan::Step& s) { s.inputs = {kFar}; }));
  add(Check::kStepOutput, in_step(1, [](plan::Step& s) { s.outputs = {kFar}; }));
  add(Check::kStepTarget, in_step(1, [](plan::Step& s) { s.outputs = {0}; }));
  add(Check::kStepTarget, in_step(1, [](plan::Step& s) { s.outputs = {5}; }));
  for (const plan::BlobId id : {4, -1, kFar}) add(Check::kStepWeight, in_step(0, [id](plan::Step& s) { s.weights = {id}; }));
  for (const plan::StepKind kind : {plan::StepKind::kKernel, plan::StepKind::kCopy, plan::StepKind::kHostOp})
    add(Check::kKernelName, in_step(1, [kind](plan::Step& s) {
          s.kind = kind;
          s.kernel.clear();
        }));
  add(Check::kReadSymbol, in_program([](Program& p) {
        p.steps.push_back(p.steps.back());
        p.steps.back().read_symbol.clear();
        p.segments = {{0, 7}};
      }));
  add(Check::kCopyForm, in_step(1, [](plan::Step& s) { s.inputs.push_back(-1); }));
  add(Check::kCopyForm, in_step(1, [](plan::Step& s) { s.inputs = {-1}; }));
  add(Check::kCopyForm, in_program([](Program& p) {
        p.steps.push_back(p.steps[1]);
        p.steps.back().outputs = {-1};
        p.segments = {{0, 7}};
      }));
  add(Check::kRegionCount, in_step(4, [](plan::Step& s) { s.regions = {0}; }));
  add(Check::kRegionCount, in_step(1, [](plan::Step& s) { s.regions = {0}; }));
  for (const plan::StepKind kind : {plan::StepKind::kCall, plan::StepKind::kLoop})
    add(Check::kRegionCount, in_step(4, [kind](plan::Step& s) { s.kind = kind; }));
  for (const std::int32_t region : {1, -1, kFar}) add(Check::kRegion, in_step(4, [region](plan::Step& s) { s.regions = {0, region}; }));
  add(Check::kReadBeforeWrite, in_program([](Program& p) { std::swap(p.steps[0], p.steps[1]); }));
  add(Check::kOutputWritten, in_step(3, [](plan::Step& s) {
        s = {};
        s.kind = plan::StepKind::kView;
      }));
  for (const plan::Segment segment : {plan::Segment{1, 6}, plan::Segment{-1, 6}})
    add(Check::kSegment, in_program([segment](Program& p) { p.segments = {segment}; }));
  add(Check::kSegment, in_program([](Program& p) { p.segments = {{0, 7}, {7, -1}}; }));
  add(Check::kSegmentsEnd, in_program([](Program& p) { p.segments = {{0, 5}}; }));
  add(Check::kSegmentsEnd, in_program([](Program& p) { p.segments.clear(); }));
  add(Check::kNesting, in_program([](Program& p) {
        Program inner = p.subprograms[0];
        for (int depth = 0; depth < kMaxNesting; ++depth) {
          Program outer = p.subprograms[0];
          outer.subprograms = {std::move(inner)};
          inner = std::move(outer);
        }
        p.subprograms = {std::move(inner)};
      }));

  add(Check::kBlobCount, [](EngineData& data) {
    plan::Blob packed;
    packed.pack = "p";
    data.blobs.resize(kMaxItems + 1, packed);
  });
  for (const plan::BlobId source : {1, 2, -2, kFar}) add(Check::kBlobSource, [source](EngineData& data) { data.blobs[1].sources = {0, source}; });
  add(Check::kRawSources, [](EngineData& data) { data.blobs[0].sources = {-1}; });
  add(Check::kRawRank, [](EngineData& data) {
    data.blobs.back().dims.assign(kMaxRank + 1, 1);
    data.blobs.back().bytes = 4;
  });
  add(Check::kRawShape, [](EngineData& data) { data.blobs.back().dims = {-1}; });
  add(Check::kRawBytes, [](EngineData& data) { data.blobs.back().dims = {1}; });
  add(Check::kPrograms, [](EngineData& data) { data.sections.clear(); });
  add(Check::kSameInterface, in_program([](Program& p) { p.inputs[0].name = "other"; }));
  add(Check::kSameInterface, in_program([](Program& p) { p.outputs[0].name = "other"; }));
  return list;
}

/// Of the dynamic engine: slots 0 x, 1 y, 2 a sequence, 3 z, 4 c; steps 0 a call, 1 SequenceConstruct, 2 If; subprograms 0 called, 1 a nested graph.
std::vector<Case> dynamic_cases() {
  std::vector<Case> list;
  const auto add = [&](Check check, std::function<void(Program&)> damage) {
    list.push_back({check, [damage = std::move(damage)](EngineData& data) { damage(data.sections[0].program); }, kCheckCount, true});
  };
  add(Check::kDynamicSlot, [](Program& p) {
    p.slots.push_back(test::slot("", {3}, Storage::kArena));
    p.slots.back().order = {0};
  });
  add(Check::kStaticType, [](Program& p) { p.subprograms[0].slots[0].type = p.slots[2].type; });
  add(Check::kDynamicStep, [](Program& p) { p.steps[1].kind = plan::StepKind::kView; });
  add(Check::kCallInputs, [](Program& p) { p.steps[0].inputs = {0}; });
  add(Check::kCallInputs, [](Program& p) { p.steps[0].inputs = {0, -1}; });
  add(Check::kCallInputs, [](Program& p) { p.steps[0].params.set("carriers", std::vector<std::int64_t>(3, 0)); });
  add(Check::kCallCarrier, [](Program& p) { p.steps[0].params.set("carriers", std::vector<std::int64_t>{64}); });
  add(Check::kCallCarrier, [](Program& p) { p.steps[0].params.set("carriers", std::vector<std::int64_t>{INT64_MIN}); });
  add(Check::kCallOutputs, [](Program& p) { p.steps[0].outputs = {1, -1}; });
  add(Check::kNodeName, [](Program& p) { p.steps[1].params.set("op", ""); });
  add(Check::kNodeInputs, [](Program& p) { p.steps[1].params.set("inputs", std::int64_t{2}); });
  add(Check::kNodeInputs, [](Program& p) { p.steps[2].inputs = {4, 1}; });
  add(Check::kNodeInputs, [](Program& p) { p.steps[2].inputs = {4, 1, -1}; });
  add(Check::kNodeInputs, [](Program& p) { p.steps[2].params.set("graphs", std::vector<std::string>{"then_branch"}); });
  add(Check::kBodyDynamic, [](Program& p) { p.subprograms[1].dynamic = false; });
  add(Check::kBodyInputs, [](Program& p) { p.steps[2].params.set("formals", std::vector<std::int64_t>{-1, 0}); });
  return list;
}

/// What first_defect() makes of an engine without one condition, in a process of its own: the other check, kSound, or kAstray.
constexpr int kSound = 254, kAstray = 255, kFirst = 100;
int without(const EngineData& data, Check check, rlim_t seconds) {
  const pid_t child = fork();
  if (child == 0) {
    const int nowhere = open("/dev/null", O_WRONLY);
    dup2(nowhere, 1);
    dup2(nowhere, 2);
    const rlimit time{seconds, seconds}, core{0, 0};
    setrlimit(RLIMIT_CPU, &time);
    setrlimit(RLIMIT_CORE, &core);
    const auto found = first_defect(data, check);
    _exit(found ? kFirst + static_cast<int>(found->check) : kSound);
  }
  int status = 0;
  if (child < 0 || waitpid(child, &status, 0) != child) return -1;
  if (!WIFEXITED(status)) return kAstray;
  const int code = WEXITSTATUS(status);  // a sanitizer ends the process with a small one of its own
  return code == kSound ? kSound : code >= kFirst && code < kFirst + kCheckCount ? code - kFirst : kAstray;
}

TEST(SemanticVerifier, EachConditionRefusesWhatNothingElseDoes) {
  const EngineData good = test::rich_engine(), good_dynamic = test::dynamic_engine();
  ASSERT_FALSE(first_defect(good)) << first_defect(good)->text;
  ASSERT_FALSE(first_defect(good_dynamic)) << first_defect(good_dynamic)->text;
  std::set<Check> covered;
  int astray = 0;
  std::vector<Case> all = cases();
  for (Case& each : dynamic_cases()) all.push_back(std::move(each));
  for (const Case& each : all) {
    EngineData data = each.dynamic ? good_dynamic : good;
    each.damage(data);
    const auto name = static_cast<int>(each.check);
    const auto found = first_defect(data);
    ASSERT_TRUE(found) << "the case of check " << name << " passes";
    EXPECT_EQ(static_cast<int>(found->check), name) << found->text;
    EXPECT_EQ(find_defect(data), found->text);
    const int outcome = without(data, each.check, each.check == Check::kAliasCycle ? 1 : 20);
    if (each.also != kCheckCount) EXPECT_EQ(outcome, each.also) << name;
    else
      EXPECT_TRUE(outcome == kSound || outcome == kAstray)
          << "check " << name << " (" << found->text << ") is not needed: check " << outcome << " refuses the same";
    astray += outcome == kAstray ? 1 : 0;
    covered.insert(each.check);
  }
  for (int check = 0; check < kCheckCount; ++check) EXPECT_TRUE(covered.count(static_cast<Check>(check))) << "no case for check " << check;
  EXPECT_GT(astray, 3) << "indices far outside and an endless chain";
}

TEST(SemanticVerifier, SubprogramsAreHeldToTheSame) {
  const EngineData good = test::rich_engine();
  EngineData data = good;
  main_program(data).subprograms[0].slots[2].dtype = DType::kUndefined;
  ASSERT_TRUE(first_defect(data));
  EXPECT_EQ(first_defect(data)->check, Check::kSlotType);
}

}  // namespace
}  // namespace lathe::engine
