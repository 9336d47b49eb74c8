// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The definition of an operator: all that the rest of Lathe asks of an op, filled in by src/ops/<op>/<op>.cpp.
//
// After import every node is in the op's *canonical* form (the newest version's semantics); `upgrade` gets it there.

#include <functional>
#include <limits>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/graph.h"
#include "lathe/status.h"

namespace lathe::loops {
class RegionBuilder;
}

namespace lathe::ops {

/// Of ops that no file has: what expansions are made of where the format has no op for it.
inline constexpr std::string_view kOwnDomain = "lathe.internal";

using ir::Attrs;
using ir::Dim;
using ir::Node;
using ir::Shape;
using ir::Value;

/// What an op's version says, in a compact text that the registry parses (see schema.h for the grammar):
///   {13, "input:T shape:int64 -> output:T", "axis:int=-1 mode:string=nearest scales:floats?", "T: float16 float double bfloat16"}
/// "name?" optional, "name*" variadic (>= 0), "name+" variadic (>= 1); "name:int=0" default, "name:int" required, "name:int?" optional.
struct VersionDef {
  int since;
  std::string_view signature;
  std::string_view attributes;
  std::string_view types;
  bool deprecated = false;  ///< the format withdrew the op at this version (an upgrade may still read it)
};

/// Error bound of a candidate against the reference; |err| <= absolute + relative * |expected| unless `contraction`, where it is
/// c * eps * sqrt(K) * sum|a||b| (c = 2 exact, 64 fast).
struct Tolerance {
  double relative = 0;
  double absolute = 0;
  bool contraction = false;
};

/// Shape rule's view of a node: types, known contents, attributes; sets the outputs.
class InferContext {
 public:
  virtual ~InferContext() = default;
  virtual Node& node() = 0;
  const Attrs& attrs() { return node().attrs; }
  std::size_t input_count() { return node().inputs.size(); }
  bool has_input(std::size_t i) { return node().input(i) != nullptr; }
  /// Precondition for the next four: has_input(i).
  DType dtype(std::size_t i) { return node().input(i)->dtype(); }
  const std::optional<Shape>& shape(std::size_t i) { return node().input(i)->type.shape; }
  /// Elements of a small integer (or bool) tensor when known, constants included.
  virtual std::optional<std::vector<Dim>> content(std::size_t i) = 0;
  /// The constant itself, or an undefined Tensor.
  virtual Tensor constant(std::size_t i) = 0;
  virtual void set_type(std::size_t output, ir::Type type) = 0;
  void set(std::size_t output, DType dtype, Shape shape) { set_type(output, ir::Type::tensor(dtype, std::move(shape))); }
  void set_unknown(std::size_t output, DType dtype) { set_type(output, ir::Type::tensor(dtype)); }
  virtual void set_content(std::size_t output, std::vector<Dim> content) = 0;
  /// A new symbol for an extent that only the data tells.
  virtual Dim fresh_symbol() = 0;
  /// True when `dim`, an element of a content, is surely an extent: no symbol in it stands for an unknown *element*, which might be
  /// negative (Reshape's -1).
  virtual bool is_extent(const Dim& dim) = 0;
  virtual std::int64_t opset() = 0;
  /// Infers a nested graph with these input types and returns its output types.
  virtual std::vector<ir::Type> infer_subgraph(ir::Graph& graph, std::span<const ir::Type> inputs) = 0;
  /// Throws Error(kInvalidModel) at this node.
  [[noreturn]] virtual void fail(std::string message) = 0;
};

/// The reference's view of a node: concrete tensors in, concrete tensors out.
class RefContext {
 public:
  virtual ~RefContext() = default;
  virtual const Node& node() const = 0;
  const Attrs& attrs() const { return node().attrs; }
  virtual std::size_t input_count() const = 0;
  virtual bool has_input(std::size_t i) const = 0;
  virtual const Tensor& input(std::size_t i) const = 0;
  virtual std::size_t output_count() const = 0;
  virtual bool wants_output(std::size_t i) const = 0;
  virtual void set_output(std::size_t i, Tensor tensor) = 0;
  /// Runs a nested graph (If, Loop, Scan) with these inputs.
  virtual std::vector<Tensor> run_subgraph(const ir::Graph& graph, std::span<const Tensor> inputs) = 0;
  /// Loops that would take more trips than this fail.
  virtual std::int64_t most_trips() const { return std::numeric_limits<std::int64_t>::max(); }
  [[noreturn]] virtual void fail(std::string message) const = 0;

  /// What a reference made of the node's attributes and its inputs' types alone and need not make at every run (a table, a compiled pattern):
  /// found again where the caller has a place that lasts as long as the node, else made anew. Each reference asks for one type T.
  template <class T, class Make>
  std::shared_ptr<const T> kept(const Make& make) {
    std::shared_ptr<const void>* place = kept_place();
    if (!place) return std::shared_ptr<const T>(new T(make()));  // T need not move
    if (!*place) *place = std::shared_ptr<const T>(new T(make()));
    return std::static_pointer_cast<const T>(*place);
  }

 protected:
  virtual std::shared_ptr<const void>* kept_place() { return nullptr; }
};

/// Rewrites a node of an older opset into the canonical form (may insert nodes before it).
struct UpgradeContext {
  ir::Graph& graph;
  Node& node;
  int from_version;  ///< the op version (since_version) in force in the file
  /// A constant inserted before the node.
  Value* constant(std::string_view hint, Tensor tensor);
};

/// What `expand` gets: types and shapes of the node's inputs are inferred, its opset is canonical.
struct ExpandContext {
  ir::Graph& graph;
  Node& node;
  /// A constant that the new nodes read.
  Value* constant(std::string_view hint, Tensor tensor);
  /// A node of ai.onnx (or `domain`) before `node`, with one output whose name begins with the hint; its sources are the node's.
  Value* add(std::string_view op, std::vector<Value*> inputs, Attrs attrs = {}, std::string_view hint = {}, std::string_view domain = {});
  Node* add_node(std::string_view op, std::vector<Value*> inputs, std::size_t outputs, Attrs attrs = {}, std::string_view domain = {});
  /// Output `index` of `node` is `value` from now on; nothing where the node has no such output.
  void replace(std::size_t index, Value* value);
  const Attrs& attrs() const { return node.attrs; }
  /// Throws Error(kInvalidModel) at the node.
  [[noreturn]] void fail(std::string message) const;
};

struct OpDef {
  std::string_view domain = "";
  std::string_view name;
  std::vector<VersionDef> versions;            ///< oldest first, every version of the format
  void (*upgrade)(UpgradeContext&) = nullptr;  ///< nullptr: older versions mean the same
  void (*infer)(InferContext&) = nullptr;
  void (*reference)(RefContext&) = nullptr;  ///< the defining loop
  void (*oracle)(RefContext&) = nullptr;     ///< blocked oracle for big problems; nullptr: the reference serves
  Tolerance tolerance{};
  /// Lowers the node to stages of the region language; false = this instance cannot (the reason is set in the builder).
  bool (*lower)(const Node& node, loops::RegionBuilder& builder) = nullptr;
  /// Replaces the node by nodes of other ops that compute the same within `tolerance` and which passes and kernels know: for ops that
  /// are compositions. The nodes are inserted before `context.node`, whose uses they take over; the caller erases it. False: this
  /// instance stays as it is. An op without `reference` is evaluated by what it expands to.
  bool (*expand)(ExpandContext& context) = nullptr;
  bool deterministic = true;  ///< false: RandomNormal...; never folded or merged
  std::string_view doc;       ///< one line for docs/ops.md
};

}  // namespace lathe::ops
