// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Custom operators: the table of their functions, and the shape rule and the reference that all of them share. See custom.h.

#include "ops/custom/custom.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <mutex>
#include <set>
#include <shared_mutex>

#include "ops/custom/step.h"
#include "ops/registry.h"
#include "ops/schema.h"
#include "ops/validate.h"

namespace lathe::ops {
namespace {

struct Table {
  std::shared_mutex mutex;
  std::map<std::pair<std::string, std::string>, std::unique_ptr<const CustomOp>, std::less<>> ops;
};

/// Never destroyed: the functions may belong to an interpreter that ended before.
Table& table() {
  static Table& instance = *new Table;
  return instance;
}

[[noreturn]] void refuse(const CustomOp& op, const std::string& what, const std::string& remedy = {}) {
  Error error(Code::kInvalidArgument, fmt::format("the custom operator {}::{} {}", op.domain, op.name, what));
  if (!remedy.empty()) error.with_remedy(remedy);
  throw error;
}

bool is_identifier(std::string_view text) {
  const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !text.empty() && letter(text.front()) && std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || (c >= '0' && c <= '9'); });
}

/// Is the type a variable that no input binds, so that the rule must say it?
bool is_open(const Schema& schema, const Formal& output) {
  const TypeConstraint* constraint = schema.constraint(output.type);
  if (!constraint || constraint->types.size() == 1) return false;
  return std::none_of(schema.inputs.begin(), schema.inputs.end(), [&](const Formal& input) { return input.type == output.type && input.homogeneous; });
}

void check_texts(const CustomOp& op, const VersionDef& version) {
  if (op.domain.empty() || op.domain == "ai.onnx") refuse(op, "is in the format's own domain", "Give it a domain of its own, as the model's nodes have it.");
  if (op.domain.find_first_of(" \t\n@") != std::string::npos || op.domain.find("::") != std::string::npos) refuse(op, "has a domain with blanks, '@' or '::'");
  if (!is_identifier(op.name)) refuse(op, "has a name that is no identifier");
  if (op.version < 1) refuse(op, fmt::format("has version {}", op.version), "Versions begin with 1.");
  if (!op.run) refuse(op, "has neither a function to run nor the source of a CUDA kernel");
  if (op.cuda_block < 1 || op.cuda_block > 1024) refuse(op, fmt::format("asks for blocks of {} threads", op.cuda_block), "A block has 1 to 1024.");
  if (op.cuda_elements < 0) refuse(op, fmt::format("gives each thread {} elements", op.cuda_elements));
  if (op.inputs.find("->") != std::string::npos || op.outputs.find("->") != std::string::npos) refuse(op, "has a text of inputs or outputs with '->'");
  Schema schema;
  try {
    schema = parse_schema(op.domain + "::" + op.name, version);
  } catch (const Error& error) {
    throw Error(Code::kInvalidArgument, error.message()).with_remedy("lathe/custom_op.h and docs/custom_ops.md say how the texts are written.");
  }
  if (schema.outputs.empty()) refuse(op, "has no output");
  if (!op.shape && schema.inputs.empty()) refuse(op, "has no input whose shape its outputs could have", "Give it a shape rule.");
  for (const auto* formals : {&schema.inputs, &schema.outputs})
    for (const Formal& formal : *formals) {
      const TypeConstraint* constraint = schema.constraint(formal.type);
      for (const std::string& type : constraint ? constraint->types : std::vector<std::string>{formal.type})
        if (!type.starts_with("tensor(") || type == "tensor(string)")
          refuse(op, fmt::format("has '{}' of type {}", formal.name, type),
                 "Custom operators take and give tensors of numbers: leave it out of the types (-string).");
    }
  for (const AttributeDef& def : schema.attributes)
    if (def.type > ir::AttrType::kStrings || def.type == ir::AttrType::kGraph)
      refuse(op, fmt::format("has the attribute '{}' of type {}", def.name, attr_type_name(def.type)),
             "Numbers, texts, lists of them and one tensor are for custom operators.");
  for (const Formal& output : schema.outputs)
    if (!op.shape && is_open(schema, output))
      refuse(op, fmt::format("does not tell the type of '{}'", output.name),
             "Give it a type that an input has too, one type alone, or a shape rule that says it.");
}

const CustomOp& registered(const Node& node) {
  if (const CustomOp* op = find_custom_op(node.domain, node.op)) return *op;
  throw node_error(node, "the custom operator is not registered", Code::kUnsupported).with_remedy("Register it before the model is read.");
}

/// Types of the outputs by the op's texts.
std::vector<DType> texts_types(const Node& node, const Schema& schema) {
  std::vector<DType> types;
  for (std::size_t i = 0; i < node.outputs.size(); ++i) {
    DType type = DType::kUndefined;
    if (const Formal* formal = Schema::formal_at(schema.outputs, i)) {
      const TypeConstraint* constraint = schema.constraint(formal->type);
      const std::string only = !constraint ? formal->type : constraint->types.size() == 1 ? constraint->types.front() : "";
      if (only.starts_with("tensor(")) type = parse_dtype(std::string_view(only).substr(7, only.size() - 8)).value_or(DType::kUndefined);
      for (std::size_t k = 0; type == DType::kUndefined && k < node.inputs.size(); ++k) {
        const Formal* input = Schema::formal_at(schema.inputs, k);
        if (node.inputs[k] && input && input->homogeneous && input->type == formal->type) type = node.inputs[k]->dtype();
      }
    }
    types.push_back(type);
  }
  return types;
}

void infer_custom(InferContext& ctx) {
  const Node& node = ctx.node();
  const CustomOp& op = registered(node);
  const ir::Attrs attrs = with_defaults(op, node.attrs);
  const CustomTypes types = custom_types(op, node, CustomAttributes(attrs), [&](std::size_t i) { return ctx.content(i); });
  for (std::size_t i = 0; i < types.dtypes.size(); ++i) {
    if (types.shapes) ctx.set(i, types.dtypes[i], (*types.shapes)[i]);
    else ctx.set_unknown(i, types.dtypes[i]);
  }
}

void run_custom(RefContext& ctx) {
  const Node& given = ctx.node();
  const CustomOp& op = registered(given);
  // The same node with the tensors' own extents: what the shape rule then says are numbers.
  ir::Graph graph;
  std::vector<Value*> values;
  std::vector<Tensor> inputs;
  std::vector<ConstTensorView> views;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    inputs.push_back(ctx.has_input(i) ? ctx.input(i) : Tensor());
    Tensor& input = inputs.back();
    if (!input.defined()) {
      values.push_back(nullptr);
      views.emplace_back();
      continue;
    }
    if (!input.is_tensor() || input.dtype() == DType::kString) ctx.fail(fmt::format("input {} is no tensor of numbers", i));
    input = input.make_aligned();
    values.push_back(graph.add_input(fmt::format("in{}", i), ir::Type::tensor(input.dtype(), Shape(input.dims().begin(), input.dims().end()))));
    views.push_back({input.raw(), input.dtype(), input.dims()});
  }
  std::vector<std::string> names;
  for (std::size_t i = 0; i < ctx.output_count(); ++i) names.push_back(ctx.wants_output(i) ? fmt::format("out{}", i) : "");
  Node& node = *graph.add_node(given.domain, given.op, values, names, given.attrs);
  node.name = node_name(given);
  std::vector<Error> defects;
  check_node_types(node, newest_schema(*find_op(node.domain, node.op)), false, defects);
  if (!defects.empty()) throw defects.front();
  const ir::Attrs attrs = with_defaults(op, given.attrs);
  const CustomAttributes attributes(attrs);
  const CustomTypes types = custom_types(op, node, attributes, [&](std::size_t i) -> std::optional<std::vector<Dim>> {
    if (!is_integer(inputs[i].dtype()) && inputs[i].dtype() != DType::kBool)
      ctx.fail(fmt::format("its shape rule asks for the elements of input {}, which are no integers", i));
    std::vector<Dim> content;
    for (std::int64_t k = 0; k < inputs[i].size(); ++k) content.emplace_back(inputs[i].as_int64(k));
    return content;
  });
  std::vector<Tensor> outputs(types.dtypes.size());
  std::vector<TensorView> writable(types.dtypes.size());
  for (std::size_t i = 0; i < outputs.size(); ++i) {
    if (!node.output(i)) continue;
    const auto dims = types.shapes ? ir::constant_dims((*types.shapes)[i]) : std::nullopt;
    if (!dims) ctx.fail(fmt::format("its shape rule leaves the shape of output {} open for given inputs", i));
    if (types.dtypes[i] == DType::kUndefined) ctx.fail(fmt::format("its shape rule leaves the type of output {} open", i));
    outputs[i] = Tensor(types.dtypes[i], *dims);
    writable[i] = {outputs[i].mutable_raw(), outputs[i].dtype(), outputs[i].dims()};
  }
  const CustomArity arity = custom_arity(op);
  views.resize(std::max(views.size(), arity.inputs));
  writable.resize(std::max(writable.size(), arity.outputs));
  try {
    op.run(CustomCall{views, writable, attributes});
  } catch (...) {
    const Status status = custom_failure({});
    throw node_error(given, std::string(status.message()), status.code());
  }
  for (std::size_t i = 0; i < outputs.size(); ++i)
    if (outputs[i].defined()) ctx.set_output(i, std::move(outputs[i]));
}

}  // namespace

const CustomOp* find_custom_op(std::string_view domain, std::string_view name) {
  Table& t = table();
  const std::shared_lock lock(t.mutex);
  const auto found = t.ops.find(std::make_pair(std::string(domain), std::string(name)));
  return found == t.ops.end() ? nullptr : found->second.get();
}

void add_custom_op(CustomOp op) {
  const std::string signature = op.inputs + " -> " + op.outputs;
  OpDef def;
  def.domain = op.domain;
  def.name = op.name;
  def.versions = {{op.version, signature, op.attributes, op.types}};
  def.infer = infer_custom;
  def.reference = run_custom;
  def.deterministic = op.deterministic;
  def.doc = op.doc;
  check_texts(op, def.versions.front());
  Table& t = table();
  // One at a time; whoever finds the definition finds the functions too.
  const std::unique_lock lock(t.mutex);
  const auto key = std::make_pair(op.domain, op.name);
  if (t.ops.count(key)) refuse(op, "is registered already", "Register it once a process, or give the other one another name.");
  if (find_op(op.domain, op.name)) refuse(op, "is one of Lathe's own", "Give it another name or domain, in the model too.");
  const auto kept = std::make_unique<const CustomOp>(op);
  t.ops.emplace(key, std::make_unique<const CustomOp>(std::move(op)));
  try {
    def.domain = kept->domain;
    def.name = kept->name;
    def.doc = kept->doc;
    def.versions = {{kept->version, signature, kept->attributes, kept->types}};
    register_op(std::move(def));
  } catch (...) {
    t.ops.erase(key);
    throw;
  }
}

std::string custom_op_key(const CustomOp& op) { return fmt::format("{}::{}@{}", op.domain, op.name, op.version); }

std::string custom_op_missing(std::string_view key) {
  const std::size_t colons = key.find("::"), at = key.rfind('@');
  if (colons == std::string_view::npos || at == std::string_view::npos || at < colons)
    return fmt::format("it needs the custom operator '{}', a name that says nothing", key);
  const std::string_view domain = key.substr(0, colons), name = key.substr(colons + 2, at - colons - 2);
  const CustomOp* op = find_custom_op(domain, name);
  if (!op) return fmt::format("it needs the custom operator {}::{} (version {}), which is not registered here", domain, name, key.substr(at + 1));
  if (custom_op_key(*op) == key) return {};
  return fmt::format("it needs version {} of the custom operator {}::{}, registered is version {}", key.substr(at + 1), domain, name, op->version);
}

CustomArity custom_arity(const CustomOp& op) {
  const Schema& schema = newest_schema(*find_op(op.domain, op.name));
  const auto count = [](const std::vector<Formal>& formals) {
    return formals.size() - (!formals.empty() && formals.back().option == FormalOption::kVariadic ? 1 : 0);
  };
  return {count(schema.inputs), count(schema.outputs)};
}

ir::Attrs with_defaults(const CustomOp& op, const ir::Attrs& given) {
  ir::Attrs attrs = given;
  for (const AttributeDef& def : newest_schema(*find_op(op.domain, op.name)).attributes)
    if (def.default_value && !attrs.has(def.name)) attrs.set(def.name, *def.default_value);
  return attrs;
}

CustomTypes custom_types(const CustomOp& op, const ir::Node& node, const CustomAttributes& attributes, const ContentOf& content) {
  CustomTypes result;
  CustomShapesImpl impl{node, attributes, {}, {}, content, texts_types(node, newest_schema(*find_op(op.domain, op.name))), {}};
  result.dtypes = impl.output_types;
  for (const Value* input : node.inputs) {
    if (input && (!input->type.is_tensor() || input->dtype() == DType::kUndefined || !input->type.shape)) return result;
    impl.dtypes.push_back(input ? input->dtype() : DType::kUndefined);
    impl.shapes.push_back(input ? input->shape() : Shape());
  }
  const std::size_t listed = std::max(impl.dtypes.size(), custom_arity(op).inputs);
  impl.dtypes.resize(listed, DType::kUndefined);
  impl.shapes.resize(listed);
  impl.outputs.resize(node.outputs.size());
  if (!op.shape) {
    if (impl.shapes.empty() || impl.dtypes.front() == DType::kUndefined)
      throw node_error(node, "has no first input, whose shape its outputs would have", Code::kInvalidArgument);
    for (auto& output : impl.outputs) output = impl.shapes.front();
  } else {
    CustomShapes shapes(impl);
    try {
      op.shape(shapes);
    } catch (const Later&) {
      return result;
    } catch (const Error& error) {
      if (!error.node().empty()) throw;
      throw node_error(node, "its shape rule failed: " + error.message(), error.code()).with_remedy(error.remedy());
    } catch (const std::bad_alloc&) {
      throw;
    } catch (const std::exception& error) {
      throw node_error(node, fmt::format("its shape rule failed: {}", error.what()), Code::kInvalidArgument);
    }
  }
  result.dtypes = impl.output_types;
  result.shapes.emplace();
  for (std::size_t i = 0; i < impl.outputs.size(); ++i) {
    if (!node.outputs[i]) {
      result.shapes->emplace_back();
      continue;
    }
    if (!impl.outputs[i]) throw node_error(node, fmt::format("its shape rule says nothing of output {}", i), Code::kInvalidArgument);
    if (result.dtypes[i] == DType::kUndefined)
      throw node_error(node, fmt::format("its shape rule does not tell the type of output {}", i), Code::kInvalidArgument);
    result.shapes->push_back(*impl.outputs[i]);
  }
  return result;
}

Status custom_failure(const std::string& where) noexcept {
  const auto status = [&](Code code, std::string_view what) {
    try {
      return Status(code, where.empty() ? std::string(what) : fmt::format("{}: {}", where, what));
    } catch (...) {
      return Status(code, what);
    }
  };
  try {
    throw;
  } catch (const Error& error) {
    return status(error.code(), error.message());
  } catch (const std::bad_alloc&) {
    return status(Code::kOutOfMemory, "there is not enough memory for the custom operator");
  } catch (const std::exception& error) {
    return status(Code::kInvalidArgument, error.what());
  } catch (...) {
    return status(Code::kInternal, "the custom operator's function threw something that is no exception");
  }
}

std::span<const OpDef> ops_custom() { return {}; }

}  // namespace lathe::ops
