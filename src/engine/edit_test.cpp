// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Engines made of engines: what stays, what is shared, what is refused. Graphs are real ONNX bytes, made by hand.

#include "engine/edit.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "base/protobuf.h"
#include "engine/engine.h"
#include "engine/portable_graph.h"
#include "engine/semantic_verifier.h"
#include "engine/test_engines.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

/// A model whose graph and whose inner graph each have an initialiser at "blob:N", between fields of other kinds.
std::string model_with(const std::vector<plan::BlobId>& blobs, const std::string& name = "g") {
  const auto tensor = [](const std::string& location) {
    std::string text, entry;
    protozero::pbf_writer fields(entry);
    fields.add_string(1, "location");
    fields.add_string(2, location);
    protozero::pbf_writer out(text);
    out.add_int64(1, 4);
    out.add_string(8, "w");
    out.add_message(13, entry);
    out.add_enum(14, 1);
    return text;
  };
  std::string inner, attribute, node, graph, model;
  protozero::pbf_writer(inner).add_message(5, tensor("blob:" + std::to_string(blobs.at(0))));
  protozero::pbf_writer a(attribute);
  a.add_string(1, "body");
  a.add_message(6, inner);
  a.add_float(2, 1.5F);
  protozero::pbf_writer n(node);
  n.add_string(1, "blob:1");  // a name that only looks like one
  n.add_message(5, attribute);
  protozero::pbf_writer g(graph);
  g.add_message(1, node);
  g.add_string(2, name);
  for (std::size_t i = 1; i < blobs.size(); ++i) g.add_message(5, tensor("blob:" + std::to_string(blobs[i])));
  g.add_message(5, tensor("elsewhere.bin"));
  protozero::pbf_writer m(model);
  m.add_int64(1, 9);
  m.add_message(7, graph);
  return model;
}

/// concat_engine for a device, its weights numbered in another order: `first` blobs that nothing of the graph names stand in front.
EngineData engine_for(const std::string& device, int first, float w = 100) {
  EngineData data;
  for (int i = 0; i < first; ++i) {
    test::add_blob(data, "", test::ramp({3}, static_cast<float>(i)));
    data.blobs.back().pack = "test.pack";
    data.blobs.back().dims.clear();
  }
  const EngineData plain = test::concat_engine();
  const plan::BlobId id = test::add_blob(data, "w", test::ramp({1, 1, 4, 5}, w));
  data.producer = plain.producer;
  data.model_name = plain.model_name;
  data.sections = {plain.sections[0], plain.sections[0]};
  data.sections[0].device = device;
  for (DeviceSection& section : data.sections) section.program.slots[5].blob = id;
  for (plan::BlobId i = 0; i < first; ++i) data.sections[0].program.steps[0].weights.push_back(i);
  data.report_json = "{\"of\":\"" + device + "\"}";
  data.portable_graph = model_with({id, id});
  return data;
}

std::vector<std::string> devices(const EngineData& data) {
  std::vector<std::string> names;
  for (const DeviceSection& section : data.sections) names.push_back(section.device);
  return names;
}

std::string message_of(const std::function<void()>& call) {
  try {
    call();
  } catch (const Error& error) {
    return std::string(error.message());
  }
  return "nothing was thrown";
}

TEST(PortableGraph, LocationsMoveAndNothingElse) {
  const std::string model = model_with({3, 12345, 0});
  EXPECT_EQ(with_locations(model, [](plan::BlobId id) { return "blob:" + std::to_string(id); }), model);
  std::vector<plan::BlobId> seen;
  const std::string moved = with_locations(model, [&](plan::BlobId id) {
    seen.push_back(id);
    return "blob:" + std::to_string(id * 1000);
  });
  EXPECT_EQ(seen, (std::vector<plan::BlobId>{3, 12345, 0}));
  EXPECT_EQ(moved, model_with({3000, 12345000, 0}));
  for (std::size_t length = 1; length < model.size(); ++length) try {
      with_locations(std::string_view(model).substr(0, length), [](plan::BlobId) { return std::string(); });
    } catch (const Error& error) {
      EXPECT_EQ(error.code(), Code::kCorruptFile);
    }
}

TEST(EngineEdit, MergedEnginesShareTheirWeights) {
  EngineData gpu = engine_for("cuda:sm_90", 3);
  test::add_native(gpu, 0);
  const NativeCode native = gpu.sections[0].native;
  std::vector<EngineData> parts;
  parts.push_back(std::move(gpu));
  parts.push_back(engine_for("cuda:sm_80", 5));
  parts.push_back(engine_for("cpu", 0));
  const EngineData merged = merge_engines(std::move(parts), {"a", "b", "c"});
  EXPECT_EQ(devices(merged), (std::vector<std::string>{"cuda:sm_90", "cuda:sm_80", "cpu", "cpu-generic"}));
  EXPECT_EQ(find_defect(merged), "");
  // Three packed weights are in both, two in the second alone; w is in all.
  EXPECT_EQ(merged.blobs.size(), 6U);
  EXPECT_EQ(merged.report_json, "{\"of\":\"cuda:sm_90\"}");
  for (const DeviceSection& section : merged.sections) {
    const plan::Blob& w = merged.blobs[static_cast<std::size_t>(section.program.slots[5].blob)];
    EXPECT_EQ(w.name, "w");
    EXPECT_EQ(merged.portable_graph, model_with({section.program.slots[5].blob, section.program.slots[5].blob}));
  }
  const std::vector<std::byte> file = write_engine(merged);
  const EngineData back = read_engine(file, nullptr);
  check_weights(back);
  EXPECT_EQ(back.sections[0].native.signatures, native.signatures) << "signatures outlive the merge";
  EXPECT_TRUE(back.sections[1].native.bytes.empty());
  trust::KeyRing keys;
  keys.own = test::test_key().public_key();
  EXPECT_EQ(judge_native(back.sections[0].native, keys).trust, NativeTrust::kTrusted);
}

TEST(EngineEdit, OtherModelsAndTheSameDeviceTwiceAreRefused) {
  const auto merge = [](EngineData a, EngineData b) {
    return message_of([&] {
      std::vector<EngineData> parts;
      parts.push_back(std::move(a));
      parts.push_back(std::move(b));
      merge_engines(std::move(parts), {"a.engine", "b.engine"});
    });
  };
  EXPECT_NE(merge(engine_for("cpu", 0), engine_for("cuda:sm_90", 0, 7)).find("same graph with different weights"), std::string::npos);
  EngineData other = engine_for("cuda:sm_90", 0);
  other.portable_graph = model_with({0, 0}, "another");
  const std::string text = merge(engine_for("cpu", 0), other);
  EXPECT_NE(text.find("different graphs"), std::string::npos) << text;
  EXPECT_NE(text.find("b.engine"), std::string::npos) << text;
  EXPECT_NE(merge(engine_for("cpu", 0), engine_for("cpu", 2)).find("both have a program for cpu"), std::string::npos);
  other.portable_graph = model_with({0, 99});
  EXPECT_NE(merge(engine_for("cpu", 0), other).find("weight 99"), std::string::npos);
}

TEST(EngineEdit, StrippedEnginesLoseWhatIsNamedAndItsWeights) {
  std::vector<EngineData> parts;
  parts.push_back(engine_for("cuda:sm_90", 3));
  test::add_native(parts[0], 0);
  parts.push_back(engine_for("cpu", 0));
  const EngineData whole = merge_engines(std::move(parts), {"a", "b"});

  EngineData data = whole;
  strip_engine(data, {.native = true});
  EXPECT_EQ(devices(data), devices(whole));
  EXPECT_TRUE(data.sections[0].native.bytes.empty());
  EXPECT_EQ(data.blobs.size(), whole.blobs.size());

  data = whole;
  strip_engine(data, {.report = true, .devices = {"cpu"}});
  EXPECT_EQ(devices(data), (std::vector<std::string>{"cpu", "cpu-generic"}));
  EXPECT_EQ(data.report_json, "");
  ASSERT_EQ(data.blobs.size(), 1U);
  EXPECT_EQ(data.blobs[0].name, "w");
  EXPECT_EQ(data.portable_graph, model_with({0, 0}));
  EXPECT_EQ(find_defect(data), "");
  const std::vector<std::byte> file = write_engine(data);
  check_weights(read_engine(file, nullptr));

  data = whole;
  strip_engine(data, {.devices = {"cuda:sm_90"}});
  EXPECT_FALSE(data.sections[0].native.bytes.empty());
  const std::string text = message_of([&] { strip_engine(data, {.devices = {"cuda:sm_80"}}); });
  EXPECT_NE(text.find("cuda:sm_90, cpu-generic"), std::string::npos) << text;
}

TEST(EngineEdit, SourcesOfPackedWeightsStay) {
  EngineData data = engine_for("cpu", 0);
  plan::Blob packed = data.blobs[0];
  packed.pack = "test.pack";
  packed.sources = {test::add_blob(data, "source", test::ramp({2}))};
  data.blobs.push_back(packed);
  data.blob_bytes.push_back(data.blob_bytes[0]);
  const plan::BlobId unused = test::add_blob(data, "unused", test::ramp({9}));
  data.sections[0].program.steps[0].weights = {2};
  ASSERT_EQ(unused, 3);
  strip_engine(data, {.devices = {"cpu"}});
  ASSERT_EQ(data.blobs.size(), 3U);
  EXPECT_EQ(data.blobs[2].sources, std::vector<plan::BlobId>{1});
  EXPECT_EQ(data.blobs[1].name, "source");
}

}  // namespace
}  // namespace lathe::engine
