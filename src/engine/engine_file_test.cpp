// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// What is written comes back: every field, views of the mapped file, stable bytes; and the messages for what is no engine.

#include <gtest/gtest.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <fstream>
#include <vector>

#include "base/os.h"
#include "engine/engine.h"
#include "engine/file_header.h"
#include "engine/semantic_verifier.h"
#include "engine/test_engines.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

using test::concat_engine;
using test::ramp;
using test::rich_engine;

std::string graph_text(const ir::GraphPtr& graph) { return graph ? ir::print(*graph) : "none"; }

void expect_same(const Tensor& a, const Tensor& b) {
  ASSERT_EQ(a.dtype(), b.dtype());
  ASSERT_EQ(a.dims(), b.dims());
  if (a.dtype() == DType::kString) EXPECT_EQ(a.string_data(), b.string_data());
  else EXPECT_TRUE(a.same_bytes(b));
}

void expect_same(const ir::Attrs& a, const ir::Attrs& b) {
  ASSERT_EQ(a.size(), b.size());
  for (const auto& [name, left] : a) {
    SCOPED_TRACE(name);
    const ir::Attribute* right = b.find(name);
    ASSERT_NE(right, nullptr);
    ASSERT_EQ(left.type(), right->type());
    switch (left.type()) {
      case ir::AttrType::kFloat: EXPECT_EQ(std::get<float>(left.value), std::get<float>(right->value)); break;
      case ir::AttrType::kInt: EXPECT_EQ(std::get<std::int64_t>(left.value), std::get<std::int64_t>(right->value)); break;
      case ir::AttrType::kString: EXPECT_EQ(std::get<std::string>(left.value), std::get<std::string>(right->value)); break;
      case ir::AttrType::kFloats: {
        const auto &x = std::get<std::vector<float>>(left.value), &y = std::get<std::vector<float>>(right->value);
        ASSERT_EQ(x.size(), y.size());
        EXPECT_EQ(std::memcmp(x.data(), y.data(), x.size() * sizeof(float)), 0);
        break;
      }
      case ir::AttrType::kInts: EXPECT_EQ(std::get<std::vector<std::int64_t>>(left.value), std::get<std::vector<std::int64_t>>(right->value)); break;
      case ir::AttrType::kStrings: EXPECT_EQ(std::get<std::vector<std::string>>(left.value), std::get<std::vector<std::string>>(right->value)); break;
      case ir::AttrType::kTensor: expect_same(std::get<Tensor>(left.value), std::get<Tensor>(right->value)); break;
      case ir::AttrType::kTensors: {
        const auto &x = std::get<std::vector<Tensor>>(left.value), &y = std::get<std::vector<Tensor>>(right->value);
        ASSERT_EQ(x.size(), y.size());
        for (std::size_t i = 0; i < x.size(); ++i) expect_same(x[i], y[i]);
        break;
      }
      case ir::AttrType::kSparseTensor: {
        const auto &x = std::get<ir::SparseTensor>(left.value), &y = std::get<ir::SparseTensor>(right->value);
        expect_same(x.values, y.values);
        expect_same(x.indices, y.indices);
        EXPECT_EQ(x.dims, y.dims);
        break;
      }
      case ir::AttrType::kType: EXPECT_EQ(std::get<ir::Type>(left.value), std::get<ir::Type>(right->value)); break;
      case ir::AttrType::kGraph: EXPECT_EQ(graph_text(std::get<ir::GraphPtr>(left.value)), graph_text(std::get<ir::GraphPtr>(right->value))); break;
      case ir::AttrType::kUndefined: break;
      default: FAIL() << "the test's engine has no parameter of this type yet";
    }
  }
}

void expect_same(const plan::Program& a, const plan::Program& b) {
  ASSERT_EQ(a.slots.size(), b.slots.size());
  for (std::size_t i = 0; i < a.slots.size(); ++i) {
    SCOPED_TRACE("slot " + std::to_string(i));
    const plan::Slot &x = a.slots[i], &y = b.slots[i];
    EXPECT_EQ(x.name, y.name);
    EXPECT_EQ(x.dtype, y.dtype);
    EXPECT_EQ(ir::to_string(x.shape), ir::to_string(y.shape));
    EXPECT_EQ(x.order, y.order);
    EXPECT_EQ(x.space, y.space);
    EXPECT_EQ(x.storage, y.storage);
    EXPECT_EQ(x.parent, y.parent);
    EXPECT_EQ(x.alias_axis, y.alias_axis);
    EXPECT_EQ(x.alias_offset, y.alias_offset);
    EXPECT_EQ(x.blob, y.blob);
  }
  ASSERT_EQ(a.steps.size(), b.steps.size());
  for (std::size_t i = 0; i < a.steps.size(); ++i) {
    SCOPED_TRACE("step " + std::to_string(i));
    const plan::Step &x = a.steps[i], &y = b.steps[i];
    EXPECT_EQ(x.kind, y.kind);
    EXPECT_EQ(x.place, y.place);
    EXPECT_EQ(x.label, y.label);
    EXPECT_EQ(x.kernel, y.kernel);
    expect_same(x.params, y.params);
    EXPECT_EQ(x.inputs, y.inputs);
    EXPECT_EQ(x.outputs, y.outputs);
    EXPECT_EQ(x.weights, y.weights);
    EXPECT_EQ(x.sources, y.sources);
    EXPECT_EQ(x.regions, y.regions);
    EXPECT_EQ(x.measured_seconds, y.measured_seconds);
    EXPECT_EQ(x.flops, y.flops);
    EXPECT_EQ(x.bytes, y.bytes);
    EXPECT_EQ(x.pinned, y.pinned);
    EXPECT_EQ(x.read_symbol, y.read_symbol);
  }
  ASSERT_EQ(a.segments.size(), b.segments.size());
  for (std::size_t i = 0; i < a.segments.size(); ++i) {
    EXPECT_EQ(a.segments[i].first_step, b.segments[i].first_step);
    EXPECT_EQ(a.segments[i].step_count, b.segments[i].step_count);
  }
  const auto same_io = [](const std::vector<plan::Io>& x, const std::vector<plan::Io>& y) {
    ASSERT_EQ(x.size(), y.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
      EXPECT_EQ(x[i].name, y[i].name);
      EXPECT_EQ(x[i].slot, y[i].slot);
      EXPECT_EQ(x[i].donated_to, y[i].donated_to);
    }
  };
  same_io(a.inputs, b.inputs);
  same_io(a.outputs, b.outputs);
  ASSERT_EQ(a.symbols.size(), b.symbols.size());
  for (std::size_t i = 0; i < a.symbols.size(); ++i) {
    EXPECT_EQ(a.symbols[i].symbol, b.symbols[i].symbol);
    EXPECT_EQ(a.symbols[i].min, b.symbols[i].min);
    EXPECT_EQ(a.symbols[i].opt, b.symbols[i].opt);
    EXPECT_EQ(a.symbols[i].max, b.symbols[i].max);
  }
  EXPECT_EQ(a.dynamic, b.dynamic);
  ASSERT_EQ(a.subprograms.size(), b.subprograms.size());
  for (std::size_t i = 0; i < a.subprograms.size(); ++i) expect_same(a.subprograms[i], b.subprograms[i]);
}

std::string message_of(const std::function<void()>& act, Code code) {
  try {
    act();
  } catch (const Error& error) {
    EXPECT_EQ(error.code(), code) << error.what();
    EXPECT_FALSE(error.remedy().empty()) << error.what();
    return error.what();
  }
  ADD_FAILURE() << "nothing was thrown";
  return {};
}

class EngineFile : public ::testing::Test {
 protected:
  void SetUp() override { folder_ = os::make_temp_dir(); }
  void TearDown() override { std::filesystem::remove_all(folder_); }
  std::filesystem::path folder_;
};

TEST_F(EngineFile, KeepsEveryField) {
  const EngineData data = rich_engine();
  const auto path = folder_ / "rich.engine";
  write_engine(data, path);
  const EngineData back = read_engine(path);
  EXPECT_EQ(back.producer, data.producer);
  EXPECT_EQ(back.model_name, data.model_name);
  EXPECT_EQ(back.portable_graph, data.portable_graph);
  EXPECT_EQ(back.report_json, data.report_json);
  EXPECT_EQ(back.custom_ops, data.custom_ops);
  EXPECT_EQ(back.metadata, data.metadata);
  ASSERT_EQ(back.precision.size(), 1U);
  EXPECT_EQ(back.precision[0].tensor, "x");
  EXPECT_EQ(back.precision[0].storage, DType::kBFloat16);
  EXPECT_EQ(back.precision[0].compute, DType::kFloat32);
  EXPECT_EQ(back.precision[0].reason, "asked for");
  ASSERT_EQ(back.sections.size(), data.sections.size());
  for (std::size_t i = 0; i < data.sections.size(); ++i) {
    EXPECT_EQ(back.sections[i].device, data.sections[i].device);
    EXPECT_EQ(back.sections[i].needs, data.sections[i].needs);
    EXPECT_EQ(back.sections[i].description, data.sections[i].description);
    expect_same(data.sections[i].program, back.sections[i].program);
  }
  ASSERT_EQ(back.blobs.size(), data.blobs.size());
  for (std::size_t i = 0; i < data.blobs.size(); ++i) {
    SCOPED_TRACE("blob " + std::to_string(i));
    EXPECT_EQ(back.blobs[i].name, data.blobs[i].name);
    EXPECT_EQ(back.blobs[i].dtype, data.blobs[i].dtype);
    EXPECT_EQ(back.blobs[i].dims, data.blobs[i].dims);
    EXPECT_EQ(back.blobs[i].pack, data.blobs[i].pack);
    EXPECT_EQ(back.blobs[i].sources, data.blobs[i].sources);
    EXPECT_EQ(back.blobs[i].hash, data.blobs[i].hash);
    expect_same(data.blobs[i].pack_params, back.blobs[i].pack_params);
    ASSERT_EQ(back.blob_bytes[i].size(), data.blob_bytes[i].size());
    EXPECT_TRUE(std::equal(back.blob_bytes[i].begin(), back.blob_bytes[i].end(), data.blob_bytes[i].begin()));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(back.blob_bytes[i].data()) % 64, 0U);
  }
  EXPECT_EQ(back.blobs[0].offset, back.blobs[2].offset) << "equal bytes are stored once";
  check_weights(back);
}

TEST_F(EngineFile, WritesTheSameBytesAgain) {
  const std::vector<std::byte> first = write_engine(rich_engine());
  const EngineData back = read_engine(first, nullptr);
  EXPECT_EQ(write_engine(back), first);
  const auto path = folder_ / "again.engine";
  write_engine(back, path);
  const auto mapped = os::MappedFile::open(path);
  EXPECT_TRUE(std::equal(first.begin(), first.end(), mapped->bytes().begin(), mapped->bytes().end()));
}

TEST_F(EngineFile, LeavesWeightsMapped) {
  EngineData data = concat_engine();
  test::add_blob(data, "large", Tensor(DType::kUint8, {64 << 20}));
  const auto path = folder_ / "large.engine";
  write_engine(data, path);
  data = {};
  const std::size_t before = os::current_rss_bytes();
  const double start = os::now_seconds();
  const EngineData back = read_engine(path);
  EXPECT_LT(os::now_seconds() - start, 0.05);
  EXPECT_LT(os::current_rss_bytes(), before + (8U << 20));
  EXPECT_EQ(back.blob_bytes[1].size(), std::size_t{64} << 20);
}

TEST_F(EngineFile, LaysTheWeightsOfTheFirstDeviceTogether) {
  EngineData data = concat_engine();
  std::vector<plan::BlobId> used;
  for (int i = 0; i < 6; ++i) {
    const plan::BlobId id = test::add_blob(data, "blob " + std::to_string(i), ramp({1000}, static_cast<float>(i)));
    if (i % 2 == 1) used.push_back(id);
  }
  std::swap(used[0], used[2]);
  data.sections[0].program.steps[2].weights = {used[0], used[1]};
  data.sections[0].program.steps[3].weights = {used[2]};
  const std::vector<std::byte> bytes = write_engine(data);  // not copied
  const EngineData back = read_engine(bytes, nullptr);
  // The constant of step 2 comes behind the step's weights, unused blobs last.
  EXPECT_EQ(back.blobs[static_cast<std::size_t>(used[0])].offset, 0U);
  EXPECT_EQ(back.blobs[static_cast<std::size_t>(used[1])].offset, 4032U);
  EXPECT_EQ(back.blobs[0].offset, 2U * 4032U);
  EXPECT_EQ(back.blobs[static_cast<std::size_t>(used[2])].offset, 2U * 4032U + 128U);
  for (const plan::Blob& blob : back.blobs) {
    if (blob.name == "blob 0" || blob.name == "blob 2") {
      EXPECT_GT(blob.offset, 2U * 4032U + 128U);
    }
  }
  check_weights(back);
}

TEST_F(EngineFile, ReplacesAFileThatIsInUse) {
  const auto path = folder_ / "used.engine";
  write_engine(concat_engine(), path);
  const EngineData mapped = read_engine(path);
  write_engine(rich_engine(), path);  // the mapping keeps the old file
  check_weights(mapped);
  EXPECT_EQ(read_engine(path).sections.size(), 2U);
}

TEST_F(EngineFile, TakesUnalignedMemory) {
  const std::vector<std::byte> bytes = write_engine(rich_engine());
  std::vector<std::byte> shifted(bytes.size() + 65);
  const auto start = reinterpret_cast<std::uintptr_t>(shifted.data());
  const std::size_t shift = (64 - start % 64) + 1;
  std::copy(bytes.begin(), bytes.end(), shifted.begin() + static_cast<std::ptrdiff_t>(shift));
  const EngineData back = read_engine(std::span(shifted).subspan(shift, bytes.size()), nullptr);
  check_weights(back);
}

TEST_F(EngineFile, SaysWhatIsWrongWithAFile) {
  const auto path = folder_ / "bad.engine";
  const auto store = [&](std::span<const std::byte> bytes) {
    std::ofstream(path, std::ios::binary).write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  };
  const auto read = [&] { read_engine(path); };
  std::vector<std::byte> good = write_engine(concat_engine());

  EXPECT_NE(message_of(read, Code::kIo).find("bad.engine"), std::string::npos);
  store({});
  EXPECT_NE(message_of(read, Code::kCorruptFile).find("the file is empty"), std::string::npos);
  const std::string other = "this is some other file, longer than any header could be; it has more than 64 bytes";
  store(std::as_bytes(std::span(other)));
  const std::string text = message_of(read, Code::kCorruptFile);
  EXPECT_NE(text.find("not an engine"), std::string::npos) << text;
  EXPECT_NE(text.find("lathe build"), std::string::npos) << text;
  EXPECT_NE(text.find("bad.engine"), std::string::npos) << text;
  store(std::span(good).first(good.size() - 1));
  EXPECT_NE(message_of(read, Code::kCorruptFile).find("cut short"), std::string::npos);
  store(std::span(good).first(20));
  EXPECT_NE(message_of(read, Code::kCorruptFile).find("cut short"), std::string::npos);
  std::vector<std::byte> longer = good;
  longer.push_back(std::byte{0});
  store(longer);
  EXPECT_NE(message_of(read, Code::kCorruptFile).find("added to"), std::string::npos);
  std::vector<std::byte> newer = good;
  newer[8] = std::byte{9};
  store(newer);
  EXPECT_NE(message_of(read, Code::kUnsupported).find("format 9.2, this library reads up to 1.2"), std::string::npos);
}

TEST_F(EngineFile, FindsDamagedWeightsOnDemand) {
  std::vector<std::byte> bytes = write_engine(rich_engine());
  bytes[bytes.size() - 192] ^= std::byte{1};  // weights stand last: 80 bytes at 0, 3 at 128
  const EngineData back = read_engine(bytes, nullptr);
  const std::string text = message_of([&] { check_weights(back); }, Code::kCorruptFile);
  EXPECT_NE(text.find("is damaged"), std::string::npos) << text;
}

TEST_F(EngineFile, WritesNothingWhenTheDiskIsFull) {
  if (!std::filesystem::exists("/dev/full")) GTEST_SKIP() << "no /dev/full here";
  EXPECT_NE(message_of([] { write_engine(rich_engine(), "/dev/full"); }, Code::kIo).find("No space left"), std::string::npos);
  EXPECT_THROW(write_engine(rich_engine(), folder_ / "missing" / "x.engine"), Error);
}

TEST_F(EngineFile, KeepsTheOldFileWhereTheNewOneDoesNotFit) {
  const auto path = folder_ / "kept.engine";
  write_engine(concat_engine(), path);
  EngineData large = concat_engine();
  test::add_blob(large, "large", Tensor(DType::kUint8, {8 << 20}));
  // A limit on file sizes stands for a full disk; by itself it would end the process with a signal.
  rlimit old{};
  ASSERT_EQ(getrlimit(RLIMIT_FSIZE, &old), 0);
  const rlimit small{2 << 20, old.rlim_max};
  ASSERT_EQ(setrlimit(RLIMIT_FSIZE, &small), 0);
  const std::string text = message_of([&] { write_engine(large, path); }, Code::kIo);
  setrlimit(RLIMIT_FSIZE, &old);
  EXPECT_NE(text.find("File too large"), std::string::npos) << text;
  EXPECT_NE(text.find("ulimit"), std::string::npos) << text;
  EXPECT_EQ(read_engine(path).blobs.size(), 1U);
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1) << "a part of the new file was left";
}

TEST_F(EngineFile, IsWholeWhenTwoProcessesWriteItAtOnce) {
  const auto path = folder_ / "shared.engine";
  write_engine(concat_engine(), path);
  std::vector<pid_t> writers;
  for (const bool rich : {false, true}) {
    const pid_t child = fork();
    ASSERT_GE(child, 0);
    if (child == 0) {
      const EngineData data = rich ? rich_engine() : concat_engine();
      int code = 0;
      try {
        for (int i = 0; i < 60; ++i) write_engine(data, path);
      } catch (...) {
        code = 1;
      }
      _exit(code);
    }
    writers.push_back(child);
  }
  while (!writers.empty()) {
    EXPECT_NO_THROW(check_weights(read_engine(path)));  // always one of the two, whole
    int state = 0;
    if (waitpid(writers.back(), &state, WNOHANG) == 0) continue;
    writers.pop_back();
    EXPECT_TRUE(WIFEXITED(state) && WEXITSTATUS(state) == 0);
  }
  EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder_), {}), 1);
}

TEST_F(EngineFile, RefusesToWriteAnUnsoundEngine) {
  EngineData data = concat_engine();
  data.sections[0].program.steps[1].inputs[0] = 99;
  const auto path = folder_ / "unsound.engine";
  EXPECT_NE(message_of([&] { write_engine(data, path); }, Code::kInternal).find("slot 99"), std::string::npos);
  EXPECT_FALSE(std::filesystem::exists(path));
}

// One case for every rule: what is changed, and the words that must come.
TEST(SemanticVerifier, NamesEachDefect) {
  struct Case {
    const char* words;
    std::function<void(EngineData&, plan::Program&)> damage;
  };
  const std::vector<Case> cases = {
      {"no program", [](EngineData& d, plan::Program&) { d.sections.clear(); }},
      {"no element type", [](EngineData&, plan::Program& p) { p.slots[2].dtype = DType::kUndefined; }},
      {"no permutation", [](EngineData&, plan::Program& p) { p.slots[2].order = {0, 2, 2, 1}; }},
      {"no permutation", [](EngineData&, plan::Program& p) { p.slots[2].order = {0, 2, 3, 4}; }},
      {"memory order has 3 axes", [](EngineData&, plan::Program& p) { p.slots[2].order = {0, 1, 2}; }},
      {"impossible shape", [](EngineData&, plan::Program& p) { p.slots[2].shape = {1 << 30, 1 << 30}; p.slots[2].order = {}; }},
      {"impossible shape", [](EngineData&, plan::Program& p) { p.slots[2].shape = {-1}; p.slots[2].order = {}; }},
      {"names no weight", [](EngineData&, plan::Program& p) { p.slots[5].blob = 1; }},
      {"its weight has 80", [](EngineData&, plan::Program& p) { p.slots[5].shape[2] = 5; }},
      {"shape or order is not", [](EngineData&, plan::Program& p) { p.slots[5].shape[2] = ir::Dim::symbol("height"); }},
      {"but is not constant", [](EngineData&, plan::Program& p) { p.slots[2].blob = 0; }},
      {"part of slot 77", [](EngineData&, plan::Program& p) { p.slots[3].parent = 77; }},
      {"part of slot -1", [](EngineData&, plan::Program& p) { p.slots[3].parent = -1; }},
      {"but is no alias", [](EngineData&, plan::Program& p) { p.slots[2].parent = 1; }},
      {"alias of itself", [](EngineData&, plan::Program& p) { p.slots[3].parent = 3; }},
      {"alias of itself", [](EngineData&, plan::Program& p) { p.slots[3].parent = 4; p.slots[4].parent = 3; }},
      {"another element type", [](EngineData&, plan::Program& p) { p.slots[3].dtype = DType::kInt32; }},
      {"another memory", [](EngineData&, plan::Program& p) { p.slots[3].space = MemorySpace::kDevice; }},
      {"which its parent lacks", [](EngineData&, plan::Program& p) { p.slots[3].alias_axis = 4; }},
      {"which its parent lacks", [](EngineData&, plan::Program& p) { p.slots[3].alias_axis = -7; }},
      {"reaches beyond", [](EngineData&, plan::Program& p) { p.slots[4].alias_offset = 4; }},
      {"begins before", [](EngineData&, plan::Program& p) { p.slots[4].alias_offset = -1; }},
      {"differs on axis 0", [](EngineData&, plan::Program& p) { p.slots[3].shape[0] = 2; }},
      {"has another size", [](EngineData&, plan::Program& p) { p.slots[4].alias_axis = -1; p.slots[1].shape = {1, 4, 4, 5}; }},
      {"no slot for the caller's memory", [](EngineData&, plan::Program& p) { p.inputs[0].slot = 2; }},
      {"no slot for the caller's memory", [](EngineData&, plan::Program& p) { p.outputs[0].slot = -1; }},
      {"no slot for the caller's memory", [](EngineData&, plan::Program& p) { p.slots[0].order = {0, 2, 3, 1}; }},
      {"named 2 times", [](EngineData&, plan::Program& p) { p.outputs.push_back({"again", 1, -1}); }},
      {"named 0 times", [](EngineData&, plan::Program& p) { p.outputs.pop_back(); }},
      {"output that does not exist", [](EngineData&, plan::Program& p) { p.inputs[0].donated_to = 2; }},
      {"which nothing binds", [](EngineData&, plan::Program& p) { p.slots[2].shape[2] = ir::Dim::symbol("depth"); }},
      {"which nothing binds", [](EngineData&, plan::Program& p) { p.slots[0].shape[2] = ir::Dim(2) * ir::Dim::symbol("height"); }},
      {"listed twice", [](EngineData&, plan::Program& p) { p.symbols[1].symbol = "height"; }},
      {"is empty", [](EngineData&, plan::Program& p) { p.symbols[0].min = 65; }},
      {"reads slot 8", [](EngineData&, plan::Program& p) { p.steps[0].inputs[0] = 8; }},
      {"reads slot -2", [](EngineData&, plan::Program& p) { p.steps[0].inputs[0] = -2; }},
      {"writes slot 5, which is constant", [](EngineData&, plan::Program& p) { p.steps[2].outputs[0] = 5; }},
      {"writes slot 0, which is an input", [](EngineData&, plan::Program& p) { p.steps[2].outputs[0] = 0; }},
      {"weight 1, which does not exist", [](EngineData&, plan::Program& p) { p.steps[0].weights = {1}; }},
      {"names no kernel", [](EngineData&, plan::Program& p) { p.steps[0].kernel.clear(); }},
      {"without source or target", [](EngineData&, plan::Program& p) { p.steps[0].inputs.clear(); }},
      {"its kind needs 1", [](EngineData&, plan::Program& p) { p.steps[0].kind = plan::StepKind::kCall; }},
      {"the subprogram 0, which does not exist", [](EngineData&, plan::Program& p) { p.steps[0].kind = plan::StepKind::kLoop; p.steps[0].regions = {0}; }},
      {"binds no symbol", [](EngineData&, plan::Program& p) { p.steps[0].kind = plan::StepKind::kReadSize; }},
      {"before anything wrote it", [](EngineData&, plan::Program& p) { std::swap(p.steps[0], p.steps[1]); }},
      {"nothing writes the output 'z'", [](EngineData&, plan::Program& p) { p.steps.pop_back(); p.segments = {{0, 3}}; }},
      {"segments do not cover", [](EngineData&, plan::Program& p) { p.segments = {{0, 3}}; }},
      {"segments do not cover", [](EngineData&, plan::Program& p) { p.segments = {{0, 2}, {1, 3}}; }},
      {"which does not come before it", [](EngineData& d, plan::Program&) { d.blobs[0].pack = "p"; d.blobs[0].sources = {0}; }},
      {"sources but no recipe", [](EngineData& d, plan::Program&) { d.blobs[0].sources = {-1}; }},
      {"its shape takes 76", [](EngineData& d, plan::Program&) { d.blobs[0].dims = {19}; }},
      {"other inputs or outputs", [](EngineData& d, plan::Program&) { d.sections.push_back(d.sections[0]); d.sections[1].program.outputs[0].name = "other"; }},
  };
  EXPECT_EQ(find_defect(concat_engine()), "");
  EXPECT_EQ(find_defect(rich_engine()), "");
  for (const Case& c : cases) {
    EngineData data = concat_engine();
    c.damage(data, data.sections[0].program);
    const std::string defect = find_defect(data);
    EXPECT_NE(defect.find(c.words), std::string::npos) << "expected \"" << c.words << "\", got \"" << defect << '"';
  }
}

}  // namespace
}  // namespace lathe::engine
