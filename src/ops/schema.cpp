// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Parser of the compact schema texts.
#include "ops/schema.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <mutex>
#include <unordered_map>

namespace lathe::ops {
namespace {

using Names = std::vector<std::string>;

[[noreturn]] void bad(std::string_view op, int since, const std::string& what) {
  throw Error(Code::kInternal, "schema text of " + std::string(op) + " version " + std::to_string(since) + ": " + what);
}

std::vector<std::string_view> split_blanks(std::string_view text) {
  std::vector<std::string_view> tokens;
  for (std::size_t i = 0; i < text.size();) {
    while (i < text.size() && (text[i] == ' ' || text[i] == '\n' || text[i] == '\t')) ++i;
    const std::size_t start = i;
    while (i < text.size() && text[i] != ' ' && text[i] != '\n' && text[i] != '\t') ++i;
    if (i > start) tokens.push_back(text.substr(start, i - start));
  }
  return tokens;
}

std::vector<std::string_view> split_at(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  std::size_t start = 0;
  while (start <= text.size()) {
    const std::size_t end = std::min(text.find(separator, start), text.size());
    parts.push_back(text.substr(start, end - start));
    start = end + 1;
  }
  return parts;
}

// Named sets; the number is the opset at which the format widened them.
const std::unordered_map<std::string_view, Names>& named_sets() {
  static const auto sets = [] {
    std::unordered_map<std::string_view, Names> s;
    const auto plus = [](Names base, const Names& more) {
      base.insert(base.end(), more.begin(), more.end());
      return base;
    };
    const Names integers{"uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"};
    s["@float"] = {"float16", "float", "double"};
    s["@float13"] = plus(s["@float"], {"bfloat16"});
    s["@num"] = plus(integers, s["@float"]);
    s["@num13"] = plus(s["@num"], {"bfloat16"});
    s["@high"] = plus({"uint32", "uint64", "int32", "int64"}, s["@float"]);
    s["@high13"] = plus(s["@high"], {"bfloat16"});
    s["@all"] = plus(s["@num"], {"string", "bool", "complex64", "complex128"});
    s["@all13"] = plus(s["@all"], {"bfloat16"});
    s["@all19"] = plus(s["@all13"], {"float8e4m3fn", "float8e4m3fnuz", "float8e5m2", "float8e5m2fnuz"});
    s["@all21"] = plus(s["@all19"], {"uint4", "int4"});
    s["@all23"] = plus(s["@all21"], {"float4e2m1"});
    s["@all24"] = plus(s["@all23"], {"float8e8m0"});
    s["@all25"] = plus(s["@all24"], {"uint2", "int2"});
    s["@all28"] = plus(s["@all25"], {"float6e2m3", "float6e3m2"});
    return s;
  }();
  return sets;
}

/// The format writes a map's value without "tensor()".
std::string map_string(DType key, std::string_view value) {
  if (value.starts_with("tensor(")) value = value.substr(7, value.size() - 8);
  return "map(" + std::string(dtype_name(key)) + ", " + std::string(value) + ")";
}

/// Expands one member of a type set to type strings.
Names expand(std::string_view op, int since, std::string_view member) {
  const auto wrap = [&](std::string_view head, std::string_view prefix) {
    Names out;
    for (const auto& inner : expand(op, since, member.substr(head.size(), member.size() - head.size() - 1))) {
      out.push_back(std::string(prefix) + inner + ")");
    }
    return out;
  };
  if (member.empty()) bad(op, since, "empty type");
  if (member.front() == '@') {
    const auto it = named_sets().find(member);
    if (it == named_sets().end()) bad(op, since, "unknown type set " + std::string(member));
    Names out;
    for (const auto& name : it->second) out.push_back("tensor(" + name + ")");
    return out;
  }
  const bool closed = member.back() == ')';
  if (closed && member.starts_with("seq(")) return wrap("seq(", "seq(");
  if (closed && member.starts_with("optional(")) return wrap("optional(", "optional(");
  if (closed && member.starts_with("map(")) {
    const auto comma = member.find(',');
    if (comma == std::string_view::npos) bad(op, since, "map without a value type: " + std::string(member));
    const auto key = parse_dtype(member.substr(4, comma - 4));
    if (!key) bad(op, since, "unknown key type in " + std::string(member));
    Names out;
    for (const auto& value : expand(op, since, member.substr(comma + 1, member.size() - comma - 2))) out.push_back(map_string(*key, value));
    return out;
  }
  if (closed && member.starts_with("tensor(")) member = member.substr(7, member.size() - 8);
  const auto dtype = parse_dtype(member);
  if (!dtype || dtype_name(*dtype) != member) bad(op, since, "unknown type '" + std::string(member) + "'");
  return {"tensor(" + std::string(member) + ")"};
}

std::vector<TypeConstraint> parse_types(std::string_view op, const VersionDef& v) {
  std::vector<TypeConstraint> constraints;
  for (auto token : split_blanks(v.types)) {
    while (!token.empty() && (token.back() == ';' || token.back() == ',' || token.back() == '|')) token.remove_suffix(1);
    if (token.empty()) continue;
    if (const auto colon = token.find(':'); colon != std::string_view::npos) {
      constraints.push_back({std::string(token.substr(0, colon)), {}});
      token.remove_prefix(colon + 1);
      if (token.empty()) continue;
    }
    if (constraints.empty()) bad(op, v.since, "a type before any variable: " + std::string(token));
    auto& types = constraints.back().types;
    const bool remove = token.front() == '-';
    for (const auto& type : expand(op, v.since, remove ? token.substr(1) : token)) {
      if (remove) {
        std::erase(types, type);
      } else if (std::find(types.begin(), types.end(), type) == types.end()) {
        types.push_back(type);
      }
    }
  }
  for (auto& c : constraints) {
    if (c.types.empty()) bad(op, v.since, "type variable " + c.variable + " allows nothing");
    std::sort(c.types.begin(), c.types.end());
  }
  return constraints;
}

std::vector<Formal> parse_formals(std::string_view op, const VersionDef& v, std::string_view text, const std::vector<TypeConstraint>& types) {
  std::vector<Formal> formals;
  for (const auto token : split_blanks(text)) {
    const auto colon = token.find(':');
    if (colon == std::string_view::npos) bad(op, v.since, "'" + std::string(token) + "' has no type");
    std::string_view name = token.substr(0, colon), type = token.substr(colon + 1);
    Formal f;
    if (name.ends_with("?")) {
      f.option = FormalOption::kOptional;
      name.remove_suffix(1);
    } else if (name.ends_with("*") || name.ends_with("+")) {
      f.option = FormalOption::kVariadic;
      f.min_arity = name.back() == '+' ? 1 : 0;
      name.remove_suffix(1);
      if (name.ends_with("*") || name.ends_with("+")) {
        f.homogeneous = false;
        name.remove_suffix(1);
      }
    }
    f.name = name;
    const bool variable = std::any_of(types.begin(), types.end(), [&](const auto& c) { return c.variable == type; });
    if (variable) {
      f.type = type;
    } else {
      const Names expanded = expand(op, v.since, type);
      if (expanded.size() != 1) bad(op, v.since, "'" + std::string(type) + "' is a set; give it a variable");
      f.type = expanded.front();
    }
    formals.push_back(std::move(f));
  }
  return formals;
}

constexpr std::array<std::pair<std::string_view, ir::AttrType>, 14> kAttrTypes{{
    {"float", ir::AttrType::kFloat},
    {"int", ir::AttrType::kInt},
    {"string", ir::AttrType::kString},
    {"tensor", ir::AttrType::kTensor},
    {"graph", ir::AttrType::kGraph},
    {"floats", ir::AttrType::kFloats},
    {"ints", ir::AttrType::kInts},
    {"strings", ir::AttrType::kStrings},
    {"tensors", ir::AttrType::kTensors},
    {"graphs", ir::AttrType::kGraphs},
    {"sparse_tensor", ir::AttrType::kSparseTensor},
    {"sparse_tensors", ir::AttrType::kSparseTensors},
    {"type_proto", ir::AttrType::kType},
    {"type_protos", ir::AttrType::kTypes},
}};

std::int64_t parse_int(std::string_view op, int since, std::string_view text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) bad(op, since, "'" + std::string(text) + "' is no integer");
  return value;
}

float parse_float(std::string_view op, int since, std::string_view text) {
  float value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) bad(op, since, "'" + std::string(text) + "' is no number");
  return value;
}

ir::Attribute parse_default(std::string_view op, int since, ir::AttrType type, std::string_view text) {
  const std::string_view inner = text.starts_with("[") && text.ends_with("]") ? text.substr(1, text.size() - 2) : text;
  switch (type) {
    case ir::AttrType::kInt: return parse_int(op, since, text);
    case ir::AttrType::kFloat: return parse_float(op, since, text);
    case ir::AttrType::kString: return std::string(text);
    case ir::AttrType::kInts: {
      std::vector<std::int64_t> values;
      if (!inner.empty()) {
        for (const auto part : split_at(inner, ',')) values.push_back(parse_int(op, since, part));
      }
      return values;
    }
    case ir::AttrType::kFloats: {
      std::vector<float> values;
      if (!inner.empty()) {
        for (const auto part : split_at(inner, ',')) values.push_back(parse_float(op, since, part));
      }
      return values;
    }
    case ir::AttrType::kStrings: {
      std::vector<std::string> values;
      if (!inner.empty()) {
        for (const auto part : split_at(inner, ',')) values.emplace_back(part);
      }
      return values;
    }
    default: bad(op, since, "an attribute of type " + std::string(attr_type_name(type)) + " takes no default in text");
  }
}

std::vector<AttributeDef> parse_attributes(std::string_view op, const VersionDef& v) {
  std::vector<AttributeDef> attributes;
  for (const auto token : split_blanks(v.attributes)) {
    const auto colon = token.find(':');
    if (colon == std::string_view::npos) bad(op, v.since, "attribute '" + std::string(token) + "' has no type");
    AttributeDef a;
    a.name = token.substr(0, colon);
    std::string_view type = token.substr(colon + 1);
    std::optional<std::string_view> default_text;
    if (const auto equal = type.find('='); equal != std::string_view::npos) {
      default_text = type.substr(equal + 1);
      type = type.substr(0, equal);
    }
    a.required = !default_text;
    if (type.ends_with("?")) {
      a.required = false;
      type.remove_suffix(1);
    }
    const auto it = std::find_if(kAttrTypes.begin(), kAttrTypes.end(), [&](const auto& t) { return t.first == type; });
    if (it == kAttrTypes.end()) bad(op, v.since, "unknown attribute type '" + std::string(type) + "'");
    a.type = it->second;
    if (default_text) a.default_value = parse_default(op, v.since, a.type, *default_text);
    attributes.push_back(std::move(a));
  }
  return attributes;
}

}  // namespace

std::string_view attr_type_name(ir::AttrType type) {
  const auto it = std::find_if(kAttrTypes.begin(), kAttrTypes.end(), [&](const auto& t) { return t.second == type; });
  return it == kAttrTypes.end() ? "undefined" : it->first;
}

const AttributeDef* Schema::attribute(std::string_view name) const {
  const auto it = std::find_if(attributes.begin(), attributes.end(), [&](const auto& a) { return a.name == name; });
  return it == attributes.end() ? nullptr : &*it;
}

const TypeConstraint* Schema::constraint(std::string_view variable) const {
  const auto it = std::find_if(constraints.begin(), constraints.end(), [&](const auto& c) { return c.variable == variable; });
  return it == constraints.end() ? nullptr : &*it;
}

const Formal* Schema::formal_at(const std::vector<Formal>& formals, std::size_t index) {
  if (index < formals.size()) return &formals[index];
  return !formals.empty() && formals.back().option == FormalOption::kVariadic ? &formals.back() : nullptr;
}

Schema parse_schema(std::string_view op, const VersionDef& version) {
  Schema schema;
  schema.since = version.since;
  schema.deprecated = version.deprecated;
  schema.constraints = parse_types(op, version);
  const auto arrow = version.signature.find("->");
  if (arrow == std::string_view::npos) bad(op, version.since, "the signature has no ->");
  schema.inputs = parse_formals(op, version, version.signature.substr(0, arrow), schema.constraints);
  schema.outputs = parse_formals(op, version, version.signature.substr(arrow + 2), schema.constraints);
  schema.attributes = parse_attributes(op, version);
  return schema;
}

const Schema& schema_of(const OpDef& op, const VersionDef& version) {
  static std::mutex mutex;
  static std::unordered_map<const VersionDef*, std::unique_ptr<const Schema>> cache;  // pointers stay valid on rehash
  const std::lock_guard lock(mutex);
  auto& slot = cache[&version];
  if (!slot) slot = std::make_unique<const Schema>(parse_schema(op.name, version));
  return *slot;
}

const Schema& newest_schema(const OpDef& op) { return schema_of(op, op.versions.back()); }

std::size_t least_inputs(const Schema& schema) {
  std::size_t least = 0;
  for (std::size_t i = 0; i < schema.inputs.size(); ++i) {
    const Formal& formal = schema.inputs[i];
    if (formal.option == FormalOption::kSingle) least = i + 1;
    if (formal.option == FormalOption::kVariadic) least = i + static_cast<std::size_t>(formal.min_arity);
  }
  return least;
}

std::string type_string(const ir::Type& type) {
  const auto around = [&](std::string_view head) {
    const std::string inner = type.element ? type_string(*type.element) : "";
    return inner.empty() ? inner : std::string(head) + inner + ")";
  };
  switch (type.kind) {
    case ir::TypeKind::kTensor: return type.dtype == DType::kUndefined ? "" : "tensor(" + std::string(dtype_name(type.dtype)) + ")";
    case ir::TypeKind::kSparseTensor: return "sparse_tensor(" + std::string(dtype_name(type.dtype)) + ")";
    case ir::TypeKind::kSequence: return around("seq(");
    case ir::TypeKind::kOptional: return around("optional(");
    case ir::TypeKind::kMap: {
      const std::string value = type.element && type.dtype != DType::kUndefined ? type_string(*type.element) : "";
      return value.empty() ? value : map_string(type.dtype, value);
    }
    default: return "";
  }
}

}  // namespace lathe::ops
