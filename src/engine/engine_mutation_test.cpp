// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Damaged engine files end with an Error or with a sound program, never with a crash: cut at every length, every byte of header,
// metadata and programs changed, with the hashes left alone (damage) and put right (malice).

#include <gtest/gtest.h>

#include <array>
#include <random>

#include "base/swept.h"
#include "engine/engine.h"
#include "engine/file_header.h"
#include "engine/semantic_verifier.h"
#include "engine/test_engines.h"
#include "engine_generated.h"
#include "lathe/status.h"
#include "plan/shape_program.h"

namespace lathe::engine {
namespace {

/// 64-byte aligned storage, exactly as long as the content, so that sanitizers see one byte too far.
class Aligned {
 public:
  explicit Aligned(std::span<const std::byte> from)
      : bytes_(static_cast<std::byte*>(std::aligned_alloc(64, (from.size() + 63) / 64 * 64 + 64))), size_(from.size()) {
    std::copy(from.begin(), from.end(), bytes_);
  }
  ~Aligned() { std::free(bytes_); }
  Aligned(const Aligned&) = delete;
  Aligned& operator=(const Aligned&) = delete;
  std::span<std::byte> span() { return {bytes_, size_}; }

 private:
  std::byte* bytes_;
  std::size_t size_;
};

enum class Outcome { kRefused, kSound };

/// Reads; what is accepted is used as the runtime would use it up to the kernels.
Outcome read(std::span<const std::byte> bytes) {
  try {
    const EngineData data = read_engine(bytes, nullptr);
    EXPECT_EQ(find_defect(data), "");
    for (const DeviceSection& section : data.sections)
      for (const Dims& dims : {Dims{1, 3, 4, 5}, Dims{1, 3, 64, 1}}) {
        ir::Bindings bindings;
        std::vector<Dims> inputs(section.program.inputs.size(), dims);
        if (!plan::bind_symbols(section.program, inputs, bindings)) continue;
        try {
          plan::resolve_slots(section.program, bindings);
        } catch (const Error&) {
        }
      }
    for (const DeviceSection& section : data.sections) {
      trust::KeyRing keys;
      keys.own = test::test_key().public_key();
      const NativeJudgement judgement = judge_native(section.native, keys);
      EXPECT_TRUE(judgement.trust == NativeTrust::kTrusted || judgement.trust == NativeTrust::kNone || !judgement.why.empty());
    }
    for (const auto& blob : data.blob_bytes)
      if (!blob.empty()) {
        EXPECT_GE(blob.data(), bytes.data());
        EXPECT_LE(blob.data() + blob.size(), bytes.data() + bytes.size());
      }
    return Outcome::kSound;
  } catch (const Error& error) {
    EXPECT_FALSE(error.remedy().empty());
    EXPECT_FALSE(error.source().empty());
    return Outcome::kRefused;
  }
}

/// Puts every hash right again after a change, as someone who means harm would.
void rehash(std::span<std::byte> file) {
  FileHeader header;
  try {
    header = FileHeader::decode(file);
  } catch (const Error&) {
    return;
  }
  const auto metadata = file.subspan(kHeaderBytes, header.metadata_bytes);
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(metadata.data()), metadata.size());
  if (verifier.VerifyBuffer<fb::Engine>(fb::EngineIdentifier())) {
    auto* root = flatbuffers::GetMutableRoot<fb::Engine>(metadata.data());
    if (root->sections())
      for (const fb::Section* section : *root->sections()) {
        const std::uint64_t at = header.base() + section->offset();
        if (!section->hash() || at > file.size() || section->bytes() > file.size() - at) continue;
        const Hash128 hash = hash128(file.data() + at, section->bytes());
        *const_cast<fb::Hash*>(section->hash()) = fb::Hash(hash.low, hash.high);
      }
  }
  header.metadata_hash = hash128(metadata.data(), metadata.size());
  const auto encoded = header.encode();
  std::copy(encoded.begin(), encoded.end(), file.begin());
}

std::size_t weights_start(std::span<const std::byte> file) {
  const FileHeader header = FileHeader::decode(file);
  const auto* root = flatbuffers::GetRoot<fb::Engine>(file.data() + kHeaderBytes);
  for (const fb::Section* section : *root->sections())
    if (section->kind() == static_cast<std::uint8_t>(SectionKind::kWeights)) return header.base() + section->offset();
  return file.size();
}

TEST(EngineMutation, RefusesEveryTruncation) {
  const std::vector<std::byte> good = write_engine(test::rich_engine());
  for (std::size_t length = 0; length < good.size(); length += length < 5000 ? 1 : 37) {
    Aligned cut(std::span<const std::byte>(good).first(length));
    ASSERT_EQ(read(cut.span()), Outcome::kRefused) << length;
  }
}

TEST(EngineMutation, FindsEveryDamagedByte) {
  const std::vector<std::byte> good = write_engine(test::rich_engine());
  Aligned file(good);
  const FileHeader header = FileHeader::decode(good);
  ASSERT_EQ(read(file.span()), Outcome::kSound);
  for (std::size_t at = 0; at < kHeaderBytes + header.metadata_bytes; ++at) {
    if (!lathe::test::swept(at)) continue;
    file.span()[at] ^= std::byte{0x10};
    ASSERT_EQ(read(file.span()), Outcome::kRefused) << "byte " << at;
    file.span()[at] = good[at];
  }
  // Programs, graph and report: each section has its hash; the zeros between them mean nothing. Native code is held against its signature
  // (native_code_test.cpp) and is never a reason to refuse the rest.
  const auto* root = flatbuffers::GetRoot<fb::Engine>(good.data() + kHeaderBytes);
  for (const fb::Section* section : *root->sections()) {
    if (section->kind() == static_cast<std::uint8_t>(SectionKind::kWeights)) continue;
    const bool native = section->kind() == static_cast<std::uint8_t>(SectionKind::kNativeCode);
    for (std::uint64_t i = 0; i < section->bytes(); ++i) {
      const std::size_t at = header.base() + section->offset() + i;
      if (!lathe::test::swept(at)) continue;
      file.span()[at] ^= std::byte{0x01};
      ASSERT_EQ(read(file.span()), native ? Outcome::kSound : Outcome::kRefused) << "byte " << at;
      file.span()[at] = good[at];
    }
  }
}

TEST(EngineMutation, StaysSoundWhenTheHashesAreForged) {
  constexpr std::array<unsigned, 6> kValues{0x00U, 0x01U, 0x7FU, 0x80U, 0xFFU, 0x100U};  // of the rich engine's bytes, which are many, each meets one
  for (const bool rich : {false, true}) {
    const std::vector<std::byte> good = write_engine(rich ? test::rich_engine() : test::concat_engine());
    const std::size_t end = weights_start(good);
    Aligned file(good);
    std::size_t refused = 0, sound = 0;
    for (std::size_t at = kHeaderBytes; at < end; ++at) {
      if (!lathe::test::swept(at)) continue;
      for (std::size_t v = rich ? at % kValues.size() : 0; v < (rich ? at % kValues.size() + 1 : kValues.size()); ++v) {
        const unsigned value = kValues[v];
        // 0x100: one more than it was.
        const std::byte changed = value == 0x100U ? static_cast<std::byte>(static_cast<unsigned>(good[at]) + 1) : static_cast<std::byte>(value);
        if (changed == good[at]) continue;
        file.span()[at] = changed;
        rehash(file.span());
        (read(file.span()) == Outcome::kSound ? sound : refused) += 1;
        if (::testing::Test::HasFailure()) FAIL() << "byte " << at << " set to " << static_cast<int>(changed);
        std::copy(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(end), file.span().begin());
      }
    }
    // Most of a file's bytes mean something, and text may be changed at will: both outcomes must occur.
    EXPECT_GT(refused, sound / 20);
    EXPECT_GT(sound, 0U);
  }
}

TEST(EngineMutation, StaysSoundUnderManyChangesAtOnce) {
  const std::vector<std::byte> good = write_engine(test::rich_engine());
  const std::size_t end = weights_start(good);
  std::mt19937 random(7);
  Aligned file(good);
  std::size_t refused = 0;
  for (int round = 0; round < 3000; ++round) {
    const int changes = 2 + static_cast<int>(random() % 12);
    for (int i = 0; i < changes; ++i) file.span()[kHeaderBytes + random() % (end - kHeaderBytes)] = static_cast<std::byte>(random());
    rehash(file.span());
    refused += read(file.span()) == Outcome::kRefused ? 1 : 0;
    std::copy(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(end), file.span().begin());
  }
  EXPECT_GT(refused, 100U);
}

TEST(EngineMutation, RefusesSizesThatWouldOverflow) {
  EngineData data = test::concat_engine();
  const ir::Dim height = ir::Dim::symbol("height");
  data.sections[0].program.slots.push_back(
      test::slot("huge", {height * height * height * height * height, height * height * height * height * height}, plan::Storage::kArena));
  const std::vector<std::byte> bytes = write_engine(data);  // not copied
  const EngineData back = read_engine(bytes, nullptr);
  ir::Bindings bindings;
  const std::vector<Dims> dims{{1, 3, 60, 5}};
  ASSERT_TRUE(plan::bind_symbols(back.sections[0].program, dims, bindings));
  EXPECT_THROW(plan::resolve_slots(back.sections[0].program, bindings), Error);
}

}  // namespace
}  // namespace lathe::engine
