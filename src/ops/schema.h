// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The structured form of a VersionDef: formal inputs and outputs, attributes with defaults, type constraints. Import validates
// nodes with it, the reports print it, and tests hold it against the format's own definitions.
//
// Grammar of a VersionDef's texts (tokens are separated by blanks):
//   signature    "X:T k?:int64 rest*:T -> Y:T"   name, then ? optional, * variadic (>= 0), + variadic (>= 1), ** and ++ variadic whose
//                members may differ in type; after the colon a type variable or a type
//   attributes   "axis:int=-1 mode:string=nearest axes:ints=0,2,3 to:int scales:floats?"   = default, ? optional without default,
//                neither: required. Types: int float string tensor graph ints floats strings tensors graphs sparse_tensor
//                sparse_tensors type type_proto
//   types        "T: float16 float double; I: int64"   a variable and its members. A member is a dtype, or seq(x), optional(x),
//                map(key,x) of members (no blanks), or a named set: @all (the 15 first tensor types), @all13 (+ bfloat16), @all19 (+ float8),
//                @all21 (+ 4-bit integers), @all23 (+ float4), @all24 (+ float8e8m0), @all25 (+ 2-bit integers), @all28 (+ float6),
//                @num (integers and float16..double), @num13 (+ bfloat16), @high (32- and 64-bit integers and float16..double),
//                @high13, @float (float16 float double), @float13. seq(@all) takes each member. "-x" removes x.

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "ops/op_def.h"

namespace lathe::ops {

enum class FormalOption : std::uint8_t { kSingle, kOptional, kVariadic };

struct Formal {
  std::string name;
  FormalOption option = FormalOption::kSingle;
  int min_arity = 1;        ///< variadic: how many at least
  bool homogeneous = true;  ///< variadic: all members of one type
  std::string type;         ///< a type variable, or a type string such as "tensor(int64)"
};

struct AttributeDef {
  std::string name;
  ir::AttrType type = ir::AttrType::kUndefined;
  bool required = false;
  std::optional<ir::Attribute> default_value;
};

struct TypeConstraint {
  std::string variable;
  std::vector<std::string> types;  ///< "tensor(float)", sorted
};

struct Schema {
  int since = 0;
  bool deprecated = false;
  std::vector<Formal> inputs, outputs;
  std::vector<AttributeDef> attributes;
  std::vector<TypeConstraint> constraints;

  const AttributeDef* attribute(std::string_view name) const;
  const TypeConstraint* constraint(std::string_view variable) const;
  /// The formal of actual input or output `index`; nullptr when there are not so many.
  static const Formal* formal_at(const std::vector<Formal>& formals, std::size_t index);
};

/// Throws Error(kInternal) with the text's defect (a custom op's caller sees it).
Schema parse_schema(std::string_view op, const VersionDef& version);
/// Parsed once per version; `version` must be one of a registered op's.
const Schema& schema_of(const OpDef& op, const VersionDef& version);
/// Of the newest version.
const Schema& newest_schema(const OpDef& op);

/// Inputs that a node must list, left out or not: a form with optional inputs in front of others (Loop's) counts them.
std::size_t least_inputs(const Schema& schema);

/// ONNX's spelling of a type: "tensor(float)", "seq(tensor(int64))", "seq(map(string, float))", "" when any part is unknown.
std::string type_string(const ir::Type& type);
std::string_view attr_type_name(ir::AttrType type);  ///< "int", "floats", "graph", ...

}  // namespace lathe::ops
