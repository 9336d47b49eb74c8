// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Random graphs through the whole pipeline: whatever the passes make of them computes the same, under the same names. Two kinds: exact
// (moves, pointwise work, logic, shape arithmetic, branches; numbers may not change at all, NaN and infinity among them) and smooth
// (convolutions, products, normalisations, activations; numbers may be rounded in another place). A failure prints the graph as text,
// which makes a case for the pass at fault (rewrite_cases.h). --gtest_random_seed=N draws other graphs.

#include <gtest/gtest.h>

#include <fmt/format.h>

#include <algorithm>
#include <random>

#include "ir/text.h"
#include "ir/verify.h"
#include "lathe/status.h"
#include "ops/infer.h"
#include "passes/pass.h"
#include "passes/rewrite_cases.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

class RandomGraph {
 public:
  RandomGraph(unsigned seed, bool smooth) : random_(seed), smooth_(smooth) {
    root_ = std::make_shared<Graph>();
    root_->name = "random";
    const bool free_extent = pick(2) == 0;
    const int inputs = 1 + pick(3);
    for (int i = 0; i < inputs; ++i) {
      ir::Shape shape;
      const int rank = smooth_ ? 2 + 2 * pick(2) : pick(5);
      for (int k = 0; k < rank; ++k) shape.push_back(free_extent && k == 0 ? ir::Dim::symbol("n") : ir::Dim(1 + pick(4)));
      const DType dtype = smooth_ || pick(4) > 0 ? DType::kFloat32 : pick(2) ? DType::kInt32 : DType::kBool;
      values_.push_back(root_->add_input(fmt::format("x{}", i), ir::Type::tensor(dtype, std::move(shape))));
    }
    grow(*root_, 6 + pick(12));
    // Outputs: the last value, and some others.
    std::vector<Value*> made;
    for (Value* value : root_->values()) {
      if (value->producer && value->type.is_tensor()) made.push_back(value);
    }
    for (Value* value : made) {
      if (value == made.back() || pick(6) == 0) root_->add_output(value);
    }
    int number = 0;
    ir::for_each_node_deep(*root_, [&](Node& node) { node.sources.push_back(fmt::format("#{}", number++)); });
  }

  std::shared_ptr<Graph> graph() const { return root_; }

 private:
  int pick(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  template <class T>
  T one_of(std::initializer_list<T> items) {
    return *(items.begin() + pick(static_cast<int>(items.size())));
  }

  // Values -----------------------------------------------------------------------------------------------------------------------
  Value* any() { return values_[static_cast<std::size_t>(pick(static_cast<int>(values_.size())))]; }
  Value* recent() {
    return pick(3) ? values_[values_.size() - 1 - static_cast<std::size_t>(pick(static_cast<int>(std::min<std::size_t>(4, values_.size()))))] : any();
  }
  static bool is_float32(const Value* v) { return v->dtype() == DType::kFloat32; }
  static std::size_t rank(const Value* v) { return v->shape().size(); }
  static std::int64_t extent(const Value* v, std::size_t axis) { return v->shape()[axis].constant().value_or(0); }

  double special() {
    static constexpr double kInfinity = std::numeric_limits<double>::infinity();
    if (smooth_) return one_of<double>({0.5, 1.0, -1.0, 2.0, 0.25, 3.0, 1.5});
    return one_of<double>({0.0, -0.0, 1.0, 1.0, 0.0, -1.0, 2.0, 0.5, 3.0, 6.0, kInfinity, std::numeric_limits<double>::quiet_NaN()});
  }
  Value* constant(Graph& graph, DType dtype, Dims dims, bool splat) {
    Tensor tensor(dtype, std::move(dims));
    const double number = special();
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      const double x = splat ? number : is_float(dtype) && pick(2) ? pick(100) / 25.0 - 2 : special();
      if (is_float(dtype)) tensor.set_from_double(i, x);
      else tensor.set_from_int64(i, dtype == DType::kBool ? x > 0.6 : x != x ? 0 : static_cast<std::int64_t>(std::clamp(x, -3.0, 6.0)));
    }
    return graph.add_constant(graph.unique_name("k"), std::move(tensor));
  }
  Value* ints(Graph& graph, std::vector<std::int64_t> values) { return graph.add_constant(graph.unique_name("i"), Tensor::vector(values)); }
  /// A constant that broadcasts with `x`: a number, a row, one along a single axis, or as wide.
  Value* companion(Graph& graph, const Value* x) {
    Dims dims;
    const int kind = pick(5);
    for (std::size_t i = 0; i < rank(x); ++i) dims.push_back(kind == 4 || (kind == 3 && pick(2)) ? std::max<std::int64_t>(1, extent(x, i)) : 1);
    if (kind <= 1) dims.clear();
    if (kind == 2 && !dims.empty()) dims[dims.size() - 1] = std::max<std::int64_t>(1, extent(x, rank(x) - 1));
    if (smooth_ && kind == 3 && dims.size() == 4) dims = {std::max<std::int64_t>(1, extent(x, 1)), 1, 1};
    return constant(graph, x->dtype(), std::move(dims), pick(2) == 0);
  }

  /// Adds a node and infers; what does not hold is taken out again.
  std::vector<Value*> add(Graph& graph, const char* op, std::vector<Value*> inputs, ir::Attrs attrs = {}, int outputs = 1) {
    std::vector<std::string> names;
    for (int i = 0; i < outputs; ++i) names.push_back(fmt::format("v{}", next_name_++));
    Node* node = graph.add_node("", op, std::move(inputs), names, std::move(attrs));
    bool good = true;
    try {
      ops::infer_graph(graph);
    } catch (const Error&) {
      good = false;
    }
    std::int64_t elements = 1;
    for (const Value* value : node->outputs) {
      good = good && value->type.is_tensor() && value->has_shape();
      if (!good) break;
      for (const ir::Dim& dim : value->shape()) elements *= dim.constant().value_or(3);
    }
    if (!good || elements > 400) {
      graph.erase(node);
      return {};
    }
    values_.insert(values_.end(), node->outputs.begin(), node->outputs.end());
    return node->outputs;
  }
  template <class T>
  static ir::Attrs attr(const char* name, T value) {
    ir::Attrs attrs;
    attrs.set(name, std::move(value));
    return attrs;
  }

  // Nodes ------------------------------------------------------------------------------------------------------------------------
  void grow(Graph& graph, int count) {
    for (int i = 0; i < count; ++i) {
      if (smooth_) smooth_node(graph);
      else exact_node(graph);
    }
  }

  void exact_node(Graph& graph) {
    Value* x = recent();
    switch (pick(24)) {
      case 0:
      case 1: unary(graph, x); break;
      case 2:
      case 3:
      case 4: binary_with_constant(graph, x); break;
      case 5: binary(graph, x, any()); break;
      case 6: clip(graph, x); break;
      case 7:
      case 8:
      case 9: transpose(graph, x); break;
      case 10:
      case 11: reshape(graph, x); break;
      case 12:
      case 13: slice(graph, x); break;
      case 14: split(graph, x); break;
      case 15:
      case 16: concat(graph, x); break;
      case 17: cast(graph, x); break;
      case 18: select(graph, x); break;
      case 19: shape_of(graph, x); break;
      case 20: copies(graph, x); break;
      case 21: padded(graph, x); break;
      case 22: compare(graph, x); break;
      default: branch(graph); break;
    }
  }

  void smooth_node(Graph& graph) {
    Value* x = recent();
    switch (pick(12)) {
      case 0: add(graph, one_of({"Sigmoid", "Tanh", "Relu", "Abs", "HardSigmoid"}), {x}); break;
      case 1:
      case 2: add(graph, one_of({"Mul", "Add", "Sub", "Div"}), {x, companion(graph, x)}); break;
      case 3: add(graph, one_of({"Mul", "Add", "Sub"}), {companion(graph, x), x}); break;
      case 4: add(graph, one_of({"Mul", "Add"}), {x, any()}); break;
      case 5:
      case 6: convolution(graph, x); break;
      case 7: product(graph, x); break;
      case 8: normalisation(graph, x); break;
      case 9: transpose(graph, x); break;
      case 10: reshape(graph, x); break;
      default: activation(graph, x); break;
    }
  }

  void unary(Graph& graph, Value* x) {
    if (x->dtype() == DType::kBool) add(graph, "Not", {x});
    else if (is_float32(x)) add(graph, one_of({"Relu", "Neg", "Abs", "Ceil", "Floor", "Sign", "Sigmoid", "Erf", "Identity"}), {x});
    else add(graph, one_of({"Neg", "Abs", "Sign", "Identity"}), {x});
  }

  void binary_with_constant(Graph& graph, Value* x) {
    Value* k = companion(graph, x);
    if (x->dtype() == DType::kBool) {
      add(graph, one_of({"And", "Or", "Xor"}), {x, k});
      return;
    }
    const char* op = one_of({"Add", "Sub", "Mul", "Max", "Min", "Add", "Mul", "Sub"});
    if (is_float32(x) && pick(6) == 0) op = one_of({"Div", "Pow"});
    if (pick(4) == 0 && std::string_view(op) != "Div") add(graph, op, {k, x});
    else add(graph, op, {x, k});
  }

  void binary(Graph& graph, Value* x, Value* z) {
    if (x->dtype() != z->dtype()) return;
    if (x->dtype() == DType::kBool) add(graph, one_of({"And", "Or", "Xor"}), {x, z});
    else add(graph, one_of({"Add", "Sub", "Mul", "Max", "Min"}), {x, z});
  }

  void clip(Graph& graph, Value* x) {
    if (x->dtype() == DType::kBool) return;
    std::vector<Value*> inputs{x, pick(4) ? constant(graph, x->dtype(), {}, true) : nullptr, pick(4) ? constant(graph, x->dtype(), {}, true) : nullptr};
    add(graph, "Clip", std::move(inputs));
  }

  void transpose(Graph& graph, Value* x) {
    std::vector<std::int64_t> perm;
    for (std::size_t i = 0; i < rank(x); ++i) perm.push_back(static_cast<std::int64_t>(i));
    std::shuffle(perm.begin(), perm.end(), random_);
    if (pick(4) == 0) add(graph, "Transpose", {x});
    else add(graph, "Transpose", {x}, attr("perm", perm));
    if (pick(3) == 0 && values_.back()->producer && values_.back()->producer->is("Transpose")) {  // undo it behind pointwise work
      std::vector<std::int64_t> back(perm.size());
      for (std::size_t i = 0; i < perm.size(); ++i) back[static_cast<std::size_t>(perm[i])] = static_cast<std::int64_t>(i);
      if (is_float32(x)) add(graph, "Relu", {values_.back()});
      if (is_float32(x) && pick(2)) add(graph, "Mul", {values_.back(), companion(graph, values_.back())});
      add(graph, "Transpose", {values_.back()}, attr("perm", back));
    }
  }

  void reshape(Graph& graph, Value* x) {
    const int kind = pick(6);
    if (kind == 0) {
      add(graph, "Flatten", {x}, attr("axis", pick(static_cast<int>(rank(x)) + 1)));
    } else if (kind == 1) {
      add(graph, "Unsqueeze", {x, ints(graph, {pick(static_cast<int>(rank(x)) + 1)})});
    } else if (kind == 2) {
      for (std::size_t i = 0; i < rank(x); ++i) {
        if (extent(x, i) != 1) continue;
        add(graph, "Squeeze", {x, ints(graph, {static_cast<std::int64_t>(i)})});
        return;
      }
    } else {
      // Regroups: extents merged from the front or the back, copies as 0, one -1.
      std::vector<std::int64_t> target;
      bool free = false;
      for (std::size_t i = 0; i < rank(x); ++i) {
        if (kind == 3 && target.size() == i) {
          target.push_back(0);
        } else if (!free && pick(3) == 0) {
          free = true;
          target.push_back(-1);
        } else {
          target.push_back(std::max<std::int64_t>(1, extent(x, i)));
        }
      }
      if (pick(2)) std::shuffle(target.begin(), target.end(), random_);
      if (target.size() > 1 && target[0] > 0 && target[1] > 0 && pick(2)) {
        target[0] *= target[1];
        target.erase(target.begin() + 1);
      }
      if (pick(3) == 0) target.insert(target.begin() + pick(static_cast<int>(target.size()) + 1), 1);
      add(graph, "Reshape", {x, ints(graph, target)});
    }
  }

  void slice(Graph& graph, Value* x) {
    if (rank(x) == 0) return;
    std::vector<std::int64_t> starts, ends, axes, steps;
    for (std::size_t i = 0; i < rank(x); ++i) {
      if (pick(2)) continue;
      axes.push_back(static_cast<std::int64_t>(i) - (pick(4) == 0 ? static_cast<std::int64_t>(rank(x)) : 0));
      const bool back = pick(5) == 0;
      steps.push_back(back ? -1 - pick(2) : pick(4) ? 1 : 2);
      starts.push_back(back ? one_of<std::int64_t>({-1, 2, 5}) : one_of<std::int64_t>({0, 0, 1, -2, 2}));
      ends.push_back(back ? one_of<std::int64_t>({std::numeric_limits<std::int64_t>::min(), 0, -3})
                          : one_of<std::int64_t>({std::numeric_limits<std::int64_t>::max(), 2, 3, -1, 4, 1}));
    }
    if (axes.empty()) return;
    add(graph, "Slice", {x, ints(graph, starts), ints(graph, ends), ints(graph, axes), ints(graph, steps)});
  }

  void split(Graph& graph, Value* x) {
    for (std::size_t i = 0; i < rank(x); ++i) {
      const std::int64_t length = extent(x, i);
      if (length < 2) continue;
      ir::Attrs attrs = attr("axis", static_cast<int>(i));
      const auto parts = add(graph, "Split", {x, ints(graph, {1, length - 1})}, attrs, 2);
      if (parts.size() == 2 && pick(2)) {
        if (pick(3)) add(graph, "Concat", {parts[0], parts[1]}, attrs);
        else add(graph, "Concat", {parts[1], parts[0]}, attrs);
      }
      return;
    }
  }

  void concat(Graph& graph, Value* x) {
    if (rank(x) == 0) return;
    const auto axis = static_cast<std::size_t>(pick(static_cast<int>(rank(x))));
    std::vector<Value*> parts{x};
    for (int tries = 0; tries < 6; ++tries) {
      Value* z = any();
      if (z->dtype() != x->dtype() || rank(z) != rank(x)) continue;
      bool fits = true;
      for (std::size_t i = 0; i < rank(x); ++i) fits = fits && (i == axis || z->shape()[i] == x->shape()[i]);
      if (fits) parts.push_back(z);
    }
    const auto made = add(graph, "Concat", parts, attr("axis", static_cast<int>(axis)));
    if (made.empty() || pick(2)) return;
    std::int64_t start = 0;
    for (const Value* part : parts) {
      const std::int64_t length = extent(part, axis);
      if (length == 0) return;
      if (pick(2)) {
        add(graph, "Slice", {made[0], ints(graph, {start}), ints(graph, {start + length}), ints(graph, {static_cast<std::int64_t>(axis)})});
        return;
      }
      start += length;
    }
  }

  void cast(Graph& graph, Value* x) {
    // Floats go to floats and truth only: what an infinity is as an integer is not defined.
    const DType to = is_float(x->dtype()) ? one_of({DType::kFloat64, DType::kFloat16, DType::kBFloat16, DType::kFloat32, DType::kBool})
                                          : one_of({DType::kFloat32, DType::kInt64, DType::kInt32, DType::kInt8, DType::kUint8, DType::kBool});
    const auto made = add(graph, "Cast", {x}, attr("to", static_cast<int>(to)));
    if (!made.empty() && x->dtype() != to)
      add(graph, "Cast", {made[0]}, attr("to", static_cast<int>(x->dtype() == DType::kInt32 && is_float(to) ? to : x->dtype())));
  }

  void select(Graph& graph, Value* x) {
    Value* condition = nullptr;
    for (int tries = 0; tries < 5 && !condition; ++tries) {
      if (Value* v = any(); v->dtype() == DType::kBool) condition = v;
    }
    if (!condition || pick(3) == 0) {
      Dims dims;
      for (std::size_t i = 0; i < rank(x); ++i) dims.push_back(pick(2) ? 1 : std::max<std::int64_t>(1, extent(x, i)));
      condition = constant(graph, DType::kBool, pick(2) ? dims : Dims{}, pick(3) > 0);
    }
    Value* z = any();
    if (z->dtype() != x->dtype()) z = pick(2) ? x : companion(graph, x);
    if (pick(2)) std::swap(x, z);
    add(graph, "Where", {condition, x, z});
  }

  void shape_of(Graph& graph, Value* x) {
    const auto shape = add(graph, "Shape", {x});
    if (shape.empty()) return;
    const int kind = pick(4);
    if (kind == 0) {
      add(graph, "Reshape", {x, shape[0]});
    } else if (kind == 1 && x->dtype() != DType::kBool) {
      const auto one = add(graph, "ConstantOfShape", {shape[0]}, attr("value", [&] {
                             Tensor t(x->dtype(), {1});
                             t.set_from_double(0, pick(2));
                             return t;
                           }()));
      if (!one.empty()) add(graph, one_of({"Mul", "Add"}), {x, one[0]});
    } else if (kind == 2 && rank(x) > 0) {
      const auto first = add(graph, "Slice", {shape[0], ints(graph, {0}), ints(graph, {1}), ints(graph, {0})});
      if (first.empty()) return;
      const auto target = add(graph, "Concat", {first[0], ints(graph, {-1})}, attr("axis", 0));
      if (!target.empty()) add(graph, "Reshape", {x, target[0]});
    } else {
      add(graph, "Expand", {constant(graph, x->dtype(), {}, true), shape[0]});
      binary(graph, x, values_.back());
    }
  }

  void copies(Graph& graph, Value* x) {
    if (rank(x) == 0) return;
    const auto axis = static_cast<std::size_t>(pick(static_cast<int>(rank(x))));
    const int kind = pick(3);
    if (kind == 0 && extent(x, axis) > 0) {
      std::vector<std::int64_t> indices;
      for (std::int64_t i = 0; i < extent(x, axis); ++i)
        indices.push_back(pick(3) ? i : pick(static_cast<int>(extent(x, axis))) - (pick(2) ? extent(x, axis) : 0));
      add(graph, "Gather", {x, ints(graph, indices)}, attr("axis", static_cast<int>(axis)));
    } else if (kind == 1) {
      std::vector<std::int64_t> repeats(rank(x), 1);
      if (pick(2)) repeats[axis] = 2;
      add(graph, "Tile", {x, ints(graph, repeats)});
    } else {
      std::vector<std::int64_t> target;
      for (std::size_t i = 0; i < rank(x); ++i) target.push_back(extent(x, i) == 1 && pick(2) ? 3 : pick(2) ? 1 : std::max<std::int64_t>(1, extent(x, i)));
      if (pick(3) == 0) target.insert(target.begin(), 1 + pick(2));
      const auto wide = add(graph, "Expand", {x, ints(graph, target)});
      if (!wide.empty()) binary(graph, wide[0], any());
    }
  }

  void padded(Graph& graph, Value* x) {
    if (!is_float32(x) || rank(x) != 4) return;
    std::vector<std::int64_t> pads(8, 0);
    for (const std::size_t i : {2, 3, 6, 7}) pads[i] = pick(2);
    if (pick(6) == 0) pads[1] = 1;
    const auto made = add(graph, "Pad", {x, ints(graph, pads), pick(2) ? nullptr : constant(graph, DType::kFloat32, {}, true)});
    if (made.empty()) return;
    ir::Attrs attrs = attr("kernel_shape", std::vector<std::int64_t>{2, 2});
    if (pick(2)) attrs.set("pads", std::vector<std::int64_t>{1, 0, 1, 1});
    if (pick(2)) attrs.set("strides", std::vector<std::int64_t>{2, 1});
    add(graph, "MaxPool", {made[0]}, std::move(attrs));
  }

  void compare(Graph& graph, Value* x) {
    if (x->dtype() == DType::kBool) return;
    Value* z = any();
    if (z->dtype() != x->dtype()) z = companion(graph, x);
    add(graph, one_of({"Less", "Greater", "Equal", "LessOrEqual"}), {x, z});
  }

  void branch(Graph& graph) {
    if (graph.parent()) return;  // one level is enough for what passes may get wrong
    Value* condition = nullptr;
    for (Value* v : values_) {
      if (v->dtype() == DType::kBool && rank(v) == 0) condition = v;
    }
    if (!condition || pick(2)) condition = constant(graph, DType::kBool, {}, true);
    const std::vector<Value*> outer = values_;
    ir::Attrs attrs;
    for (const char* name : {"then_branch", "else_branch"}) {
      auto nested = std::make_shared<Graph>(&graph);
      nested->name = name;
      grow(*nested, 1 + pick(4));
      const std::vector<Value*> made = nested->values();
      Value* result = outer.front();
      for (Value* value : made) {
        if (value->producer && value->dtype() == result->dtype() && rank(value) == rank(result)) result = value;
      }
      nested->add_output(result);
      attrs.set(name, ir::Attribute(ir::GraphPtr(nested)));
      values_ = outer;
    }
    add(graph, "If", {condition}, std::move(attrs));
  }

  void convolution(Graph& graph, Value* x) {
    if (rank(x) != 4 || extent(x, 1) == 0) return;
    const std::int64_t channels = extent(x, 1), out = 1 + pick(3), kernel = 1 + 2 * pick(2);
    ir::Attrs attrs;
    if (kernel == 3) attrs.set("pads", std::vector<std::int64_t>{1, 1, 1, 1});
    if (pick(4) == 0) {
      add(graph, "ConvTranspose", {x, constant(graph, DType::kFloat32, {channels, out, kernel, kernel}, false)}, attrs);
      return;
    }
    const bool depthwise = pick(3) == 0;
    if (depthwise) attrs.set("group", static_cast<int>(channels));
    std::vector<Value*> inputs{x, constant(graph, DType::kFloat32, {depthwise ? channels : out, depthwise ? 1 : channels, kernel, kernel}, false)};
    if (pick(2)) inputs.push_back(constant(graph, DType::kFloat32, {depthwise ? channels : out}, false));
    add(graph, "Conv", std::move(inputs), attrs);
  }

  void product(Graph& graph, Value* x) {
    if (rank(x) < 2 || extent(x, rank(x) - 1) == 0) return;
    const std::int64_t inner = extent(x, rank(x) - 1), out = 1 + pick(3);
    if (rank(x) == 2 && pick(2)) {
      std::vector<Value*> inputs{x, constant(graph, DType::kFloat32, {out, inner}, false)};
      if (pick(2)) inputs.push_back(constant(graph, DType::kFloat32, pick(2) ? Dims{out} : Dims{}, false));
      ir::Attrs attrs = attr("transB", 1);
      if (pick(2)) attrs.set("alpha", 0.5f);
      if (pick(2)) attrs.set("beta", 2.0f);
      add(graph, "Gemm", std::move(inputs), attrs);
    } else {
      add(graph, "MatMul", {x, constant(graph, DType::kFloat32, {inner, out}, false)});
    }
  }

  void normalisation(Graph& graph, Value* x) {
    if (rank(x) < 2 || extent(x, 1) == 0) return;
    std::vector<Value*> inputs{x};
    for (int i = 0; i < 4; ++i) {
      Value* k = constant(graph, DType::kFloat32, {extent(x, 1)}, false);
      if (i == 3) {
        for (std::int64_t c = 0; c < k->constant.size(); ++c) k->constant.set_from_double(c, 0.5 + std::abs(k->constant.as_double(c)));
      }
      inputs.push_back(k);
    }
    add(graph, "BatchNormalization", std::move(inputs));
  }

  void activation(Graph& graph, Value* x) {
    const auto number = [&](double n) {
      Tensor t(DType::kFloat32, {});
      t.set_from_double(0, n);
      return graph.add_constant(graph.unique_name("k"), std::move(t));
    };
    if (pick(2)) {
      const auto sum = add(graph, "Add", {x, number(3)});
      if (sum.empty()) return;
      const auto gate = add(graph, "Clip", {sum[0], number(0), number(6)});
      const auto scaled = gate.empty() ? gate : add(graph, "Div", {gate[0], number(6)});
      if (!scaled.empty() && pick(2)) add(graph, "Mul", {x, scaled[0]});
    } else {
      const auto scaled = add(graph, "Div", {x, number(1.4142135623730951)});
      const auto erf = scaled.empty() ? scaled : add(graph, "Erf", {scaled[0]});
      const auto gate = erf.empty() ? erf : add(graph, "Add", {erf[0], number(1)});
      const auto half = gate.empty() ? gate : add(graph, "Mul", {x, gate[0]});
      if (!half.empty()) add(graph, "Mul", {half[0], number(0.5)});
    }
  }

  std::mt19937 random_;
  bool smooth_;
  int next_name_ = 0;
  std::shared_ptr<Graph> root_;
  std::vector<Value*> values_;
};

/// "" or what went wrong with one graph; `text` becomes the graph.
std::string check(unsigned seed, bool smooth, std::string& text) {
  const RandomGraph made(seed, smooth);
  const auto model = model_of(made.graph(), 10);
  const auto before = model->graph->clone();
  text = "graph " + std::to_string(seed) + ":\n" + ir::print(*before, {.types = true, .sources = false, .max_constant_elements = 400});
  SimplifyOptions options;
  options.verify = true;
  try {
    if (!simplify(*model, options).converged) return "the passes never end";
  } catch (const Error& error) {
    return error.what();
  }
  const Comparison comparison{smooth ? 1e-4 : 0, 1, true};
  RewriteCase drawing;
  drawing.finite = smooth;
  for (const std::int64_t n : {2, 1, 3}) {
    const ir::Bindings sizes{{"n", n}};
    const auto inputs = draw_inputs(*before, drawing, sizes, seed + static_cast<unsigned>(n), !smooth);
    RunResult expected;
    try {
      expected = run_graph(*before, *inputs, sizes);
    } catch (const Error&) {
      continue;  // this size does not fit the graph
    }
    if (!expected.mistyped.empty() && expected.any_empty) continue;  // Reshape's 0 and -1 on empty tensors have no one meaning
    try {
      const RunResult got = run_graph(*model->graph, *inputs, sizes);
      if (!(expected.mistyped + got.mistyped).empty()) return expected.mistyped + got.mistyped + "became\n" + ir::print(*model->graph);
      for (const auto& [name, tensor] : got.values) {
        const auto found = expected.values.find(name);
        if (found == expected.values.end()) continue;
        const std::string wrong = difference(found->second, tensor, comparison);
        if (!wrong.empty()) return "'" + name + "' for n=" + std::to_string(n) + ": " + wrong + "; became\n" + ir::print(*model->graph);
      }
      for (std::size_t i = 0; i < expected.outputs.size(); ++i) {
        const std::string wrong = difference(expected.outputs[i], got.outputs[i], comparison);
        if (!wrong.empty()) return "output " + std::to_string(i) + ": " + wrong + "; became\n" + ir::print(*model->graph);
      }
    } catch (const Error& error) {
      return std::string(error.what()) + "; became\n" + ir::print(*model->graph);
    }
  }
  return "";
}

void check_many(unsigned count, bool smooth) {
  register_test_ops();
  const auto start = static_cast<unsigned>(GTEST_FLAG_GET(random_seed)) * 10000;
  for (unsigned seed = start; seed < start + count && !testing::Test::HasFailure(); ++seed) {
    std::string text;
    const std::string wrong = check(seed, smooth, text);
    if (!wrong.empty() || testing::Test::HasFailure()) ADD_FAILURE() << wrong << "\n" << text;
  }
}

TEST(RandomGraphs, ExactOnesKeepEveryNumber) { check_many(1500, false); }

TEST(RandomGraphs, SmoothOnesKeepTheirNumbers) { check_many(500, true); }

}  // namespace
}  // namespace lathe::passes
