// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Is verification sharp? Engines are damaged in one place each (a tile of packed weights, one bias, a pad, an activation, an axis), and at
// least 95 of 100 damages must be found; undamaged engines must pass.

#include <gtest/gtest.h>

#include <cstring>
#include <random>

#include "base/tensor.h"
#include "builder/builder.h"
#include "builder/test_models.h"

namespace lathe::builder {
namespace {

BuildOptions options(Precision precision) {
  BuildOptions o;
  o.precision = precision;
  o.budget_seconds = 0;
  o.verify = false;
  o.use_cache = false;
  return o;
}

/// Replaces the bytes of one blob by a damaged copy.
void damage_blob(engine::EngineData& data, plan::BlobId id, std::size_t from, std::size_t bytes, std::mt19937& random) {
  auto& span = data.blob_bytes[static_cast<std::size_t>(id)];
  auto copy = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(span.size())});
  std::memcpy(copy->mutable_raw(), span.data(), span.size());
  // Rotating the tile moves weights to wrong places without making them implausible.
  auto* at = copy->mutable_raw() + from;
  std::rotate(at, at + 4 * (1 + random() % (bytes / 4 - 1)), at + bytes);
  span = {copy->raw(), copy->bytes()};
  data.owners.push_back(copy);
}

/// One damage of a kind in a random step; false when the step has no such thing.
bool damage(engine::EngineData& data, int kind, std::mt19937& random) {
  plan::Program& program = data.sections.front().program;
  plan::Step& step = program.steps[random() % program.steps.size()];
  switch (kind) {
    case 0: {  // a tile of weights
      if (step.weights.empty()) return false;
      const std::size_t size = data.blob_bytes[static_cast<std::size_t>(step.weights[0])].size();
      if (size < 256) return false;
      const std::size_t from = random() % (size / 128) * 128;
      const std::span<const std::byte> tile = data.blob_bytes[static_cast<std::size_t>(step.weights[0])].subspan(from, 128);
      if (std::all_of(tile.begin(), tile.end(), [](std::byte b) { return b == std::byte{0}; })) return false;  // padding of a panel
      damage_blob(data, step.weights[0], from, 128, random);
      return true;
    }
    case 1: {  // one bias
      if (step.weights.size() < 2) return false;
      const std::size_t count = data.blob_bytes[static_cast<std::size_t>(step.weights[1])].size() / 4;
      if (count < 4) return false;
      damage_blob(data, step.weights[1], random() % (count - 1) * 4, 8, random);
      return true;
    }
    case 2: {  // a pad moved to the other side
      auto pads = step.params.get_ints("pads");
      if (pads.size() != 4 || pads[0] == 0) return false;
      const std::size_t axis = random() % 2;
      --pads[axis];
      ++pads[axis + 2];
      step.params.set("pads", pads);
      return true;
    }
    case 3: {  // another activation
      if (!step.params.has("activation")) return false;
      step.params.set("activation", step.params.get_string("activation", "") == "relu" ? "silu" : "relu");
      return true;
    }
    default: {  // a slice of the wrong part of a concat
      std::vector<plan::Slot*> slices;
      for (plan::Slot& slot : program.slots)
        if (slot.storage == plan::Storage::kAlias && slot.alias_axis >= 0) slices.push_back(&slot);
      if (slices.size() < 2) return false;
      std::swap(slices[0]->alias_offset, slices[1]->alias_offset);
      return true;
    }
  }
}

void expect_caught(Precision precision) {
  std::mt19937 random(7);
  int caught = 0, tried = 0;
  std::string missed;
  for (std::uint32_t seed = 1; seed <= 2; ++seed) {
    const auto model = test::conv_model(seed);
    const BuildOptions o = options(precision);
    const engine::EngineData sound = build_engine(model, o).engine;
    const VerifyReport clean = verify_engine(*model, sound, o);
    ASSERT_TRUE(clean.passed) << clean.summary;
    for (int i = 0; i < 200 && tried < 40 * static_cast<int>(seed); ++i) {
      engine::EngineData data = sound;
      const int kind = i % 5;
      if (kind == 4 && i > 5) continue;   // there is one concat
      if (!damage(data, kind, random)) continue;
      ++tried;
      if (!verify_engine(*model, data, o).passed) ++caught;
      else missed += " " + std::to_string(kind);
    }
  }
  EXPECT_GE(tried, 60);
  EXPECT_GE(caught, (tried * 95 + 99) / 100) << caught << " of " << tried << "; missed kinds:" << missed;
}

TEST(MutationTest, Float32VerificationFindsDamage) { expect_caught(Precision::kFloat32); }
TEST(MutationTest, BFloat16VerificationFindsDamage) { expect_caught(Precision::kBFloat16); }

}  // namespace
}  // namespace lathe::builder
