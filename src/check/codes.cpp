// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The list of codes, and Findings. The order is that of the report.

#include "check/codes.h"

#include <algorithm>
#include <array>

#include "base/printable.h"
#include "check/schema_table.h"
#include "check/tree.h"
#include "lathe/status.h"

namespace lathe::checker {
namespace {

constexpr Severity E = Severity::kError, W = Severity::kWarning;

constexpr std::array kCodes{
    // The file.
    CodeInfo{"not-onnx", E, "the file is no ONNX model", "IR.md#models", "give a file written by torch.onnx.export or `lathe export`"},
    CodeInfo{"broken-encoding", E, "the encoding is damaged", "", "copy or export the file again"},
    CodeInfo{"nested-too-deeply", E, "parts are nested too deeply", "", "export the model again without such nesting"},
    CodeInfo{"ir-version", E, "the IR version is missing or not known", "IR.md#onnx-versioning", "save the model with a released version of onnx"},
    CodeInfo{"ir-version-rule", W, "something is newer than the file's IR version", "IR.md#onnx-versioning",
             "raise ir_version to that of the onnx release that wrote the file"},
    CodeInfo{"opset-missing", E, "an operator set is not imported", "IR.md#operator-sets",
             "add it to the model's opset_import (of a function: to the function's)"},
    CodeInfo{"opset-duplicate", E, "an operator set is imported twice", "IR.md#operator-sets", "keep one import per domain"},
    CodeInfo{"opset-version", E, "an opset version is out of range", "IR.md#operator-sets", "import a released version"},
    CodeInfo{"metadata-duplicate", E, "a metadata key is used twice", "IR.md#optional-metadata", "keep one entry per key"},
    CodeInfo{"training-info", E, "the training information contradicts the model", "IR.md#training-related-information",
             "bind names of initializers and outputs, each once"},
    // Functions.
    CodeInfo{"function-form", E, "a local function is not well formed", "IR.md#functions", "export the model again, or inline the function"},
    CodeInfo{"function-duplicate", E, "two local functions have one identity", "IR.md#functions", "rename one, or remove it"},
    CodeInfo{"function-recursive", E, "local functions call themselves", "IR.md#functions", "a function may not reach itself: write the recursion as a Loop"},
    CodeInfo{"function-opset", E, "a function's opset clashes with the model's", "IR.md#functions", "import the same version in function and model"},
    // Graphs and names.
    CodeInfo{"graph-name", E, "a graph has no name", "IR.md#graphs", "give it any name"},
    CodeInfo{"value-info", E, "an input or output lacks parts of its type", "IR.md#graphs", "declare element type and shape (dimensions may be names)"},
    CodeInfo{"value-info-stray", W, "value_info describes a tensor that there is not", "", "drop the entry"},
    CodeInfo{"name-missing", E, "something has no name", "IR.md#names-within-a-graph", "give it a name"},
    CodeInfo{"name-clash", E, "two tensors have one name", "IR.md#nodes", "rename one of them, and its readers"},
    CodeInfo{"name-shadowed", W, "a nested graph reuses a name of the graph around it", "IR.md#nodes", "rename the inner tensor"},
    CodeInfo{"node-name-duplicate", W, "several nodes have one name", "IR.md#names-within-a-graph", "name nodes apart, or leave their names out"},
    CodeInfo{"initializer-not-input", E, "an initializer is no graph input", "IR.md#graphs", "list it as an input too, or raise ir_version to 4"},
    CodeInfo{"initializer-is-input", E, "a nested graph's initializer is its input", "IR.md#nodes", "drop the input or the initializer"},
    CodeInfo{"undefined-input", E, "a node reads a tensor that nothing makes", "IR.md#nodes", "name an existing tensor, or restore the node that made it"},
    CodeInfo{"undefined-output", E, "a graph's output is made by nothing in it", "IR.md#graphs", "name a tensor of this graph, or drop the output"},
    CodeInfo{"not-sorted", E, "a node stands before one that it needs", "IR.md#nodes", "sort the nodes: producers first"},
    CodeInfo{"cycle", E, "nodes need their own results", "IR.md#nodes", "break the cycle: one of these inputs names the wrong tensor"},
    // Nodes.
    CodeInfo{"node-form", E, "a node has no operator, or neither inputs nor outputs", "IR.md#nodes", "remove the node, or complete it"},
    CodeInfo{"unknown-operator", E, "the operator does not exist", "IR.md#operators", "correct the name, or move the operator to a domain of its own"},
    CodeInfo{"operator-too-new", E, "the operator is newer than the imported opset", "IR.md#operator-sets", "raise the opset import, or convert the model"},
    CodeInfo{"operator-deprecated", E, "the operator was withdrawn", "@", "use its successor, or import the older opset"},
    CodeInfo{"operator-experimental", W, "the operator is experimental", "@", "expect it to change"},
    CodeInfo{"unsupported-operator", W, "valid, but Lathe cannot build it yet", "",
             "register a custom op (docs/custom_ops.md), or give the model a local function of this name; `lathe ops` lists what Lathe has"},
    CodeInfo{"input-count", E, "wrong number of inputs", "@", "give the inputs of the operator's signature"},
    CodeInfo{"output-count", E, "wrong number of outputs", "@", "name the outputs of the operator's signature"},
    CodeInfo{"unknown-attribute", E, "the operator has no such attribute", "@", "correct the name, drop it, or check the opset import"},
    CodeInfo{"missing-attribute", E, "a required attribute is missing", "@", "add it"},
    CodeInfo{"attribute-type", E, "an attribute has the wrong type", "@", "store it with the expected type"},
    CodeInfo{"attribute-form", E, "an attribute is not well formed", "IR.md#attributes", "give it a name, a type and one value of that type"},
    CodeInfo{"attribute-duplicate", E, "an attribute is given twice", "IR.md#attributes", "keep one of them"},
    // Types and shapes.
    CodeInfo{"type-mismatch", E, "a tensor has a type that the operator does not take", "@", "insert a Cast, or correct the declared type"},
    CodeInfo{"shape-rule", E, "shapes or attributes break the operator's rule", "@", "correct the tensor or the attribute that is named"},
    CodeInfo{"unknown-type", E, "a type cannot be told", "", "declare the tensor in value_info"},
    CodeInfo{"type-conflict", E, "the declared type is not the computed one", "IR.md#graphs", "correct the declaration, or drop the value_info"},
    CodeInfo{"shape-conflict", E, "the declared shape is not the computed one", "IR.md#graphs", "correct the declaration, or drop the value_info"},
    CodeInfo{"nested-graph", E, "a nested graph does not fit its node", "@", "give it the inputs and outputs that the operator says"},
    CodeInfo{"negative-dim", E, "an extent is negative", "IR.md#tensor-definition", "use a name or no value for an extent that is not known"},
    // Data.
    CodeInfo{"tensor-type", E, "a tensor's element type is missing or not known", "IR.md#tensor-element-types", "store it with a type of onnx.proto"},
    CodeInfo{"tensor-data", E, "a tensor's data do not fit its type and shape", "IR.md#tensor-definition",
             "write the tensor again: the file is damaged, or its writer faulty"},
    CodeInfo{"tensor-padding", E, "a tensor holds more data than its shape takes", "IR.md#tensor-definition", "write the tensor again"},
    CodeInfo{"sparse-tensor", E, "a sparse tensor is not well formed", "IR.md#tensor-definition", "write values [N] and sorted indices inside the shape"},
    CodeInfo{"external-data", E, "external data are described wrongly", "IR.md#external-tensor-data", "save the model again with its data file beside it"},
    CodeInfo{"external-missing", E, "an external data file is missing", "IR.md#external-tensor-data", "copy the data file beside the model"},
    CodeInfo{"external-range", E, "external data lie outside their file", "IR.md#external-tensor-data",
             "the data file is cut off, or belongs to another model"},
    CodeInfo{"external-shape", E, "a constant that shapes depend on is in another file", "",
             "keep small tensors in the model (size_threshold=1024 of onnx.save)"},
    CodeInfo{"external-misaligned", W, "external data are not aligned to their type", "IR.md#external-tensor-data",
             "offsets that are multiples of 4096 can be mapped"},
};

}  // namespace

std::span<const CodeInfo> all_codes() { return kCodes; }

const CodeInfo& code_info(std::string_view code) {
  for (const CodeInfo& info : kCodes)
    if (info.code == code) return info;
  throw Error(Code::kInternal, "no such code: " + std::string(code));
}

void ModelTree::index_functions() {
  for (const auto& function : functions) {
    const auto& r = function->record;
    by_id_.emplace(std::array{r.domain == "ai.onnx" ? "" : r.domain, r.name, r.overload}, function.get());
  }
}

const FunctionTree* ModelTree::function_of(const NodeTree& node) const {
  if (by_id_.empty()) return nullptr;
  const auto at = by_id_.find({node.domain, node.record.op, node.record.overload});
  return at == by_id_.end() ? nullptr : at->second;
}

std::optional<std::string> ModelTree::nearest_function(const std::string& domain, const std::string& name) const {
  std::vector<std::string> names;
  for (const auto& [id, function] : by_id_)
    if (id[0] == domain) names.push_back(id[1]);
  return names.empty() ? std::nullopt : std::optional(nearest(name, names));
}

Defect& Findings::add(std::string_view code, const GraphTree* graph, const NodeTree* node, std::string tensor, std::string what, std::string expected) {
  const CodeInfo& info = code_info(code);
  Defect defect;
  defect.code = code;
  defect.severity = info.severity;
  if (graph) defect.where = graph->where;
  if (node) {
    defect.node = node->label();
    defect.op = node->op_text();
  }
  defect.tensor = std::move(tensor);
  defect.what = std::move(what);
  defect.expected = std::move(expected);
  defect.remedy = info.remedy;
  defect.spec = info.spec;
  if (info.spec == "@") {
    defect.spec = "IR.md#nodes";
    if (node && node->domain.empty()) defect.spec = "Operators.md#" + node->record.op;
    if (node && node->domain == "ai.onnx.ml") defect.spec = "Operators-ml.md#ai.onnx.ml." + node->record.op;
  }
  return defects_.emplace_back(std::move(defect));
}

bool Findings::any_error(std::size_t from) const {
  return std::any_of(defects_.begin() + static_cast<std::ptrdiff_t>(from), defects_.end(), [](const Defect& d) { return d.severity == Severity::kError; });
}

std::vector<Defect> Findings::take() {
  const auto rank = [](const Defect& d) { return static_cast<std::size_t>(&code_info(d.code) - kCodes.data()); };
  std::set<std::string> seen;
  std::vector<std::pair<std::size_t, Defect>> kept;
  for (Defect& d : defects_) {
    for (std::string* text : {&d.node, &d.op, &d.tensor, &d.where, &d.what, &d.expected, &d.spec}) *text = printable(*text);
    const std::string key = d.code + '\0' + d.where + '\0' + d.node + '\0' + d.op + '\0' + d.tensor + '\0' + d.what;
    if (seen.insert(key).second) kept.emplace_back(rank(d) + (d.severity == Severity::kError ? 0 : kCodes.size()), std::move(d));
  }
  std::stable_sort(kept.begin(), kept.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::vector<Defect> result;
  for (auto& [at, d] : kept) result.push_back(std::move(d));
  defects_.clear();
  return result;
}

}  // namespace lathe::checker
