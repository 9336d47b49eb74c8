// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The region language: what pointwise, reduction, broadcast, transpose, slice, concat, pad, gather, normalisation and softmax chains
// lower to, device-independent. A LoopRegion is a list of stages; a stage is a loop nest over axes that computes one scalar
// expression per point (optionally reduced over its reduction axes) and stores it at an index of a buffer.
//
//   softmax over the last axis of x[rows, n]:
//     stage 0: axes i:rows, j:n(reduce max)  m[i]    = x[i, j]
//     stage 1: axes i:rows, j:n(reduce sum)  s[i]    = exp(x[i, j] - m[i])
//     stage 2: axes i:rows, j:n              y[i, j] = exp(x[i, j] - m[i]) / s[i]
//
// Index and value arithmetic are one expression language; an emitter recognises affine indices (vector loads, broadcasts,
// strided access) and treats the rest as gathers. Extents may be symbolic: one region serves every shape.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ir/attribute.h"
#include "ir/dim.h"
#include "lathe/dtype.h"

namespace lathe::loops {

using ExprId = std::int32_t;
using BufferId = std::int32_t;

enum class ExprOp : std::uint8_t {
  // leaves
  kConst,   ///< `number` (floating) or `integer`
  kAxis,    ///< the current index of axis `index` of the stage (int64)
  kDim,     ///< a symbolic extent (int64)
  kLoad,    ///< buffer `index` at args (one int64 expression per buffer dimension); must be in bounds, also under a select
  kLoadOr,  ///< args = indices..., fallback: the fallback where any index is out of bounds
  // unary
  kNeg,
  kAbs,
  kSign,
  kFloor,
  kCeil,
  kRound /*half to even*/,
  kSqrt,
  kRsqrt,
  kReciprocal,
  kExp,
  kLog,
  kSin,
  kCos,
  kTan,
  kAsin,
  kAcos,
  kAtan,
  kSinh,
  kCosh,
  kTanh,
  kAsinh,
  kAcosh,
  kAtanh,
  kErf,
  kSigmoid,
  kNot,
  kBitNot,
  kIsNan,
  kIsInf,
  kCast /*to `type`*/,
  // binary
  kAdd,
  kSub,
  kMul,
  kDiv /*integers truncate*/,
  kFloorDiv,
  kMod /*divisor's sign*/,
  kFmod /*dividend's sign*/,
  kPow,
  kMin,
  kMax /*NaN propagates*/,
  kAnd,
  kOr,
  kXor,
  kBitAnd,
  kBitOr,
  kBitXor,
  kShiftLeft,
  kShiftRight,
  kLess,
  kLessEqual,
  kGreater,
  kGreaterEqual,
  kEqual,
  kNotEqual,
  // ternary
  kSelect,  ///< cond ? a : b
};

/// What every operator is, in one table (region.cpp).
std::string_view op_name(ExprOp op) noexcept;  ///< "exp", "floordiv", ...
int op_arity(ExprOp op) noexcept;              ///< 1, 2, 3; 0 for leaves, loads included
std::optional<ExprOp> find_expr_op(std::string_view name) noexcept;
/// Rough cost in simple vector instructions: 1 for add, 4 for div, 10 for exp.
int op_cost(ExprOp op) noexcept;
bool gives_bool(ExprOp op) noexcept;  ///< comparisons, logic, isnan, isinf

struct Expr {
  ExprOp op = ExprOp::kConst;
  DType type = DType::kFloat32;  ///< result type; a load may have a narrower floating type than its (widened) temporary
  std::vector<ExprId> args;
  std::int32_t index = -1;  ///< axis or buffer
  double number = 0;
  std::int64_t integer = 0;
  ir::Dim dim;
};

enum class Reduce : std::uint8_t { kNone, kSum, kMax, kMin, kProd, kAnd, kOr, kArgMax, kArgMin, kArgMaxLast, kArgMinLast };

std::string_view reduce_name(Reduce reduce) noexcept;
inline bool is_arg_reduce(Reduce r) noexcept { return r >= Reduce::kArgMax; }  ///< result: row-major position in the reduction space

struct Axis {
  ir::Dim extent;
  bool reduction = false;
};

struct Stage {
  std::vector<Axis> axes;  ///< outermost first; reduction axes may stand anywhere
  ExprId value = -1;
  Reduce reduce = Reduce::kNone;
  DType accumulate = DType::kFloat32;  ///< type of the running value of a reduction
  BufferId target = -1;
  std::vector<ExprId> store_index;  ///< one per target dimension, over the non-reduction axes; injective
  std::string source;               ///< ONNX node for reports
};

enum class Role : std::uint8_t { kInput, kOutput, kTemporary };

struct Buffer {
  std::string name;
  DType dtype = DType::kFloat32;
  ir::Shape shape;
  Role role = Role::kInput;
};

/// What a broadcast relies on and only the extents of a run can tell: `extent` is `target` or 1.
struct Requirement {
  std::string tensor;
  ir::Dim extent, target;
};

struct LoopRegion {
  std::vector<Expr> exprs;      ///< arguments come before their users
  std::vector<Buffer> buffers;  ///< inputs, then outputs, then temporaries
  std::vector<Stage> stages;    ///< in execution order
  std::vector<Requirement> requirements;

  std::string to_string() const;  ///< readable; parse_region reads it back
  std::string serialize() const;  ///< compact text for engine parameters
};

/// Reads to_string() and serialize(). Throws Error(kCorruptFile) with the offset.
LoopRegion parse_region(std::string_view text);
/// Expressions that `root` reaches, in evaluation order (arguments first).
std::vector<ExprId> reachable(const LoopRegion& region, std::span<const ExprId> roots);
/// Defects (bad ids, types, ranks), empty when sound.
std::vector<std::string> find_defects(const LoopRegion& region);
/// Throws Error(kInvalidArgument) naming the tensor when the extents of a run break a requirement. To be called wherever a region is bound.
void check_requirements(const LoopRegion& region, const ir::Bindings& symbols);

}  // namespace lathe::loops
