// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Reads the text form of a region (see region.cpp for the writer). Engine files carry it, so every malformed text must end in an
// Error, never in a bad region: find_defects() runs on the result.
#include <cctype>
#include <charconv>
#include <limits>
#include <map>

#include <fmt/format.h>

#include "lathe/status.h"
#include "loops/region.h"

namespace lathe::loops {
namespace {

constexpr int kMaxDepth = 2000;  // nested calls; deeper text is refused before the stack is at risk

class Parser {
 public:
  explicit Parser(std::string_view text) : text_(text) {}

  LoopRegion parse() {
    expect("region");
    expect("{");
    while (peek() == '$') buffer();
    while (accept("require")) requirement();
    while (!accept("}")) {
      if (peek() == '%') {
        definition();
      } else {
        stage();
      }
    }
    skip_space();
    if (at_ != text_.size()) fail("text after the region");
    if (auto defects = find_defects(region_); !defects.empty()) fail(defects.front());
    return std::move(region_);
  }

 private:
  [[noreturn]] void fail(const std::string& what) const { throw Error(Code::kCorruptFile, fmt::format("region text, offset {}: {}", at_, what)); }
  void skip_space() {
    while (at_ < text_.size() && std::isspace(static_cast<unsigned char>(text_[at_]))) ++at_;
  }
  char peek() {
    skip_space();
    return at_ < text_.size() ? text_[at_] : '\0';
  }
  bool accept(std::string_view token) {
    skip_space();
    if (text_.substr(at_, token.size()) != token) return false;
    at_ += token.size();
    return true;
  }
  void expect(std::string_view token) {
    if (!accept(token)) fail(fmt::format("expected '{}'", token));
  }
  std::string_view word() {
    skip_space();
    const std::size_t start = at_;
    while (at_ < text_.size() && (std::isalnum(static_cast<unsigned char>(text_[at_])) || text_[at_] == '_')) ++at_;
    if (start == at_) fail("expected a word");
    return text_.substr(start, at_ - start);
  }
  std::int64_t integer() {
    skip_space();
    std::int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc()) fail("expected an integer");
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  int small(std::size_t limit, std::string_view what) {
    const std::int64_t value = integer();
    if (value < 0 || value >= static_cast<std::int64_t>(limit)) fail(fmt::format("{} {} does not exist", what, value));
    return static_cast<int>(value);
  }
  double number() {
    skip_space();
    double value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc()) fail("expected a number");
    at_ = static_cast<std::size_t>(end - text_.data());
    return value;
  }
  std::string quoted() {
    expect("\"");
    std::string out;
    for (;; ++at_) {
      if (at_ >= text_.size()) fail("unterminated name");
      if (text_[at_] == '"') break;
      if (text_[at_] == '\\' && ++at_ >= text_.size()) fail("unterminated name");
      out += text_[at_];
    }
    ++at_;
    return out;
  }
  DType dtype() {
    const auto type = parse_dtype(word());
    if (!type) fail("unknown element type");
    return *type;
  }
  /// A dimension expression up to an unnested delimiter.
  ir::Dim dim(std::string_view delimiters) {
    skip_space();
    int depth = 0;
    const std::size_t start = at_;
    for (; at_ < text_.size(); ++at_) {
      const char c = text_[at_];
      if (depth == 0 && delimiters.find(c) != std::string_view::npos) break;
      if (c == '(') ++depth;
      if (c == ')') --depth;
    }
    std::string_view body = text_.substr(start, at_ - start);
    if (const std::size_t mark = body.find(" reduce"); mark != std::string_view::npos) {
      at_ = start + mark;
      body = body.substr(0, mark);
    }
    try {
      return ir::Dim::parse(body);
    } catch (const Error& error) {
      fail(error.message());
    }
  }

  void buffer() {
    expect("$");
    if (integer() != static_cast<std::int64_t>(region_.buffers.size())) fail("buffers are not numbered in order");
    Buffer buffer;
    const std::string_view role = word();
    if (role != "input" && role != "output" && role != "temp") fail("expected input, output or temp");
    buffer.role = role == "input" ? Role::kInput : role == "output" ? Role::kOutput : Role::kTemporary;
    buffer.name = quoted();
    expect(":");
    buffer.dtype = dtype();
    expect("[");
    if (!accept("]")) {
      do {
        buffer.shape.push_back(dim(",]"));
      } while (accept(","));
      expect("]");
    }
    region_.buffers.push_back(std::move(buffer));
  }

  void requirement() {
    Requirement r;
    r.tensor = quoted();
    expect(":");
    r.extent = dim("=");
    expect("=");
    r.target = dim(";");
    expect(";");
    region_.requirements.push_back(std::move(r));
  }

  void definition() {
    expect("%");
    if (integer() != static_cast<std::int64_t>(named_.size())) fail("expressions are not numbered in order");
    expect("=");
    const ExprId id = expression(0);
    named_.push_back(id);
  }

  void stage() {
    Stage stage;
    expect("stage");
    if (peek() == '"') stage.source = quoted();
    expect("(");
    if (!accept(")")) {
      do {
        Axis axis{dim(",)"), false};
        axis.reduction = accept("reduce");
        stage.axes.push_back(std::move(axis));
      } while (accept(","));
      expect(")");
    }
    expect("$");
    stage.target = small(region_.buffers.size(), "buffer");
    expect("[");
    if (!accept("]")) {
      do {
        stage.store_index.push_back(expression(0));
      } while (accept(","));
      expect("]");
    }
    expect("=");
    const std::size_t before = at_;
    if (std::isalpha(static_cast<unsigned char>(peek()))) {
      const std::string_view name = word();
      for (int r = 1; r <= static_cast<int>(Reduce::kArgMinLast); ++r) {
        if (name == reduce_name(static_cast<Reduce>(r)) && peek() == '<') stage.reduce = static_cast<Reduce>(r);
      }
    }
    if (stage.reduce == Reduce::kNone) {
      at_ = before;
    } else {
      expect("<");
      stage.accumulate = dtype();
      expect(">");
    }
    stage.value = expression(0);
    region_.stages.push_back(std::move(stage));
  }

  ExprId add(Expr expr) {
    region_.exprs.push_back(std::move(expr));
    return static_cast<ExprId>(region_.exprs.size()) - 1;
  }
  ExprId leaf(const std::string& key, Expr expr) {
    const auto [it, fresh] = leaves_.try_emplace(key, -1);
    if (fresh) it->second = add(std::move(expr));
    return it->second;
  }
  DType type_of(ExprId e) const { return region_.exprs[e].type; }

  ExprId constant(std::string_view text, DType type) {
    Expr e;
    e.type = type;
    if (is_float(type)) {
      e.number = accept("nan") ? std::numeric_limits<double>::quiet_NaN() : number();
    } else {
      e.integer = integer();
    }
    return leaf(std::string(text) + std::to_string(e.integer) + fmt::format("/{}", e.number), std::move(e));
  }

  ExprId load() {
    expect("$");
    Expr e;
    e.op = ExprOp::kLoad;
    e.index = small(region_.buffers.size(), "buffer");
    e.type = region_.buffers[e.index].dtype;
    expect("[");
    while (peek() != ']' && peek() != '|') {
      e.args.push_back(expression(1));
      if (!accept(",")) break;
    }
    if (accept("|")) {
      e.op = ExprOp::kLoadOr;
      e.args.push_back(expression(1));
    }
    expect("]");
    if (accept(":")) e.type = dtype();
    return add(std::move(e));
  }

  ExprId expression(int depth) {
    if ((depth_ += 1) > kMaxDepth) fail("nested too deeply");
    const ExprId id = expression_body(depth);
    depth_ -= 1;
    return id;
  }

  ExprId expression_body(int depth) {
    const char c = peek();
    if (c == '%') {
      ++at_;
      return named_[small(named_.size(), "expression")];
    }
    if (c == '$') return load();
    if (c == '-' || std::isdigit(static_cast<unsigned char>(c))) return constant("int64", DType::kInt64);
    const std::string_view name = word();
    if (name.size() > 1 && name[0] == 'i' && std::isdigit(static_cast<unsigned char>(name[1]))) {
      int axis = 0;
      const auto [end, error] = std::from_chars(name.data() + 1, name.data() + name.size(), axis);
      if (error == std::errc() && end == name.data() + name.size()) {
        Expr e;
        e.op = ExprOp::kAxis;
        e.type = DType::kInt64;
        e.index = axis;
        return leaf(std::string(name), std::move(e));
      }
    }
    if (name == "dim") {
      expect("(");
      Expr e;
      e.op = ExprOp::kDim;
      e.type = DType::kInt64;
      e.dim = dim(")");
      expect(")");
      const std::string key = "dim " + e.dim.to_string();
      return leaf(key, std::move(e));
    }
    Expr e;
    if (name == "cast") {
      expect("<");
      e.op = ExprOp::kCast;
      e.type = dtype();
      expect(">");
    } else if (const auto op = find_expr_op(name); op && op_arity(*op) > 0) {
      e.op = *op;
    } else if (const auto type = parse_dtype(name)) {
      expect("(");
      const ExprId id = constant(name, *type);
      expect(")");
      return id;
    } else {
      fail(fmt::format("unknown operator '{}'", name));
    }
    expect("(");
    for (int i = 0; i < op_arity(e.op); ++i) {
      if (i) expect(",");
      e.args.push_back(expression(depth + 1));
    }
    expect(")");
    if (gives_bool(e.op)) {
      e.type = DType::kBool;
    } else if (e.op != ExprOp::kCast) {
      e.type = type_of(e.args[e.op == ExprOp::kSelect ? 1 : 0]);
    }
    return add(std::move(e));
  }

  std::string_view text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  LoopRegion region_;
  std::vector<ExprId> named_;
  std::map<std::string, ExprId> leaves_;
};

}  // namespace

LoopRegion parse_region(std::string_view text) { return Parser(text).parse(); }

}  // namespace lathe::loops
