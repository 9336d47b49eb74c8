// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See blob_store.h.

#include "builder/blob_store.h"

#include <cstring>
#include <exception>

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "base/thread_pool.h"
#include "lathe/status.h"

namespace lathe::builder {
namespace {

const plan::PackFunction& pack_function(const ops::WeightRequest& request) {
  const plan::PackFunction* pack = plan::find_pack_function(request.pack);
  if (!pack) throw Error(Code::kInternal, fmt::format("no pack function is called '{}'", request.pack));
  return *pack;
}

PackedWeights::Packed pack(const ops::WeightRequest& request, std::span<const Tensor> sources) {
  // Kernels load packed weights with aligned vectors, so they move to a tensor's storage.
  auto packed = std::make_shared<Tensor>(aligned_copy(pack_function(request).pack(request.params, sources)));
  const Hash128 hash = hash128(packed->raw(), packed->bytes());
  return {std::move(packed), hash};
}

}  // namespace

std::string PackedWeights::text_of(const ops::WeightRequest& request) {
  std::string text = request.pack + attrs_key(request.params);
  for (const ir::Value* source : request.sources) text += fmt::format(",{}", static_cast<const void*>(source));
  return text;
}

const PackedWeights::Packed* PackedWeights::find(const std::string& text) const {
  const auto found = packed_.find(text);
  return found == packed_.end() ? nullptr : &found->second;
}

const PackedWeights::Packed& PackedWeights::get(const ops::WeightRequest& request) {
  std::string text = text_of(request);
  auto found = packed_.find(text);
  if (found == packed_.end()) {
    std::vector<Tensor> sources;
    for (const ir::Value* source : request.sources) sources.push_back(source ? source->constant : Tensor());
    found = packed_.emplace(std::move(text), pack(request, sources)).first;
  }
  return found->second;
}

std::string attrs_key(const ir::Attrs& attrs) {
  std::string key;
  for (const auto& [name, attribute] : attrs) {
    key += name;
    key += '=';
    if (const auto* i = std::get_if<std::int64_t>(&attribute.value)) key += fmt::format("{}", *i);
    else if (const auto* f = std::get_if<float>(&attribute.value)) key += fmt::format("{:a}", *f);
    else if (const auto* s = std::get_if<std::string>(&attribute.value)) key += *s;
    else if (const auto* is = std::get_if<std::vector<std::int64_t>>(&attribute.value)) key += fmt::format("{}", fmt::join(*is, ","));
    else if (const auto* fs = std::get_if<std::vector<float>>(&attribute.value)) key += fmt::format("{:a}", fmt::join(*fs, ","));
    else if (const auto* ss = std::get_if<std::vector<std::string>>(&attribute.value)) key += fmt::format("{}", fmt::join(*ss, ","));
    else if (const auto* t = std::get_if<Tensor>(&attribute.value)) key += fmt::format("#{:x}", t->content_hash());
    else key += fmt::format("?{}", static_cast<int>(attribute.type()));
    key += ';';
  }
  return key;
}

Tensor aligned_copy(std::span<const std::byte> bytes) {
  Tensor tensor(DType::kUint8, {static_cast<std::int64_t>(bytes.size())});
  if (!bytes.empty()) std::memcpy(tensor.mutable_raw(), bytes.data(), bytes.size());
  return tensor;
}

plan::BlobId BlobStore::add(plan::Blob blob, std::span<const std::byte> bytes, std::shared_ptr<const void> owner, const Hash128& hash) {
  blob.hash = hash;
  blob.bytes = bytes.size();
  const std::string key = fmt::format("{}:{}:{}:{}", blob.hash.hex(), bytes.size(), static_cast<int>(blob.dtype), fmt::join(blob.dims, "x"));
  if (const auto found = by_content_.find(key); found != by_content_.end()) return found->second;
  const auto id = static_cast<plan::BlobId>(blobs_.size());
  by_content_.emplace(key, id);
  blobs_.push_back(std::move(blob));
  bytes_.push_back(bytes);
  owners_.push_back(std::move(owner));
  return id;
}

plan::BlobId BlobStore::add_raw(const ir::Value& constant) {
  const Tensor& tensor = constant.constant;
  // Hashing a large weight takes as long as reading it: the same storage is looked up by address first.
  if (const auto found = by_address_.find(tensor.raw()); found != by_address_.end() && tensor.bytes() > 0) {
    const plan::Blob& blob = blobs_[static_cast<std::size_t>(found->second)];
    if (blob.bytes == tensor.bytes() && blob.dtype == tensor.dtype() && blob.dims == tensor.dims()) return found->second;
  }
  plan::Blob blob;
  blob.name = constant.name;
  blob.dtype = tensor.dtype();
  blob.dims = tensor.dims();
  const plan::BlobId id = add(std::move(blob), {tensor.raw(), tensor.bytes()}, std::make_shared<Tensor>(tensor), hash128(tensor.raw(), tensor.bytes()));
  by_address_.emplace(tensor.raw(), id);
  return id;
}

BlobStore::Recipe BlobStore::recipe_of(const ops::WeightRequest& request) {
  Recipe recipe;
  recipe.request = &request;
  pack_function(request);  // told before anything is packed
  for (const ir::Value* source : request.sources) {
    if (!source) {  // optional source left out (no bias)
      recipe.ids.push_back(-1);
      recipe.sources.emplace_back();
      continue;
    }
    if (const auto found = parts_.find(source); found != parts_.end())
      for (const ir::Value* part : found->second) recipe.ids.push_back(add_raw(*part));
    else recipe.ids.push_back(add_raw(*source));
    recipe.sources.push_back(source->constant);
  }
  recipe.text = fmt::format("{}({}){}", request.pack, fmt::join(recipe.ids, ","), attrs_key(request.params));
  return recipe;
}

void BlobStore::pack_ahead(std::span<const ops::WeightRequest* const> requests) {
  std::vector<Recipe> recipes;
  for (const ops::WeightRequest* request : requests) {
    Recipe recipe = recipe_of(*request);
    if (by_recipe_.count(recipe.text) > 0 || !packed_.emplace(recipe.text, Packed{}).second) continue;
    if (const Packed* found = packed_elsewhere(recipe)) packed_[recipe.text] = *found;
    else recipes.push_back(std::move(recipe));
  }
  std::vector<Packed> done(recipes.size());
  std::vector<std::exception_ptr> failures(recipes.size());
  default_pool().parallel_for(static_cast<std::int64_t>(recipes.size()), [&](std::int64_t i, int) {
    const auto at = static_cast<std::size_t>(i);
    try {
      done[at] = pack(*recipes[at].request, recipes[at].sources);
    } catch (...) {
      failures[at] = std::current_exception();
    }
  });
  for (std::size_t i = 0; i < recipes.size(); ++i) {
    if (failures[i]) std::rethrow_exception(failures[i]);
    if (shared_) shared_->put(PackedWeights::text_of(*recipes[i].request), done[i]);
    packed_[recipes[i].text] = std::move(done[i]);
  }
}

plan::BlobId BlobStore::add_packed(const ops::WeightRequest& request) {
  Recipe recipe = recipe_of(request);
  if (const auto found = by_recipe_.find(recipe.text); found != by_recipe_.end()) return found->second;
  Packed packed;
  if (const auto ahead = packed_.find(recipe.text); ahead != packed_.end()) {
    packed = std::move(ahead->second);
    packed_.erase(ahead);
  } else if (const Packed* found = packed_elsewhere(recipe)) {
    packed = *found;
  } else {
    packed = pack(request, recipe.sources);
    if (shared_) shared_->put(PackedWeights::text_of(request), packed);
  }
  plan::Blob blob;
  blob.pack = request.pack;
  blob.pack_params = request.params;
  blob.sources = recipe.ids;
  const std::span<const std::byte> bytes(packed.tensor->raw(), packed.tensor->bytes());
  const plan::BlobId id = add(std::move(blob), bytes, packed.tensor, packed.hash);
  by_recipe_.emplace(std::move(recipe.text), id);
  return id;
}

std::vector<plan::BlobId> BlobStore::move_into(engine::EngineData& engine, const std::vector<bool>& used) {
  std::vector<bool> keep = used;
  keep.resize(blobs_.size(), false);
  for (const plan::BlobId id : kept_) keep[static_cast<std::size_t>(id)] = true;
  // Raw initialisers stay when a kept blob is made from them: refit and the generic section need them.
  for (std::size_t i = blobs_.size(); i-- > 0;)
    if (keep[i])
      for (const plan::BlobId source : blobs_[i].sources)
        if (source >= 0) keep[static_cast<std::size_t>(source)] = true;
  std::vector<plan::BlobId> renumbered(blobs_.size(), -1);
  for (std::size_t i = 0; i < blobs_.size(); ++i) {
    if (!keep[i]) continue;
    // Steps may read raw constants as vectors; those that only feed packing stay where the file put them.
    if (used.size() > i && used[i] && reinterpret_cast<std::uintptr_t>(bytes_[i].data()) % 64 != 0) {
      auto aligned = std::make_shared<Tensor>(aligned_copy(bytes_[i]));
      bytes_[i] = {aligned->raw(), aligned->bytes()};
      owners_[i] = std::move(aligned);
    }
    renumbered[i] = static_cast<plan::BlobId>(engine.blobs.size());
    for (plan::BlobId& source : blobs_[i].sources)
      if (source >= 0) source = renumbered[static_cast<std::size_t>(source)];
    engine.blobs.push_back(std::move(blobs_[i]));
    engine.blob_bytes.push_back(bytes_[i]);
    engine.owners.push_back(std::move(owners_[i]));
  }
  return renumbered;
}

}  // namespace lathe::builder
