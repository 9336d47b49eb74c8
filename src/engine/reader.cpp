// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Opens an engine file: header, hash of the metadata, FlatBuffers verifier, conversion, semantic verifier. Weight pages stay untouched.

#include <fmt/format.h>

#include <cstring>
#include <fstream>

#include "base/hash.h"
#include "base/os.h"
#include "engine/codec.h"
#include "engine/engine.h"

namespace lathe::engine {
namespace {

constexpr std::size_t kHeaderBytes = 64, kMaxItems = std::size_t{1} << 20;

class Reader {
 public:
  Reader(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& source)
      : bytes_(bytes), owner_(std::move(owner)), source_(source) {}

  EngineData run() {
    if (bytes_.size() < kHeaderBytes) fail(bytes_.size() < 8 || std::memcmp(bytes_.data(), kMagic, 8) != 0 ? "this is no engine file" : "the file ends inside its header");
    if (std::memcmp(bytes_.data(), kMagic, 8) != 0) fail("this is no engine file");
    const auto version = get<std::uint32_t>(8);
    if (version != kFormatVersion)
      throw Error(Code::kCorruptFile, fmt::format("the engine has format version {}, this Lathe reads version {}", version, kFormatVersion))
          .in_source(source_)
          .with_remedy(version > kFormatVersion ? "Update Lathe, or build the engine again." : "Build the engine again.");
    const auto file_bytes = get<std::uint64_t>(16), offset = get<std::uint64_t>(24), size = get<std::uint64_t>(32);
    if (file_bytes > bytes_.size()) fail(fmt::format("the file has {} bytes, its header says {}: it is truncated", bytes_.size(), file_bytes));
    if (offset % 64 != 0 || offset > bytes_.size() || size > bytes_.size() - offset) fail("the metadata lies outside the file");
    const auto metadata = bytes_.subspan(offset, size);
    const Hash128 hash = hash128(metadata.data(), metadata.size());
    if (hash.low != get<std::uint64_t>(40) || hash.high != get<std::uint64_t>(48)) fail("the metadata does not match its hash: the file was altered or damaged");
    const auto* start = reinterpret_cast<const std::uint8_t*>(metadata.data());
    flatbuffers::Verifier verifier(start, metadata.size(), 80, 16 * kMaxItems);
    if (!fb::VerifyEngineBuffer(verifier)) fail("the metadata is not a sound FlatBuffer");
    fb::EngineT tree;
    fb::GetEngine(start)->UnPackTo(&tree);
    EngineData data;
    try {
      data = from_tree(tree);
    } catch (Error& error) {
      throw error.in_source(source_).with_remedy("Build the engine again.");
    }
    place(tree, data);
    if (data.sections.empty()) fail("the engine has no device section");
    for (const DeviceSection& section : data.sections)
      if (const auto defects = find_defects(section.program, data.blobs.size()); !defects.empty())
        fail(fmt::format("the program for '{}' is not sound: {}", section.device, defects.front()));
    return data;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw Error(Code::kCorruptFile, what).in_source(source_).with_remedy("Copy the file again, or build the engine again.");
  }
  template <class T>
  T get(std::size_t at) const {
    T value;
    std::memcpy(&value, bytes_.data() + at, sizeof value);
    return value;
  }
  std::span<const std::byte> inside(std::uint64_t offset, std::uint64_t size, std::string_view what) const {
    if (offset > bytes_.size() || size > bytes_.size() - offset) fail(fmt::format("{} lies outside the file", what));
    return bytes_.subspan(offset, size);
  }

  void place(const fb::EngineT& tree, EngineData& data) const {
    if (data.blobs.size() > kMaxItems) fail("more blobs than the format allows");
    const auto graph = inside(tree.graph_offset, tree.graph_bytes, "the portable graph");
    data.portable_graph.assign(reinterpret_cast<const char*>(graph.data()), graph.size());
    for (std::size_t i = 0; i < data.blobs.size(); ++i) {
      const plan::Blob& blob = data.blobs[i];
      if (blob.offset % 64 != 0) fail(fmt::format("blob {} is not aligned", i));
      data.blob_bytes.push_back(inside(blob.offset, blob.bytes, fmt::format("blob {} '{}'", i, blob.name)));
      for (const plan::BlobId source : blob.sources)
        if (source >= static_cast<plan::BlobId>(i)) fail(fmt::format("blob {} is packed from a blob that comes after it", i));
      if (!blob.pack.empty()) continue;
      std::int64_t count = 1;
      for (const std::int64_t extent : blob.dims) {
        if (extent < 0 || (extent > 0 && count > (std::int64_t{1} << 50) / extent)) fail(fmt::format("blob {} '{}' has impossible extents", i, blob.name));
        count *= extent;
      }
      if (dtype_bytes(blob.dtype, count) != blob.bytes) fail(fmt::format("blob {} '{}' has {} bytes, its extents {} of {} need {}", i, blob.name, blob.bytes, to_string(blob.dims), dtype_name(blob.dtype), dtype_bytes(blob.dtype, count)));
    }
    // A constant slot is read as its shape says: the blob must be that large.
    for (const DeviceSection& section : data.sections) check_constants(section.program, data);
    data.owners.push_back(owner_);
  }

  void check_constants(const plan::Program& program, const EngineData& data) const {
    for (const plan::Slot& slot : program.slots) {
      if (slot.storage != plan::Storage::kConstant || slot.blob < 0 || static_cast<std::size_t>(slot.blob) >= data.blobs.size()) continue;
      const auto dims = ir::evaluate(slot.shape, {});
      const plan::Blob& blob = data.blobs[static_cast<std::size_t>(slot.blob)];
      if (!dims || !blob.pack.empty() || *dims != blob.dims || slot.dtype != blob.dtype) fail(fmt::format("the constant '{}' differs from its blob in type or shape", slot.name));
    }
    for (const plan::Program& sub : program.subprograms) check_constants(sub, data);
  }

  std::span<const std::byte> bytes_;
  std::shared_ptr<const void> owner_;
  const std::string& source_;
};

}  // namespace

EngineData read_engine(std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const std::string& source) {
  return Reader(bytes, std::move(owner), source).run();
}

EngineData read_engine(const std::filesystem::path& path) {
  const auto file = os::MappedFile::open(path);
  return Reader(file->bytes(), file, path.string()).run();
}

bool is_engine_file(const std::filesystem::path& path) {
  std::ifstream file(path, std::ios::binary);
  char magic[8] = {};
  return file.read(magic, 8) && std::memcmp(magic, kMagic, 8) == 0;
}

void check_hashes(const EngineData& data) {
  for (std::size_t i = 0; i < data.blobs.size(); ++i)
    if (!(hash128(data.blob_bytes[i].data(), data.blob_bytes[i].size()) == data.blobs[i].hash))
      throw Error(Code::kCorruptFile, fmt::format("blob {} of the engine does not match its hash", i)).at_tensor(data.blobs[i].name).with_remedy("Copy the file again, or build the engine again.");
}

}  // namespace lathe::engine
