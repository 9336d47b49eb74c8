// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of tree ensembles on CUDA devices: "cuda.trees" binds the kernels of trees.cu to strided tensors; "cuda.trees.pack" brings the flat
// tables of a step into the form that they walk.

#include "ops/ml/ml_kernels.h"
#include "ops/ml/tree_tables.h"
#include "ops/ml/trees_plan.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

class TreesKernel final : public Kernel {
 public:
  explicit TreesKernel(const BindRequest& request) : device_(regions::need_device(request.device)) {
    std::string why;
    if (!ops::trees_spec(request.params, plan_.spec, why)) corrupt(why);
    if (request.weights.size() != 1 || request.device_weights.size() != 1) corrupt("no tables");
    if (!ops::trees_read(request.weights[0], plan_, why)) corrupt(why);
    tables_ = request.device_weights[0];
    fit(request);
    walk_ = device_.builtin_function("trees", plan_.header.wide ? "trees_walk_double" : "trees_walk_float");
    finish_ = device_.builtin_function("trees", plan_.header.wide ? "trees_finish_double" : "trees_finish_float");
  }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return plan_.scratch_bytes(); }

  Status run(const KernelIo& io) const noexcept override {
    cuda::TreesParams p = plan_.params;
    plan_.set_addresses(p, tables_, io.scratch);
    p.rows.x = io.inputs[0];
    p.rows.labels = static_cast<long long*>(io.outputs[0]);
    p.rows.scores = io.outputs[1];
    cuda::LaunchShape shape;
    shape.overlaps = device_.info().major >= 9;
    const auto stream = static_cast<cuda::StreamHandle>(io.stream);
    if (plan_.walk_grid > 0) {
      shape.grid_x = plan_.walk_grid;
      shape.block = cuda::kTreesThreads;
      if (const Status status = walk_.launch_with(stream, shape, p); !status) return status;
    }
    if (plan_.finish_grid == 0) return Status::ok();
    shape.grid_x = plan_.finish_grid;
    shape.block = cuda::kTreesFinishThreads;
    return finish_.launch_with(stream, shape, p);
  }

 private:
  [[noreturn]] static void corrupt(const std::string& why) { throw Error(Code::kCorruptFile, "a tree ensemble's step with " + why); }

  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::trees_plan(request.inputs, request.outputs, plan_, why)) throw Error(Code::kUnsupported, "a tree ensemble's step: " + why);
  }

  cuda::Device& device_;
  ops::TreesPlan plan_;
  const void* tables_ = nullptr;
  cuda::Function walk_, finish_;
};

}  // namespace

std::unique_ptr<Kernel> bind_cuda_trees(const BindRequest& request) { return std::make_unique<TreesKernel>(request); }

std::vector<std::byte> pack_cuda_trees(const ir::Attrs& params, std::span<const Tensor>) {
  const ops::TreeTables from(params);
  const auto labels = params.get_ints("labels");
  const bool wide = params.get_int("wide", 0) != 0;
  const std::int64_t targets = params.get_int("targets", 0);
  ops::TreesHeader h;
  const auto count = [](const auto& list) { return static_cast<std::int64_t>(list.size()); };
  h.wide = wide;
  h.trees = count(from.roots), h.nodes = count(from.splits), h.members = count(from.members), h.leaves = count(from.leaf_starts);
  h.votes = count(from.vote_targets), h.base = count(from.base), h.labels = count(labels);
  for (std::size_t i = 0; i < from.modes.size(); ++i) h.sets += (from.outcomes(i) & cuda::kTreesMember) != 0;
  const auto layout = ops::trees_layout(h);
  ops::require_of_trees(layout.has_value(), "too many nodes");
  std::vector<std::byte> packed(layout->bytes, std::byte{0});
  std::memcpy(packed.data(), &h, sizeof h);
  const auto put = [&](std::size_t begin, std::size_t i, const auto& value) { std::memcpy(packed.data() + begin + i * sizeof value, &value, sizeof value); };
  const auto put_number = [&](std::size_t begin, std::size_t i, double value) {
    if (wide) put(begin, i, value);
    else put(begin, i, static_cast<float>(value));
  };
  for (std::size_t i = 0; i < from.roots.size(); ++i) put(layout->roots, i, from.roots[i]);
  std::size_t set = 0;
  for (std::size_t i = 0; i < from.splits.size(); ++i) {
    ops::require_of_trees(from.features[i] >= 0 && static_cast<std::uint32_t>(from.features[i]) < cuda::kTreesFeatures, "a feature out of range");
    cuda::TreesNode node;
    node.test = static_cast<std::uint32_t>(from.features[i]) + from.outcomes(i) * cuda::kTreesFeatures;
    node.split = std::bit_cast<std::uint32_t>(static_cast<float>(from.splits[i]));
    node.yes = from.yes[i];
    node.no = from.no[i];
    if (from.outcomes(i) & cuda::kTreesMember) {
      node.split = static_cast<std::uint32_t>(set);
      put(layout->sets, set++, cuda::TreesSpan{from.member_starts[i], from.member_counts[i]});
    }
    put(layout->nodes, i, node);
    if (wide) put(layout->splits, i, from.splits[i]);
  }
  for (std::size_t i = 0; i < from.members.size(); ++i) put_number(layout->members, i, from.members[i]);
  for (std::size_t i = 0; i < from.leaf_starts.size(); ++i) {
    cuda::TreesSpan leaf{from.leaf_starts[i], from.leaf_counts[i]};
    ops::require_of_trees(leaf.first >= 0 && leaf.count >= 0 && std::int64_t{leaf.first} + leaf.count <= h.votes, "votes out of range");
    // A vote for each target, in order: a target's is found at once.
    bool whole = leaf.count > 1 && leaf.count == targets;
    const auto votes = from.vote_targets.subspan(static_cast<std::size_t>(leaf.first), static_cast<std::size_t>(leaf.count));
    for (std::size_t v = 0; v < votes.size() && whole; ++v) whole = votes[v] == static_cast<std::int32_t>(v);
    if (whole) leaf.count = -leaf.count;
    put(layout->leaves, i, leaf);
  }
  for (std::size_t i = 0; i < from.vote_targets.size(); ++i) {
    put(layout->targets, i, from.vote_targets[i]);
    put_number(layout->weights, i, from.vote_weights[i]);
  }
  for (std::size_t i = 0; i < from.base.size(); ++i) put(layout->base, i, from.base[i]);
  for (std::size_t i = 0; i < labels.size(); ++i) put(layout->labels, i, labels[i]);
  return packed;
}

}  // namespace lathe::plan
