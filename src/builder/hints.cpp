// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Parsing of shape options and choice of hint extents.

#include "builder/hints.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <set>

#include "builder/random_inputs.h"
#include "ops/op_def.h"
#include "ops/pointwise/row.h"

namespace lathe::builder {
namespace {

Dims parse_dims(std::string_view text, std::string_view option) {
  Dims dims;
  while (!text.empty()) {
    const auto cut = text.find('x');
    const std::string_view part = text.substr(0, cut);
    std::int64_t extent = 0;
    const auto [end, error] = std::from_chars(part.data(), part.data() + part.size(), extent);
    if (error != std::errc() || end != part.data() + part.size() || extent < 0)
      throw Error(Code::kInvalidArgument, fmt::format("'{}' in the shape option '{}' is not an extent", part, option))
          .with_remedy("Write shapes as NAME:1x3x640x640, or NAME:MIN:OPT:MAX with three such shapes.");
    dims.push_back(extent);
    if (cut == std::string_view::npos) break;
    text.remove_prefix(cut + 1);
  }
  return dims;
}

const ShapeRange* range_for(const std::map<std::string, ShapeRange>& shapes, const ir::Value& input) {
  const auto found = shapes.find(input.name);
  return found == shapes.end() ? nullptr : &found->second;
}

/// Runs over (input, axis, symbol) of every input extent that is a plain symbol.
template <class F>
void for_each_symbol(const ir::Graph& graph, F&& f) {
  for (const ir::Value* input : graph.inputs()) {
    if (!input->type.is_tensor() || !input->has_shape()) continue;
    for (std::size_t axis = 0; axis < input->shape().size(); ++axis)
      if (input->shape()[axis].is_symbol()) f(*input, axis, input->shape()[axis].to_string());
  }
}

bool broadcasts(const ir::Node& node) {
  const auto rows = ops::pointwise::all_rows();
  return std::any_of(rows.begin(), rows.end(), [&](const auto& row) { return row.name == node.op; });
}

/// Pictures that a tensor beyond this follows from (an attention's scores grow with the square of the pixels) are more than was likely meant.
constexpr double kLargestTensor = 256.0 * 1024 * 1024;

/// Bytes of the largest tensor whose extents these sizes tell, and some of `symbols`.
double largest_tensor(const ir::Graph& graph, const ir::Bindings& bindings, const std::map<std::string, std::size_t>& symbols) {
  double largest = 0;
  for (const ir::Node* node : graph.nodes())
    for (const ir::Value* value : node->outputs) {
      const auto dims = value && value->type.is_tensor() && value->has_shape() ? ir::evaluate(value->shape(), bindings) : std::nullopt;
      std::set<std::string> used;
      if (dims)
        for (const ir::Dim& dim : value->shape()) dim.collect_symbols(used);
      if (std::none_of(used.begin(), used.end(), [&](const std::string& symbol) { return symbols.contains(symbol); })) continue;
      double bytes = std::max(dtype_bits(value->dtype()), 8) / 8.0;
      for (const std::int64_t extent : *dims) bytes *= static_cast<double>(extent);
      largest = std::max(largest, bytes);
    }
  return largest;
}

bool is_pixel(const ir::Value& input, std::size_t axis) { return input.shape().size() >= 4 && axis >= 2; }

/// Extents of pictures that nobody gave: {symbol: axis}.
std::map<std::string, std::size_t> free_pixels(const ir::Graph& graph, const std::map<std::string, ShapeRange>& shapes) {
  std::map<std::string, std::size_t> pixels;
  std::set<std::string> given;
  for_each_symbol(graph, [&](const ir::Value& input, std::size_t axis, const std::string& symbol) {
    if (range_for(shapes, input)) given.insert(symbol);
    else if (is_pixel(input, axis)) pixels.emplace(symbol, axis);
  });
  for (const std::string& symbol : given) pixels.erase(symbol);
  return pixels;
}

/// Symbols that are one extent wherever the graph can run.
std::vector<std::pair<std::string, std::string>> equal_symbols(const ir::Graph& graph) {
  std::vector<std::pair<std::string, std::string>> pairs;
  const auto equal = [&](const ir::Dim& a, const ir::Dim& b) {
    if (a.is_symbol() && b.is_symbol() && a.symbol_name() != b.symbol_name()) pairs.emplace_back(a.symbol_name(), b.symbol_name());
  };
  for (const ir::Node* node : graph.nodes()) {
    if (!node->domain.empty()) continue;
    std::vector<const ir::Shape*> shapes;
    for (const ir::Value* input : node->inputs)
      if (input && input->type.is_tensor() && input->has_shape()) shapes.push_back(&input->shape());
    if (node->op == "MatMul" && shapes.size() == 2 && !shapes[0]->empty() && shapes[1]->size() > 1) {
      equal(shapes[0]->back(), (*shapes[1])[shapes[1]->size() - 2]);
    } else if (broadcasts(*node)) {
      for (std::size_t i = 1; i < shapes.size(); ++i)
        for (std::size_t axis = 1; axis <= std::min(shapes[0]->size(), shapes[i]->size()); ++axis)
          equal((*shapes[0])[shapes[0]->size() - axis], (*shapes[i])[shapes[i]->size() - axis]);
    }
  }
  return pairs;
}

}  // namespace

void bind_unknown(const ir::Graph& graph, const std::set<std::string>& symbols, std::int64_t otherwise, ir::Bindings& bindings) {
  const auto pairs = equal_symbols(graph);
  const auto spread = [&] {
    for (bool changed = true; changed;) {
      changed = false;
      for (const auto& [a, b] : pairs) {
        if (bindings.contains(a) == bindings.contains(b)) continue;
        if (bindings.contains(a)) bindings.emplace(b, bindings.at(a));
        else bindings.emplace(a, bindings.at(b));
        changed = true;
      }
    }
  };
  spread();
  for (const std::string& symbol : symbols)
    if (bindings.emplace(symbol, otherwise).second) spread();
}

void limit_counts(const ir::Graph& graph, ir::Bindings& bindings) {
  for (const ir::Node* node : graph.nodes()) {
    if (node->domain != ops::kOwnDomain || node->op != "First" || !node->input(0)->has_shape() || !node->output()->has_shape()) continue;
    for (std::size_t axis = 0; axis < node->output()->shape().size(); ++axis) {
      const ir::Dim &count = node->output()->shape()[axis], &padded = node->input(0)->shape()[axis];
      if (!count.is_symbol() || count == padded) continue;
      const auto found = bindings.find(count.symbol_name());
      const auto most = padded.evaluate(bindings);
      if (found != bindings.end() && most) found->second = std::min(found->second, *most);
    }
  }
}

std::pair<std::string, ShapeRange> parse_shape_option(std::string_view text) {
  // The input's name may hold colons ("input:0"): shapes are the trailing parts that start with a digit.
  std::vector<std::string_view> parts;
  std::string_view rest = text;
  while (parts.size() < 3) {
    const auto cut = rest.rfind(':');
    if (cut == std::string_view::npos || cut + 1 >= rest.size()) break;
    const std::string_view tail = rest.substr(cut + 1);
    const bool is_shape = tail.find_first_not_of("0123456789x") == std::string_view::npos &&
                          (tail.find('x') != std::string_view::npos || parts.empty() || parts.front().find('x') == std::string_view::npos);
    if (!is_shape) break;
    parts.insert(parts.begin(), tail);
    rest = rest.substr(0, cut);
  }
  if (parts.empty() || rest.empty() || parts.size() == 2)
    throw Error(Code::kInvalidArgument, fmt::format("the shape option '{}' is not NAME:SHAPE or NAME:MIN:OPT:MAX", text))
        .with_remedy("For example --shape images:1x3x640x640, or --shape images:1x3x320x320:1x3x640x640:8x3x1280x1280.");
  ShapeRange range;
  range.min = parse_dims(parts[0], text);
  range.opt = parse_dims(parts[parts.size() == 3 ? 1 : 0], text);
  range.max = parse_dims(parts.back(), text);
  for (std::size_t i = 0; i < range.opt.size(); ++i)
    if (range.min.size() != range.opt.size() || range.max.size() != range.opt.size() || range.min[i] > range.opt[i] || range.opt[i] > range.max[i])
      throw Error(Code::kInvalidArgument, fmt::format("the shape option '{}' does not satisfy MIN <= OPT <= MAX on each axis", text));
  return {std::string(rest), std::move(range)};
}

void apply_fixed_shapes(ir::Model& model, const std::map<std::string, ShapeRange>& shapes) {
  ir::Graph& graph = *model.graph;
  for (const auto& [name, range] : shapes) {
    ir::Value* input = graph.find(name);
    const auto& inputs = graph.inputs();
    if (!input || std::find(inputs.begin(), inputs.end(), input) == inputs.end()) {
      std::string known;
      for (const ir::Value* value : inputs) known += fmt::format("{}'{}'", known.empty() ? "" : ", ", value->name);
      throw Error(Code::kInvalidArgument, fmt::format("the model has no input '{}'; its inputs are {}", name, known))
          .with_remedy("Name one of the model's inputs in --shape.");
    }
    try {
      element_count(range.max);
    } catch (const Error& error) {
      throw Error(Code::kInvalidArgument, fmt::format("the shape given for input '{}' is too large: {}", name, error.message()))
          .with_remedy("Give extents that the machine's memory can hold.");
    }
    if (!input->has_shape()) {
      ir::Shape shape;
      for (std::size_t i = 0; i < range.opt.size(); ++i)
        shape.push_back(range.min[i] == range.max[i] ? ir::Dim(range.opt[i]) : ir::Dim::symbol(fmt::format("{}_d{}", name, i)));
      input->type.shape = shape;
      continue;
    }
    if (input->shape().size() != range.opt.size())
      throw Error(Code::kInvalidArgument, fmt::format("the shape given for input '{}' has {} axes, the model's has {}: {}", name, range.opt.size(),
                                                      input->shape().size(), ir::to_string(input->shape())));
  }
  // Replace symbols that are fixed, everywhere.
  std::unordered_map<std::string, ir::Dim> fixed;
  for_each_symbol(graph, [&](const ir::Value& input, std::size_t axis, const std::string& symbol) {
    const ShapeRange* range = range_for(shapes, input);
    if (!range || range->min[axis] != range->max[axis]) return;
    const auto [at, added] = fixed.emplace(symbol, ir::Dim(range->opt[axis]));
    if (!added && at->second != ir::Dim(range->opt[axis]))
      throw Error(Code::kInvalidArgument,
                  fmt::format("the symbol '{}' of the model would be both {} and {} by the given shapes", symbol, at->second.to_string(), range->opt[axis]))
          .at_tensor(input.name);
  });
  for (ir::Value* input : graph.inputs()) {
    if (!input->has_shape()) continue;
    const ShapeRange* range = range_for(shapes, *input);
    for (std::size_t axis = 0; axis < input->shape().size(); ++axis) {
      ir::Dim& dim = (*input->type.shape)[axis];
      dim = dim.substitute(fixed);
      if (range && dim.is_constant() && *dim.constant() != range->opt[axis])
        throw Error(Code::kInvalidArgument,
                    fmt::format("input '{}' has extent {} on axis {}, but the given shape says {}", input->name, dim.to_string(), axis, range->opt[axis]))
            .at_tensor(input->name)
            .with_remedy("Only symbolic extents can be chosen; export the model with that axis dynamic to change it.");
    }
  }
}

ir::Bindings hint_bindings(const ir::Graph& graph, const std::map<std::string, ShapeRange>& shapes) {
  ir::Bindings bindings;
  for_each_symbol(graph, [&](const ir::Value& input, std::size_t axis, const std::string& symbol) {
    if (const ShapeRange* range = range_for(shapes, input)) {
      bindings.insert_or_assign(symbol, range->opt[axis]);
      return;
    }
    // Image-like extents need room for strided stages; sequence-like ones do not mind.
    // The bytes of an encoded picture: enough for one.
    bindings.emplace(symbol, decoder_of(input) ? 4096 : axis == 0 ? 1 : is_pixel(input, axis) ? 128 : 16);
  });
  // Detectors and U-shaped networks need multiples of their total stride: not below 32.
  const auto pixels = free_pixels(graph, shapes);
  for (std::int64_t extent = 64; extent >= 32 && largest_tensor(graph, bindings, pixels) > kLargestTensor; extent /= 2)
    for (const auto& [symbol, axis] : pixels) bindings.insert_or_assign(symbol, extent);
  return bindings;
}

ir::Bindings odd_bindings(const ir::Graph& graph, const std::map<std::string, ShapeRange>& shapes, const ir::Bindings& hints) {
  ir::Bindings odd;
  bool moved = false;
  for_each_symbol(graph, [&](const ir::Value& input, std::size_t axis, const std::string& symbol) {
    std::int64_t value = hints.at(symbol);
    const ShapeRange* range = range_for(shapes, input);
    const std::int64_t low = range ? range->min[axis] : 1;
    const std::int64_t high = range ? range->max[axis] : std::int64_t{1} << 30;
    // Detectors and U-shaped networks need multiples of their total stride, so image extents move by 32.
    const std::int64_t step = is_pixel(input, axis) ? (axis % 2 == 0 ? 32 : 64) : axis == 0 ? 2 : 3;
    const std::int64_t other = value + step <= high ? value + step : value - step >= low ? value - step : value;
    moved |= other != value;
    odd.insert_or_assign(symbol, other);
  });
  if (!moved) odd.clear();
  // Where larger pictures are too large, another number of them.
  if (const auto pixels = free_pixels(graph, shapes); largest_tensor(graph, odd, pixels) > kLargestTensor)
    for (const auto& [symbol, axis] : pixels) odd.insert_or_assign(symbol, std::max<std::int64_t>(hints.at(symbol) / (axis % 2 == 0 ? 2 : 1), 32));
  return odd;
}

std::vector<plan::SymbolHint> symbol_hints(const ir::Graph& graph, const std::map<std::string, ShapeRange>& shapes, const ir::Bindings& hints) {
  std::map<std::string, plan::SymbolHint> by_symbol;
  for_each_symbol(graph, [&](const ir::Value& input, std::size_t axis, const std::string& symbol) {
    plan::SymbolHint hint{symbol, 1, hints.at(symbol), -1};
    if (const ShapeRange* range = range_for(shapes, input)) {
      hint.min = range->min[axis];
      hint.max = range->max[axis];
    }
    by_symbol.insert_or_assign(symbol, hint);
  });
  std::vector<plan::SymbolHint> result;
  for (auto& [symbol, hint] : by_symbol) result.push_back(hint);
  return result;
}

void take_ranges(const ir::Graph& graph, const plan::Program& program, std::map<std::string, ShapeRange>& shapes) {
  for (const ir::Value* input : graph.inputs()) {
    if (range_for(shapes, *input) || !input->has_shape()) continue;
    const auto io = std::find_if(program.inputs.begin(), program.inputs.end(), [&](const plan::Io& i) { return i.name == input->name; });
    if (io == program.inputs.end()) continue;
    const ir::Shape& built = program.slots.at(static_cast<std::size_t>(io->slot)).shape;
    ShapeRange range;
    bool free = false;
    for (std::size_t axis = 0; axis < input->shape().size() && built.size() == input->shape().size(); ++axis) {
      plan::SymbolHint hint;
      if (const auto fixed = built[axis].constant()) {
        hint = {"", *fixed, *fixed, *fixed};
        free |= !input->shape()[axis].is_constant();
      } else {
        const auto known =
            std::find_if(program.symbols.begin(), program.symbols.end(), [&](const plan::SymbolHint& h) { return built[axis] == ir::Dim::symbol(h.symbol); });
        if (known == program.symbols.end() || known->opt < 0) break;
        hint = *known;
        free = true;
      }
      range.min.push_back(hint.min);
      range.opt.push_back(hint.opt);
      range.max.push_back(hint.max < 0 ? hint.opt + 64 : hint.max);  // no limit: room for odd_bindings()
    }
    if (free && range.opt.size() == input->shape().size()) shapes.emplace(input->name, std::move(range));
  }
}

Dims concrete_dims(const ir::Value& value, const ir::Bindings& bindings) {
  if (!value.has_shape())
    throw Error(Code::kUnsupported, "the rank of a tensor is not known before the model runs")
        .at_tensor(value.name)
        .with_remedy("Give input shapes with --shape, or export the model with known ranks.");
  const auto dims = ir::evaluate(value.shape(), bindings);
  if (!dims)
    throw Error(Code::kUnsupported, fmt::format("the shape {} of a tensor depends on the data of the run", ir::to_string(value.shape())))
        .at_tensor(value.name)
        .with_remedy("Give the inputs' shapes with --shape.");
  return *dims;
}

}  // namespace lathe::builder
