// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.trees": a task is a block of rows, which walks tree after tree; eight rows (or, of the rows that are left, eight trees) go down at
// once, since each step of a walk waits for the memory of the one before. Leaves are nodes that lead to themselves, so that a walk has no
// branch to predict: it ends when nothing moved. Sums are made in the order of the trees, whatever the number of threads.

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>

#include "base/thread_pool.h"
#include "ops/ml/ml_kernels.h"
#include "ops/ml/tree_tables.h"
#include "ops/ml/votes.h"

namespace lathe::plan {
namespace {

using ops::Aggregate;
using ops::Ballot;
constexpr auto require = ops::require_of_trees;

constexpr std::int64_t kLanes = 8, kMostRows = 128, kMostSums = std::int64_t{1} << 16;

template <class T>
struct Node {
  T split;
  std::int32_t feature;  ///< times its stride
  std::int32_t yes, no;
};

constexpr std::uint8_t kUnordered = cuda::kTreesUnordered, kMember = cuda::kTreesMember;

enum class Walk { kLeq, kCompare, kAny };

/// The ensemble in the type that it is walked in.
template <class T>
struct Table {
  std::vector<Node<T>> nodes;  // inner nodes, then leaves
  std::vector<std::int32_t> features, roots;
  std::vector<std::uint8_t> outcomes;                      // bits of TreesOutcome: where the true branch is taken
  std::vector<std::int32_t> member_starts, member_counts;  // of inner nodes
  std::vector<T> members;
  std::vector<std::int32_t> vote_starts, vote_targets;  // leaf l has the votes from vote_starts[l] to vote_starts[l + 1]
  std::vector<T> vote_weights;
  std::vector<double> base;  // rounded too
  std::int32_t inner = 0;
  Walk walk = Walk::kLeq;
};

/// Checks everything that a walk relies on: indices in range, children behind their parents.
template <class T>
Table<T> read_table(const ir::Attrs& params, std::int64_t targets) {
  const ops::TreeTables from(params);
  const auto member_starts = from.member_starts, member_counts = from.member_counts, vote_targets = from.vote_targets;
  const auto members = from.members, weights = from.vote_weights;
  const std::size_t inner = from.splits.size(), leaves = from.leaf_starts.size();
  require(inner + leaves < (std::size_t{1} << 31), "too many nodes");

  Table<T> table;
  table.inner = static_cast<std::int32_t>(inner);
  const auto place = [&](std::int32_t child, std::int64_t after) {
    const std::int64_t at = child;
    require(at < 0 ? ~at < static_cast<std::int64_t>(leaves) : at > after && at < static_cast<std::int64_t>(inner), "a branch out of range");
    return at < 0 ? static_cast<std::int32_t>(static_cast<std::int64_t>(inner) + ~at) : child;
  };
  for (std::size_t i = 0; i < inner; ++i) {
    const auto self = static_cast<std::int64_t>(i);
    require(from.features[i] >= 0, "a negative feature");
    const std::uint8_t outcomes = from.outcomes(i);
    if (outcomes & kMember) {
      table.walk = Walk::kAny;
      require(member_starts[i] >= 0 && member_counts[i] >= 0 &&
                  static_cast<std::size_t>(member_starts[i]) + static_cast<std::size_t>(member_counts[i]) <= members.size(),
              "members out of range");
    } else if (outcomes != ops::kBranchOutcomes[0] && table.walk == Walk::kLeq) {
      table.walk = Walk::kCompare;
    }
    table.outcomes.push_back(outcomes);
    table.nodes.push_back({static_cast<T>(from.splits[i]), 0, place(from.yes[i], self), place(from.no[i], self)});
  }
  for (std::size_t l = 0; l < leaves; ++l) {
    const auto self = static_cast<std::int32_t>(inner + l);
    table.nodes.push_back({T(0), 0, self, self});
    table.outcomes.push_back(0);
    require(from.leaf_starts[l] >= 0 && from.leaf_counts[l] >= 0, "votes out of range");
    const auto first = static_cast<std::size_t>(from.leaf_starts[l]), count = static_cast<std::size_t>(from.leaf_counts[l]);
    require(first + count <= weights.size(), "votes out of range");
    table.vote_starts.push_back(static_cast<std::int32_t>(table.vote_targets.size()));
    for (std::size_t v = first; v < first + count; ++v) {
      require(vote_targets[v] >= 0 && vote_targets[v] < targets, "a vote for no target");
      table.vote_targets.push_back(vote_targets[v]);
      table.vote_weights.push_back(static_cast<T>(weights[v]));
    }
    require(table.vote_targets.size() < (std::size_t{1} << 31), "too many votes");
  }
  table.vote_starts.push_back(static_cast<std::int32_t>(table.vote_targets.size()));
  for (const std::int32_t root : from.roots) table.roots.push_back(place(root, -1));
  table.features.assign(from.features.begin(), from.features.end());
  table.member_starts.assign(member_starts.begin(), member_starts.end());
  table.member_counts.assign(member_counts.begin(), member_counts.end());
  for (const double m : members) table.members.push_back(static_cast<T>(m));
  for (const double b : from.base) table.base.push_back(static_cast<T>(b));
  return table;
}

template <class T>
class TreesKernel final : public Kernel {
 public:
  explicit TreesKernel(const BindRequest& request) : targets_(request.params.get_int("targets", 0)) {
    require(targets_ > 0 && targets_ < (std::int64_t{1} << 31), "no targets");
    table_ = read_table<T>(request.params, targets_);
    const ir::Attrs& p = request.params;
    const std::int64_t aggregate = p.get_int("aggregate", 1), transform = p.get_int("transform", 0);
    require(aggregate >= 0 && aggregate <= 3 && transform >= 0 && transform <= 4, "an unknown aggregate or transform");
    aggregate_ = static_cast<Aggregate>(aggregate);
    ballot_.transform = static_cast<ops::PostTransform>(transform);
    ballot_.base = table_.base;
    classifies_ = p.has("labels");
    labels_ = p.get_ints("labels");
    ballot_.single = p.get_int("single", -1);
    ballot_.all_positive = p.get_int("all_positive", 0) != 0;
    const auto size = static_cast<std::size_t>(targets_);
    if (classifies_) require(labels_.size() == size && ballot_.single < 2 && (ballot_.single < 0 || size == 2), "labels that do not fit");
    require(ballot_.base.empty() || ballot_.base.size() == size || (ballot_.single >= 0 && ballot_.base.size() == 1), "base values that do not fit");
    fit(request);
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }

  std::size_t scratch_bytes() const noexcept override { return worker_bytes_ * static_cast<std::size_t>(threads_); }

  Status run(const KernelIo& io) const noexcept override {
    if (rows_ == 0) return Status::ok();
    io.pool->parallel_for((rows_ + block_ - 1) / block_, [&](std::int64_t task, int worker) {
      auto* scratch = static_cast<std::byte*>(io.scratch) + static_cast<std::size_t>(worker) * worker_bytes_;
      block(io, task * block_, std::min(rows_, (task + 1) * block_), scratch);
    });
    return Status::ok();
  }

 private:
  static std::size_t aligned(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

  void fit(const BindRequest& request) {
    require(request.inputs.size() == 1 && request.outputs.size() == 2, "the wrong number of tensors");
    const TensorDesc &x = request.inputs[0], &labels = request.outputs[0], &scores = request.outputs[1];
    require(x.dims.size() == 1 || x.dims.size() == 2, "an input that is no matrix");
    const bool one = x.dims.size() == 1;
    rows_ = one ? 1 : x.dims[0];
    width_ = x.dims.back();
    row_stride_ = one ? 0 : x.strides[0];
    const std::int64_t stride = x.strides.back();
    input_type_ = x.dtype;
    converts_ = x.dtype != (sizeof(T) == 8 ? DType::kFloat64 : DType::kFloat32);
    feature_stride_ = converts_ ? 1 : stride;
    source_stride_ = stride;
    for (std::size_t i = 0; i < table_.features.size(); ++i) {
      const std::int64_t feature = table_.features[i];
      if (feature >= width_) throw Error(Code::kInvalidArgument, "a tree tests feature " + std::to_string(feature) + ", but X has " + std::to_string(width_));
      const std::int64_t offset = feature * feature_stride_;
      if (offset > std::numeric_limits<std::int32_t>::max() || offset < 0) throw Error(Code::kUnsupported, "features too far apart");
      table_.nodes[i].feature = static_cast<std::int32_t>(offset);
    }
    // A leaf reads feature 0 as it stays where it is.
    if (width_ == 0 && rows_ > 0) throw Error(Code::kUnsupported, "a tree ensemble without features");
    label_stride_ = score_row_ = score_column_ = 0;
    if (labels.dtype != DType::kUndefined) {
      require(classifies_ && labels.dtype == DType::kInt64 && labels.dims.size() == 1 && labels.dims[0] == rows_, "labels that do not fit");
      label_stride_ = labels.strides[0];
    }
    score_type_ = scores.dtype;
    if (scores.dtype != DType::kUndefined) {
      require(scores.dtype == DType::kFloat32 || scores.dtype == DType::kFloat64, "scores of another type");
      require(scores.dims.size() == 2 && scores.dims[0] == rows_ && scores.dims[1] == targets_, "scores that do not fit");
      score_row_ = scores.strides[0];
      score_column_ = scores.strides[1];
    }
    threads_ = std::max(request.threads, 1);
    const std::int64_t share = (rows_ + 4 * threads_ - 1) / (4 * threads_);
    const std::int64_t most = std::max<std::int64_t>(1, std::min(kMostRows, kMostSums / targets_));
    block_ = std::clamp<std::int64_t>((share + kLanes - 1) / kLanes * kLanes, 1, most);
    const auto sums = static_cast<std::size_t>(block_ * targets_);
    sums_bytes_ = aligned(sums * sizeof(T));
    voted_bytes_ = aligned(sums);
    out_bytes_ = aligned(static_cast<std::size_t>(targets_) * sizeof(double));
    worker_bytes_ = sums_bytes_ + voted_bytes_ + out_bytes_ + (converts_ ? aligned(static_cast<std::size_t>(block_ * width_) * sizeof(T)) : 0);
  }

  template <class S>
  void convert(const void* source, std::int64_t begin, std::int64_t end, T* to) const noexcept {
    for (std::int64_t row = begin; row < end; ++row) {
      const S* from = static_cast<const S*>(source) + row * row_stride_;
      for (std::int64_t k = 0; k < width_; ++k) *to++ = static_cast<T>(from[k * source_stride_]);
    }
  }

  void block(const KernelIo& io, std::int64_t begin, std::int64_t end, std::byte* scratch) const noexcept {
    const std::int64_t count = end - begin;
    T* sums = reinterpret_cast<T*>(scratch);
    auto* voted = reinterpret_cast<std::uint8_t*>(scratch + sums_bytes_);
    auto* out = reinterpret_cast<double*>(scratch + sums_bytes_ + voted_bytes_);
    std::fill_n(sums, count * targets_, T(0));
    std::fill_n(voted, count * targets_, std::uint8_t{0});
    const T* x = nullptr;
    std::int64_t stride = row_stride_;
    if (converts_) {
      T* copy = reinterpret_cast<T*>(scratch + sums_bytes_ + voted_bytes_ + out_bytes_);
      switch (input_type_) {
        case DType::kFloat32: convert<float>(io.inputs[0], begin, end, copy); break;
        case DType::kFloat64: convert<double>(io.inputs[0], begin, end, copy); break;
        case DType::kInt32: convert<std::int32_t>(io.inputs[0], begin, end, copy); break;
        default: convert<std::int64_t>(io.inputs[0], begin, end, copy); break;
      }
      x = copy;
      stride = width_;
    } else {
      x = static_cast<const T*>(io.inputs[0]) + begin * row_stride_;
    }
    switch (table_.walk) {
      case Walk::kLeq: walk_all<Walk::kLeq>(x, stride, count, sums, voted); break;
      case Walk::kCompare: walk_all<Walk::kCompare>(x, stride, count, sums, voted); break;
      case Walk::kAny: walk_all<Walk::kAny>(x, stride, count, sums, voted); break;
    }
    const auto size = static_cast<std::size_t>(targets_);
    for (std::int64_t i = 0; i < count; ++i) {
      const std::span own(sums + i * targets_, size);
      const std::span scores(out, size);
      if (aggregate_ == Aggregate::kAverage)
        for (T& sum : own) sum /= static_cast<T>(table_.roots.size());
      if (classifies_) {
        const std::int64_t best = ops::finish_classification<T>(ballot_, own, voted + i * targets_, scores);
        if (io.outputs[0]) static_cast<std::int64_t*>(io.outputs[0])[(begin + i) * label_stride_] = size == 1 ? best : labels_[static_cast<std::size_t>(best)];
      } else {
        ops::finish_regression<T>(ballot_, own, scores);
      }
      if (!io.outputs[1]) continue;
      for (std::int64_t t = 0; t < targets_; ++t) {
        const std::int64_t at = (begin + i) * score_row_ + t * score_column_;
        if (score_type_ == DType::kFloat64) static_cast<double*>(io.outputs[1])[at] = out[t];
        else static_cast<float*>(io.outputs[1])[at] = static_cast<float>(out[t]);
      }
    }
  }

  /// Where row `x` goes from `at`.
  template <Walk kWalk>
  std::int32_t next(std::int32_t at, const T* x) const noexcept {
    const Node<T>& node = table_.nodes[static_cast<std::size_t>(at)];
    const T value = x[node.feature];
    if constexpr (kWalk == Walk::kLeq) {
      return value <= node.split ? node.yes : node.no;
    } else {
      const std::uint8_t outcomes = table_.outcomes[static_cast<std::size_t>(at)];
      if (kWalk == Walk::kAny && (outcomes & kMember)) return is_member(at, value) || ((outcomes & kUnordered) && std::isnan(value)) ? node.yes : node.no;
      const int which = (value == node.split) + 2 * (value > node.split) + 3 * !(value <= node.split || value > node.split);
      return outcomes >> which & 1 ? node.yes : node.no;
    }
  }
  bool is_member(std::int32_t at, T value) const noexcept {
    const auto i = static_cast<std::size_t>(at);
    const T* first = table_.members.data() + table_.member_starts[i];
    return std::find(first, first + table_.member_counts[i], value) != first + table_.member_counts[i];
  }

  void add(std::int32_t leaf, T* sums, std::uint8_t* voted) const noexcept {
    const auto l = static_cast<std::size_t>(leaf - table_.inner);
    for (std::int32_t v = table_.vote_starts[l]; v < table_.vote_starts[l + 1]; ++v) {
      const std::int32_t target = table_.vote_targets[static_cast<std::size_t>(v)];
      ops::count_vote(aggregate_, table_.vote_weights[static_cast<std::size_t>(v)], voted[target] != 0, sums[target]);
      voted[target] = 1;
    }
  }

  template <Walk kWalk>
  void walk_all(const T* x, std::int64_t stride, std::int64_t count, T* sums, std::uint8_t* voted) const noexcept {
    const std::int64_t whole = count / kLanes * kLanes;
    std::array<std::int32_t, kLanes> at;
    if (whole > 0)
      for (const std::int32_t root : table_.roots)
        for (std::int64_t row = 0; row < whole; row += kLanes) {
          at.fill(root);
          const T* own = x + row * stride;
          std::int32_t moved = 1;
          while (moved != 0) {
            moved = 0;
            for (std::int64_t k = 0; k < kLanes; ++k) {
              const std::int32_t to = next<kWalk>(at[static_cast<std::size_t>(k)], own + k * stride);
              moved |= to ^ at[static_cast<std::size_t>(k)];
              at[static_cast<std::size_t>(k)] = to;
            }
          }
          for (std::int64_t k = 0; k < kLanes; ++k) add(at[static_cast<std::size_t>(k)], sums + (row + k) * targets_, voted + (row + k) * targets_);
        }
    const auto trees = static_cast<std::int64_t>(table_.roots.size());
    for (std::int64_t row = whole; row < count; ++row)
      for (std::int64_t tree = 0; tree < trees; tree += kLanes) {
        const std::int64_t lanes = std::min(kLanes, trees - tree);
        for (std::int64_t k = 0; k < kLanes; ++k) at[static_cast<std::size_t>(k)] = table_.roots[static_cast<std::size_t>(tree + std::min(k, lanes - 1))];
        const T* own = x + row * stride;
        std::int32_t moved = 1;
        while (moved != 0) {
          moved = 0;
          for (auto& place : at) {
            const std::int32_t to = next<kWalk>(place, own);
            moved |= to ^ place;
            place = to;
          }
        }
        for (std::int64_t k = 0; k < lanes; ++k) add(at[static_cast<std::size_t>(k)], sums + row * targets_, voted + row * targets_);
      }
  }

  std::int64_t targets_;
  Table<T> table_;
  std::vector<std::int64_t> labels_;
  Ballot ballot_;
  Aggregate aggregate_ = Aggregate::kSum;
  int threads_ = 1;
  bool classifies_ = false, converts_ = false;
  DType input_type_ = DType::kUndefined, score_type_ = DType::kUndefined;
  std::int64_t rows_ = 0, width_ = 0, row_stride_ = 0, feature_stride_ = 1, source_stride_ = 1, block_ = 1;
  std::int64_t label_stride_ = 0, score_row_ = 0, score_column_ = 0;
  std::size_t sums_bytes_ = 0, voted_bytes_ = 0, out_bytes_ = 0, worker_bytes_ = 0;
};

}  // namespace

std::unique_ptr<Kernel> bind_trees(const BindRequest& request) {
  require(request.inputs.size() == 1, "the wrong number of tensors");
  switch (request.inputs[0].dtype) {
    case DType::kFloat64: return std::make_unique<TreesKernel<double>>(request);
    case DType::kFloat32:
    case DType::kInt32:
    case DType::kInt64: return std::make_unique<TreesKernel<float>>(request);
    default: throw Error(Code::kUnsupported, "trees over " + std::string(dtype_name(request.inputs[0].dtype)) + " elements");
  }
}

}  // namespace lathe::plan
