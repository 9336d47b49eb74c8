// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See attention.h.

#include "regions/attention/attention.h"

#include <algorithm>

namespace lathe::regions {
namespace {

using Nodes = std::vector<const ir::Node*>;
constexpr std::size_t kMostMoves = 16;  ///< in one chain

struct Core {
  const ir::Node *scores = nullptr, *softmax = nullptr, *product = nullptr;
  const ir::Node *factor = nullptr, *add = nullptr;
  const ir::Node *is_nan = nullptr, *where = nullptr;  ///< exporters of masked attention: rows without a key become zero
  ir::Value* mask = nullptr;
  float scale = 1;
  Nodes nodes() const {
    Nodes list{scores};
    for (const ir::Node* node : {factor, add, softmax, is_nan, where})
      if (node) list.push_back(node);
    list.push_back(product);
    return list;
  }
};

/// From the softmax's input back to the first product.
bool match_scores(const ir::Value* value, Core& core) {
  const auto producer = [&](const ir::Value* of) {
    return of && of->producer && of->producer->graph == core.product->graph && read_once(of) ? of->producer : nullptr;
  };
  const ir::Node* node = producer(value);
  if (!node) return false;
  if (node->is("Add") && !core.add) {
    for (const std::size_t i : {0, 1}) {
      Core with = core;
      with.add = node;
      with.mask = node->input(1 - i);
      if (with.mask == node->input(i) || !with.mask->has_shape() || !match_scores(node->input(i), with)) continue;
      // The scores have the sum's shape: the mask alone is broadcast.
      if (!node->output()->has_shape() || with.scores->output()->shape() != node->output()->shape()) continue;
      core = with;
      return true;
    }
    return false;
  }
  ir::Value* operand = nullptr;
  if (const auto factor = core.factor ? std::nullopt : scaling(*node, operand)) {
    core.factor = node;
    core.scale = *factor;
    node = producer(operand);
  }
  if (!node || !node->is("MatMul") || !node->output()->has_shape()) return false;
  core.scores = node;
  return true;
}

/// Where(IsNaN(x), 0, x), which alone reads x: a softmax over masked keys alone counts as zero.
bool match_zeroed(const ir::Node& where, Core& core) {
  const ir::Value *zero = where.input(1), *weights = where.input(2);
  const ir::Node* is_nan = where.input(0) ? where.input(0)->producer : nullptr;
  if (!where.is("Where") || !is_nan || !is_nan->is("IsNaN") || is_nan->input(0) != weights || !read_once(is_nan->output())) return false;
  if (!zero || !zero->is_constant() || zero->constant.size() != 1 || zero->constant.as_double(0) != 0) return false;
  if (!weights || weights->uses.size() != 2 || weights->is_graph_output() || !where.output()->has_shape() || !weights->has_shape()) return false;
  if (where.output()->shape() != weights->shape() || is_nan->graph != where.graph || !weights->producer) return false;
  core.is_nan = is_nan;
  core.where = &where;
  core.softmax = weights->producer;
  return true;
}

std::optional<Core> core_of(const ir::Node& product) {
  if (!product.is("MatMul") || !product.input(0) || !product.input(1) || !product.output() || !product.output()->has_shape()) return std::nullopt;
  const ir::Node* weights = product.input(0)->producer;
  if (!weights || weights->graph != product.graph || !read_once(product.input(0))) return std::nullopt;
  Core core;
  core.product = &product;
  core.softmax = weights;
  if (weights->is("Where") && !match_zeroed(*weights, core)) return std::nullopt;
  const ir::Node& softmax = *core.softmax;
  if (!softmax.is("Softmax") || softmax.graph != product.graph || !softmax.output()->has_shape()) return std::nullopt;
  const std::int64_t axis = softmax.attrs.get_int("axis", -1);
  if (axis != -1 && axis != static_cast<std::int64_t>(softmax.output()->shape().size()) - 1) return std::nullopt;
  if (!match_scores(softmax.input(0), core)) return std::nullopt;
  return core;
}

/// The chain of moving nodes above an operand, nearest first, as far as its result has strides.
struct Chain {
  Nodes nodes;
  StridedView view;
  float factor = 1;
};

std::optional<Chain> chain_of(ir::Value* value, const ir::Graph* graph, bool scales, const Nodes* within) {
  struct Link {
    const ir::Node* node;
    std::size_t index;
    std::optional<float> factor;
  };
  if (!value || value->is_constant() || !value->has_shape() || value->graph != graph) return std::nullopt;
  std::vector<Link> links;
  ir::Value* source = value;
  std::vector<ir::Value*> sources{value};
  while (links.size() < kMostMoves && source->producer && source->producer->graph == graph) {
    const ir::Node& node = *source->producer;
    if (within && !contains(*within, &node)) break;
    ir::Value* operand = nullptr;
    const auto factor = scales ? scaling(node, operand) : std::nullopt;
    if (!factor && !moves_elements(node)) break;
    links.push_back({&node, static_cast<std::size_t>(source->producer_index), factor});
    source = factor ? operand : node.input(0);
    if (source->is_constant() || !source->has_shape()) return std::nullopt;
    sources.push_back(source);
  }
  // From the farthest source from which all that follows has strides.
  for (std::size_t from = links.size() + 1; from-- > 0;) {
    Chain chain;
    chain.view = whole_view(sources[from]);
    bool good = true;
    for (std::size_t i = from; i-- > 0 && good;) {
      if (links[i].factor) chain.factor *= *links[i].factor;
      else good = follow(*links[i].node, links[i].index, chain.view);
    }
    if (!good) continue;
    for (std::size_t i = 0; i < from; ++i) chain.nodes.push_back(links[i].node);
    return chain;
  }
  return std::nullopt;
}

struct Chains {
  Chain q, k, v;
  Nodes nodes() const {
    Nodes all;
    for (const Chain* chain : {&q, &k, &v})
      for (const ir::Node* node : chain->nodes)
        if (!contains(all, node)) all.push_back(node);
    return all;
  }
};

std::optional<Chains> chains_of(const Core& core, const Nodes* within) {
  const ir::Graph* graph = core.product->graph;
  auto q = chain_of(core.scores->input(0), graph, true, within), k = chain_of(core.scores->input(1), graph, true, within),
       v = chain_of(core.product->input(1), graph, false, within);
  if (!q || !k || !v) return std::nullopt;
  return Chains{std::move(*q), std::move(*k), std::move(*v)};
}

/// Nodes above the operands whose results nothing outside reads, and no operand is read from: what a region makes inside is stored nowhere.
Nodes private_moves(const Core& core) {
  auto chains = chains_of(core, nullptr);
  if (!chains) return {};
  Nodes allowed = chains->nodes();
  for (bool changed = true; changed;) {
    changed = false;
    const Nodes inner = core.nodes();
    for (const ir::Node* node : allowed) {
      const bool seen = std::any_of(node->outputs.begin(), node->outputs.end(), [&](const ir::Value* output) {
        return output && (output->is_graph_output() || output == core.mask || output == chains->q.view.source || output == chains->k.view.source ||
                          output == chains->v.view.source || std::any_of(output->uses.begin(), output->uses.end(), [&](const ir::Use& use) {
                            return !contains(allowed, use.node) && !contains(inner, use.node);
                          }));
      });
      if (!seen) continue;
      std::erase(allowed, node);
      changed = true;
      break;
    }
    // What no chain reaches any more goes too.
    if (!(chains = chains_of(core, &allowed))) return {};
    const Nodes reached = chains->nodes();
    changed |= reached.size() != allowed.size();
    allowed = reached;
  }
  return allowed;
}

/// Nodes behind the product that only move, each read by the next alone.
Nodes tail_of(const ir::Node& product) {
  Nodes nodes;
  const ir::Value* value = product.output();
  while (nodes.size() < kMostMoves && read_once(value)) {
    const ir::Node* node = value->uses.front().node;
    if (node->graph != product.graph || value->uses.front().index != 0 || !moves_elements(*node)) break;
    if (node->is("Split") || node->is("Slice") || node->is("Gather")) break;
    nodes.push_back(node);
    value = node->output();
  }
  return nodes;
}

std::optional<Place> single(const std::vector<SubAxis>& axis, const ir::Dim& extent) {
  if (axis.empty()) return extent == ir::Dim(1) ? std::optional(Place{}) : std::nullopt;
  if (axis.size() != 1 || axis[0].extent != extent) return std::nullopt;
  return Place{axis[0].axis, axis[0].step};
}

/// Where each index of the product's result lies in the value behind the tail: per axis of the product, sub-axes over the final value.
std::optional<std::vector<std::vector<SubAxis>>> placed_in(const StridedView& tail, const ir::Shape& shape) {
  struct Piece {
    SubAxis at;
    std::int64_t own_step;
  };
  std::vector<std::vector<Piece>> pieces(shape.size());
  for (std::size_t a = 0; a < tail.axes.size(); ++a) {
    ir::Dim inner(1);
    for (std::size_t i = tail.axes[a].size(); i-- > 0;) {
      const SubAxis& sub = tail.axes[a][i];
      const auto step = inner.constant();
      if (!step) return std::nullopt;
      pieces[static_cast<std::size_t>(sub.axis)].push_back({{sub.extent, static_cast<int>(a), *step}, sub.step});
      inner = inner * sub.extent;
    }
  }
  std::vector<std::vector<SubAxis>> result;
  for (auto& axis : pieces) {
    std::sort(axis.begin(), axis.end(), [](const Piece& x, const Piece& y) { return x.own_step > y.own_step; });
    auto& subs = result.emplace_back();
    for (const Piece& piece : axis) subs.push_back(piece.at);
  }
  return result;
}

/// The batch axes of all operands cut alike.
bool match_batch(AttentionBlock& block, const std::vector<std::array<std::vector<SubAxis>, 5>>& axes) {
  AttentionOperand* operands[5] = {&block.q, &block.k, &block.v, &block.out, &block.mask};
  for (const auto& lists : axes) {
    const auto longest = *std::max_element(lists.begin(), lists.end(), [](const auto& x, const auto& y) { return x.size() < y.size(); });
    std::vector<ir::Dim> extents;
    for (const SubAxis& sub : longest) extents.push_back(sub.extent);
    for (std::size_t o = 0; o < 5; ++o) {
      std::vector<SubAxis> subs = lists[o];
      if (subs.size() == 1 && extents.size() > 1) {
        const auto pieces = cut(subs[0], extents);
        if (!pieces) return false;
        subs = *pieces;
      }
      if (!subs.empty() && subs.size() != extents.size()) return false;
      for (std::size_t i = 0; i < extents.size(); ++i) {
        if (!subs.empty() && subs[i].extent != extents[i]) return false;
        operands[o]->batch.push_back(subs.empty() ? Place{} : Place{subs[i].axis, subs[i].step});
      }
    }
    block.batch.insert(block.batch.end(), extents.begin(), extents.end());
  }
  // Neighbours that every operand walks as one.
  for (std::size_t i = 0; i + 1 < block.batch.size();) {
    const auto extent = block.batch[i + 1].constant();
    const bool merges = std::all_of(std::begin(operands), std::end(operands), [&](const AttentionOperand* operand) {
      const Place &outer = operand->batch[i], &inner = operand->batch[i + 1];
      return outer.axis == inner.axis && (outer.axis < 0 || (extent && outer.step == inner.step * *extent));
    });
    if (!merges) {
      ++i;
      continue;
    }
    block.batch[i] = block.batch[i] * block.batch[i + 1];
    block.batch.erase(block.batch.begin() + static_cast<std::ptrdiff_t>(i) + 1);
    for (AttentionOperand* operand : operands) operand->batch.erase(operand->batch.begin() + static_cast<std::ptrdiff_t>(i));
  }
  return block.batch.size() <= 2;
}

std::optional<AttentionBlock> block_of(const Core& core, const Chains& chains, const Nodes& tail) {
  const ir::Shape &scores = core.scores->output()->shape(), &result = core.product->output()->shape();
  const std::size_t rank = scores.size();
  if (rank < 2 || result.size() != rank) return std::nullopt;
  for (const Chain* chain : {&chains.q, &chains.k, &chains.v})
    if (chain->view.axes.size() != rank) return std::nullopt;
  AttentionBlock block;
  block.zeroes = core.where != nullptr;
  block.scale = core.scale * chains.q.factor * chains.k.factor;
  block.queries = scores[rank - 2];
  block.keys = scores[rank - 1];
  ir::Dim depth(1);
  for (const SubAxis& sub : chains.q.view.axes[rank - 1]) depth = depth * sub.extent;
  if (!depth.constant() || !result[rank - 1].constant()) return std::nullopt;
  block.depth = *depth.constant();
  block.value_depth = *result[rank - 1].constant();

  const auto take = [&](AttentionOperand& operand, ir::Value* value, const std::vector<SubAxis>& rows, const ir::Dim& row_extent,
                        const std::vector<SubAxis>& columns, const ir::Dim& column_extent) {
    const auto row = single(rows, row_extent), column = single(columns, column_extent);
    if (!row || !column) return false;
    operand.value = value;
    operand.row = *row;
    operand.column = *column;
    return true;
  };
  StridedView view = whole_view(const_cast<ir::Value*>(core.product->output()));
  ir::Value* out = core.product->output();
  for (const ir::Node* node : tail) {
    if (!follow(*node, 0, view)) return std::nullopt;
    out = node->output();
  }
  const auto placed = placed_in(view, result);
  if (!placed) return std::nullopt;
  const auto &q = chains.q.view.axes, &k = chains.k.view.axes, &v = chains.v.view.axes;
  if (!take(block.q, chains.q.view.source, q[rank - 2], block.queries, q[rank - 1], depth) ||
      !take(block.k, chains.k.view.source, k[rank - 1], block.keys, k[rank - 2], depth) ||
      !take(block.v, chains.v.view.source, v[rank - 2], block.keys, v[rank - 1], result[rank - 1]) ||
      !take(block.out, out, (*placed)[rank - 2], block.queries, (*placed)[rank - 1], result[rank - 1]))
    return std::nullopt;
  block.q.offset = chains.q.view.offset;
  block.k.offset = chains.k.view.offset;
  block.v.offset = chains.v.view.offset;
  block.out.offset.assign(out->shape().size(), 0);
  std::vector<std::vector<SubAxis>> mask(rank);
  if (core.mask) {
    const StridedView whole = whole_view(core.mask);
    if (whole.axes.size() > rank) return std::nullopt;
    std::copy(whole.axes.begin(), whole.axes.end(), mask.end() - static_cast<std::ptrdiff_t>(whole.axes.size()));
    const auto place = [](const std::vector<SubAxis>& axis) { return axis.empty() ? Place{} : Place{axis[0].axis, axis[0].step}; };
    const auto fits = [](const std::vector<SubAxis>& axis, const ir::Dim& extent) { return axis.empty() || axis[0].extent == extent; };
    if (!fits(mask[rank - 2], block.queries) || !fits(mask[rank - 1], block.keys)) return std::nullopt;
    block.mask.value = core.mask;
    block.mask.row = place(mask[rank - 2]);
    block.mask.column = place(mask[rank - 1]);
    block.mask.offset = whole.offset;
  }
  std::vector<std::array<std::vector<SubAxis>, 5>> batch;
  for (std::size_t i = 0; i + 2 < rank; ++i) batch.push_back({q[i], k[i], v[i], (*placed)[i], mask[i]});
  if (!match_batch(block, batch)) return std::nullopt;
  return block;
}

Nodes in_order(const Core& core, const Nodes& moves, const Nodes& tail) {
  Nodes nodes;
  // The order of the graph, which is topological.
  for (const ir::Node* node : core.product->graph->nodes())
    if (contains(moves, node)) nodes.push_back(node);
  const Nodes inner = core.nodes();
  nodes.insert(nodes.end(), inner.begin(), inner.end());
  nodes.insert(nodes.end(), tail.begin(), tail.end());
  return nodes;
}

}  // namespace

std::vector<ops::Region> propose_attention(const ir::Node& node) {
  std::vector<ops::Region> regions;
  const auto core = core_of(node);
  if (!core) return regions;
  const Nodes moves = private_moves(*core), tail = tail_of(node);
  const auto chains = chains_of(*core, &moves);
  if (!chains) return regions;
  for (std::size_t length = tail.size() + 1; length-- > 0;) {
    const Nodes behind(tail.begin(), tail.begin() + static_cast<std::ptrdiff_t>(length));
    if (!block_of(*core, *chains, behind)) continue;
    regions.push_back(make_region("attention", in_order(*core, moves, behind)));
  }
  return regions;
}

AttentionBlock match_attention(const ops::Region& region) {
  // The product of the last MatMul: the tail behind it only moves.
  const auto last = std::find_if(region.nodes.rbegin(), region.nodes.rend(), [](const ir::Node* node) { return node->is("MatMul"); });
  if (last == region.nodes.rend()) throw Error(Code::kInternal, "an attention region without a MatMul");
  const ir::Node& product = **last;
  const auto core = core_of(product);
  const auto chains = core ? chains_of(*core, &region.nodes) : std::nullopt;
  if (!chains) throw Error(Code::kInternal, "an attention region that is none").at_node(product.name, product.op);
  Nodes tail = tail_of(product);
  std::erase_if(tail, [&](const ir::Node* node) { return !contains(region.nodes, node); });
  const auto block = block_of(*core, *chains, tail);
  if (!block || chains->nodes().size() + core->nodes().size() + tail.size() != region.nodes.size())
    throw Error(Code::kInternal, "an attention region with nodes that no match explains").at_node(product.name, product.op);
  return *block;
}

}  // namespace lathe::regions
