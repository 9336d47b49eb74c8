// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See propose.h. Greedy, in topological order: a node joins the region of one of its producers when nothing outside the region lies between
// them, and when fusing brings something: the value passed on is then an expression or stays in cache instead of going through memory.

#include "regions/loops/propose.h"

#include <algorithm>
#include <unordered_map>

#include "loops/builder.h"
#include "ops/registry.h"
#include "regions/match.h"

namespace lathe::regions {
namespace {

constexpr std::size_t kMaxNodes = 24, kMaxTensors = 16;

bool lowers(const ir::Node& node) {
  const ops::OpDef* op = ops::find_op(node.domain, node.op);
  if (!op || !op->lower) return false;
  for (const auto* list : {&node.inputs, &node.outputs})
    for (const ir::Value* value : *list)
      if (value && (!value->type.is_tensor() || !value->has_shape())) return false;
  // An op may decline this instance: as a member it would cost its neighbours their fusion.
  loops::RegionBuilder scratch;
  return op->lower(node, scratch);
}

struct Group {
  std::vector<const ir::Node*> nodes;
  std::unordered_set<const ir::Node*> members;
};

class Fuser {
 public:
  Fuser(const ir::Graph& graph, const std::unordered_set<const ir::Node*>& taken) {
    const auto nodes = graph.nodes();
    for (std::size_t i = 0; i < nodes.size(); ++i) position_[nodes[i]] = i;
    for (const ir::Node* node : nodes) {
      if (taken.count(node)) continue;
      if (!lowers(*node)) continue;
      place(node);
    }
  }

  std::vector<ops::Region> regions() const {
    std::vector<ops::Region> result;
    for (const Group& group : groups_)
      if (!group.nodes.empty()) result.push_back(make_region("loops", group.nodes));
    return result;
  }

 private:
  void place(const ir::Node* node) {
    // The latest producer's region first: it is nearest.
    std::vector<std::size_t> wanted;
    for (const ir::Value* input : node->inputs)
      if (input && input->producer)
        if (const auto found = group_of_.find(input->producer); found != group_of_.end())
          if (std::find(wanted.begin(), wanted.end(), found->second) == wanted.end()) wanted.push_back(found->second);
    std::sort(wanted.begin(), wanted.end(),
              [&](std::size_t a, std::size_t b) { return position_.at(groups_[a].nodes.back()) > position_.at(groups_[b].nodes.back()); });
    for (const std::size_t g : wanted) {
      if (!can_join(groups_[g], node)) continue;
      // Other producers' regions come along where that makes no cycle.
      add(g, node);
      for (const std::size_t other : wanted)
        if (other != g && !groups_[other].nodes.empty() && can_merge(g, other)) merge(g, other);
      return;
    }
    groups_.push_back({});
    add(groups_.size() - 1, node);
  }

  void add(std::size_t g, const ir::Node* node) {
    groups_[g].nodes.push_back(node);
    groups_[g].members.insert(node);
    group_of_[node] = g;
  }

  /// True when `from` (outside `group`) is reached from a node of the group.
  bool reached_from(const Group& group, const ir::Value* from, std::unordered_set<const ir::Node*>& seen, std::size_t earliest) const {
    const ir::Node* node = from ? from->producer : nullptr;
    if (!node || group.members.count(node)) return node != nullptr;
    if (position_.count(node) == 0 || position_.at(node) < earliest || !seen.insert(node).second) return false;
    // A fused group is one step: all that it reads comes before it.
    if (const auto g = group_of_.find(node); g != group_of_.end()) {
      for (const ir::Node* member : groups_[g->second].nodes)
        for (const ir::Value* input : member->inputs)
          if (!(input && input->producer && groups_[g->second].members.count(input->producer)) && reached_from(group, input, seen, earliest)) return true;
      return false;
    }
    return std::any_of(node->inputs.begin(), node->inputs.end(), [&](const ir::Value* input) { return reached_from(group, input, seen, earliest); });
  }

  bool path_outside(const Group& group, const std::vector<const ir::Node*>& nodes) const {
    const std::unordered_set<const ir::Node*> joining(nodes.begin(), nodes.end());
    std::size_t earliest = position_.size();
    for (const ir::Node* node : group.nodes) earliest = std::min(earliest, position_.at(node));
    std::unordered_set<const ir::Node*> seen;
    for (const ir::Node* node : nodes)
      for (const ir::Value* input : node->inputs) {
        if (!input || !input->producer || group.members.count(input->producer) || joining.count(input->producer)) continue;
        if (reached_from(group, input, seen, earliest)) return true;
      }
    return false;
  }

  bool can_join(const Group& group, const ir::Node* node) const {
    if (group.nodes.size() >= kMaxNodes) return false;
    if (path_outside(group, {node})) return false;
    std::vector<const ir::Node*> nodes = group.nodes;
    nodes.push_back(node);
    if (!small_enough(nodes)) return false;
    // A value made here and read by many elsewhere as well gains little, but costs nothing either: it stays an output of the region.
    return true;
  }

  static bool small_enough(const std::vector<const ir::Node*>& nodes) {
    const ops::Region region = make_region("loops", nodes);
    return region.inputs.size() <= kMaxTensors && region.outputs.size() <= kMaxTensors;
  }

  bool can_merge(std::size_t a, std::size_t b) const {
    if (groups_[a].nodes.size() + groups_[b].nodes.size() > kMaxNodes) return false;
    if (path_outside(groups_[a], groups_[b].nodes) || path_outside(groups_[b], groups_[a].nodes)) return false;
    std::vector<const ir::Node*> nodes = groups_[a].nodes;
    nodes.insert(nodes.end(), groups_[b].nodes.begin(), groups_[b].nodes.end());
    return small_enough(nodes);
  }

  void merge(std::size_t into, std::size_t from) {
    for (const ir::Node* node : groups_[from].nodes) add(into, node);
    groups_[from] = {};
    std::sort(groups_[into].nodes.begin(), groups_[into].nodes.end(), [&](const ir::Node* x, const ir::Node* y) { return position_.at(x) < position_.at(y); });
  }

  std::unordered_map<const ir::Node*, std::size_t> position_, group_of_;
  std::vector<Group> groups_;
};

}  // namespace

std::vector<ops::Region> propose_loops(const ir::Graph& graph, const std::unordered_set<const ir::Node*>& taken) { return Fuser(graph, taken).regions(); }

}  // namespace lathe::regions
