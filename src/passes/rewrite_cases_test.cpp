// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Reads case files, draws inputs, runs graphs, compares: the machinery behind rewrite_test.cpp and simplify_random_test.cpp.

#include "passes/rewrite_cases.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <cctype>
#include <cmath>
#include <fstream>
#include <random>
#include <sstream>

#include "ir/text.h"
#include "lathe/status.h"
#include "ops/import.h"
#include "ops/reference_runner.h"
#include "passes/pass.h"

namespace lathe::passes {
namespace {

using ir::Graph;
using ir::Node;
using ir::Value;

// Case files -------------------------------------------------------------------------------------------------------------------

std::vector<std::string> words_of(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> words;
  for (std::string word; in >> word;) words.push_back(word);
  return words;
}

void read_option(RewriteCase& test, const std::string& text) {
  const auto words = words_of(text);
  const auto is = [&](std::initializer_list<const char*> start, std::size_t count) {
    return words.size() == count && std::equal(start.begin(), start.end(), words.begin());
  };
  if (!words.empty() && words[0] == "gone") {
    test.gone.assign(words.begin() + 1, words.end());
  } else if (!words.empty() && words[0] == "sizes") {
    test.sizes.emplace_back();
    for (std::size_t i = 1; i < words.size(); ++i) {
      const auto equal = words[i].find('=');
      if (words[i] == "|") test.sizes.emplace_back();
      else if (equal == std::string::npos) test.defect = "no '=' in '" + words[i] + "'";
      else test.sizes.back()[words[i].substr(0, equal)] = std::stoll(words[i].substr(equal + 1));
    }
  } else if (is({"range"}, 4)) {
    test.ranges[words[1]] = {std::stoll(words[2]), std::stoll(words[3])};
  } else if (is({"tolerance"}, 2)) {
    test.tolerance = std::stod(words[1]);
  } else if (is({"zero", "signs", "free"}, 3)) {
    test.zero_signs_free = true;
  } else if (is({"finite"}, 1)) {
    test.finite = true;
  } else if (is({"not", "run"}, 2)) {
    test.run = false;
  } else if (is({"rewrites"}, 2)) {
    test.rewrites = std::stoll(words[1]);
  } else if (is({"model", "ir_version"}, 3)) {
    test.ir_version = std::stoll(words[2]);
  } else if (is({"set", "fold_everything"}, 3)) {
    test.options.fold_everything = words[2] == "1";
  } else if (is({"set", "defaults_are_constants"}, 3)) {
    test.options.defaults_are_constants = words[2] == "1";
  } else if (is({"set", "expand_batch_norm"}, 3)) {
    test.options.expand_batch_norm = words[2] == "1";
  } else if (is({"set", "for_running"}, 3)) {
    test.options.for_running = words[2] == "1";
  } else if (is({"set", "fast_whole_products"}, 3)) {
    test.options.fast_whole_products = words[2] == "1";
  } else if (is({"set", "for_gpu"}, 3)) {
    test.options.for_gpu = words[2] == "1";
  } else if (is({"set", "half_in_float"}, 3)) {
    test.options.half_in_float = words[2] == "1";
  } else if (is({"set", "growth_budget_bytes"}, 3)) {
    test.options.growth_budget_bytes = std::stoull(words[2]);
  } else {
    test.defect = "unknown option '" + text + "'";
  }
}

std::vector<RewriteCase> read_cases(const std::string& pass) {
  std::string stem = pass;
  std::replace(stem.begin(), stem.end(), '-', '_');
  std::vector<RewriteCase> cases;
  RewriteCase start;
  start.pass = pass;
  start.file = LATHE_PASSES_DIR "/" + stem + "_cases.txt";
  std::ifstream in(start.file);
  if (!in) {
    start.title = "the case file";
    start.defect = "the pass '" + pass + "' has no case file " + start.file;
    return {start};
  }
  std::string line;
  bool in_after = false;
  for (int number = 1; std::getline(in, line); ++number) {
    const auto starts = [&](const char* prefix) { return line.starts_with(prefix); };
    if (starts("# fires: ") || starts("# must not fire: ")) {
      cases.push_back(start);
      cases.back().fires = starts("# fires: ");
      cases.back().title = line.substr(line.find(": ") + 2);
      cases.back().line = number;
      in_after = false;
    } else if (cases.empty()) {
      if (!starts("//") && !line.empty()) start.defect = "line " + std::to_string(number) + " belongs to no case";
    } else if (starts("#: ")) {
      read_option(cases.back(), line.substr(3));
    } else if (starts("#")) {
      cases.back().defect = "line " + std::to_string(number) + " is neither a case nor an option";
    } else if (line == "=>") {
      in_after = true;
    } else {
      (in_after ? cases.back().after : cases.back().before) += line + '\n';
    }
  }
  for (RewriteCase& test : cases) {
    if (test.fires != (words_of(test.after).size() > 0)) test.defect = "a case that fires has a result, and the others have none";
  }
  if (!start.defect.empty()) cases.push_back(start);
  return cases;
}

// Inputs -----------------------------------------------------------------------------------------------------------------------

double draw_number(std::mt19937& random, bool special, bool finite) {
  static constexpr double kInfinity = std::numeric_limits<double>::infinity();
  static constexpr double kSpecial[] = {0.0, -0.0, 1.0, -1.0, 0.5, -2.5, 3.0, -3.0, 1e-40, -1e5};
  static constexpr double kNotFinite[] = {kInfinity, -kInfinity, std::numeric_limits<double>::quiet_NaN()};
  if (special) {
    const unsigned pick = random() % 16;
    if (pick < 10) return kSpecial[pick];
    if (pick < 13 && !finite) return kNotFinite[pick - 10];
  }
  return std::uniform_real_distribution<double>(-3, 3)(random);
}

}  // namespace

std::vector<RewriteCase> all_rewrite_cases() {
  std::vector<RewriteCase> all;
  for (const Pass& pass : pipeline()) {
    auto cases = read_cases(std::string(pass.name));
    all.insert(all.end(), std::make_move_iterator(cases.begin()), std::make_move_iterator(cases.end()));
  }
  return all;
}

std::shared_ptr<ir::Model> model_of(std::shared_ptr<Graph> graph, std::int64_t ir_version) {
  auto model = std::make_shared<ir::Model>();
  model->ir_version = ir_version;
  model->opset_imports[""] = ops::kCanonicalOpset;
  model->opset_imports["com.microsoft"] = 1;
  model->opset_imports["test"] = 1;
  model->opset_imports["com.microsoft"] = 1;
  model->graph = std::move(graph);
  return model;
}

std::optional<std::vector<Tensor>> draw_inputs(const Graph& graph, const RewriteCase& test, const ir::Bindings& sizes, unsigned seed, bool special) {
  std::mt19937 random(seed);
  std::vector<Tensor> tensors;
  for (const Value* input : graph.inputs()) {
    if (!input->type.is_tensor() || !input->has_shape()) return std::nullopt;
    const auto dims = ir::evaluate(input->shape(), sizes);
    if (!dims) return std::nullopt;
    Tensor tensor(input->dtype(), *dims);
    std::pair<std::int64_t, std::int64_t> range{-4, 4};
    if (!is_signed_integer(input->dtype())) range = {0, input->dtype() == DType::kBool ? 1 : 7};
    if (const auto found = test.ranges.find(input->name); found != test.ranges.end()) range = found->second;
    for (std::int64_t i = 0; i < tensor.size(); ++i) {
      if (input->dtype() == DType::kString) tensor.mutable_string_data()[static_cast<std::size_t>(i)] = std::to_string(random() % 3);
      else if (is_float(input->dtype())) tensor.set_from_double(i, draw_number(random, special, test.finite));
      else tensor.set_from_int64(i, std::uniform_int_distribution<std::int64_t>(range.first, range.second)(random));
    }
    tensors.push_back(std::move(tensor));
  }
  return tensors;
}

// Running and comparing ----------------------------------------------------------------------------------------------------------

RunResult run_graph(const Graph& graph, const std::vector<Tensor>& inputs, const ir::Bindings& sizes) {
  RunResult run;
  ops::RunnerOptions options;
  options.observe = [&](const Value& value, Tensor& tensor) {
    run.values[value.name] = tensor;
    run.any_empty = run.any_empty || tensor.size() == 0;
    if (!value.type.is_tensor()) return;
    const auto dims = value.has_shape() ? ir::evaluate(value.shape(), sizes) : std::nullopt;  // nullopt too where data decide
    const bool fits = (value.dtype() == DType::kUndefined || value.dtype() == tensor.dtype()) && (!dims || *dims == tensor.dims()) &&
                      (!value.has_shape() || value.shape().size() == tensor.dims().size());
    if (!fits)
      run.mistyped +=
          fmt::format("'{}' is inferred as {} and is {} {}\n", value.name, value.type.to_string(), dtype_name(tensor.dtype()), to_string(tensor.dims()));
  };
  ops::ReferenceRunner runner(graph, options);
  run.outputs = runner.run(inputs);
  return run;
}

std::string difference(const Tensor& a, const Tensor& b, const Comparison& comparison) {
  if (a.dtype() != b.dtype()) return std::string(dtype_name(a.dtype())) + " became " + std::string(dtype_name(b.dtype()));
  if (a.dims() != b.dims()) return to_string(a.dims()) + " became " + to_string(b.dims());
  if (a.dtype() == DType::kString) return a.string_data() == b.string_data() ? "" : "other texts";
  double scale = 0;
  for (std::int64_t i = 0; i < a.size(); ++i) {
    if (const double x = std::abs(a.as_double(i)); std::isfinite(x)) scale = std::max(scale, x);
  }
  for (std::int64_t i = 0; i < a.size(); ++i) {
    bool same;
    if (!is_float(a.dtype())) {
      same = a.as_int64(i) == b.as_int64(i);
    } else {
      const double x = a.as_double(i), y = b.as_double(i);
      same = x == y ? x != 0 || comparison.zero_signs_free || std::signbit(x) == std::signbit(y) : std::isnan(x) && std::isnan(y);
      if (!same && comparison.tolerance > 0) same = std::abs(x - y) <= comparison.tolerance * std::max(scale, comparison.least_scale);
    }
    if (!same) {
      std::ostringstream text;
      text << "element " << i << " was " << a.as_double(i) << " and is " << b.as_double(i) << " (scale " << scale << ")";
      return text.str();
    }
  }
  return "";
}

std::string comparable_text(const Graph& graph) {
  const auto copy = graph.clone();
  std::vector<Value*> constants;
  const auto note = [&](Value* value) {
    if (value && value->is_constant() && std::find(constants.begin(), constants.end(), value) == constants.end()) constants.push_back(value);
  };
  ir::for_each_node_deep(*copy, [&](Node& node) { std::for_each(node.inputs.begin(), node.inputs.end(), note); });
  for (std::size_t i = 0; i < constants.size(); ++i) {  // equal ones are one
    for (std::size_t k = constants.size(); k-- > i + 1;) {
      if (!constants[i]->constant.same_bytes(constants[k]->constant) || constants[i]->graph != constants[k]->graph) continue;
      constants[k]->graph->replace_all_uses(constants[k], constants[i]);
      constants.erase(constants.begin() + static_cast<std::ptrdiff_t>(k));
    }
  }
  copy->erase_unused_constants();
  for (std::size_t i = 0; i < constants.size(); ++i) constants[i]->graph->rename(constants[i], copy->unique_name(fmt::format("k{:03}", i)));
  ir::PrintOptions options;
  options.sources = false;
  // Fresh symbols have numbers of how many there were before them: here of their first appearance.
  std::string printed;
  std::map<std::string, std::string> fresh;
  const std::string raw = ir::print(*copy, options);
  for (std::size_t at = 0; at < raw.size();) {
    std::size_t end = at + 1;
    if (raw[at] == '?')
      while (end < raw.size() && std::isdigit(static_cast<unsigned char>(raw[end]))) ++end;
    const std::string piece = raw.substr(at, end - at);
    printed += end - at > 1 ? fresh.emplace(piece, fmt::format("?{}", fresh.size())).first->second : piece;
    at = end;
  }
  std::istringstream in(printed);
  // Constants print in the order of their making; here by name.
  std::string text;
  std::vector<std::string> block;
  const auto flush = [&] {
    std::sort(block.begin(), block.end());
    for (const std::string& line : block) text += line + '\n';
    block.clear();
  };
  for (std::string line; std::getline(in, line);) {
    if (line.find(" = const ") != std::string::npos && line.find('(') > line.find(" = const ")) {
      block.push_back(line);
    } else {
      flush();
      text += line + '\n';
    }
  }
  return text;
}

}  // namespace lathe::passes
