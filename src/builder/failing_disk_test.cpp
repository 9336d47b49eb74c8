// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// A disk that is full at any moment of writing what a build makes: engines and models are as before or whole, with an error that says so;
// caches are left out without a word in the result.

#include <gtest/gtest.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <filesystem>
#include <set>

#include "base/failing_writes.h"
#include "base/os.h"
#include "builder/builder.h"
#include "builder/test_models.h"
#include "builder/tuning_cache.h"
#include "engine/engine.h"
#include "lathe/log.h"
#include "onnx/reader.h"
#include "onnx/writer.h"

namespace lathe::builder {
namespace {

namespace fs = std::filesystem;

std::shared_ptr<ir::Model> model(unsigned seed) {
  test::ModelMaker m(seed);
  ir::Value* x = m.input("x", {1, 64, 6, 6});
  return m.finish({m.conv(m.silu(m.conv(x, 64, 512, 3)), 512, 8, 1)});
}

class FullDisk : public testing::Test {
 protected:
  void SetUp() override {
    folder_ = os::make_temp_dir();
    if (const char* cache = std::getenv("LATHE_CACHE_DIR")) before_ = cache;
    setenv("LATHE_CACHE_DIR", (folder_ / "cache").c_str(), 1);
    set_log_level(LogLevel::kError);
    options_.budget_seconds = 0.05;
  }
  void TearDown() override {
    set_log_level(LogLevel::kWarning);
    before_.empty() ? unsetenv("LATHE_CACHE_DIR") : setenv("LATHE_CACHE_DIR", before_.c_str(), 1);
    fs::remove_all(folder_);
  }
  /// `write` with call 1, 2, ... failing from there on; `look` after each.
  template <class Write, class Look>
  int walk(Write&& write, Look&& look) {
    for (int nth = 1;; ++nth) {
      std::string error;
      bool failed;
      {
        const lathe::test::FailingWrites failing(nth, ENOSPC, true);
        try {
          write();
        } catch (const Error& e) {
          error = e.what();
          EXPECT_EQ(e.code(), Code::kIo) << error;
        }
        failed = lathe::test::FailingWrites::failed();
      }
      look(nth, failed, error);
      if (!failed || HasFailure()) return nth;
    }
  }
  std::set<std::string> names(const fs::path& folder) const {
    std::set<std::string> found;
    if (fs::exists(folder))
      for (const auto& entry : fs::directory_iterator(folder))
        if (entry.is_regular_file()) found.insert(entry.path().filename());
    return found;
  }
  BuildOptions options_;
  fs::path folder_;
  std::string before_;
};

TEST_F(FullDisk, AnEngineIsAsBeforeOrWhole) {
  options_.use_cache = false;
  const engine::EngineData first = build_engine(model(1), options_).engine, second = build_engine(model(2), options_).engine;
  const std::string old_hash = engine::run_hash(first).hex(), new_hash = engine::run_hash(second).hex();
  ASSERT_NE(old_hash, new_hash);
  const fs::path path = folder_ / "m.engine";
  engine::write_engine(first, path);
  const int calls = walk([&] { engine::write_engine(second, path); },
                         [&](int nth, bool failed, const std::string& error) {
                           EXPECT_EQ(error.empty(), !failed) << nth;
                           if (failed) {
                             EXPECT_NE(error.find("m.engine: "), std::string::npos) << error;
                             EXPECT_NE(error.find("Free some disk space; nothing was changed."), std::string::npos) << error;
                           }
                           const engine::EngineData found = engine::read_engine(path);
                           engine::check_weights(found);
                           EXPECT_EQ(engine::run_hash(found).hex(), failed ? old_hash : new_hash) << nth;
                           EXPECT_EQ(names(folder_), std::set<std::string>{"m.engine"}) << nth;
                         });
  EXPECT_GE(calls, 6);
}

TEST_F(FullDisk, AModelAndItsDataFileBelongTogether) {
  const fs::path path = folder_ / "m.onnx";
  onnx::WriteOptions split;
  split.single_file_limit = 1000;
  onnx::write_model(*model(1), path, split);
  const auto first_weight = [&] {
    const auto read = onnx::read_model(path);
    for (const ir::Value* value : read->graph->values())
      if (value->is_constant() && value->constant.bytes() > 1000) return value->constant.content_hash();
    return std::uint64_t{0};
  };
  const std::uint64_t before = first_weight();
  const int calls = walk([&] { onnx::write_model(*model(2), path, split); },
                         [&](int nth, bool failed, const std::string& error) {
                           EXPECT_EQ(error.empty(), !failed) << nth;
                           EXPECT_EQ(first_weight() == before, failed) << nth;
                           EXPECT_EQ(names(folder_), (std::set<std::string>{"m.onnx", "m.onnx.data"})) << nth;
                         });
  EXPECT_GE(calls, 12);
}

TEST_F(FullDisk, CachesAreLeftOut) {
  const fs::path cache = folder_ / "cache";
  std::set<std::string> kinds;
  const int calls = walk([&] { EXPECT_TRUE(build_engine(model(1), options_).report.verify.passed); },
                         [&](int nth, bool failed, const std::string& error) {
                           EXPECT_EQ(error, "") << nth;
                           // What is there is whole: hidden names would be halves.
                           for (const fs::path& folder : {cache, cache / "verified"})
                             for (const std::string& name : names(folder)) {
                               EXPECT_NE(name.front(), '.') << nth;
                               kinds.insert(fs::path(name).extension());
                             }
                           if (failed) fs::remove_all(cache);
                         });
  EXPECT_GE(calls, 5);
  EXPECT_FALSE(kinds.empty());
}

TEST_F(FullDisk, ATuningCacheKeepsWhatItHad) {
  {
    TuningCache cache(true);
    cache.store("one", 1);
  }
  walk(
      [&] {
        TuningCache cache(true);
        cache.store("two", 2);
      },
      [&](int nth, bool failed, const std::string&) {
        TuningCache again(true);
        EXPECT_TRUE(again.find("one")) << nth;
        EXPECT_EQ(again.find("two").has_value(), !failed) << nth;
        EXPECT_EQ(names(folder_ / "cache"), std::set<std::string>{"tuning-v1.txt"}) << nth;
      });
}

}  // namespace
}  // namespace lathe::builder
