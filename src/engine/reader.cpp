// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// File -> EngineData, in the order of checks that docs/engine_format.md gives. What is small is copied out; weights stay mapped.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/os.h"
#include "base/tensor.h"
#include "engine/attributes.h"
#include "engine/engine.h"
#include "engine/file_header.h"
#include "engine/native_code.h"
#include "engine/program_codec.h"
#include "engine/semantic_verifier.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

constexpr const char* kBuildAgain = "Build the engine again from its model with `lathe build`.";

[[noreturn]] void corrupt(std::string what) { throw Error(Code::kCorruptFile, std::move(what)); }

/// Every table takes some bytes, so a file that needs more tables than this is not honest about its size.
flatbuffers::Verifier verifier_for(std::span<const std::byte> bytes) {
  const auto most_tables = static_cast<flatbuffers::uoffset_t>(std::min<std::size_t>(bytes.size() / 4 + 1, 1u << 30));
  return {reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(), 64, most_tables};
}

struct StoredSection {
  SectionKind kind;
  std::span<const std::byte> bytes;
  Hash128 hash;
  const flatbuffers::Vector<flatbuffers::Offset<fb::Signature>>* signatures;
};

std::vector<StoredSection> read_sections(const fb::Engine& metadata, std::span<const std::byte> area) {
  std::vector<StoredSection> sections;
  if (!metadata.sections()) corrupt("the engine has no sections");
  std::vector<std::pair<std::uint64_t, std::uint64_t>> ranges;
  for (const fb::Section* item : *metadata.sections()) {
    const std::uint64_t offset = item->offset(), bytes = item->bytes();
    if (offset % kPage != 0 || offset > area.size() || bytes > area.size() - offset)
      corrupt(fmt::format("section {} lies outside the file or off its page", sections.size()));
    if (bytes > 0) ranges.emplace_back(offset, offset + bytes);
    StoredSection section{static_cast<SectionKind>(item->kind()), area.subspan(offset, bytes), {}, item->signatures()};
    if (item->hash()) section.hash = {item->hash()->low(), item->hash()->high()};
    // Weights carry a hash per blob, checked on demand; native code is checked by whoever would run it.
    const bool now = section.kind == SectionKind::kProgram || section.kind == SectionKind::kPortableGraph || section.kind == SectionKind::kReport;
    if (now && hash128(section.bytes.data(), section.bytes.size()) != section.hash)
      corrupt(fmt::format("section {} is damaged (its hash differs)", sections.size()));
    sections.push_back(section);
  }
  std::sort(ranges.begin(), ranges.end());
  for (std::size_t i = 1; i < ranges.size(); ++i)
    if (ranges[i].first < ranges[i - 1].second) corrupt("two sections of the engine overlap");
  return sections;
}

std::span<const std::byte> only(const std::vector<StoredSection>& sections, SectionKind kind) {
  std::span<const std::byte> found;
  bool seen = false;
  for (const StoredSection& section : sections) {
    if (section.kind != kind) continue;
    if (seen) corrupt("the engine has two sections where one is allowed");
    seen = true;
    found = section.bytes;
  }
  return found;
}

plan::Program read_program(const StoredSection& section) {
  flatbuffers::Verifier verifier = verifier_for(section.bytes);
  if (section.kind != SectionKind::kProgram || section.bytes.size() < 8 || !verifier.VerifyBuffer<fb::Program>(nullptr))
    corrupt("a device's program is malformed");
  return unpack_program(*flatbuffers::GetRoot<fb::Program>(section.bytes.data()));
}

/// Nothing of the bytes is looked at: see native_code.h.
NativeCode read_native(const StoredSection& section) {
  NativeCode native{section.bytes, section.hash, {}};
  if (!section.signatures) return native;
  if (section.signatures->size() > kMaxSignatures) corrupt("native code has more signatures than the format allows");
  for (const fb::Signature* item : *section.signatures) {
    trust::Signature signature;
    if (item->key()->size() != signature.key.bytes.size() || item->value()->size() != signature.bytes.size()) corrupt("a signature has another size");
    std::memcpy(signature.key.bytes.data(), item->key()->data(), signature.key.bytes.size());
    std::memcpy(signature.bytes.data(), item->value()->data(), signature.bytes.size());
    native.signatures.push_back(signature);
  }
  return native;
}

DType dtype_of(std::uint8_t value) {
  if (value >= kDTypeCount) corrupt(fmt::format("unknown element type {}", value));
  return static_cast<DType>(value);
}

void read_blobs(const fb::Engine& metadata, std::span<const std::byte> weights, EngineData& data) {
  if (!metadata.blobs()) return;
  if (reinterpret_cast<std::uintptr_t>(weights.data()) % kBlobAlignment != 0) throw Error(Code::kInternal, "the weights are not aligned");
  data.blobs.reserve(metadata.blobs()->size());
  for (const fb::Blob* item : *metadata.blobs()) {
    const std::size_t index = data.blobs.size();
    plan::Blob blob;
    if (item->hash()) blob.hash = {item->hash()->low(), item->hash()->high()};
    blob.offset = item->offset();
    blob.bytes = item->bytes();
    if (blob.offset % kBlobAlignment != 0 || blob.offset > weights.size() || blob.bytes > weights.size() - blob.offset)
      corrupt(fmt::format("weight {} lies outside the weights section", index));
    blob.name = text_of(item->name());
    blob.dtype = dtype_of(item->dtype());
    blob.dims = values_of(item->dims());
    blob.pack = text_of(item->pack());
    blob.pack_params = unpack_attrs(item->pack_params());
    blob.sources = values_of(item->sources());
    data.blob_bytes.push_back(weights.subspan(blob.offset, blob.bytes));
    data.blobs.push_back(std::move(blob));
  }
}

std::string text_of_section(std::span<const std::byte> bytes) { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }

/// Header and metadata, checked; the sections' table is the caller's.
std::pair<FileHeader, const fb::Engine*> read_metadata(std::span<const std::byte> file) {
  const FileHeader header = FileHeader::decode(file);
  const auto bytes = file.subspan(kHeaderBytes, header.metadata_bytes);
  if (hash128(bytes.data(), bytes.size()) != header.metadata_hash) corrupt("the engine's metadata is damaged (its hash differs)");
  flatbuffers::Verifier verifier = verifier_for(bytes);
  if (bytes.size() < 8 || !verifier.VerifyBuffer<fb::Engine>(fb::EngineIdentifier())) corrupt("the engine's metadata is malformed");
  return {header, flatbuffers::GetRoot<fb::Engine>(bytes.data())};
}

EngineData read_checked(std::span<const std::byte> file, std::shared_ptr<const void> owner) {
  const auto [header, found] = read_metadata(file);
  const fb::Engine& metadata = *found;
  EngineData data;
  data.owners.push_back(std::move(owner));
  data.producer = text_of(metadata.producer());
  data.model_name = text_of(metadata.model_name());
  const auto sections = read_sections(metadata, file.subspan(header.base()));
  data.portable_graph = text_of_section(only(sections, SectionKind::kPortableGraph));
  data.report_json = text_of_section(only(sections, SectionKind::kReport));
  read_blobs(metadata, only(sections, SectionKind::kWeights), data);
  if (metadata.precision())
    for (const fb::Precision* item : *metadata.precision())
      data.precision.push_back({item->tensor()->str(), dtype_of(item->storage()), dtype_of(item->compute()), text_of(item->reason())});
  if (metadata.custom_ops())
    for (const flatbuffers::String* name : *metadata.custom_ops()) data.custom_ops.push_back(name->str());
  if (metadata.metadata())
    for (const fb::KeyValue* item : *metadata.metadata()) data.metadata.emplace_back(item->key()->str(), text_of(item->value()));
  std::vector<bool> taken(sections.size(), false);
  if (metadata.devices())
    for (const fb::Device* item : *metadata.devices()) {
      if (item->section() >= sections.size() || taken[item->section()])
        corrupt(fmt::format("the device '{}' has no program of its own", item->device()->str()));
      taken[item->section()] = true;
      try {
        data.sections.push_back({item->device()->str(), text_of(item->needs()), text_of(item->description()), read_program(sections[item->section()])});
      } catch (const Error& error) {
        corrupt(fmt::format("device '{}': {}", item->device()->str(), error.message()));
      }
      if (item->native() == -1) continue;
      const auto native = static_cast<std::size_t>(item->native());
      if (item->native() < -1 || native >= sections.size() || taken[native] || sections[native].kind != SectionKind::kNativeCode)
        corrupt(fmt::format("the device '{}' has no native code of its own where it says", item->device()->str()));
      taken[native] = true;
      data.sections.back().native = read_native(sections[native]);
    }
  if (const std::string defect = find_defect(data); !defect.empty()) corrupt(fmt::format("the engine is not sound: {}", defect));
  return data;
}

}  // namespace

EngineData read_engine(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& source) {
  try {
    if (reinterpret_cast<std::uintptr_t>(bytes.data()) % kBlobAlignment != 0) {
      auto copy = std::make_shared<Tensor>(DType::kUint8, Dims{static_cast<std::int64_t>(bytes.size())});
      if (!bytes.empty()) std::memcpy(copy->mutable_raw(), bytes.data(), bytes.size());
      const std::span<const std::byte> aligned(copy->raw(), copy->bytes());
      return read_checked(aligned, std::move(copy));
    }
    return read_checked(bytes, std::move(owner));
  } catch (const Error& error) {
    // Whatever a part found (a bad expression, a shape too large), the file is what is wrong.
    const bool plain = error.code() == Code::kUnsupported || error.code() == Code::kCorruptFile || error.code() == Code::kOutOfMemory;
    Error outer(plain ? error.code() : Code::kCorruptFile, error.message());
    outer.at_node(error.node(), error.op()).at_tensor(error.tensor()).in_source(source).with_remedy(error.remedy().empty() ? kBuildAgain : error.remedy());
    throw outer;
  }
}

EngineData read_engine(const std::filesystem::path& path) {
  const auto file = os::MappedFile::open(path);
  return read_engine(file->bytes(), file, path.string());
}

FileInfo describe_engine(const std::filesystem::path& path) {
  const auto file = os::MappedFile::open(path);
  read_engine(file->bytes(), file, path.string());  // says what is wrong
  const auto [header, metadata] = read_metadata(file->bytes());
  FileInfo info{header.major, header.minor, header.file_bytes, header.metadata_bytes, header.metadata_hash, {}};
  static constexpr std::array kNames{"", "weights", "portable graph", "report", "program", "native code"};
  for (const fb::Section* item : *metadata->sections()) {
    SectionInfo section;
    const bool known = item->kind() > 0 && item->kind() < kNames.size();
    section.kind = known ? kNames[item->kind()] : fmt::format("unknown ({})", item->kind());
    section.at = header.base() + item->offset();
    section.bytes = item->bytes();
    if (item->hash()) section.hash = {item->hash()->low(), item->hash()->high()};
    info.sections.push_back(std::move(section));
  }
  if (metadata->devices())
    for (const fb::Device* device : *metadata->devices()) {
      info.sections.at(device->section()).device = device->device()->str();
      if (device->native() >= 0) info.sections.at(static_cast<std::size_t>(device->native())).device = device->device()->str();
    }
  return info;
}

void check_weights(const EngineData& data) {
  for (std::size_t i = 0; i < data.blobs.size(); ++i) {
    const std::span<const std::byte> bytes = data.blob_bytes[i];
    if (hash128(bytes.data(), bytes.size()) != data.blobs[i].hash)
      throw Error(Code::kCorruptFile, fmt::format("weight {} of {} bytes is damaged (its hash differs)", i, bytes.size()))
          .at_tensor(data.blobs[i].name)
          .with_remedy(kBuildAgain);
  }
  for (const DeviceSection& section : data.sections)
    if (const auto bytes = section.native.bytes; !bytes.empty() && hash128(bytes.data(), bytes.size()) != section.native.hash)
      throw Error(Code::kCorruptFile, fmt::format("the native code of '{}' is damaged (its hash differs)", section.device))
          .with_remedy("Leave it out: lathe engine strip FILE");
}

}  // namespace lathe::engine
