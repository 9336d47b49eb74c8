// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See native_code.h.

#include "engine/native_code.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/log.h"
#include "base/tensor.h"
#include "engine/engine.h"
#include "engine_generated.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

constexpr std::string_view kDomain = "lathe engine native code";

[[noreturn]] void corrupt(std::string what) { throw Error(Code::kCorruptFile, std::move(what)); }

template <class T>
void append(std::vector<std::byte>& out, T value) {
  for (std::size_t i = 0; i < sizeof value; ++i) out.push_back(static_cast<std::byte>(static_cast<std::uint64_t>(value) >> (8 * i)));
}

/// Numbers of an ELF file, read where they are; false beyond its end.
class Elf {
 public:
  explicit Elf(std::span<const std::byte> bytes) : bytes_(bytes) {}
  bool inside(std::uint64_t at, std::uint64_t size) const noexcept { return at <= bytes_.size() && size <= bytes_.size() - at; }
  template <class T>
  T number(std::uint64_t at) const noexcept {
    T value = 0;
    if (inside(at, sizeof value)) std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  }
  bool is_text_at(std::uint64_t begin, std::uint64_t size, std::uint64_t at) const noexcept {
    return at < size && std::memchr(bytes_.data() + begin + at, 0, size - at) != nullptr;
  }

 private:
  std::span<const std::byte> bytes_;
};

}  // namespace

bool is_sound_cubin(std::span<const std::byte> code) noexcept {
  // Places of the fields of ELF64, little-endian.
  constexpr std::uint64_t kHeader = 64, kSection = 64, kSegment = 56;
  constexpr std::uint32_t kNothingInFile = 8;  // SHT_NOBITS
  constexpr std::uint16_t kCuda = 190;
  const Elf elf(code);
  if (!elf.inside(0, kHeader) ||
      std::memcmp(code.data(),
                  "\x7f"
                  "ELF\x02\x01",
                  6) != 0 ||
      elf.number<std::uint16_t>(18) != kCuda)
    return false;
  const auto segments_at = elf.number<std::uint64_t>(32), sections_at = elf.number<std::uint64_t>(40);
  const auto segments = elf.number<std::uint16_t>(56), sections = elf.number<std::uint16_t>(60), names = elf.number<std::uint16_t>(62);
  if (sections == 0 || names >= sections || elf.number<std::uint16_t>(58) != kSection || !elf.inside(sections_at, sections * kSection)) return false;
  if (segments > 0 && (elf.number<std::uint16_t>(54) != kSegment || !elf.inside(segments_at, segments * kSegment))) return false;
  for (std::uint64_t i = 0; i < segments; ++i) {
    const std::uint64_t at = segments_at + i * kSegment;
    if (!elf.inside(elf.number<std::uint64_t>(at + 8), elf.number<std::uint64_t>(at + 32))) return false;
  }
  const std::uint64_t names_at = elf.number<std::uint64_t>(sections_at + names * kSection + 24),
                      names_size = elf.number<std::uint64_t>(sections_at + names * kSection + 32);
  if (!elf.inside(names_at, names_size)) return false;
  for (std::uint64_t i = 0; i < sections; ++i) {
    const std::uint64_t at = sections_at + i * kSection;
    if (!elf.is_text_at(names_at, names_size, elf.number<std::uint32_t>(at))) return false;
    if (elf.number<std::uint32_t>(at + 4) != kNothingInFile && !elf.inside(elf.number<std::uint64_t>(at + 24), elf.number<std::uint64_t>(at + 32)))
      return false;
  }
  return true;
}

std::vector<std::byte> pack_native(std::vector<NativeImage> images) {
  std::sort(images.begin(), images.end(), [](const NativeImage& a, const NativeImage& b) { return a.key < b.key; });
  fb::NativeT native;
  native.version = kNativeVersion;
  const auto bytes = [](std::span<const std::byte> from) {
    const auto* first = reinterpret_cast<const std::uint8_t*>(from.data());
    return std::vector<std::uint8_t>(first, first + from.size());
  };
  for (const NativeImage& image : images) {
    auto item = std::make_unique<fb::ImageT>();
    item->key = bytes(image.key);
    item->arch = image.arch;
    item->code = bytes(image.code);
    native.images.push_back(std::move(item));
  }
  flatbuffers::FlatBufferBuilder builder;
  builder.Finish(fb::Native::Pack(builder, &native));
  const auto* first = reinterpret_cast<const std::byte*>(builder.GetBufferPointer());
  return {first, first + builder.GetSize()};
}

std::vector<NativeImage> unpack_native(std::span<const std::byte> bytes) {
  flatbuffers::Verifier verifier(reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), 8,
                                 static_cast<flatbuffers::uoffset_t>(std::min<std::size_t>(bytes.size() / 4 + 1, 1u << 30)));
  if (bytes.size() < 8 || !verifier.VerifyBuffer<fb::Native>(nullptr)) corrupt("it is malformed");
  const fb::Native& native = *flatbuffers::GetRoot<fb::Native>(bytes.data());
  if (native.version() != kNativeVersion) corrupt(fmt::format("it has version {}, this library reads {}", native.version(), kNativeVersion));
  std::vector<NativeImage> images;
  if (!native.images()) return images;
  if (native.images()->size() > kMaxImages) corrupt("it holds more images than the format allows");
  for (const fb::Image* item : *native.images()) {
    NativeImage image;
    if (item->key()->size() != image.key.size()) corrupt("an image's key has another size");
    std::memcpy(image.key.data(), item->key()->data(), image.key.size());
    image.arch = item->arch()->str();
    image.code = std::as_bytes(std::span(item->code()->data(), item->code()->size()));
    if (!is_sound_cubin(image.code)) corrupt(fmt::format("image {} is no whole cubin", images.size()));
    images.push_back(std::move(image));
  }
  return images;
}

std::vector<std::byte> signed_message(std::span<const std::byte> bytes) {
  std::vector<std::byte> message;
  for (const char c : kDomain) message.push_back(static_cast<std::byte>(c));
  message.push_back(std::byte{0});
  append(message, kFormatMajor);
  append(message, kNativeVersion);
  append(message, static_cast<std::uint64_t>(bytes.size()));
  const trust::LongDigest digest = trust::long_digest(bytes);
  message.insert(message.end(), digest.begin(), digest.end());
  return message;
}

void sign_native(NativeCode& native, const trust::PrivateKey& key) {
  const trust::Signature made = trust::sign(key, signed_message(native.bytes));
  std::erase_if(native.signatures, [&](const trust::Signature& each) { return each.key == made.key; });
  if (native.signatures.size() >= kMaxSignatures)
    throw Error(Code::kInvalidArgument, fmt::format("the native code has {} signatures, more are not allowed", kMaxSignatures));
  native.signatures.push_back(made);
}

NativeJudgement judge_native(const NativeCode& native, const trust::KeyRing& keys) {
  if (native.bytes.empty()) return {};
  if (native.signatures.empty()) return {NativeTrust::kUnsigned, "", "it is not signed; whoever built the engine can: lathe engine sign"};
  const std::vector<std::byte> message = signed_message(native.bytes);
  std::string broken;
  for (const trust::Signature& signature : native.signatures) {
    const std::string who = keys.who(signature.key);
    if (who.empty()) continue;
    if (signature.fits(message)) return {NativeTrust::kTrusted, who, ""};
    broken = who;
  }
  if (!broken.empty()) return {NativeTrust::kBroken, "", fmt::format("the signature by {} does not fit: the code was changed after it was signed", broken)};
  std::string why =
      fmt::format("signed by the unknown key {}{}; where you know whose it is, trust it with lathe engine trust KEY.pub", native.signatures.front().key.id(),
                  native.signatures.size() > 1 ? fmt::format(" and {} more", native.signatures.size() - 1) : "");
  // The key may be there, but in a file that others can write.
  if (!keys.unusable.empty()) why += " (" + keys.unusable.front() + ")";
  return {NativeTrust::kUnknown, "", std::move(why)};
}

OpenedNative open_native(const NativeCode& native) {
  OpenedNative opened;
  if (native.bytes.empty()) return opened;
  try {
    // The file may be changed while it is mapped: what is judged must be what is used.
    auto copy = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(native.bytes.size())});
    std::memcpy(copy->mutable_raw(), native.bytes.data(), native.bytes.size());
    NativeCode own = native;
    own.bytes = {copy->raw(), copy->bytes()};
    const NativeJudgement judgement = judge_native(own, trust::read_keys());
    if (judgement.trust != NativeTrust::kTrusted) {
      opened.ignored = true;
      opened.note = "native code ignored: " + judgement.why;
      return opened;
    }
    opened.images = unpack_native(own.bytes);
    opened.owner = std::move(copy);
    opened.note = fmt::format("native code of {} region{}, signed by {}", opened.images.size(), opened.images.size() == 1 ? "" : "s", judgement.by);
  } catch (const std::exception& error) {
    opened.images.clear();
    opened.ignored = true;
    opened.note = fmt::format("native code ignored: {}", error.what());
  }
  return opened;
}

}  // namespace lathe::engine
