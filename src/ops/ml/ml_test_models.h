// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Models of ai.onnx.ml made of random numbers, for the tests of their kernels.

#include <cmath>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "ir/graph.h"
#include "ops/candidate.h"
#include "regions/match.h"

namespace lathe::ops::testing {

struct Random {
  std::uint64_t state;
  std::int64_t below(std::int64_t n) {
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return static_cast<std::int64_t>(state >> 33) % n;
  }
  double number() { return static_cast<double>(below(2001) - 1000) / 250; }
};

struct Forest {
  std::int64_t trees = 1, depth = 3, features = 4, targets = 1;
  std::vector<std::string> modes{"BRANCH_LEQ"};
  bool missing = false, whole = false;
  bool all_vote = false;  ///< each leaf for each target, in order
};

/// The lists of a random TreeEnsembleClassifier (prefix "class") or -Regressor ("target").
inline ir::Attrs forest(const Forest& f, const std::string& prefix, Random& random) {
  std::vector<std::int64_t> trees, ids, features, yes, no, missing, vote_trees, vote_nodes, vote_ids;
  std::vector<std::string> modes;
  std::vector<float> splits, weights;
  for (std::int64_t tree = 0; tree < f.trees; ++tree) {
    const std::size_t first = ids.size();
    const std::function<std::int64_t(std::int64_t)> grow = [&](std::int64_t level) {
      const std::size_t at = ids.size();
      const auto id = static_cast<std::int64_t>(at - first);
      const bool leaf = level == f.depth || (level > 0 && random.below(5) == 0);
      trees.push_back(tree);
      ids.push_back(id);
      features.push_back(leaf ? 0 : random.below(f.features));
      modes.push_back(leaf ? "LEAF" : f.modes[static_cast<std::size_t>(random.below(static_cast<std::int64_t>(f.modes.size())))]);
      splits.push_back(leaf ? 0 : static_cast<float>(f.whole ? random.below(5) - 2 : random.number()));
      missing.push_back(f.missing && !leaf ? random.below(2) : 0);
      yes.push_back(0);
      no.push_back(0);
      if (leaf) {
        for (std::int64_t vote = f.all_vote ? f.targets - 1 : random.below(f.targets + 1); vote >= 0; --vote) {
          vote_trees.push_back(tree);
          vote_nodes.push_back(id);
          vote_ids.push_back(f.all_vote ? f.targets - 1 - vote : random.below(f.targets));
          weights.push_back(static_cast<float>(random.number()));
        }
        return id;
      }
      const std::int64_t down = grow(level + 1);
      yes[at] = down;
      const std::int64_t other = grow(level + 1);
      no[at] = other;
      return id;
    };
    grow(0);
  }
  ir::Attrs attrs;
  attrs.set("nodes_treeids", trees);
  attrs.set("nodes_nodeids", ids);
  attrs.set("nodes_featureids", features);
  attrs.set("nodes_modes", modes);
  attrs.set("nodes_values", splits);
  attrs.set("nodes_truenodeids", yes);
  attrs.set("nodes_falsenodeids", no);
  attrs.set("nodes_missing_value_tracks_true", missing);
  attrs.set(prefix + "_treeids", vote_trees);
  attrs.set(prefix + "_nodeids", vote_nodes);
  attrs.set(prefix + "_ids", vote_ids);
  attrs.set(prefix + "_weights", weights);
  return attrs;
}

inline Tensor features_of(DType dtype, Dims dims, Random& random) {
  Tensor x(dtype, std::move(dims));
  for (std::int64_t i = 0; i < x.size(); ++i) {
    const std::int64_t draw = random.below(20);
    if (is_float(dtype)) x.set_from_double(i, draw == 0 ? std::nan("") : draw < 6 ? static_cast<double>(draw - 3) : random.number());
    else x.set_from_int64(i, random.below(7) - 3);
  }
  return x;
}

/// A TreeEnsemble's: one complete tree of depth 4 over three features, of which two more begin at its second and third node. Two targets.
inline ir::Attrs ensemble(DType dtype, bool with_members, Random& random) {
  std::vector<std::int64_t> features, yes, no, yes_leaf, no_leaf, missing, targets;
  std::vector<double> splits, weights, members;
  std::vector<std::uint8_t> modes;
  const std::int64_t inner = 15;
  for (std::int64_t i = 0; i < inner; ++i) {
    features.push_back(random.below(3));
    modes.push_back(static_cast<std::uint8_t>(random.below(with_members ? 7 : 6)));
    if (modes.back() == 6) members.insert(members.end(), {static_cast<double>(random.below(4) - 2), 1, std::nan("")});
    splits.push_back(static_cast<double>(random.below(5) - 2));
    missing.push_back(random.below(2));
    const bool last = 2 * i + 1 >= inner;
    yes.push_back(last ? 2 * i + 1 - inner : 2 * i + 1);
    no.push_back(last ? 2 * i + 2 - inner : 2 * i + 2);
    yes_leaf.push_back(last);
    no_leaf.push_back(last);
  }
  for (int leaf = 0; leaf < 16; ++leaf) {
    targets.push_back(random.below(2));
    weights.push_back(random.number());
  }
  const auto numbers = [&](const std::vector<double>& v) {
    Tensor t(dtype, {static_cast<std::int64_t>(v.size())});
    for (std::size_t i = 0; i < v.size(); ++i) t.set_from_double(static_cast<std::int64_t>(i), v[i]);
    return t;
  };
  ir::Attrs attrs;
  attrs.set("nodes_featureids", features);
  attrs.set("nodes_modes", Tensor::from<std::uint8_t>(DType::kUint8, {inner}, modes));
  attrs.set("nodes_splits", numbers(splits));
  attrs.set("nodes_truenodeids", yes);
  attrs.set("nodes_falsenodeids", no);
  attrs.set("nodes_trueleafs", yes_leaf);
  attrs.set("nodes_falseleafs", no_leaf);
  attrs.set("nodes_missing_value_tracks_true", missing);
  attrs.set("leaf_targetids", targets);
  attrs.set("leaf_weights", numbers(weights));
  attrs.set("tree_roots", std::vector<std::int64_t>{0, 1, 2});
  attrs.set("n_targets", 2);
  if (!members.empty()) attrs.set("membership_values", numbers(members));
  return attrs;
}

inline std::vector<float> floats_of(std::size_t count, Random& random) {
  std::vector<float> v(count);
  for (float& f : v) f = static_cast<float>(random.number());
  return v;
}

/// An SVMRegressor's.
inline ir::Attrs support_vectors(std::size_t count, std::size_t features, Random& random) {
  ir::Attrs attrs;
  attrs.set("kernel_params", std::vector<float>{0.05f, 0.5f, 2.0f});
  attrs.set("coefficients", floats_of(count, random));
  attrs.set("support_vectors", floats_of(features * count, random));
  attrs.set("rho", floats_of(1, random));
  attrs.set("n_supports", static_cast<std::int64_t>(count));
  return attrs;
}

/// An SVMClassifier's with support vectors.
inline ir::Attrs support_vectors_of_classes(std::size_t classes, std::size_t features, bool probable, Random& random) {
  const std::size_t pairs = classes * (classes - 1) / 2;
  std::vector<std::int64_t> per_class, labels;
  std::size_t count = 0;
  for (std::size_t c = 0; c < classes; ++c) {
    per_class.push_back(1 + random.below(4));
    labels.push_back(random.below(100));
    count += static_cast<std::size_t>(per_class.back());
  }
  ir::Attrs attrs;
  attrs.set("kernel_params", std::vector<float>{0.05f, 0.5f, 2.0f});
  attrs.set("vectors_per_class", per_class);
  attrs.set("classlabels_ints", labels);
  attrs.set("coefficients", floats_of((classes - 1) * count, random));
  attrs.set("support_vectors", floats_of(features * count, random));
  attrs.set("rho", floats_of(pairs, random));
  if (probable) {
    attrs.set("prob_a", floats_of(pairs, random));
    attrs.set("prob_b", floats_of(pairs, random));
  }
  return attrs;
}

/// An SVMClassifier's without: a linear model.
inline ir::Attrs linear_classes(std::size_t classes, std::size_t features, Random& random) {
  std::vector<std::int64_t> labels;
  for (std::size_t c = 0; c < classes; ++c) labels.push_back(static_cast<std::int64_t>(classes - c));
  ir::Attrs attrs;
  attrs.set("coefficients", floats_of(classes * features, random));
  attrs.set("rho", floats_of(1, random));
  attrs.set("classlabels_ints", labels);
  return attrs;
}

/// A node of ai.onnx.ml alone in a graph, of any number of rows ("n") where it takes a matrix.
struct Alone {
  ir::Graph graph;
  ir::Node* node = nullptr;
  Region region;
  Alone(const std::string& op, ir::Attrs attrs, DType type, const Dims& dims, std::int64_t targets, bool labels_used = true, bool scores_used = true) {
    const bool classifies = op.ends_with("Classifier"), is_matrix = dims.size() == 2;
    const ir::Dim count = is_matrix ? ir::Dim::symbol("n") : ir::Dim(1);
    ir::Value* in = graph.add_input("x", ir::Type::tensor(type, is_matrix ? ir::Shape{count, ir::Dim(dims[1])} : ir::Shape{ir::Dim(dims[0])}));
    std::vector<std::string> names{"z"};
    if (classifies) names = {labels_used ? "y" : "", scores_used ? "z" : ""};
    node = graph.add_node("ai.onnx.ml", op, {in}, names, std::move(attrs));
    for (ir::Value* out : node->outputs) {
      if (!out) continue;
      if (out->name == "y") out->type = ir::Type::tensor(DType::kInt64, {count});
      else out->type = ir::Type::tensor(op == "TreeEnsemble" ? type : DType::kFloat32, {count, ir::Dim(targets)});
      graph.add_output(out);
    }
    region = regions::make_region("ai.onnx.ml::" + op, {node});
  }
  Alone(const Alone&) = delete;
  Alone& operator=(const Alone&) = delete;
};

}  // namespace lathe::ops::testing
