// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Reading tree ensembles. TreeEnsembleClassifier and -Regressor name nodes by tree and id; TreeEnsemble by position.
#include "ops/ml/trees.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>

#include "ops/ml/ml_defs.h"
#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

using Ints = std::vector<std::int64_t>;

constexpr std::size_t kMostNodes = std::size_t{1} << 30;

/// The list `name`, or the tensor `name`_as_tensor in its place.
std::vector<double> numbers(const Attrs& attrs, const std::string& name) {
  const Tensor tensor = attrs.get_tensor(name + "_as_tensor");
  const auto floats = attrs.get_floats(name);
  if (tensor.defined() && tensor.size() > 0) {
    if (!floats.empty()) reject("gives both " + name + " and " + name + "_as_tensor; expected one of them");
    if (!is_float(tensor.dtype())) reject(name + "_as_tensor has type " + std::string(dtype_name(tensor.dtype())));
    return to_doubles(tensor);
  }
  return {floats.begin(), floats.end()};
}

// Flattening ------------------------------------------------------------------------------------------------------

/// Brings what the roots reach into `trees`, parents before children. `node_of(i)` is node i of the file, its children
/// nodes of the file or ~leaf; `name_of` describes it for errors.
template <class NodeOf, class NameOf>
void flatten(Trees& trees, std::size_t count, const std::vector<std::int32_t>& roots, NodeOf node_of, NameOf name_of) {
  enum : std::uint8_t { kNew, kOpen, kDone };
  std::vector<std::uint8_t> state(count, kNew);
  std::vector<std::int32_t> finished;  // children before parents
  std::vector<std::int32_t> stack;
  for (const std::int32_t root : roots) {
    if (root >= 0 && state[static_cast<std::size_t>(root)] == kNew) stack.push_back(root);
    while (!stack.empty()) {
      const std::int32_t at = stack.back();
      auto& its = state[static_cast<std::size_t>(at)];
      if (its != kNew) {
        stack.pop_back();
        if (its == kOpen) finished.push_back(at);
        its = kDone;
        continue;
      }
      its = kOpen;
      const TreeNode node = node_of(at);
      for (const std::int32_t child : {node.no, node.yes}) {
        if (child < 0) continue;
        const auto seen = state[static_cast<std::size_t>(child)];
        if (seen == kOpen) reject(name_of(at) + " leads back to " + name_of(child) + ": the tree has a cycle");
        if (seen == kNew) stack.push_back(child);
      }
    }
  }
  std::vector<std::int32_t> place(count, 0);
  trees.nodes.reserve(finished.size());
  for (std::size_t i = finished.size(); i-- > 0;) {
    place[static_cast<std::size_t>(finished[i])] = static_cast<std::int32_t>(trees.nodes.size());
    trees.nodes.push_back(node_of(finished[i]));
  }
  const auto moved = [&](std::int32_t child) { return child < 0 ? child : place[static_cast<std::size_t>(child)]; };
  for (TreeNode& node : trees.nodes) {
    node.yes = moved(node.yes);
    node.no = moved(node.no);
    trees.features = std::max(trees.features, node.feature + 1);
  }
  for (const auto root : roots) trees.roots.push_back(moved(root));
}

// TreeEnsembleClassifier, TreeEnsembleRegressor -------------------------------------------------------------------

/// Nodes by tree and id.
class NodeNames {
 public:
  NodeNames(const Ints& trees, const Ints& ids) : trees_(trees), ids_(ids), order_(trees.size()) {
    for (std::size_t i = 0; i < order_.size(); ++i) order_[i] = static_cast<std::int32_t>(i);
    const auto before = [&](std::int32_t a, std::int32_t b) { return key(a) < key(b); };
    if (!std::is_sorted(order_.begin(), order_.end(), before)) std::sort(order_.begin(), order_.end(), before);
    for (std::size_t i = 1; i < order_.size(); ++i)
      if (key(order_[i - 1]) == key(order_[i])) reject(name(order_[i]) + " is listed twice");
  }
  /// -1: there is none.
  std::int32_t find(std::int64_t tree, std::int64_t id) const {
    const std::pair wanted{tree, id};
    const auto it = std::lower_bound(order_.begin(), order_.end(), wanted, [&](std::int32_t a, const auto& k) { return key(a) < k; });
    return it != order_.end() && key(*it) == wanted ? *it : -1;
  }
  std::string name(std::int32_t i) const {
    return "node " + std::to_string(ids_[static_cast<std::size_t>(i)]) + " of tree " + std::to_string(trees_[static_cast<std::size_t>(i)]);
  }

 private:
  std::pair<std::int64_t, std::int64_t> key(std::int32_t i) const { return {trees_[static_cast<std::size_t>(i)], ids_[static_cast<std::size_t>(i)]}; }
  const Ints &trees_, &ids_;
  std::vector<std::int32_t> order_;
};

constexpr std::string_view kModes[] = {"BRANCH_LEQ", "BRANCH_LT", "BRANCH_GTE", "BRANCH_GT", "BRANCH_EQ", "BRANCH_NEQ"};

/// Nodes and votes; `prefix` is "class" or "target". `targets` must be set.
void read_by_name(Trees& trees, const Attrs& attrs, const std::string& prefix) {
  const Ints tree_ids = attrs.get_ints("nodes_treeids"), ids = attrs.get_ints("nodes_nodeids"), features = attrs.get_ints("nodes_featureids");
  const Ints yes = attrs.get_ints("nodes_truenodeids"), no = attrs.get_ints("nodes_falsenodeids"), missing = attrs.get_ints("nodes_missing_value_tracks_true");
  const auto modes = attrs.get_strings("nodes_modes");
  const auto splits = numbers(attrs, "nodes_values");
  const std::size_t count = ids.size();
  if (count == 0) reject("has no nodes: nodes_nodeids is empty");
  if (count > kMostNodes) reject("has more than " + std::to_string(kMostNodes) + " nodes");
  constexpr std::string_view kOf = "as nodes_nodeids";
  check_length("nodes_treeids", tree_ids.size(), count, kOf);
  check_length("nodes_featureids", features.size(), count, kOf);
  check_length("nodes_modes", modes.size(), count, kOf);
  check_length("nodes_truenodeids", yes.size(), count, kOf);
  check_length("nodes_falsenodeids", no.size(), count, kOf);
  check_length("nodes_values", splits.size(), count, kOf);
  if (!missing.empty()) check_length("nodes_missing_value_tracks_true", missing.size(), count, kOf);

  const NodeNames names(tree_ids, ids);
  std::vector<TreeNode> nodes(count);
  std::vector<std::int32_t> leaf_of(count, -1), roots;
  for (std::size_t i = 0; i < count; ++i)
    if (modes[i] == "LEAF") {
      leaf_of[i] = static_cast<std::int32_t>(trees.leaves.size());
      trees.leaves.push_back({});
    }
  const auto reach = [&](std::size_t i, std::int64_t id) {
    const std::int32_t child = names.find(tree_ids[i], id);
    if (child < 0) reject(names.name(static_cast<std::int32_t>(i)) + " branches to node " + std::to_string(id) + ", which the tree does not have");
    const std::int32_t leaf = leaf_of[static_cast<std::size_t>(child)];
    return leaf < 0 ? child : ~leaf;
  };
  for (std::size_t i = 0; i < count; ++i) {
    if (leaf_of[i] >= 0) continue;
    TreeNode& node = nodes[i];
    const auto mode = std::find(std::begin(kModes), std::end(kModes), modes[i]);
    if (mode == std::end(kModes)) reject(names.name(static_cast<std::int32_t>(i)) + " has the unknown mode '" + modes[i] + "'");
    node.mode = static_cast<Branch>(mode - std::begin(kModes));
    node.split = splits[i];
    node.feature = features[i];
    if (node.feature < 0 || node.feature >= kMostClasses) reject(names.name(static_cast<std::int32_t>(i)) + " tests feature " + std::to_string(node.feature));
    node.missing_true = !missing.empty() && missing[i] != 0;
    node.yes = reach(i, yes[i]);
    node.no = reach(i, no[i]);
  }
  // A tree begins at the node that is listed first.
  Ints seen;
  for (std::size_t i = 0; i < count; ++i) {
    if (i > 0 && tree_ids[i] == tree_ids[i - 1]) continue;
    seen.push_back(tree_ids[i]);
    roots.push_back(leaf_of[i] < 0 ? static_cast<std::int32_t>(i) : ~leaf_of[i]);
  }
  std::sort(seen.begin(), seen.end());
  if (const auto twice = std::adjacent_find(seen.begin(), seen.end()); twice != seen.end())
    reject("the nodes of tree " + std::to_string(*twice) + " are not listed together");

  const Ints vote_trees = attrs.get_ints(prefix + "_treeids"), vote_nodes = attrs.get_ints(prefix + "_nodeids"), vote_ids = attrs.get_ints(prefix + "_ids");
  const auto weights = numbers(attrs, prefix + "_weights");
  const std::string of = "as " + prefix + "_ids";
  check_length(prefix + "_treeids", vote_trees.size(), vote_ids.size(), of);
  check_length(prefix + "_nodeids", vote_nodes.size(), vote_ids.size(), of);
  check_length(prefix + "_weights", weights.size(), vote_ids.size(), of);
  if (vote_ids.size() > kMostNodes) reject("has more than " + std::to_string(kMostNodes) + " votes");
  std::vector<std::int32_t> leaf_of_vote(vote_ids.size(), -1);
  for (std::size_t v = 0; v < vote_ids.size(); ++v) {
    const std::int32_t node = names.find(vote_trees[v], vote_nodes[v]);
    if (node < 0)
      reject(prefix + "_nodeids names node " + std::to_string(vote_nodes[v]) + " of tree " + std::to_string(vote_trees[v]) + ", which is not there");
    if (vote_ids[v] < 0 || vote_ids[v] >= trees.targets) {
      reject(prefix + "_ids has the entry " + std::to_string(vote_ids[v]) + "; expected 0 to " + std::to_string(trees.targets - 1));
    }
    leaf_of_vote[v] = leaf_of[static_cast<std::size_t>(node)];  // -1: of a node that is no leaf; nobody counts it
    if (leaf_of_vote[v] >= 0) ++trees.leaves[static_cast<std::size_t>(leaf_of_vote[v])].count;
  }
  std::int32_t next = 0;
  for (Leaf& leaf : trees.leaves) {
    leaf.first = next;
    next += leaf.count;
    leaf.count = 0;
  }
  trees.votes.resize(static_cast<std::size_t>(next));
  for (std::size_t v = 0; v < vote_ids.size(); ++v) {
    if (leaf_of_vote[v] < 0) continue;
    Leaf& leaf = trees.leaves[static_cast<std::size_t>(leaf_of_vote[v])];
    trees.votes[static_cast<std::size_t>(leaf.first + leaf.count++)] = {vote_ids[v], weights[v]};
  }
  flatten(
      trees, count, roots, [&](std::int32_t i) { return nodes[static_cast<std::size_t>(i)]; }, [&](std::int32_t i) { return names.name(i); });
}

Aggregate aggregate_of(const std::string& name) {
  if (name == "AVERAGE") return Aggregate::kAverage;
  if (name == "SUM") return Aggregate::kSum;
  if (name == "MIN") return Aggregate::kMin;
  if (name == "MAX") return Aggregate::kMax;
  reject("aggregate_function '" + name + "' is none of AVERAGE, SUM, MIN, MAX");
}

void check_targets(std::int64_t targets) {
  if (targets < 1 || targets > kMostClasses) reject("n_targets is " + std::to_string(targets) + "; expected 1 to " + std::to_string(kMostClasses));
}

/// n_targets, or as many as the votes name.
std::int64_t count_of_targets(const Attrs& attrs, const Ints& ids) {
  const std::int64_t most = ids.empty() ? 0 : *std::max_element(ids.begin(), ids.end());
  return attrs.get_int("n_targets", most < kMostClasses ? most + 1 : most);
}

// TreeEnsemble ----------------------------------------------------------------------------------------------------

std::vector<double> tensor_numbers(const Attrs& attrs, std::string_view name, bool floating) {
  const Tensor tensor = attrs.get_tensor(name);
  if (!tensor.defined()) return {};
  if (floating ? !is_float(tensor.dtype()) : !is_integer(tensor.dtype())) reject(std::string(name) + " has type " + std::string(dtype_name(tensor.dtype())));
  return to_doubles(tensor);
}

}  // namespace

bool Trees::goes_true(const TreeNode& node, double x) const {
  if (node.missing_true && std::isnan(x)) return true;
  switch (node.mode) {
    case Branch::kLeq: return x <= node.split;
    case Branch::kLt: return x < node.split;
    case Branch::kGte: return x >= node.split;
    case Branch::kGt: return x > node.split;
    case Branch::kEq: return x == node.split;
    case Branch::kNeq: return x != node.split;
    case Branch::kMember: break;
  }
  const auto first = members.begin() + node.members;
  return std::find(first, first + node.many, x) != first + node.many;
}

Trees trees_of_classifier(const Attrs& attrs) {
  Trees trees;
  trees.labels = class_labels(attrs, "classlabels_int64s", "classlabels_strings");
  trees.targets = static_cast<std::int64_t>(trees.labels.count());
  trees.transform = post_transform_of(attrs);
  trees.base = numbers(attrs, "base_values");
  read_by_name(trees, attrs, "class");
  const Ints ids = attrs.get_ints("class_ids");
  const auto weights = numbers(attrs, "class_weights");
  trees.all_positive = std::all_of(weights.begin(), weights.end(), [](double w) { return w >= 0; });
  const bool one = !ids.empty() && std::all_of(ids.begin(), ids.end(), [&](std::int64_t id) { return id == ids.front(); });
  if (trees.targets == 2 && one) trees.single = ids.front();
  const auto expected = static_cast<std::size_t>(trees.targets);
  if (!trees.base.empty() && !(trees.single >= 0 && trees.base.size() == 1)) check_length("base_values", trees.base.size(), expected, "one for each class");
  return trees;
}

Trees trees_of_regressor(const Attrs& attrs) {
  Trees trees;
  const Ints ids = attrs.get_ints("target_ids");
  trees.targets = count_of_targets(attrs, ids);
  check_targets(trees.targets);
  trees.aggregate = aggregate_of(attrs.get_string("aggregate_function", "SUM"));
  trees.transform = post_transform_of(attrs);
  trees.base = numbers(attrs, "base_values");
  if (!trees.base.empty()) check_length("base_values", trees.base.size(), static_cast<std::size_t>(trees.targets), "one for each target");
  read_by_name(trees, attrs, "target");
  return trees;
}

Trees trees_of_ensemble(const Attrs& attrs) {
  Trees trees;
  const Ints features = attrs.get_ints("nodes_featureids"), yes = attrs.get_ints("nodes_truenodeids"), no = attrs.get_ints("nodes_falsenodeids");
  const Ints yes_leaf = attrs.get_ints("nodes_trueleafs"), no_leaf = attrs.get_ints("nodes_falseleafs");
  const Ints missing = attrs.get_ints("nodes_missing_value_tracks_true"), targets = attrs.get_ints("leaf_targetids"), roots = attrs.get_ints("tree_roots");
  const auto modes = tensor_numbers(attrs, "nodes_modes", false), splits = tensor_numbers(attrs, "nodes_splits", true);
  const auto weights = tensor_numbers(attrs, "leaf_weights", true);
  trees.members = tensor_numbers(attrs, "membership_values", true);
  const std::size_t count = features.size();
  if (count == 0) reject("has no nodes: nodes_featureids is empty");
  if (count > kMostNodes || targets.size() > kMostNodes) reject("has more than " + std::to_string(kMostNodes) + " nodes");
  constexpr std::string_view kOf = "as nodes_featureids";
  check_length("nodes_modes", modes.size(), count, kOf);
  check_length("nodes_splits", splits.size(), count, kOf);
  check_length("nodes_truenodeids", yes.size(), count, kOf);
  check_length("nodes_falsenodeids", no.size(), count, kOf);
  check_length("nodes_trueleafs", yes_leaf.size(), count, kOf);
  check_length("nodes_falseleafs", no_leaf.size(), count, kOf);
  if (!missing.empty()) check_length("nodes_missing_value_tracks_true", missing.size(), count, kOf);
  check_length("leaf_weights", weights.size(), targets.size(), "as leaf_targetids");
  if (roots.empty()) reject("has no trees: tree_roots is empty");

  trees.targets = count_of_targets(attrs, targets);
  check_targets(trees.targets);
  const std::int64_t aggregate = attrs.get_int("aggregate_function", 1), transform = attrs.get_int("post_transform", 0);
  if (aggregate < 0 || aggregate > 3) reject("aggregate_function is " + std::to_string(aggregate) + "; expected 0 to 3");
  if (transform < 0 || transform > 4) reject("post_transform is " + std::to_string(transform) + "; expected 0 to 4");
  trees.aggregate = static_cast<Aggregate>(aggregate);
  trees.transform = static_cast<PostTransform>(transform);

  for (std::size_t i = 0; i < targets.size(); ++i) {
    if (targets[i] < 0 || targets[i] >= trees.targets)
      reject("leaf_targetids has the entry " + std::to_string(targets[i]) + "; expected 0 to " + std::to_string(trees.targets - 1));
    trees.leaves.push_back({static_cast<std::int32_t>(i), 1});
    trees.votes.push_back({targets[i], weights[i]});
  }
  const auto name_of = [](std::int64_t i) { return "node " + std::to_string(i); };
  std::vector<TreeNode> nodes(count);
  std::size_t next_member = 0;
  for (std::size_t i = 0; i < count; ++i) {
    TreeNode& node = nodes[i];
    const auto self = static_cast<std::int64_t>(i);
    if (!(modes[i] >= 0 && modes[i] <= 6)) reject(name_of(self) + " has the unknown mode " + std::to_string(static_cast<std::int64_t>(modes[i])));
    node.mode = static_cast<Branch>(static_cast<int>(modes[i]));
    node.split = splits[i];
    node.feature = features[i];
    if (node.feature < 0 || node.feature >= kMostClasses) reject(name_of(self) + " tests feature " + std::to_string(node.feature));
    node.missing_true = !missing.empty() && missing[i] != 0;
    const auto child = [&](std::int64_t id, bool leaf, std::string_view list) {
      const std::size_t limit = leaf ? trees.leaves.size() : count;
      if (id < 0 || id >= static_cast<std::int64_t>(limit)) {
        reject(name_of(self) + " branches to " + (leaf ? "leaf " : "node ") + std::to_string(id) + " (" + std::string(list) + "); there are " +
               std::to_string(limit));
      }
      return leaf ? ~static_cast<std::int32_t>(id) : static_cast<std::int32_t>(id);
    };
    node.yes = child(yes[i], yes_leaf[i] != 0, "nodes_truenodeids");
    node.no = child(no[i], no_leaf[i] != 0, "nodes_falsenodeids");
    if (node.mode == Branch::kMember) {
      node.members = static_cast<std::int32_t>(next_member);
      while (next_member < trees.members.size() && !std::isnan(trees.members[next_member])) ++next_member;
      if (next_member == trees.members.size() && static_cast<std::size_t>(node.members) == next_member) {
        reject("membership_values has fewer sets than there are nodes of mode BRANCH_MEMBER");
      }
      node.many = static_cast<std::int32_t>(next_member) - node.members;
      if (next_member < trees.members.size()) ++next_member;
    }
  }
  std::vector<std::int32_t> starts;
  for (const auto root : roots) {
    if (root < 0 || root >= static_cast<std::int64_t>(count))
      reject("tree_roots has the entry " + std::to_string(root) + "; there are " + std::to_string(count) + " nodes");
    starts.push_back(static_cast<std::int32_t>(root));
  }
  flatten(
      trees, count, starts, [&](std::int32_t i) { return nodes[static_cast<std::size_t>(i)]; }, name_of);
  return trees;
}

}  // namespace lathe::ops
