// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Every number of every record of a program that runs, set to all that a stranger may write there: out of range, off by one, another's value.
// The engine is refused, or it gives the numbers that it gave before, or, for the few fields that say what is computed and not where, other
// numbers: whichever, nothing outside of the caller's tensors is touched. The verifier's conditions one by one: src/engine/semantic_verifier_test.cpp.

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "engine/engine.h"
#include "engine/semantic_verifier.h"
#include "engine/test_engines.h"
#include "runtime/context.h"

namespace lathe::runtime {
namespace {

using engine::EngineData;

/// A field as the test sees it. `choices`: of an enumerator or an index how many there are; 0: any number.
struct Number {
  std::string name;
  std::int64_t value, choices;
  std::int64_t least, most;
  std::function<void(std::int64_t)> set;
};

class Numbers {
 public:
  explicit Numbers(EngineData& data) {
    const auto blobs = static_cast<std::int64_t>(data.blobs.size());
    for (engine::DeviceSection& section : data.sections) program(section.program, blobs);
    for (plan::Blob& each : data.blobs) {
      auto& [hash, offset, bytes, name, dtype, dims, pack, pack_params, sources] = each;
      (void)hash, (void)offset, (void)name, (void)pack, (void)pack_params;
      add("blob.bytes", bytes);
      type("blob.dtype", dtype);
      for (std::int64_t& extent : dims) add("blob.dims", extent);
      for (plan::BlobId& source : sources) add("blob.sources", source, blobs);
    }
  }
  std::vector<Number> list;

 private:
  // The bindings name all members: a new field does not compile until it is visited here.
  void program(plan::Program& p, std::int64_t blobs) {
    auto& [slots, steps, segments, inputs, outputs, symbols, subprograms, dynamic] = p;
    list.push_back({"program.dynamic", dynamic ? 1 : 0, 2, 0, 1, [&dynamic = dynamic](std::int64_t value) { dynamic = value != 0; }});
    const auto slot_count = static_cast<std::int64_t>(slots.size());
    for (plan::Slot& each : slots) {
      auto& [name, dtype, shape, order, space, storage, parent, alias_axis, alias_offset, blob, type_of_value] = each;
      (void)name, (void)type_of_value;
      type("slot.dtype", dtype);
      for (ir::Dim& dim : shape) extent("slot.shape", dim);
      for (std::int32_t& axis : order) add("slot.order", axis, static_cast<std::int64_t>(shape.size()));
      enumerator("slot.space", space, 3);
      enumerator("slot.storage", storage, 5);
      add("slot.parent", parent, slot_count);
      add("slot.alias_axis", alias_axis, static_cast<std::int64_t>(shape.size()));
      extent("slot.alias_offset", alias_offset);
      add("slot.blob", blob, blobs);
    }
    for (plan::Step& each : steps) {
      auto& [kind, place, label, kernel, params, in, out, weights, sources, regions, measured, flops, bytes, pinned, read_symbol] = each;
      (void)label, (void)kernel, (void)params, (void)sources, (void)measured, (void)flops, (void)bytes, (void)pinned, (void)read_symbol;
      enumerator("step.kind", kind, 8);
      add("step.place", place);
      for (plan::SlotId& slot : in) add("step.inputs", slot, slot_count);
      for (plan::SlotId& slot : out) add("step.outputs", slot, slot_count);
      for (plan::BlobId& blob : weights) add("step.weights", blob, blobs);
      for (std::int32_t& region : regions) add("step.regions", region, static_cast<std::int64_t>(subprograms.size()));
    }
    for (plan::Segment& each : segments) {
      auto& [first, count] = each;
      add("segment.first_step", first, static_cast<std::int64_t>(steps.size()));
      add("segment.step_count", count, static_cast<std::int64_t>(steps.size()));
    }
    for (auto* ios : {&inputs, &outputs})
      for (plan::Io& each : *ios) {
        auto& [name, slot, donated_to] = each;
        (void)name;
        add("io.slot", slot, slot_count);
        add("io.donated_to", donated_to, static_cast<std::int64_t>(outputs.size()));
      }
    for (plan::SymbolHint& each : symbols) {
      auto& [symbol, min, opt, max] = each;
      (void)symbol;
      add("symbol.min", min);
      add("symbol.opt", opt);
      add("symbol.max", max);
    }
    for (plan::Program& sub : subprograms) program(sub, blobs);
  }
  template <class T>
  void add(std::string name, T& field, std::int64_t choices = 0) {
    const auto most = std::min<std::uint64_t>(std::numeric_limits<T>::max(), std::numeric_limits<std::int64_t>::max());
    list.push_back({std::move(name), static_cast<std::int64_t>(field), choices, static_cast<std::int64_t>(std::numeric_limits<T>::min()),
                    static_cast<std::int64_t>(most), [&field](std::int64_t value) { field = static_cast<T>(value); }});
  }
  /// The file's reader lets no others through.
  template <class E>
  void enumerator(std::string name, E& field, std::int64_t count) {
    list.push_back({std::move(name), static_cast<std::int64_t>(field), count, 0, count - 1, [&field](std::int64_t value) { field = static_cast<E>(value); }});
  }
  void type(std::string name, DType& field) { enumerator(std::move(name), field, kDTypeCount); }
  /// An expression gives way to numbers and comes back.
  void extent(std::string name, ir::Dim& field) {
    const ir::Dim before = field;
    constexpr std::int64_t kExpression = std::numeric_limits<std::int64_t>::min() + 1;
    list.push_back({std::move(name), before.constant().value_or(kExpression), 0, std::numeric_limits<std::int64_t>::min(),
                    std::numeric_limits<std::int64_t>::max(),
                    [&field, before](std::int64_t value) { field = value == kExpression ? before : ir::Dim(value); }});
  }
};

std::set<std::int64_t> values_for(const Number& number) {
  std::set<std::int64_t> values;
  const auto put = [&](std::int64_t value) {
    if (value != number.value && value >= number.least && value <= number.most) values.insert(value);
  };
  for (std::int64_t choice = 0; choice <= number.choices; ++choice) put(choice);
  for (const std::int64_t value : {std::int64_t{0}, std::int64_t{1}, std::int64_t{2}, std::int64_t{5}, std::int64_t{20}, std::int64_t{-1}, std::int64_t{-2},
                                   std::int64_t{-1000}, std::int64_t{255}, std::int64_t{1} << 20, (std::int64_t{1} << 31) - 1, -(std::int64_t{1} << 31),
                                   std::int64_t{1} << 40, std::int64_t{1} << 62, number.least, number.most})
    put(value);
  if (std::abs(number.value) < 1 << 20) {
    put(number.value - 1);
    put(number.value + 1);
    put(2 * number.value);
  }
  return values;
}

/// Memory for small tensors only; blocks are framed, and the frames looked at when they come back.
class FramedAllocator final : public Allocator {
 public:
  void* allocate(std::size_t bytes, std::size_t, MemorySpace, void*) noexcept override {
    if (bytes > (std::size_t{16} << 20)) return nullptr;
    auto* block = static_cast<std::byte*>(std::aligned_alloc(64, kFrame * 2 + (bytes + 63) / 64 * 64));
    std::memset(block, 0x5A, kFrame * 2 + (bytes + 63) / 64 * 64);
    return block + kFrame;
  }
  void deallocate(void* pointer, std::size_t bytes, MemorySpace, void*) noexcept override {
    auto* block = static_cast<std::byte*>(pointer) - kFrame;
    for (std::size_t i = 0; i < kFrame; ++i) intact = intact && block[i] == std::byte{0x5A} && block[kFrame + bytes + i] == std::byte{0x5A};
    std::free(block);
  }
  bool intact = true;

 private:
  static constexpr std::size_t kFrame = 4096;
};

enum class Outcome { kUnsound, kRefused, kEqual, kDifferent };

struct Tried {
  Outcome outcome;
  std::string why;
};

/// Runs on a ramp into framed buffers of the original's shapes.
Tried attempt(const EngineData& data, const std::vector<float>& y_before, const std::vector<float>& z_before, bool& intact) {
  if (std::string defect = engine::find_defect(data); !defect.empty()) return {Outcome::kUnsound, std::move(defect)};
  constexpr std::size_t kFrame = 1024;
  std::vector<float> y(y_before.size() + 2 * kFrame, -77), z(z_before.size() + 2 * kFrame, -77), x(60 + 2 * kFrame, -77);
  for (int i = 0; i < 60; ++i) x[kFrame + static_cast<std::size_t>(i)] = static_cast<float>(i);
  const std::vector<float> x_before = x;
  FramedAllocator allocator;
  Tried tried{Outcome::kRefused, ""};
  try {
    Context context(Engine::create(data), &allocator);
    const Dims x_dims{1, 3, 4, 5}, y_dims{1, 4, 4, 5}, z_dims{60};
    const InputView in[] = {{x.data() + kFrame, DType::kFloat32, x_dims}};
    const OutputView out[] = {{y.data() + kFrame, DType::kFloat32, y_dims}, {z.data() + kFrame, DType::kFloat32, z_dims}};
    if (const Status status = context.run(in, out); !status) {
      tried.why = status.message();
    } else {
      const bool same = std::equal(y_before.begin(), y_before.end(), y.begin() + kFrame) && std::equal(z_before.begin(), z_before.end(), z.begin() + kFrame);
      tried.outcome = same ? Outcome::kEqual : Outcome::kDifferent;
    }
  } catch (const Error& error) {
    tried.why = error.what();
  }
  const auto framed = [&](const std::vector<float>& buffer) {
    return std::all_of(buffer.begin(), buffer.begin() + kFrame, [](float v) { return v == -77; }) &&
           std::all_of(buffer.end() - kFrame, buffer.end(), [](float v) { return v == -77; });
  };
  intact = allocator.intact && framed(y) && framed(z) && x == x_before;
  return tried;
}

TEST(ProgramMutation, EveryNumberIsRefusedOrHarmless) {
  EngineData data = engine::test::concat_engine();
  std::vector<float> y, z;
  for (int i = 0; i < 80; ++i) y.push_back(static_cast<float>(i < 60 ? i : 40 + i));
  for (int i = 0; i < 60; ++i) z.push_back(static_cast<float>(i));
  bool intact = false;
  ASSERT_EQ(attempt(data, y, z, intact).outcome, Outcome::kEqual);
  ASSERT_TRUE(intact);
  // What a sound program computes is its own affair: which slot a step reads and writes, which part of a slot another is, which output is which, what
  // type the bytes of a constant have.
  const std::set<std::string> meanings{"step.inputs",     "step.outputs", "slot.parent", "slot.alias_offset",
                                       "slot.alias_axis", "io.slot",      "step.kind",   "slot.dtype"};
  std::map<Outcome, int> count;
  std::map<std::string, int> different;
  for (Number& number : Numbers(data).list)
    for (const std::int64_t value : values_for(number)) {
      number.set(value);
      const Tried tried = attempt(data, y, z, intact);
      number.set(number.value);
      ++count[tried.outcome];
      EXPECT_TRUE(intact) << number.name << " " << number.value << " -> " << value << ": memory outside of the tensors was written";
      if (tried.outcome != Outcome::kDifferent) continue;
      ++different[number.name];
      EXPECT_TRUE(meanings.count(number.name)) << number.name << " " << number.value << " -> " << value << " passes and gives other numbers";
    }
  ASSERT_EQ(attempt(data, y, z, intact).outcome, Outcome::kEqual) << "everything was put back";
  std::string table;
  for (const auto& [name, times] : different) table += fmt::format("{} {} times, ", name, times);
  RecordProperty("different", table);
  EXPECT_GT(count[Outcome::kUnsound], 1000);
  EXPECT_GT(count[Outcome::kEqual], 100);
  EXPECT_LT(count[Outcome::kDifferent], count[Outcome::kUnsound] / 10) << table;
}

TEST(ProgramMutation, TwoNumbersOfAKindExchangedAreRefusedOrHarmless) {
  EngineData data = engine::test::concat_engine();
  std::vector<float> y(80), z(60);
  bool intact = false;
  int refused = 0, ran = 0;
  std::vector<Number> list = Numbers(data).list;
  for (std::size_t i = 0; i < list.size(); ++i)
    for (std::size_t j = i + 1; j < list.size(); ++j) {
      if (list[i].name != list[j].name || list[i].value == list[j].value) continue;
      list[i].set(list[j].value);
      list[j].set(list[i].value);
      const Tried tried = attempt(data, y, z, intact);
      list[i].set(list[i].value);
      list[j].set(list[j].value);
      ASSERT_TRUE(intact) << list[i].name << " " << list[i].value << " and " << list[j].value;
      ++(tried.outcome == Outcome::kUnsound || tried.outcome == Outcome::kRefused ? refused : ran);
    }
  EXPECT_GT(refused, 100);
  EXPECT_GT(ran, 0);
}

}  // namespace
}  // namespace lathe::runtime
