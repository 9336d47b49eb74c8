// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a TfIdfVectorizer's packed n-grams and tensors to the launches of tfidf.cu: what the candidate, the kernel and the tests without a GPU share.

#include <algorithm>
#include <cstring>
#include <optional>
#include <span>
#include <string>

#include "ops/text/tfidf_params.h"
#include "plan/kernel.h"
#include "regions/cuda_params.h"

namespace lathe::ops {

/// The packed n-grams begin with it.
struct TfIdfHeader {
  std::int64_t nodes = 1, grams = 0, used = 0;  ///< of the tree; that count; coordinates that they have
  std::int64_t size = 0;                        ///< of a row of the output
  std::int64_t mode = 0, shortest = 1, longest = 0, skips = 0;
};

/// Where each table begins, bytes.
struct TfIdfLayout {
  std::size_t edges = 0, tokens = 0, grams = 0, weights = 0, starts = 0, coordinates = 0, bytes = 0;
};

/// nullopt: no n-grams, or more than the kernels count.
inline std::optional<TfIdfLayout> tfidf_layout(const TfIdfHeader& h) noexcept {
  constexpr std::int64_t kMost = std::int64_t{1} << 30;
  for (const std::int64_t count : {h.grams, h.used, h.size})
    if (count < 0 || count > kMost) return std::nullopt;
  if (h.nodes < 1 || h.nodes > kMost || h.used > h.grams || h.used > h.size) return std::nullopt;
  if (h.mode < cuda::kTfIdfTf || h.mode > cuda::kTfIdfTfIdf || h.shortest < 1 || h.shortest > kMost || h.longest < 0 || h.longest > kMost || h.skips < 0)
    return std::nullopt;
  std::size_t at = 64;
  static_assert(sizeof(TfIdfHeader) <= 64);
  const auto table = [&](std::int64_t count, std::size_t each) {
    const std::size_t begin = at;
    at += (static_cast<std::size_t>(count) * each + 63) / 64 * 64;
    return begin;
  };
  TfIdfLayout layout;
  layout.edges = table(h.nodes + 1, sizeof(int));
  layout.tokens = table(h.nodes - 1, sizeof(std::int64_t));
  layout.grams = table(h.nodes, sizeof(int));
  layout.weights = table(h.grams, sizeof(float));
  layout.starts = table(h.used + 1, sizeof(int));
  layout.coordinates = table(h.used, sizeof(int));
  layout.bytes = at;
  return layout;
}

enum class TfIdfKernelKind { kClear, kCount, kWeigh };

/// A step at concrete extents.
struct TfIdfPlan {
  TfIdfHeader header;
  TfIdfLayout layout;
  cuda::TfIdfParams params;         ///< without addresses
  std::int64_t rows = 0, slab = 0;  ///< slab: rows of a round

  std::size_t scratch_bytes() const noexcept { return static_cast<std::size_t>(slab * header.grams) * sizeof(std::uint64_t); }
  /// `tables`: where the packed n-grams lie.
  void set_addresses(cuda::TfIdfParams& p, const void* tables, void* scratch) const noexcept {
    const auto at = [&](std::size_t offset) { return static_cast<const void*>(static_cast<const std::byte*>(tables) + offset); };
    p.edges = static_cast<const int*>(at(layout.edges));
    p.tokens = static_cast<const long long*>(at(layout.tokens));
    p.grams = static_cast<const int*>(at(layout.grams));
    p.weights = static_cast<const float*>(at(layout.weights));
    p.starts = static_cast<const int*>(at(layout.starts));
    p.coordinates = static_cast<const int*>(at(layout.coordinates));
    p.counts = static_cast<unsigned long long*>(scratch);
  }
};

/// Takes the packed n-grams when nothing in them leads a kernel astray. False, and in `why` the reason, where something does.
inline bool tfidf_read(std::span<const std::byte> tables, TfIdfPlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  if (tables.size() < sizeof(TfIdfHeader)) return refuse("n-grams that end too soon");
  TfIdfHeader& h = into.header;
  std::memcpy(&h, tables.data(), sizeof h);
  const auto layout = tfidf_layout(h);
  if (!layout || layout->bytes != tables.size()) return refuse("n-grams of another size than they say");
  into.layout = *layout;
  const auto entry = [&](std::size_t begin, std::int64_t i) {
    int value = 0;
    std::memcpy(&value, tables.data() + begin + static_cast<std::size_t>(i) * sizeof value, sizeof value);
    return value;
  };
  const auto ascends = [&](std::size_t begin, std::int64_t count, std::int64_t end) {
    int before = 0;
    for (std::int64_t i = 0; i <= count; ++i) {
      const int value = entry(begin, i);
      if (value < before || (i == 0 && value != 0)) return false;
      before = value;
    }
    return before == end;
  };
  if (!ascends(layout->edges, h.nodes, h.nodes - 1)) return refuse("edges out of range");
  for (std::int64_t i = 0; i < h.nodes; ++i)
    if (const int gram = entry(layout->grams, i); gram < -1 || gram >= h.grams) return refuse("an n-gram out of range");
  if (!ascends(layout->starts, h.used, h.grams)) return refuse("n-grams that are not each of a coordinate");
  for (std::int64_t i = 0, before = -1; i < h.used; ++i) {
    const int at = entry(layout->coordinates, i);
    if (at <= before || at >= h.size) return refuse("a coordinate out of range");
    before = at;
  }
  return true;
}

/// The n-grams are set. Allocates nothing but texts of errors. False, and in `why` the reason, when the kernels cannot run it.
inline bool tfidf_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, TfIdfPlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  if (inputs.size() != 1 || outputs.size() != 1) return refuse("another number of tensors than it takes");
  const plan::TensorDesc &x = inputs[0], &y = outputs[0];
  const TfIdfHeader& h = into.header;
  if (x.dtype != DType::kInt32 && x.dtype != DType::kInt64) return refuse("tokens of another type");
  const auto type = regions::cuda_element(y.dtype);
  if (!type) return refuse("a result of another type");
  const std::size_t rank = x.dims.size();
  if (rank < 1 || rank > 2 || y.dims.size() != rank || y.dims.back() != h.size || (rank == 2 && x.dims[0] != y.dims[0]))
    return refuse("tensors whose extents do not fit each other");
  cuda::TfIdfParams& p = into.params;
  p = {};
  p.wide = x.dtype == DType::kInt64;
  p.y_type = *type;
  p.length = x.dims.back();
  p.x_column = x.strides.back(), p.y_column = y.strides.back();
  if (rank == 2) p.x_row = x.strides[0], p.y_row = y.strides[0];
  p.mode = static_cast<int>(h.mode);
  p.shortest = static_cast<int>(h.shortest), p.longest = static_cast<int>(h.longest);
  p.skips = h.skips;
  p.count = static_cast<int>(h.grams), p.used = static_cast<int>(h.used);
  p.cleared = h.used == h.size ? 0 : static_cast<int>(h.size);
  if (p.length > std::int64_t{1} << 38) return refuse("more tokens than the kernels count");
  // Rows go in rounds whose workspace has an end, and of which a launch counts all.
  constexpr std::int64_t kMostCounts = std::int64_t{1} << 23, kMostRows = 65535;
  into.rows = rank == 2 ? x.dims[0] : 1;
  into.slab = std::min(into.rows, std::clamp<std::int64_t>(kMostCounts / std::max<std::int64_t>(h.grams, 1), 1, kMostRows));
  return true;
}

/// Calls launch(kind, grid_x, grid_y, params) for each launch, in order, until one says false.
template <class Launch>
bool tfidf_launches(const TfIdfPlan& plan, const cuda::TfIdfParams& params, Launch launch) {
  cuda::TfIdfParams p = params;
  const auto blocks = [](std::int64_t items) { return static_cast<std::uint32_t>((items + cuda::kTfIdfThreads - 1) / cuda::kTfIdfThreads); };
  const std::uint32_t clear = std::min(blocks(std::max(p.count, p.cleared)), 1024u), count = p.shortest <= p.longest ? blocks(p.length) : 0,
                      weigh = blocks(p.used);
  for (p.first = 0; p.first < plan.rows; p.first += plan.slab) {
    const auto rows = static_cast<std::uint32_t>(std::min<std::int64_t>(plan.slab, plan.rows - p.first));
    if (clear > 0 && !launch(TfIdfKernelKind::kClear, clear, rows, p)) return false;
    if (count > 0 && !launch(TfIdfKernelKind::kCount, count, rows, p)) return false;
    if (weigh > 0 && !launch(TfIdfKernelKind::kWeigh, weigh, rows, p)) return false;
  }
  return true;
}

}  // namespace lathe::ops
