// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Native code of engines: used without a compilation where it is trusted and of the very source, compiled otherwise. The cache folder, which is
// this test's own, counts what was compiled.

#include <algorithm>
#include <filesystem>

#include "base/os.h"
#include "engine/engine.h"
#include "engine/native_code.h"
#include "engine_fixture.h"
#include "trust/key_store.h"

namespace lathe {
namespace {

namespace fs = std::filesystem;

class NativeCode : public FakeEngine {
 protected:
  void SetUp() override {
    FakeEngine::SetUp();
    if (const char* set = std::getenv("LATHE_CACHE_DIR")) before_ = set;
    folder_ = os::make_temp_dir();
    setenv("LATHE_CACHE_DIR", folder_.c_str(), 1);
  }
  void TearDown() override {
    FakeEngine::TearDown();
    if (before_.empty()) unsetenv("LATHE_CACHE_DIR");
    else setenv("LATHE_CACHE_DIR", before_.c_str(), 1);
    fs::remove_all(folder_);
  }
  std::ptrdiff_t compiled() const {
    std::error_code none;
    return std::distance(fs::directory_iterator(folder_ / "cuda", none), fs::directory_iterator());
  }
  void forget_compiled() const { fs::remove_all(folder_ / "cuda"); }
  /// Loads and runs at the batch that it was built for; returns how many sources were compiled for it.
  std::ptrdiff_t compiled_for(const engine::EngineData& data, std::string* note = nullptr) {
    forget_compiled();
    const auto engine = runtime::Engine::create(data);
    if (note) *note = engine->native_note();
    runtime::Context context(engine);
    const Status status = run(context, 1);
    EXPECT_TRUE(status) << status.message();
    return compiled();
  }
  /// The same engine with other images, signed by the own key.
  static engine::EngineData with_images(engine::EngineData data, std::vector<engine::NativeImage> images) {
    auto bytes = std::make_shared<const std::vector<std::byte>>(engine::pack_native(std::move(images)));
    engine::NativeCode& native = data.sections[0].native;
    native = {};
    native.bytes = *bytes;
    data.owners.push_back(std::move(bytes));
    engine::sign_native(native, trust::own_key());
    return data;
  }
  fs::path folder_;
  std::string before_;
};

TEST_F(NativeCode, IsUsedWithoutACompilationWhereItIsTrusted) {
  const engine::EngineData data = builder::build_engine(small_model(), options()).engine;
  ASSERT_GT(compiled(), 1) << "for the hint and for another batch";
  ASSERT_FALSE(data.sections[0].native.bytes.empty());
  std::string note;
  EXPECT_EQ(compiled_for(data, &note), 0);
  EXPECT_NE(note.find("signed by this user's own key"), std::string::npos) << note;
  // From the file as well.
  const std::vector<std::byte> file = engine::write_engine(data);
  EXPECT_EQ(compiled_for(engine::read_engine(file, nullptr)), 0);
  engine::EngineData without = data;
  without.sections[0].native = {};
  const std::ptrdiff_t needed = compiled_for(without, &note);
  EXPECT_GT(needed, 0);
  EXPECT_EQ(note, "");
  builder::BuildOptions o = options();
  o.native = false;
  EXPECT_TRUE(builder::build_engine(small_model(), o).engine.sections[0].native.bytes.empty());

  // The own key goes: the same file is a stranger's.
  fs::remove_all(folder_ / "keys");
  EXPECT_EQ(compiled_for(data, &note), needed);
  EXPECT_NE(note.find("ignored: signed by the unknown key"), std::string::npos) << note;
}

TEST_F(NativeCode, OfTheLimitsOfTheShapesIsThereToo) {
  builder::BuildOptions o = options();
  o.shapes["x"] = {{1, 16, 8, 8}, {2, 16, 8, 8}, {64, 16, 8, 8}};
  const engine::EngineData data = builder::build_engine(small_model(), o).engine;
  forget_compiled();
  runtime::Context context(runtime::Engine::create(data));
  for (const std::int64_t batch : {1, 2, 64}) ASSERT_TRUE(run(context, batch));
  EXPECT_EQ(compiled(), 0);
}

TEST_F(NativeCode, OfAnotherSourceOrArchitectureIsNotRun) {
  const engine::EngineData data = builder::build_engine(small_model(), options()).engine;
  std::vector<engine::NativeImage> images = engine::unpack_native(data.sections[0].native.bytes);
  ASSERT_EQ(static_cast<std::ptrdiff_t>(images.size()), compiled());
  const std::ptrdiff_t needed = compiled_for(with_images(data, {}));
  ASSERT_GT(needed, 0);
  EXPECT_EQ(compiled_for(with_images(data, images)), 0);
  std::vector<engine::NativeImage> changed = images;
  for (engine::NativeImage& image : changed) image.key[31] ^= std::byte{1};  // as if an emitter of today wrote other text
  EXPECT_EQ(compiled_for(with_images(data, changed)), needed);
  changed = images;
  for (engine::NativeImage& image : changed) image.arch = "sm_80";
  EXPECT_EQ(compiled_for(with_images(data, changed)), needed);
}

TEST_F(NativeCode, ThatTheDriverRefusesIsCompiled) {
  const engine::EngineData data = builder::build_engine(small_model(), options()).engine;
  forget_compiled();
  const auto engine = runtime::Engine::create(data);
  runtime::Context context(engine);
  fake_cuda_fail("cuModuleLoadData", 1, 200);
  const Status status = run(context, 1);
  EXPECT_TRUE(status) << status.message();
  EXPECT_EQ(compiled(), 1);
}

}  // namespace
}  // namespace lathe
