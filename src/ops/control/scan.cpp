// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Scan: a graph run on each slice of tensors along an axis, with states that go from one to the next.
#include <algorithm>

#include "lathe/status.h"
#include "ops/control/control.h"
#include "ops/control/join.h"
#include "ops/control/types.h"
#include "ops/ref_util.h"
#include "ops/shape_util.h"

namespace lathe::ops {
namespace {

// Form ---------------------------------------------------------------------------------------------------------------------------

/// How the node's inputs and outputs fall into states and slices.
struct Form {
  std::size_t states = 0, scanned = 0, stacked = 0;
  std::vector<std::int64_t> input_axes, output_axes;  // as written: negative ones count from the end
  std::vector<bool> input_reversed, output_reversed;
};

std::vector<std::int64_t> list_or(const Attrs& attrs, const char* name, std::size_t count, std::string& defect) {
  std::vector<std::int64_t> list = attrs.get_ints(name);
  if (list.empty()) list.resize(count, 0);
  if (list.size() != count) defect = "attribute '" + std::string(name) + "' has " + std::to_string(list.size()) + " values; it needs " + std::to_string(count);
  return list;
}

std::vector<bool> directions_or(const Attrs& attrs, const char* name, std::size_t count, std::string& defect) {
  std::vector<bool> reversed;
  for (const std::int64_t direction : list_or(attrs, name, count, defect)) {
    if (direction != 0 && direction != 1) defect = "attribute '" + std::string(name) + "' holds " + std::to_string(direction) + "; it must be 0 or 1";
    reversed.push_back(direction == 1);
  }
  return reversed;
}

/// Sets `defect` where the node breaks its form.
Form form_of(const Node& node, const ir::Graph& body, std::string& defect) {
  Form form;
  const std::int64_t scanned = node.attrs.get_int("num_scan_inputs", 0);
  if (scanned < 1 || scanned > static_cast<std::int64_t>(node.inputs.size())) {
    defect = "num_scan_inputs is " + std::to_string(scanned) + ", with " + std::to_string(node.inputs.size()) + " inputs";
    return form;
  }
  form.scanned = static_cast<std::size_t>(scanned);
  form.states = node.inputs.size() - form.scanned;
  if (body.inputs().size() != node.inputs.size()) {
    defect = "has " + std::to_string(node.inputs.size()) + " inputs, but its body takes " + std::to_string(body.inputs().size());
    return form;
  }
  if (body.outputs().size() < form.states || body.outputs().size() < node.outputs.size()) {
    defect = "has " + std::to_string(form.states) + " states and " + std::to_string(node.outputs.size()) + " outputs, but its body gives " +
             std::to_string(body.outputs().size());
    return form;
  }
  form.stacked = body.outputs().size() - form.states;
  form.input_axes = list_or(node.attrs, "scan_input_axes", form.scanned, defect);
  form.output_axes = list_or(node.attrs, "scan_output_axes", form.stacked, defect);
  form.input_reversed = directions_or(node.attrs, "scan_input_directions", form.scanned, defect);
  form.output_reversed = directions_or(node.attrs, "scan_output_directions", form.stacked, defect);
  return form;
}

// Types --------------------------------------------------------------------------------------------------------------------------

/// What a state is in every trip: its shape never changes, so either side tells.
ir::Type state_type(InferContext& ctx, const ir::Type& initial, const ir::Type& given, std::size_t index) {
  const auto fail = [&] { ctx.fail("state " + std::to_string(index) + " is " + initial.to_string() + " at first, but its body gives " + given.to_string()); };
  if (initial.kind == ir::TypeKind::kUnknown) return given;
  if (given.kind == ir::TypeKind::kUnknown) return initial;
  ir::Type type = initial;
  if (type.dtype == DType::kUndefined) type.dtype = given.dtype;
  if (initial.kind != given.kind || (given.dtype != DType::kUndefined && given.dtype != type.dtype)) fail();
  if (!type.shape) {
    type.shape = given.shape;
  } else if (given.shape) {
    if (given.shape->size() != type.shape->size()) fail();
    for (std::size_t i = 0; i < type.shape->size(); ++i) {
      const Dim& dim = (*given.shape)[i];
      if (!dim.is_constant()) continue;
      if ((*type.shape)[i].is_constant() && (*type.shape)[i] != dim) fail();
      (*type.shape)[i] = dim;
    }
  }
  return type;
}

void scan_infer(InferContext& ctx) {
  const ir::GraphPtr body = nested_graph(ctx, "body");
  Node& node = ctx.node();
  std::string defect;
  const Form form = form_of(node, *body, defect);
  if (!defect.empty()) ctx.fail(defect);
  const LaterSymbols inner(ctx);
  std::vector<ir::Type> types;
  std::optional<Dim> length;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    if (!ctx.has_input(i)) ctx.fail("input " + std::to_string(i) + " is left out");
    ir::Type type = node.input(i)->type;
    if (i >= form.states && type.shape) {
      const auto axis = infer_axis(ctx, form.input_axes[i - form.states], static_cast<std::int64_t>(type.shape->size()));
      const Dim extent = (*type.shape)[static_cast<std::size_t>(axis)];
      if (length && length->is_constant() && extent.is_constant() && *length != extent) {
        ctx.fail("scans " + length->to_string() + " and " + extent.to_string() + " slices of its inputs; there must be as many of each");
      }
      if (!length || extent.is_constant()) length = extent;
      type.shape->erase(type.shape->begin() + axis);
    }
    types.push_back(std::move(type));
  }
  if (!length) length = ctx.fresh_symbol();
  std::vector<ir::Type> results = ctx.infer_subgraph(*body, types);
  bool learned = false;  // a state's extents that only the body's result tells
  for (std::size_t i = 0; i < form.states; ++i) {
    ir::Type state = state_type(ctx, types[i], inner.outside(results[i]), i);
    learned |= state != types[i];
    types[i] = std::move(state);
  }
  if (learned) results = ctx.infer_subgraph(*body, types);
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    if (i < form.states) {
      ctx.set_type(i, types[i]);
      continue;
    }
    const ir::Type& element = results[i];
    if (element.kind != ir::TypeKind::kTensor && element.kind != ir::TypeKind::kUnknown) {
      ctx.fail("output " + std::to_string(i) + " would stack values of type " + element.to_string() + "; only tensors are stacked");
    }
    if (!element.shape) {
      ctx.set_unknown(i, element.dtype);
      continue;
    }
    Shape shape = inner.outside(*element.shape);
    const auto axis = infer_axis(ctx, form.output_axes[i - form.states], static_cast<std::int64_t>(shape.size()) + 1);
    shape.insert(shape.begin() + axis, *length);
    ctx.set(i, element.dtype, std::move(shape));
  }
}

// Values -------------------------------------------------------------------------------------------------------------------------

void scan_reference(RefContext& ctx) {
  const ir::GraphPtr body = nested_graph(ctx, "body");
  const Node& node = ctx.node();
  std::string defect;
  const Form form = form_of(node, *body, defect);
  if (!defect.empty()) ctx.fail(defect);
  std::vector<Tensor> arguments;
  for (std::size_t i = 0; i < node.inputs.size(); ++i) {
    arguments.push_back(ctx.input(i));
    if (!arguments.back().is_tensor()) ctx.fail("input " + std::to_string(i) + " is no tensor");
  }
  std::vector<std::int64_t> axes;
  std::int64_t length = -1;
  for (std::size_t i = 0; i < form.scanned; ++i) {
    const Tensor& tensor = ctx.input(form.states + i);
    axes.push_back(ref_axis(ctx, form.input_axes[i], tensor.rank()));
    const std::int64_t extent = tensor.dims()[static_cast<std::size_t>(axes.back())];
    if (length >= 0 && extent != length) {
      ctx.fail("scans " + std::to_string(length) + " and " + std::to_string(extent) + " slices of its inputs; there must be as many of each");
    }
    length = extent;
  }
  if (length > ctx.most_trips()) ctx.fail("took more than " + std::to_string(ctx.most_trips()) + " trips");
  std::vector<std::vector<Tensor>> stacks(form.stacked);
  for (std::int64_t trip = 0; trip < length; ++trip) {
    for (std::size_t i = 0; i < form.scanned; ++i)
      arguments[form.states + i] = take_one(ctx.input(form.states + i), axes[i], form.input_reversed[i] ? length - 1 - trip : trip);
    std::vector<Tensor> results = ctx.run_subgraph(*body, arguments);
    for (std::size_t i = 0; i < form.states; ++i) {
      if (results[i].dims() != arguments[i].dims()) {
        ctx.fail("state " + std::to_string(i) + " changes its shape from " + lathe::to_string(arguments[i].dims()) + " to " +
                 lathe::to_string(results[i].dims()));
      }
      arguments[i] = std::move(results[i]);
    }
    for (std::size_t i = 0; i < form.stacked; ++i) {
      if (!results[form.states + i].is_tensor()) ctx.fail("output " + std::to_string(form.states + i) + " would stack values that are no tensors");
      stacks[i].push_back(std::move(results[form.states + i]));
    }
  }
  for (std::size_t i = 0; i < form.states && i < node.outputs.size(); ++i) ctx.set_output(i, std::move(arguments[i]));
  for (std::size_t i = 0; i < form.stacked; ++i) {
    const std::size_t output = form.states + i;
    if (!ctx.wants_output(output)) continue;
    if (stacks[i].empty()) {
      ctx.set_output(output, stacked_nothing(ctx, body->outputs()[output]->type, output, form.output_axes[i]));
      continue;
    }
    if (form.output_reversed[i]) std::reverse(stacks[i].begin(), stacks[i].end());
    ctx.set_output(output, stack_along(ctx, stacks[i], ref_axis(ctx, form.output_axes[i], stacks[i].front().rank() + 1)));
  }
}

// Version 8 ----------------------------------------------------------------------------------------------------------------------

/// Every tensor had a batch in front, and sequences their own lengths. It is a Scan over the batch whose body scans one sequence:
///   for each batch: n = the length; states, slices = Scan(body)(states, x[:n]...); each slice padded to the whole length
class BatchedScan {
 public:
  explicit BatchedScan(UpgradeContext& ctx) : node_(ctx.node), graph_(ctx.graph) {}

  void upgrade() {
    const ir::GraphPtr body = node_.attrs.get_graph("body");
    const std::int64_t scanned = node_.attrs.get_int("num_scan_inputs", 0);
    const auto values = static_cast<std::int64_t>(node_.inputs.size()) - 1;  // behind the lengths
    if (!body || scanned < 1 || scanned > values || static_cast<std::int64_t>(body->inputs().size()) != values ||
        body->outputs().size() < node_.outputs.size()) {
      throw Error(Code::kInvalidModel, "its inputs, outputs and num_scan_inputs do not fit its body").at_node(node_.name, node_.op);
    }
    const auto states = static_cast<std::size_t>(values - scanned);
    if (body->outputs().size() < states) throw Error(Code::kInvalidModel, "its body gives fewer outputs than there are states").at_node(node_.name, node_.op);
    Value* lengths = node_.inputs.front();
    auto batch = std::make_shared<ir::Graph>(&graph_);
    batch->name = body->name + "_batch";
    std::vector<Value*> inputs(node_.inputs.begin() + 1, node_.inputs.end()), formals;
    for (const Value* input : inputs) formals.push_back(batch->add_input(batch->unique_name(input ? input->name + "_one" : "one"), without_front(input)));
    if (lengths) {
      inputs.push_back(lengths);
      length_ = batch->add_input(batch->unique_name(lengths->name + "_one"), ir::Type::tensor(DType::kInt64, {}));
    }
    fill(*batch, *body, formals, states);
    node_.attrs.erase("directions");
    node_.attrs.set("body", ir::Attribute(batch));
    node_.attrs.set("num_scan_inputs", static_cast<std::int64_t>(inputs.size()));
    graph_.set_inputs(&node_, std::move(inputs));
  }

 private:
  static ir::Type without_front(const Value* value) {
    ir::Type type = value ? value->type : ir::Type();
    if (type.shape && !type.shape->empty()) type.shape->erase(type.shape->begin());
    return type;
  }

  Value* add(ir::Graph& graph, std::string_view op, std::vector<Value*> inputs, Attrs attrs = {}) {
    Node* node = graph.add_node("", std::string(op), std::move(inputs), {graph.unique_name(std::string(op) + "_batched")}, std::move(attrs));
    node->sources = node_.sources;
    return node->outputs[0];
  }
  static Value* numbers(ir::Graph& graph, std::vector<std::int64_t> values) { return graph.add_constant(graph.unique_name("numbers"), Tensor::vector(values)); }

  void fill(ir::Graph& batch, const ir::Graph& body, std::vector<Value*> arguments, std::size_t states) {
    Value* whole = nullptr;  // the longest length, a vector of one
    Value* end = nullptr;
    if (length_) {
      Attrs first;
      first.set("end", 1);
      first.set("start", 0);
      whole = add(batch, "Shape", {arguments[states]}, std::move(first));
      end = add(batch, "Reshape", {length_, numbers(batch, {1})});
      for (std::size_t i = states; i < arguments.size(); ++i) arguments[i] = add(batch, "Slice", {arguments[i], numbers(batch, {0}), end, numbers(batch, {0})});
    }
    Attrs attrs;
    attrs.set("num_scan_inputs", static_cast<std::int64_t>(arguments.size() - states));
    if (const ir::Attribute* directions = node_.attrs.find("directions")) attrs.set("scan_input_directions", *directions);
    std::vector<std::string> names;
    for (const Value* output : body.outputs()) names.push_back(batch.unique_name(output->name + "_one"));
    Node* scan = batch.add_node("", "Scan", std::move(arguments), std::move(names), std::move(attrs));
    scan->name = node_.name;
    scan->sources = node_.sources;
    scan->attrs.set("body", ir::Attribute(body.clone(&batch)));
    for (std::size_t i = 0; i < node_.outputs.size(); ++i) {
      Value* result = scan->outputs[i];
      if (length_ && i >= states) {
        Value* lacking = add(batch, "Sub", {whole, end});
        Value* pads = add(batch, "Concat", {numbers(batch, {0}), lacking}, axis_zero());
        result = add(batch, "Pad", {result, pads, nullptr, numbers(batch, {0})});
      }
      batch.add_output(result);
    }
  }
  static Attrs axis_zero() {
    Attrs attrs;
    attrs.set("axis", 0);
    return attrs;
  }

  Node& node_;
  ir::Graph& graph_;
  Value* length_ = nullptr;
};

void scan_upgrade(UpgradeContext& ctx) {
  if (ctx.from_version < 9) BatchedScan(ctx).upgrade();
}

}  // namespace

OpDef scan_op() {
  constexpr std::string_view kIo8 = "sequence_lens?:I initial_state_and_scan_inputs++:V -> final_state_and_scan_outputs++:V",
                             kIo = "initial_state_and_scan_inputs++:V -> final_state_and_scan_outputs++:V",
                             kAttrs8 = "body:graph directions:ints? num_scan_inputs:int",
                             kAttrs =
                                 "body:graph num_scan_inputs:int scan_input_axes:ints? scan_input_directions:ints? scan_output_axes:ints? "
                                 "scan_output_directions:ints?";
  return {.name = "Scan",
          .versions = {{8, kIo8, kAttrs8, "I: int64; V: @all"},
                       {9, kIo, kAttrs, "V: @all"},
                       {11, kIo, kAttrs, "V: @all"},
                       {16, kIo, kAttrs, "V: @all13"},
                       {19, kIo, kAttrs, "V: @all19"},
                       {21, kIo, kAttrs, "V: @all21"},
                       {23, kIo, kAttrs, "V: @all23"},
                       {24, kIo, kAttrs, "V: @all24"},
                       {25, kIo, kAttrs, "V: @all25"}},
          .upgrade = scan_upgrade,
          .infer = scan_infer,
          .reference = scan_reference,
          .doc = "a graph run on each slice of tensors, with states that go from one to the next"};
}

}  // namespace lathe::ops
