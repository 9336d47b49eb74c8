// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The native section: machine code of a program's fused regions, so that a machine without their compiler runs an engine at once. It is
// looked into only when this user's own key or one that the user trusts signed it; everything else about it is in docs/engine_format.md.

#include <cstddef>
#include <span>
#include <string>
#include <vector>

#include "engine/engine_data.h"
#include "trust/digest.h"
#include "trust/key_store.h"

namespace lathe::engine {

inline constexpr std::uint16_t kNativeVersion = 1;
inline constexpr std::size_t kMaxImages = 1 << 16, kMaxSignatures = 64;

/// Machine code of one source. `key` is what the source's own key must equal for the code to be its.
struct NativeImage {
  trust::Digest key;
  std::string arch;                 ///< "sm_90a"
  std::span<const std::byte> code;  ///< a cubin
};

/// The section of these images; the same images give the same bytes.
std::vector<std::byte> pack_native(std::vector<NativeImage> images);
/// Views of images inside `bytes` (aligned to 16), which must outlive them. Throws Error(kCorruptFile). For bytes that may be trusted alone: see open_native().
std::vector<NativeImage> unpack_native(std::span<const std::byte> bytes);
/// Is this an ELF file for CUDA all of whose tables, sections and segments lie inside it? The driver, which loads it, is told no size.
bool is_sound_cubin(std::span<const std::byte> code) noexcept;

/// What a signature of native code signs: domain, versions, size and digest.
std::vector<std::byte> signed_message(std::span<const std::byte> bytes);
/// Adds a signature, or replaces the one by the same key.
void sign_native(NativeCode& native, const trust::PrivateKey& key);

enum class NativeTrust : std::uint8_t {
  kNone,      ///< there is no native code
  kTrusted,   ///< by a key of the ring; only then it may be looked into
  kUnsigned,  ///< nobody signed it
  kUnknown,   ///< signed, but by nobody that the ring names
  kBroken,    ///< a key of the ring signed something else: the code or the signature is changed
};

struct NativeJudgement {
  NativeTrust trust = NativeTrust::kNone;
  std::string by;   ///< kTrusted: whose key
  std::string why;  ///< one sentence for the others, with what to do
};

/// Looks at signatures and digest alone.
NativeJudgement judge_native(const NativeCode& native, const trust::KeyRing& keys);

/// Native code that may run: the images, in memory that nobody else can change, and one line about them.
struct OpenedNative {
  std::vector<NativeImage> images;
  std::shared_ptr<const void> owner;
  bool ignored = false;
  std::string note;  ///< "native code of 3 regions, signed by ..." or "native code ignored: ..."; "" when the section has none
};
/// Copies, judges the copy, and looks into it when it may. Never throws for what it finds in the file or among the keys.
OpenedNative open_native(const NativeCode& native);

}  // namespace lathe::engine
