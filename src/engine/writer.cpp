// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// EngineData -> file. The metadata comes first and holds every offset, so sizes and hashes are settled before the first byte is
// written; weights then stream from where they lie.

#include <fmt/format.h>

#include <cstring>
#include <map>
#include <tuple>

#include "base/os.h"
#include "engine/attributes.h"
#include "engine/engine.h"
#include "engine/file_header.h"
#include "engine/program_codec.h"
#include "engine/semantic_verifier.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

std::uint64_t align(std::uint64_t value, std::uint64_t alignment) { return (value + alignment - 1) / alignment * alignment; }

struct Sink {
  virtual ~Sink() = default;
  virtual void write(std::span<const std::byte> bytes) = 0;
  virtual void pad_to(std::size_t alignment) = 0;
};

struct FileSink final : Sink {
  explicit FileSink(const std::filesystem::path& path) : file(path) {}
  void write(std::span<const std::byte> bytes) override { file.write(bytes); }
  void pad_to(std::size_t alignment) override { file.pad_to(alignment); }
  os::AtomicFile file;
};

struct MemorySink final : Sink {
  void write(std::span<const std::byte> part) override { bytes.insert(bytes.end(), part.begin(), part.end()); }
  void pad_to(std::size_t alignment) override { bytes.resize(align(bytes.size(), alignment), std::byte{0}); }
  std::vector<std::byte> bytes;
};

/// A section before it has its place: its bytes are views.
struct Section {
  SectionKind kind;
  std::span<const std::byte> bytes;  // empty for weights, which are written blob by blob
  std::uint64_t size = 0, offset = 0;
  Hash128 hash;
  const NativeCode* native = nullptr;  // whose bytes these are
};

/// Blobs in the order of writing; equal bytes once.
struct WeightLayout {
  std::vector<std::uint64_t> offsets;  // one per blob
  std::vector<Hash128> hashes;
  std::vector<std::size_t> written;  // indices of blobs whose bytes are stored
  std::uint64_t size = 0;
};

/// Blobs as the first device's steps read them, then those of the other devices, then the rest: a run touches one stretch of the file, and
/// what it never needs is not read in beside it.
std::vector<std::size_t> writing_order(const EngineData& data) {
  std::vector<std::size_t> order;
  std::vector<bool> placed(data.blobs.size(), false);
  const auto place = [&](std::size_t blob) {
    if (placed[blob]) return;
    placed[blob] = true;
    order.push_back(blob);
  };
  const auto visit = [&](const auto& self, const plan::Program& program) -> void {
    for (const plan::Step& step : program.steps) {
      for (const plan::BlobId id : step.weights)
        if (id >= 0) place(static_cast<std::size_t>(id));
      for (plan::SlotId id : step.inputs) {
        while (id >= 0 && program.slots[static_cast<std::size_t>(id)].storage == plan::Storage::kAlias) id = program.slots[static_cast<std::size_t>(id)].parent;
        if (id >= 0 && program.slots[static_cast<std::size_t>(id)].storage == plan::Storage::kConstant)
          place(static_cast<std::size_t>(program.slots[static_cast<std::size_t>(id)].blob));
      }
    }
    for (const plan::Program& sub : program.subprograms) self(self, sub);
  };
  for (const DeviceSection& section : data.sections) visit(visit, section.program);
  for (std::size_t i = 0; i < placed.size(); ++i) place(i);
  return order;
}

WeightLayout lay_out(const EngineData& data) {
  WeightLayout layout;
  layout.hashes.resize(data.blobs.size());
  layout.offsets.resize(data.blobs.size());
  std::map<std::tuple<std::uint64_t, std::uint64_t, std::size_t>, std::uint64_t> known;
  for (const std::size_t i : writing_order(data)) {
    const std::span<const std::byte> bytes = data.blob_bytes[i];
    const Hash128 hash = hash128(bytes.data(), bytes.size());
    layout.hashes[i] = hash;
    const auto [at, added] = known.emplace(std::make_tuple(hash.high, hash.low, bytes.size()), layout.size);
    layout.offsets[i] = at->second;
    if (!added) continue;
    layout.written.push_back(i);
    layout.size = align(layout.size + bytes.size(), kBlobAlignment);
  }
  return layout;
}

std::span<const std::byte> finish(flatbuffers::FlatBufferBuilder& builder) { return std::as_bytes(std::span(builder.GetBufferPointer(), builder.GetSize())); }

std::unique_ptr<fb::SignatureT> pack_signature(const trust::Signature& signature) {
  const auto bytes = [](std::span<const std::byte> from) {
    const auto* first = reinterpret_cast<const std::uint8_t*>(from.data());
    return std::vector<std::uint8_t>(first, first + from.size());
  };
  auto item = std::make_unique<fb::SignatureT>();
  item->key = bytes(signature.key.bytes);
  item->value = bytes(signature.bytes);
  return item;
}

std::unique_ptr<fb::EngineT> pack_metadata(const EngineData& data, const WeightLayout& weights, const std::vector<Section>& sections) {
  auto out = std::make_unique<fb::EngineT>();
  out->producer = data.producer;
  out->model_name = data.model_name;
  std::uint32_t next_program = 0;
  for (const Section& section : sections) {
    auto item = std::make_unique<fb::SectionT>();
    item->kind = static_cast<std::uint8_t>(section.kind);
    item->offset = section.offset;
    item->bytes = section.size;
    item->hash = std::make_unique<fb::Hash>(section.hash.low, section.hash.high);
    if (section.native)
      for (const trust::Signature& signature : section.native->signatures) item->signatures.push_back(pack_signature(signature));
    out->sections.push_back(std::move(item));
  }
  for (const DeviceSection& device : data.sections) {
    auto item = std::make_unique<fb::DeviceT>();
    item->device = device.device;
    item->needs = device.needs;
    item->description = device.description;
    item->section = next_program++;  // programs are the first sections
    for (std::size_t i = 0; i < sections.size(); ++i)
      if (sections[i].native == &device.native) item->native = static_cast<std::int32_t>(i);
    out->devices.push_back(std::move(item));
  }
  for (std::size_t i = 0; i < data.blobs.size(); ++i) {
    const plan::Blob& blob = data.blobs[i];
    auto item = std::make_unique<fb::BlobT>();
    item->hash = std::make_unique<fb::Hash>(weights.hashes[i].low, weights.hashes[i].high);
    item->offset = weights.offsets[i];
    item->bytes = data.blob_bytes[i].size();
    item->name = blob.name;
    item->dtype = static_cast<std::uint8_t>(blob.dtype);
    item->dims = blob.dims;
    item->pack = blob.pack;
    item->pack_params = pack_attrs(blob.pack_params);
    item->sources = blob.sources;
    out->blobs.push_back(std::move(item));
  }
  for (const plan::PrecisionEntry& entry : data.precision) {
    auto item = std::make_unique<fb::PrecisionT>();
    item->tensor = entry.tensor;
    item->storage = static_cast<std::uint8_t>(entry.storage);
    item->compute = static_cast<std::uint8_t>(entry.compute);
    item->reason = entry.reason;
    out->precision.push_back(std::move(item));
  }
  out->custom_ops = data.custom_ops;
  for (const auto& [key, value] : data.metadata) {
    auto item = std::make_unique<fb::KeyValueT>();
    item->key = key;
    item->value = value;
    out->metadata.push_back(std::move(item));
  }
  return out;
}

template <class MakeSink>
void write_to(const EngineData& data, MakeSink&& make_sink) {
  if (data.blobs.size() != data.blob_bytes.size()) throw Error(Code::kInternal, "the engine has another number of weights than of weight descriptions");
  if (const std::string defect = find_defect(data); !defect.empty())
    throw Error(Code::kInternal, fmt::format("the engine is not sound and was not written: {}", defect)).with_remedy("Please report this with the model.");

  std::vector<flatbuffers::FlatBufferBuilder> programs(data.sections.size());
  std::vector<Section> sections;
  for (std::size_t i = 0; i < data.sections.size(); ++i) {
    programs[i].Finish(fb::Program::Pack(programs[i], pack_program(data.sections[i].program).get()));
    sections.push_back({SectionKind::kProgram, finish(programs[i]), 0, 0, {}, nullptr});
  }
  const auto text = [](const std::string& from) { return std::as_bytes(std::span(from.data(), from.size())); };
  sections.push_back({SectionKind::kPortableGraph, text(data.portable_graph), 0, 0, {}, nullptr});
  sections.push_back({SectionKind::kReport, text(data.report_json), 0, 0, {}, nullptr});
  for (const DeviceSection& device : data.sections)
    if (!device.native.bytes.empty()) sections.push_back({SectionKind::kNativeCode, device.native.bytes, 0, 0, {}, &device.native});
  const WeightLayout weights = lay_out(data);
  sections.push_back({SectionKind::kWeights, {}, weights.size, 0, {}, nullptr});
  std::uint64_t end = 0;
  for (Section& section : sections) {
    if (section.kind != SectionKind::kWeights) {
      section.size = section.bytes.size();
      section.hash = hash128(section.bytes.data(), section.bytes.size());
    }
    section.offset = align(end, kPage);
    end = section.offset + section.size;
  }
  flatbuffers::FlatBufferBuilder builder(1 << 16);
  builder.Finish(fb::Engine::Pack(builder, pack_metadata(data, weights, sections).get()), fb::EngineIdentifier());
  const auto metadata = finish(builder);
  FileHeader header;
  // Readers before 1.2 would take a dynamic program for one whose slots are planned.
  if (std::any_of(data.sections.begin(), data.sections.end(), [](const DeviceSection& section) { return section.program.dynamic; })) header.least_minor = 2;
  header.metadata_bytes = metadata.size();
  header.metadata_hash = hash128(metadata.data(), metadata.size());
  header.file_bytes = header.base() + end;

  auto&& sink = make_sink(header.file_bytes);
  sink.write(header.encode());
  sink.write(metadata);
  for (const Section& section : sections) {
    sink.pad_to(kPage);
    if (section.kind != SectionKind::kWeights) {
      sink.write(section.bytes);
      continue;
    }
    for (const std::size_t i : weights.written) {
      sink.write(data.blob_bytes[i]);
      sink.pad_to(kBlobAlignment);
    }
  }
}

}  // namespace

void write_engine(const EngineData& data, const std::filesystem::path& path) {
  std::unique_ptr<FileSink> sink;
  write_to(data, [&](std::uint64_t) -> Sink& {
    sink = std::make_unique<FileSink>(path);
    return *sink;
  });
  sink->file.commit();
}

std::vector<std::byte> write_engine(const EngineData& data) {
  MemorySink sink;
  write_to(data, [&](std::uint64_t bytes) -> Sink& {
    sink.bytes.reserve(bytes);
    return sink;
  });
  return std::move(sink.bytes);
}

Hash128 run_hash(const EngineData& data) {
  std::string all = data.producer + "\n";
  const auto add = [&](const Hash128& hash) { all += hash.hex() + "\n"; };
  const auto without_times = [](auto&& self, plan::Program& program) -> void {
    for (plan::Step& step : program.steps) step.measured_seconds = -1;
    for (plan::Program& sub : program.subprograms) self(self, sub);
  };
  for (const DeviceSection& section : data.sections) {
    all += section.device + "|" + section.needs + "\n";
    plan::Program program = section.program;
    without_times(without_times, program);
    flatbuffers::FlatBufferBuilder builder;
    builder.Finish(fb::Program::Pack(builder, pack_program(program).get()));
    add(hash128(builder.GetBufferPointer(), builder.GetSize()));
  }
  for (const plan::PrecisionEntry& entry : data.precision)
    all += entry.tensor + "|" + std::to_string(static_cast<int>(entry.storage)) + "|" + std::to_string(static_cast<int>(entry.compute)) + "\n";
  for (const plan::Blob& blob : data.blobs) add(blob.hash);
  return hash128(all.data(), all.size());
}

}  // namespace lathe::engine
