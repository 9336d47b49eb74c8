// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Parses the graph's text form (grammar by example in text.h). Recursive descent straight from the characters; every error carries
// line and column.

#include <charconv>
#include <cmath>
#include <limits>
#include <random>

#include "ir/text.h"
#include "lathe/status.h"

namespace lathe::ir {
namespace {

class TextParser {
 public:
  TextParser(std::string_view text, const Graph* constants_from) : text_(text), constants_from_(constants_from) {}

  std::shared_ptr<Graph> parse() {
    auto graph = parse_graph(nullptr);
    skip();
    if (at_ != text_.size()) fail("unexpected text after the graph");
    return graph;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    std::size_t line = 1, column = 1;
    for (std::size_t i = 0; i < at_ && i < text_.size(); ++i) {
      column = text_[i] == '\n' ? 1 : column + 1;
      line += text_[i] == '\n' ? 1 : 0;
    }
    throw Error(Code::kInvalidArgument, "graph text, line " + std::to_string(line) + ", column " + std::to_string(column) + ": " + what);
  }

  // Characters ---------------------------------------------------------------------------------------------------------------
  void skip() {
    for (; at_ < text_.size(); ++at_) {
      if (text_.substr(at_, 2) == "//") {
        while (at_ < text_.size() && text_[at_] != '\n') ++at_;
        if (at_ == text_.size()) return;
      } else if (!std::isspace(static_cast<unsigned char>(text_[at_]))) {
        return;
      }
    }
  }
  char peek() {
    skip();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(std::string_view token) {
    skip();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) fail("expected '" + std::string(token) + "'");
  }
  static bool in_name(char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.' || c == '/'; }
  std::string_view peek_word() {
    skip();
    std::size_t end = at_;
    while (end < text_.size() && in_name(text_[end]) && text_.substr(end, 2) != "//") ++end;
    return text_.substr(at_, end - at_);
  }
  bool accept_word(std::string_view word) {
    if (peek_word() != word) return false;
    at_ += word.size();
    return true;
  }
  std::string quoted() {
    expect("\"");
    std::string result;
    for (; at_ < text_.size() && text_[at_] != '"'; ++at_) {
      if (text_[at_] != '\\') {
        result += text_[at_];
        continue;
      }
      if (++at_ >= text_.size()) break;
      if (text_[at_] == 'x') {
        unsigned value = 0;
        const auto [end, error] = std::from_chars(text_.data() + at_ + 1, text_.data() + std::min(at_ + 3, text_.size()), value, 16);
        if (error != std::errc()) fail("bad escape");
        result += static_cast<char>(value);
        at_ = static_cast<std::size_t>(end - text_.data()) - 1;
      } else {
        result += text_[at_];
      }
    }
    if (at_ >= text_.size()) fail("unterminated string");
    ++at_;
    return result;
  }
  std::string name() {
    if (peek() == '"') return quoted();
    const std::string_view word = peek_word();
    if (word.empty()) fail("expected a name");
    at_ += word.size();
    return std::string(word);
  }
  /// A number, inf or nan, as its text.
  std::string number_text() {
    skip();
    std::size_t end = at_;
    while (end < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[end])) || text_[end] == '.' || text_[end] == '-' || text_[end] == '+')) ++end;
    if (end == at_) fail("expected a number");
    std::string result(text_.substr(at_, end - at_));
    at_ = end;
    return result;
  }
  std::int64_t integer(const std::string& text) const {
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error == std::errc() && end == text.data() + text.size()) return value;
    std::uint64_t big = 0;  // the upper half of uint64
    const auto [end2, error2] = std::from_chars(text.data(), text.data() + text.size(), big);
    if (error2 != std::errc() || end2 != text.data() + text.size()) fail("'" + text + "' is no integer");
    return static_cast<std::int64_t>(big);
  }
  double real(const std::string& text) const {
    if (text == "nan") return std::numeric_limits<double>::quiet_NaN();
    if (text == "inf") return std::numeric_limits<double>::infinity();
    if (text == "-inf") return -std::numeric_limits<double>::infinity();
    double value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size()) fail("'" + text + "' is no number");
    return value;
  }
  // "1.5", "inf", "1e9" are floats, the rest integers.
  static bool looks_real(const std::string& text) { return text.find_first_of(".enif") != std::string::npos; }

  // Types --------------------------------------------------------------------------------------------------------------------
  Type parse_type() {
    if (accept("?")) return {};
    const std::string word = name();
    if (word == "opaque") return Type{TypeKind::kOpaque, DType::kUndefined, std::nullopt, nullptr, {}};
    if (word == "seq" || word == "optional" || word == "sparse" || word == "map") {
      expect("(");
      Type type;
      if (word == "sparse") {
        type = parse_type();
        type.kind = TypeKind::kSparseTensor;
      } else {
        type.kind = word == "seq" ? TypeKind::kSequence : word == "map" ? TypeKind::kMap : TypeKind::kOptional;
        if (word == "map") {
          type.dtype = parse_element_type(name());
          expect(",");
        }
        Type element = parse_type();
        if (element.kind != TypeKind::kUnknown) type.element = std::make_shared<Type>(std::move(element));
      }
      expect(")");
      return type;
    }
    const DType dtype = parse_element_type(word);
    if (!accept("[")) return Type::tensor(dtype);
    if (accept("?]")) return Type::tensor(dtype);
    return Type::tensor(dtype, shape());
  }
  DType parse_element_type(const std::string& word) const {
    if (word == dtype_name(DType::kUndefined)) return DType::kUndefined;
    const auto dtype = parse_dtype(word);
    if (!dtype) fail("unknown type '" + word + "'");
    return *dtype;
  }
  /// After '['.
  Shape shape() {
    Shape shape;
    if (accept("]")) return shape;
    for (;;) {
      skip();
      const std::size_t start = at_;
      int depth = 0;
      bool quoted_symbol = false;
      for (; at_ < text_.size(); ++at_) {
        const char c = text_[at_];
        if (c == '\'') quoted_symbol = !quoted_symbol;
        if (quoted_symbol) {
          if (c == '\\') ++at_;
          continue;
        }
        if (depth == 0 && (c == ',' || c == ']')) break;
        depth += c == '(' ? 1 : c == ')' ? -1 : 0;
      }
      if (at_ >= text_.size()) fail("unterminated shape");
      shape.push_back(Dim::parse(text_.substr(start, at_ - start)));
      if (accept("]")) return shape;
      expect(",");
    }
  }
  Dims constant_shape() {
    expect("[");
    const auto dims = constant_dims(shape());
    if (!dims) fail("a constant needs a constant shape");
    return *dims;
  }

  // Constants ----------------------------------------------------------------------------------------------------------------
  void set_element(Tensor& tensor, std::int64_t i) {
    if (tensor.dtype() == DType::kString) {
      tensor.mutable_string_data()[static_cast<std::size_t>(i)] = quoted();
    } else if (is_float(tensor.dtype())) {
      tensor.set_from_double(i, real(number_text()));
    } else {
      tensor.set_from_int64(i, integer(number_text()));
    }
  }

  Tensor tensor_body(DType dtype, Dims dims) {
    const std::int64_t count = element_count(dims);
    if (accept("hash(")) {
      const std::string text = number_text();
      expect(")");
      std::uint64_t hash = 0;
      if (text.size() < 3 || std::from_chars(text.data() + 2, text.data() + text.size(), hash, 16).ec != std::errc()) fail("bad hash");
      return lookup(hash);
    }
    // What a few characters can ask for. A list has a character for each element at least.
    const std::int64_t most_filled = std::int64_t{1} << (dtype == DType::kString ? 16 : 22);
    const bool listed = peek() == '{';
    if (count > (listed ? static_cast<std::int64_t>(text_.size()) : most_filled))
      fail(listed ? "fewer elements than the " + std::to_string(count) + " of the type"
                  : "a constant of " + std::to_string(count) + " elements; at most " + std::to_string(most_filled) + " are filled in");
    Tensor tensor(dtype, std::move(dims));
    if (accept("splat(")) {
      if (count > 0) {
        set_element(tensor, 0);
      } else {
        number_text();
      }
      for (std::int64_t i = 1; i < count; ++i) {
        if (dtype == DType::kString) {
          tensor.mutable_string_data()[static_cast<std::size_t>(i)] = tensor.string_data()[0];
        } else if (is_float(dtype)) {
          tensor.set_from_double(i, tensor.as_double(0));
        } else {
          tensor.set_from_int64(i, tensor.as_int64(0));
        }
      }
      expect(")");
      return tensor;
    }
    if (accept("random(")) {
      std::mt19937_64 engine(static_cast<std::uint64_t>(integer(number_text())));
      for (std::int64_t i = 0; i < count; ++i) {
        const double unit = static_cast<double>(engine() >> 11) * 0x1p-53;  // [0, 1), the same on every platform
        if (is_float(dtype)) {
          tensor.set_from_double(i, 2 * unit - 1);
        } else {
          tensor.set_from_int64(i, static_cast<std::int64_t>(unit * (dtype == DType::kBool ? 2 : 8)));
        }
      }
      expect(")");
      return tensor;
    }
    expect("{");
    for (std::int64_t i = 0; i < count; ++i) {
      if (i > 0) expect(",");
      set_element(tensor, i);
    }
    if (!accept("}")) fail("expected '}' after " + std::to_string(count) + " elements");
    return tensor;
  }

  Tensor lookup(std::uint64_t hash) {
    if (constants_from_ && by_hash_.empty()) collect(*constants_from_);
    const auto found = by_hash_.find(hash);
    if (found == by_hash_.end()) fail("this constant is given by its hash only; parse with the model that it came from");
    return found->second;
  }
  void collect(const Graph& graph) {
    const auto add = [&](const Tensor& tensor) {
      if (tensor.defined()) by_hash_.emplace(tensor.content_hash(), tensor);
    };
    for (const Value* value : graph.values()) add(value->constant);
    for (const Node* node : graph.nodes()) {
      for (const auto& [key, attribute] : node->attrs) {
        if (const auto* tensor = std::get_if<Tensor>(&attribute.value)) add(*tensor);
        if (const auto* list = std::get_if<std::vector<Tensor>>(&attribute.value)) {
          for (const Tensor& item : *list) add(item);
        }
        if (const auto* sparse = std::get_if<SparseTensor>(&attribute.value)) {
          add(sparse->values);
          add(sparse->indices);
        }
      }
      for (const Graph* nested : nested_graphs(*node)) collect(*nested);
    }
  }

  // Attributes ---------------------------------------------------------------------------------------------------------------
  Tensor tensor() {
    if (accept_word("none")) return {};
    if (!accept_word("tensor")) fail("expected 'tensor'");
    const DType dtype = parse_element_type(name());
    Dims dims = constant_shape();
    return tensor_body(dtype, std::move(dims));
  }
  SparseTensor sparse() {
    SparseTensor result;
    result.dims = constant_shape();
    result.values = tensor();
    result.indices = tensor();
    return result;
  }

  template <class T, class Read>
  std::vector<T> list(Read read) {
    std::vector<T> result;
    expect("[");
    if (accept("]")) return result;
    do {
      result.push_back(read());
    } while (accept(","));
    expect("]");
    return result;
  }

  Attribute attribute(Graph& graph) {
    if (accept("$")) {
      Attribute attr;
      attr.ref_name = name();
      expect(":");
      attr.ref_type = static_cast<AttrType>(integer(number_text()));
      return attr;
    }
    const char c = peek();
    if (c == '"') return Attribute(quoted());
    if (c == '[') return attribute_list(graph);
    const std::string_view word = peek_word();
    if (word == "graph") return Attribute(GraphPtr(parse_graph(&graph)));
    if (word == "tensor") return Attribute(tensor());
    if (word == "none") {
      accept_word("none");
      return {};
    }
    if (accept_word("type")) return Attribute(parse_type());
    if (accept_word("sparse")) return Attribute(sparse());
    if (accept_word("floats")) return Attribute(list<float>([&] { return static_cast<float>(real(number_text())); }));
    if (accept_word("strings")) return Attribute(list<std::string>([&] { return quoted(); }));
    if (accept_word("tensors")) return Attribute(list<Tensor>([&] { return tensor(); }));
    if (accept_word("graphs")) return Attribute(list<GraphPtr>([&] { return parse_graph(&graph); }));
    if (accept_word("sparses")) return Attribute(list<SparseTensor>([&] { return sparse(); }));
    if (accept_word("types")) return Attribute(list<Type>([&] { return parse_type(); }));
    const std::string text = number_text();
    if (looks_real(text)) return Attribute(static_cast<float>(real(text)));
    return Attribute(integer(text));
  }

  Attribute attribute_list(Graph& graph) {
    const std::size_t start = at_;
    expect("[");
    const char c = peek();
    const std::string_view word = peek_word();
    if (c == ']') {
      at_ = start;
      return Attribute(list<std::int64_t>([&] { return std::int64_t{0}; }));
    }
    std::string kind = c == '"' ? "string" : std::string(word);
    at_ = start;
    if (kind == "string") return Attribute(list<std::string>([&] { return quoted(); }));
    if (kind == "tensor") return Attribute(list<Tensor>([&] { return tensor(); }));
    if (kind == "graph") return Attribute(list<GraphPtr>([&] { return parse_graph(&graph); }));
    if (kind == "type") {
      return Attribute(list<Type>([&] {
        accept_word("type");
        return parse_type();
      }));
    }
    if (kind == "sparse") {
      return Attribute(list<SparseTensor>([&] {
        accept_word("sparse");
        return sparse();
      }));
    }
    const std::vector<std::string> texts = list<std::string>([&] { return number_text(); });
    bool is_real = false;
    for (const std::string& text : texts) is_real = is_real || looks_real(text);
    if (is_real) {
      std::vector<float> values;
      for (const std::string& text : texts) values.push_back(static_cast<float>(real(text)));
      return Attribute(std::move(values));
    }
    std::vector<std::int64_t> values;
    for (const std::string& text : texts) values.push_back(integer(text));
    return Attribute(std::move(values));
  }

  // Graphs -------------------------------------------------------------------------------------------------------------------
  std::shared_ptr<Graph> parse_graph(Graph* parent) {
    if (++depth_ > 64) fail("graphs nested too deeply");
    if (!accept_word("graph")) fail("expected 'graph'");
    auto graph = std::make_shared<Graph>(parent);
    graph->name = name();
    expect("(");
    if (!accept(")")) {
      do {
        std::string input_name = name();
        Type type;
        if (accept(":")) type = parse_type();
        Value* value = graph->add_input(std::move(input_name), std::move(type));
        if (accept("=")) {
          if (!accept_word("const")) fail("expected 'const'");
          if (!value->has_shape() || !constant_dims(value->shape())) fail("a default value needs a constant shape");
          value->constant = tensor_body(value->dtype(), *constant_dims(value->shape()));
        }
      } while (accept(","));
      expect(")");
    }
    expect("->");
    expect("(");
    std::vector<std::string> outputs;
    if (!accept(")")) {
      do outputs.push_back(name());
      while (accept(","));
      expect(")");
    }
    expect("{");
    while (!accept("}")) statement(*graph);
    for (const std::string& output : outputs) {
      Value* value = graph->find_outer(output);
      if (!value) fail("the output '" + output + "' is not defined");
      graph->add_output(value);
    }
    --depth_;
    return graph;
  }

  void statement(Graph& graph) {
    std::vector<std::string> names;
    std::vector<Type> types;
    std::string op;
    bool has_outputs = true;
    do {
      const bool absent = peek_word() == "_";
      std::string word = name();
      if (peek() == '(' || text_.substr(at_, 2) == "::" || peek() == '!') {  // a node without outputs
        op = std::move(word);
        has_outputs = false;
        break;
      }
      names.push_back(absent ? std::string() : std::move(word));
      types.push_back(accept(":") ? parse_type() : Type());
    } while (accept(","));
    if (has_outputs) {
      expect("=");
      if (accept_word("const")) {
        if (names.size() != 1) fail("one name per constant");
        const auto dims = types[0].shape ? constant_dims(*types[0].shape) : std::nullopt;
        if (!dims) fail("a constant needs a type with constant extents");
        graph.add_constant(std::move(names[0]), tensor_body(types[0].dtype, *dims));
        return;
      }
      op = name();
    }
    std::string domain;
    if (accept("::")) {
      domain = std::move(op);
      op = name();
    }
    std::string overload;
    if (accept("!")) overload = name();
    node(graph, std::move(domain), std::move(op), std::move(overload), std::move(names), std::move(types));
  }

  void node(Graph& graph, std::string domain, std::string op, std::string overload, std::vector<std::string> names, std::vector<Type> types) {
    std::vector<Value*> inputs;
    expect("(");
    if (!accept(")")) {
      do {
        const bool absent = peek_word() == "_";
        const std::string input = name();
        Value* value = absent ? nullptr : graph.find_outer(input);
        if (!value && !absent) fail("'" + input + "' is not defined before its use");
        inputs.push_back(value);
      } while (accept(","));
      expect(")");
    }
    Attrs attrs;
    if (accept("{") && !accept("}")) {
      do {
        std::string key = name();
        expect("=");
        attrs.set(std::move(key), attribute(graph));
      } while (accept(","));
      expect("}");
    }
    Node* node = nullptr;
    try {
      node = graph.add_node(std::move(domain), std::move(op), std::move(inputs), std::move(names), std::move(attrs));
    } catch (const Error& error) {
      fail(error.message());
    }
    node->overload = std::move(overload);
    for (std::size_t i = 0; i < types.size(); ++i) {
      if (node->outputs[i]) node->outputs[i]->type = std::move(types[i]);
    }
    while (accept("@")) node->sources.push_back(quoted());
    if (!node->sources.empty()) node->name = node->sources[0];
    if (accept("#")) node->name = quoted();
  }

  std::string_view text_;
  const Graph* constants_from_;
  std::unordered_map<std::uint64_t, Tensor> by_hash_;
  std::size_t at_ = 0;
  int depth_ = 0;
};

}  // namespace

std::shared_ptr<Graph> parse_graph(std::string_view text, const Graph* constants_from) { return TextParser(text, constants_from).parse(); }

}  // namespace lathe::ir
