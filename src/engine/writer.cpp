// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Lays out and writes an engine file. Offsets are needed inside the metadata and depend on its size, so it is made twice.

#include <fmt/format.h>

#include <array>
#include <cstring>

#include "base/hash.h"
#include "base/os.h"
#include "base/tensor.h"
#include "engine/codec.h"
#include "engine/engine.h"

namespace lathe::engine {
namespace {

constexpr std::uint64_t kHeaderBytes = 64, kPage = 4096, kBlobAlignment = 64;

std::uint64_t align(std::uint64_t at, std::uint64_t to) { return (at + to - 1) / to * to; }

struct Layout {
  std::vector<std::byte> header, metadata;
  std::uint64_t graph_offset = 0, file_bytes = 0;
  std::vector<std::uint64_t> blob_offsets;
};

Layout lay_out(const EngineData& data) {
  fb::EngineT tree = to_tree(data);
  const Hash128 graph_hash = hash128(data.portable_graph.data(), data.portable_graph.size());
  tree.graph_hash = std::make_unique<fb::Hash>(graph_hash.low, graph_hash.high);
  tree.graph_bytes = data.portable_graph.size();
  Layout layout;
  std::uint64_t metadata_bytes = 0;
  // The offsets do not change the size once they are nonzero: the second round fits.
  for (int round = 0; round < 3; ++round) {
    layout.graph_offset = align(kHeaderBytes + metadata_bytes, kPage);
    std::uint64_t at = align(layout.graph_offset + data.portable_graph.size(), kPage);
    tree.graph_offset = layout.graph_offset;
    layout.blob_offsets.clear();
    for (std::size_t i = 0; i < data.blobs.size(); ++i) {
      layout.blob_offsets.push_back(at);
      tree.blobs[i]->offset = at;
      tree.blobs[i]->bytes = data.blob_bytes[i].size();
      at = align(at + data.blob_bytes[i].size(), kBlobAlignment);
    }
    layout.file_bytes = at;
    flatbuffers::FlatBufferBuilder builder(1 << 16);
    fb::FinishEngineBuffer(builder, fb::Engine::Pack(builder, &tree));
    layout.metadata.assign(reinterpret_cast<const std::byte*>(builder.GetBufferPointer()),
                           reinterpret_cast<const std::byte*>(builder.GetBufferPointer()) + builder.GetSize());
    if (layout.metadata.size() == metadata_bytes) break;
    metadata_bytes = layout.metadata.size();
  }
  if (layout.metadata.size() != metadata_bytes) throw Error(Code::kInternal, "the engine's metadata did not settle on a size");
  layout.header.assign(kHeaderBytes, std::byte{0});
  const Hash128 hash = hash128(layout.metadata.data(), layout.metadata.size());
  const auto put = [&](std::size_t at, auto value) { std::memcpy(layout.header.data() + at, &value, sizeof value); };
  std::memcpy(layout.header.data(), kMagic, 8);
  put(8, kFormatVersion);
  put(12, static_cast<std::uint32_t>(kHeaderBytes));
  put(16, layout.file_bytes);
  put(24, kHeaderBytes);
  put(32, static_cast<std::uint64_t>(layout.metadata.size()));
  put(40, hash.low);
  put(48, hash.high);
  return layout;
}

/// Calls `put(bytes)` for each piece and `pad(offset)` before those that are aligned.
template <class Put, class Pad>
void emit(const EngineData& data, const Layout& layout, Put&& put, Pad&& pad) {
  put(std::span<const std::byte>(layout.header));
  put(std::span<const std::byte>(layout.metadata));
  pad(layout.graph_offset);
  put(std::as_bytes(std::span(data.portable_graph.data(), data.portable_graph.size())));
  for (std::size_t i = 0; i < data.blobs.size(); ++i) {
    pad(layout.blob_offsets[i]);
    put(data.blob_bytes[i]);
  }
  pad(layout.file_bytes);
}

}  // namespace

void write_engine(const EngineData& data, const std::filesystem::path& path) {
  const Layout layout = lay_out(data);
  os::AtomicFile file(path);
  static constexpr std::array<std::byte, 4096> kZeros{};
  emit(
      data, layout, [&](std::span<const std::byte> bytes) { file.write(bytes); },
      [&](std::uint64_t offset) {
        while (file.position() < offset) file.write(std::span(kZeros.data(), std::min<std::size_t>(kZeros.size(), offset - file.position())));
      });
  file.commit();
}

std::vector<std::byte> write_engine(const EngineData& data) {
  const Layout layout = lay_out(data);
  std::vector<std::byte> out;
  out.reserve(layout.file_bytes);
  emit(
      data, layout, [&](std::span<const std::byte> bytes) { out.insert(out.end(), bytes.begin(), bytes.end()); },
      [&](std::uint64_t offset) { out.resize(offset); });
  return out;
}

}  // namespace lathe::engine
