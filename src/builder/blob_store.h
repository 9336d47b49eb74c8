// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Content-addressed weights of the engine under construction: raw initialisers (views of the model) and packed blobs with recipes.

#include <map>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <unordered_map>
#include <vector>

#include "engine/engine_data.h"
#include "ir/graph.h"
#include "ops/candidate.h"
#include "plan/kernel.h"

namespace lathe::builder {

/// Packed weights by what they are made of: stores that share one pack each of them once.
class PackedWeights {
 public:
  struct Packed {
    std::shared_ptr<Tensor> tensor;
    Hash128 hash;
  };
  /// Packs, or finds. Throws Error(kInternal) when the pack function is unknown.
  const Packed& get(const ops::WeightRequest& request);
  const Packed* find(const std::string& text) const;
  void put(const std::string& text, Packed packed) { packed_[text] = std::move(packed); }
  /// Tells weights apart as long as the graph lives that their sources belong to.
  static std::string text_of(const ops::WeightRequest& request);

 private:
  std::map<std::string, Packed> packed_;
};

class BlobStore {
 public:
  /// `shared`: where others may have packed the same; nullptr: nowhere.
  explicit BlobStore(PackedWeights* shared = nullptr) : shared_(shared) {}
  /// The raw bytes of a constant (dense, row-major). Equal content is stored once.
  plan::BlobId add_raw(const ir::Value& constant);
  /// Packs (or finds) a weight blob. Throws Error(kInternal) when the pack function is unknown.
  plan::BlobId add_packed(const ops::WeightRequest& request);
  /// Packs all of them now, on all threads; add_packed() then finds them.
  void pack_ahead(std::span<const ops::WeightRequest* const> requests);
  std::span<const std::byte> bytes(plan::BlobId id) const { return bytes_.at(static_cast<std::size_t>(id)); }
  const plan::Blob& blob(plan::BlobId id) const { return blobs_.at(static_cast<std::size_t>(id)); }
  /// Drops packed blobs that `used` does not name, moves the rest into `engine` and returns old id -> new id.
  std::vector<plan::BlobId> move_into(engine::EngineData& engine, const std::vector<bool>& used);
  /// `whole` is made of `parts`, which the engine holds: it is packed from, but not stored beside them.
  void made_of(const ir::Value* whole, std::vector<ir::Value*> parts) { parts_[whole] = std::move(parts); }
  /// Keeps a blob in the engine though no step names it.
  void keep(plan::BlobId id) { kept_.insert(id); }
  std::size_t size() const noexcept { return blobs_.size(); }

 private:
  /// A weight request looked up: what it is made of, and the text that tells it from others.
  struct Recipe {
    const ops::WeightRequest* request = nullptr;
    std::vector<Tensor> sources;
    std::vector<plan::BlobId> ids;
    std::string text;
  };
  using Packed = PackedWeights::Packed;
  Recipe recipe_of(const ops::WeightRequest& request);
  const Packed* packed_elsewhere(const Recipe& recipe) const { return shared_ ? shared_->find(PackedWeights::text_of(*recipe.request)) : nullptr; }
  PackedWeights* shared_;
  plan::BlobId add(plan::Blob blob, std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const Hash128& hash);
  std::set<plan::BlobId> kept_;
  std::unordered_map<const ir::Value*, std::vector<ir::Value*>> parts_;
  std::vector<plan::Blob> blobs_;
  std::vector<std::span<const std::byte>> bytes_;
  std::vector<std::shared_ptr<const void>> owners_;
  std::map<std::string, plan::BlobId> by_content_;  // hash + length + kind
  std::map<std::string, plan::BlobId> by_recipe_;
  std::map<std::string, Packed> packed_;  // ahead, by recipe
  std::unordered_map<const std::byte*, plan::BlobId> by_address_;
};

/// The bytes in storage aligned for any kernel.
Tensor aligned_copy(std::span<const std::byte> bytes);
/// Text that tells two attribute maps apart; tensors by content hash. Used in keys.
std::string attrs_key(const ir::Attrs& attrs);

}  // namespace lathe::builder
