// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of TfIdfVectorizer on CUDA devices: "cuda.tfidf" binds the kernels of tfidf.cu to strided tensors; "cuda.tfidf.pack" makes a tree of the
// n-grams.

#include <array>
#include <map>

#include "ops/text/tfidf_grams.h"
#include "ops/text/tfidf_plan.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

using ops::TfIdfKernelKind;

[[noreturn]] void corrupt(const std::string& what) { throw Error(Code::kCorruptFile, "a TfIdfVectorizer's step with " + what); }

class TfIdfKernel final : public Kernel {
 public:
  explicit TfIdfKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    std::string why;
    if (request.weights.size() != 1 || request.device_weights.size() != 1) corrupt("no n-grams");
    if (!ops::tfidf_read(request.weights[0], plan_, why)) corrupt(why);
    tables_ = request.device_weights[0];
    fit(request);
    constexpr std::string_view kNames[] = {"tfidf_clear", "tfidf_count", "tfidf_weigh"};
    for (std::size_t i = 0; i < functions_.size(); ++i) functions_[i] = device_.builtin_function("tfidf", kNames[i]);
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return plan_.scratch_bytes(); }

  Status run(const KernelIo& io) const noexcept override {
    cuda::TfIdfParams params = plan_.params;
    plan_.set_addresses(params, tables_, io.scratch);
    params.x = io.inputs[0];
    params.y = io.outputs[0];
    Status status;
    ops::tfidf_launches(plan_, params, [&](TfIdfKernelKind kind, std::uint32_t grid_x, std::uint32_t grid_y, const cuda::TfIdfParams& p) {
      cuda::LaunchShape shape;
      shape.grid_x = grid_x, shape.grid_y = grid_y;
      shape.block = cuda::kTfIdfThreads;
      shape.overlaps = device_.info().major >= 9;
      status = functions_[static_cast<std::size_t>(kind)].launch_with(static_cast<cuda::StreamHandle>(io.stream), shape, p);
      return static_cast<bool>(status);
    });
    return status;
  }

 private:
  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::tfidf_plan(request.inputs, request.outputs, plan_, why)) throw Error(Code::kUnsupported, "a TfIdfVectorizer's step: " + why);
  }

  cuda::Device& device_;
  ops::TfIdfPlan plan_;
  const void* tables_ = nullptr;
  std::array<cuda::Function, 3> functions_;  ///< by kind
};

std::unique_ptr<Kernel> bind_tfidf(const BindRequest& request) { return std::make_unique<TfIdfKernel>(request); }

/// A node of the tree as it grows.
struct Grown {
  std::map<std::int64_t, std::size_t> next;
  std::int64_t gram = -1;
};

std::vector<std::byte> pack_tfidf(const ir::Attrs& params, std::span<const Tensor>) {
  const ops::TfIdfGrams from(params, false, [](const std::string& why) { corrupt(why); });
  std::vector<Grown> grown(1);
  ops::TfIdfHeader h;
  from.for_each([&](std::int64_t gram, std::int64_t first, std::int64_t n) {
    std::size_t node = 0;
    for (std::int64_t k = 0; k < n; ++k) {
      const auto [it, fresh] = grown[node].next.emplace(from.numbers[static_cast<std::size_t>(first + k)], grown.size());
      node = it->second;
      if (fresh) grown.emplace_back();
    }
    grown[node].gram = gram;
    h.longest = std::max(h.longest, n);
  });
  // Those that count, by coordinate, equal ones in the model's order; and each one's place among them.
  std::vector<std::int64_t> grams;
  for (const Grown& node : grown)
    if (node.gram >= 0) grams.push_back(node.gram);
  const auto coordinate = [&](std::int64_t gram) { return from.coordinates[static_cast<std::size_t>(gram)]; };
  std::sort(grams.begin(), grams.end(), [&](std::int64_t a, std::int64_t b) { return std::pair(coordinate(a), a) < std::pair(coordinate(b), b); });
  std::vector<std::int32_t> places(from.coordinates.size(), -1), starts, coordinates;
  for (std::size_t i = 0; i < grams.size(); ++i) {
    places[static_cast<std::size_t>(grams[i])] = static_cast<std::int32_t>(i);
    if (i > 0 && coordinate(grams[i]) == coordinate(grams[i - 1])) continue;
    starts.push_back(static_cast<std::int32_t>(i));
    coordinates.push_back(static_cast<std::int32_t>(coordinate(grams[i])));
  }
  starts.push_back(static_cast<std::int32_t>(grams.size()));
  h.nodes = static_cast<std::int64_t>(grown.size()), h.grams = static_cast<std::int64_t>(grams.size()), h.used = static_cast<std::int64_t>(coordinates.size());
  h.size = from.size, h.mode = from.mode, h.skips = from.skips;
  h.shortest = std::min(from.shortest, h.longest + 1);  // longer than any: nothing counts
  const auto layout = ops::tfidf_layout(h);
  if (!layout) corrupt("too many n-grams");
  std::vector<std::byte> packed(layout->bytes, std::byte{0});
  std::memcpy(packed.data(), &h, sizeof h);
  const auto put = [&](std::size_t begin, std::size_t i, const auto& value) { std::memcpy(packed.data() + begin + i * sizeof value, &value, sizeof value); };
  // Level by level, so that the edge in front of a node has its number less one.
  std::vector<std::size_t> order{0};
  order.reserve(grown.size());
  for (std::size_t i = 0; i < order.size(); ++i) {
    const Grown& node = grown[order[i]];
    put(layout->edges, i, static_cast<std::int32_t>(order.size() - 1));
    put(layout->grams, i, node.gram < 0 ? std::int32_t{-1} : places[static_cast<std::size_t>(node.gram)]);
    for (const auto& [token, next] : node.next) {
      put(layout->tokens, order.size() - 1, token);
      order.push_back(next);
    }
  }
  put(layout->edges, order.size(), static_cast<std::int32_t>(order.size() - 1));
  for (std::size_t i = 0; i < grams.size(); ++i) put(layout->weights, i, from.weight(grams[i]));
  for (std::size_t i = 0; i < starts.size(); ++i) put(layout->starts, i, starts[i]);
  for (std::size_t i = 0; i < coordinates.size(); ++i) put(layout->coordinates, i, coordinates[i]);
  return packed;
}

constexpr std::array<KernelType, 1> kKernels{{{"cuda.tfidf", bind_tfidf, ""}}};
constexpr std::array<PackFunction, 1> kPacks{{{"cuda.tfidf.pack", pack_tfidf}}};

}  // namespace

KernelSet kernels_text_cuda() { return {kKernels, kPacks}; }

}  // namespace lathe::plan
