// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Native code: whose signature counts, what is never looked into, and bytes that are damaged although somebody signed them.

#include "engine/native_code.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <random>

#include "base/os.h"
#include "engine/engine.h"
#include "engine/test_engines.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

trust::KeyRing ring_of(char digit) {
  trust::KeyRing ring;
  ring.own = test::test_key(digit).public_key();
  return ring;
}

EngineData with_native() {
  EngineData data = test::concat_engine();
  test::add_native(data, 0);
  return data;
}

TEST(NativeCode, ImagesComeBackFromTheFile) {
  const EngineData data = with_native();
  const std::vector<std::byte> file = write_engine(data);
  const EngineData back = read_engine(file, nullptr);
  const NativeCode& native = back.sections[0].native;
  EXPECT_EQ(native.signatures, data.sections[0].native.signatures);
  ASSERT_EQ(native.bytes.size(), data.sections[0].native.bytes.size());
  const auto images = unpack_native(native.bytes);
  ASSERT_EQ(images.size(), 2U);
  for (const NativeImage& image : images) {
    EXPECT_EQ(image.arch, "sm_90a");
    EXPECT_EQ(image.key, trust::digest(image.code));
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(image.code.data()) % 16, reinterpret_cast<std::uintptr_t>(native.bytes.data()) % 16);
  }
  EXPECT_NO_THROW(check_weights(back));
  EXPECT_EQ(write_engine(back), file);
}

TEST(NativeCode, OnlyTheSignatureOfAKeyOfTheRingCounts) {
  const EngineData data = with_native();
  NativeCode native = data.sections[0].native;
  EXPECT_EQ(judge_native({}, {}).trust, NativeTrust::kNone);
  NativeJudgement judgement = judge_native(native, ring_of('1'));
  EXPECT_EQ(judgement.trust, NativeTrust::kTrusted);
  EXPECT_EQ(judgement.by, "this user's own key");
  judgement = judge_native(native, ring_of('2'));
  EXPECT_EQ(judgement.trust, NativeTrust::kUnknown);
  EXPECT_NE(judgement.why.find(test::test_key().public_key().id()), std::string::npos) << judgement.why;
  EXPECT_NE(judgement.why.find("lathe engine trust"), std::string::npos) << judgement.why;
  trust::KeyRing friends;
  friends.trusted = {{"alice", test::test_key('3').public_key()}, {"bob", test::test_key('1').public_key()}};
  judgement = judge_native(native, friends);
  EXPECT_EQ(judgement.trust, NativeTrust::kTrusted);
  EXPECT_EQ(judgement.by, "'bob'");
  sign_native(native, test::test_key('3'));
  sign_native(native, test::test_key('3'));
  EXPECT_EQ(native.signatures.size(), 2U) << "one a key";
  EXPECT_EQ(judge_native(native, ring_of('3')).trust, NativeTrust::kTrusted);
  native.signatures.clear();
  EXPECT_EQ(judge_native(native, ring_of('1')).trust, NativeTrust::kUnsigned);
}

TEST(NativeCode, AnyChangeOfCodeOrSignatureBreaksIt) {
  const EngineData data = with_native();
  std::vector<std::byte> bytes(data.sections[0].native.bytes.begin(), data.sections[0].native.bytes.end());
  NativeCode native = data.sections[0].native;
  native.bytes = bytes;
  const trust::KeyRing ring = ring_of('1');
  for (std::byte& byte : bytes)
    for (const std::byte flip : {std::byte{1}, std::byte{0x80}}) {
      byte ^= flip;
      ASSERT_EQ(judge_native(native, ring).trust, NativeTrust::kBroken);
      byte ^= flip;
    }
  for (std::byte& byte : native.signatures[0].bytes) {
    byte ^= std::byte{4};
    ASSERT_EQ(judge_native(native, ring).trust, NativeTrust::kBroken);
    byte ^= std::byte{4};
  }
  native.bytes = native.bytes.first(bytes.size() - 1);
  EXPECT_EQ(judge_native(native, ring).trust, NativeTrust::kBroken);
  native.bytes = bytes;
  EXPECT_EQ(judge_native(native, ring).trust, NativeTrust::kTrusted);
  // What signs other things signs no code: the domain is part of the message.
  native.signatures = {trust::sign(test::test_key(), bytes)};
  EXPECT_EQ(judge_native(native, ring).trust, NativeTrust::kBroken);
  const trust::LongDigest digest = trust::long_digest(bytes);
  native.signatures = {trust::sign(test::test_key(), digest)};
  EXPECT_EQ(judge_native(native, ring).trust, NativeTrust::kBroken);
}

/// Exactly as long as the content, so that sanitizers see one byte too far.
void unpack_exact(std::span<const std::byte> content, int& sound, int& refused) {
  const std::unique_ptr<std::byte, decltype(&std::free)> memory(static_cast<std::byte*>(std::malloc(std::max<std::size_t>(content.size(), 1))), &std::free);
  std::copy(content.begin(), content.end(), memory.get());
  const std::span<const std::byte> bytes(memory.get(), content.size());
  try {
    for (const NativeImage& image : unpack_native(bytes)) {
      ASSERT_GE(image.code.data(), bytes.data());
      ASSERT_LE(image.code.data() + image.code.size(), bytes.data() + bytes.size());
      ASSERT_TRUE(is_sound_cubin(image.code));
    }
    ++sound;
  } catch (const Error& error) {
    ASSERT_EQ(error.code(), Code::kCorruptFile) << error.what();
    ++refused;
  }
}

TEST(NativeCode, DamagedSectionsAreRefusedOrWholeWhoeverSignedThem) {
  const EngineData data = with_native();
  const std::vector<std::byte> good(data.sections[0].native.bytes.begin(), data.sections[0].native.bytes.end());
  int sound = 0, refused = 0;
  for (std::size_t length = 0; length < good.size(); ++length) unpack_exact(std::span(good).first(length), sound, refused);
  EXPECT_EQ(sound, 0);
  std::vector<std::byte> changed = good;
  for (std::size_t at = 0; at < good.size(); ++at)
    for (const unsigned value : {0U, 1U, 0x7FU, 0x80U, 0xFFU}) {
      changed[at] = static_cast<std::byte>(value);
      unpack_exact(changed, sound, refused);
      changed[at] = good[at];
    }
  std::mt19937 random(3);
  for (int round = 0; round < 3000; ++round) {
    for (int i = 0; i < 6; ++i) changed[random() % good.size()] = static_cast<std::byte>(random());
    unpack_exact(changed, sound, refused);
    changed = good;
  }
  EXPECT_GT(refused, 1000);
  EXPECT_GT(sound, 100) << "names and code may be any bytes";
}

TEST(NativeCode, ACubinWhoseTablesLeaveItIsNone) {
  const std::vector<std::byte> good = test::tiny_cubin();
  ASSERT_TRUE(is_sound_cubin(good));
  for (std::size_t length = 0; length < good.size(); ++length) EXPECT_FALSE(is_sound_cubin(std::span(good).first(length))) << length;
  const auto with = [&](std::size_t at, std::uint64_t value, std::size_t bytes) {
    std::vector<std::byte> changed = good;
    for (std::size_t i = 0; i < bytes; ++i) changed[at + i] = static_cast<std::byte>(value >> (8 * i));
    return is_sound_cubin(changed);
  };
  EXPECT_FALSE(with(18, 62, 2)) << "another machine";
  for (const std::uint64_t far : {std::uint64_t{144}, std::uint64_t{1} << 32, ~std::uint64_t{0}, ~std::uint64_t{0} - 63}) {
    EXPECT_FALSE(with(40, far, 8)) << "sections at " << far;
    EXPECT_FALSE(with(64 + 24, far, 8)) << "a section at " << far;
    EXPECT_FALSE(with(64 + 32, far, 8)) << "a section of " << far;
  }
  EXPECT_FALSE(with(60, 2, 2)) << "more sections than there are";
  EXPECT_FALSE(with(62, 1, 2)) << "names in a section that does not exist";
  EXPECT_FALSE(with(56, 1, 2)) << "segments of no size";
  EXPECT_FALSE(with(64, 16, 4)) << "a name outside of the names";
}

TEST(NativeCode, NothingThatIsNotTrustedIsLookedInto) {
  const std::filesystem::path folder = os::make_temp_dir();
  setenv("LATHE_CACHE_DIR", folder.c_str(), 1);
  EngineData data = with_native();
  NativeCode& native = data.sections[0].native;
  EXPECT_TRUE(open_native({}).note.empty());
  OpenedNative opened = open_native(native);
  EXPECT_TRUE(opened.ignored && opened.images.empty());
  EXPECT_NE(opened.note.find("native code ignored: signed by the unknown key"), std::string::npos) << opened.note;
  EXPECT_FALSE(std::filesystem::exists(folder / "keys")) << "looking makes no keys";
  trust::trust_key(test::test_key().public_key(), "tester");
  opened = open_native(native);
  EXPECT_EQ(opened.images.size(), 2U);
  EXPECT_EQ(opened.note, "native code of 2 regions, signed by 'tester'");
  // What is used is a copy: nobody changes it in the file any more.
  for (const NativeImage& image : opened.images)
    EXPECT_TRUE(image.code.data() + image.code.size() <= native.bytes.data() || image.code.data() >= native.bytes.data() + native.bytes.size());
  // Garbage that is trusted is refused, garbage that is not is not even read as what it is not.
  static const std::vector<std::byte> kGarbage(100, std::byte{0x41});
  native.bytes = kGarbage;
  native.signatures.clear();
  EXPECT_NE(open_native(native).note.find("not signed"), std::string::npos);
  sign_native(native, test::test_key());
  opened = open_native(native);
  EXPECT_TRUE(opened.ignored && opened.images.empty());
  EXPECT_NE(opened.note.find("malformed"), std::string::npos) << opened.note;
  EXPECT_EQ(trust::distrust_key("tester"), "tester");
  EXPECT_NE(open_native(native).note.find("unknown key"), std::string::npos);
  unsetenv("LATHE_CACHE_DIR");
  std::filesystem::remove_all(folder);
}

TEST(NativeCode, VerificationFindsDamageOfTheSection) {
  const std::filesystem::path folder = os::make_temp_dir(), path = folder / "m.engine";
  write_engine(with_native(), path);
  const FileInfo info = describe_engine(path);
  EXPECT_EQ(info.minor, kFormatMinor);
  const auto section = std::find_if(info.sections.begin(), info.sections.end(), [](const SectionInfo& each) { return each.kind == "native code"; });
  ASSERT_TRUE(section != info.sections.end());
  EXPECT_EQ(section->device, "cpu-generic");
  std::string bytes = os::read_text(path);
  bytes[section->at + section->bytes / 2] = static_cast<char>(bytes[section->at + section->bytes / 2] ^ 1);
  const EngineData back = read_engine(std::as_bytes(std::span(bytes)), nullptr);  // the rest is good
  EXPECT_THROW(check_weights(back), Error);
  std::filesystem::remove_all(folder);
}

}  // namespace
}  // namespace lathe::engine
