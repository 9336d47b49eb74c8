// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The Program: what the builder makes, the engine file stores and the runtime executes. Plain data only. See docs/engine_format.md.

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/hash.h"
#include "ir/attribute.h"
#include "ir/dim.h"
#include "ir/type.h"
#include "lathe/dtype.h"
#include "lathe/services.h"

namespace lathe::plan {

using SlotId = std::int32_t;  ///< index into Program::slots; -1 = none
using BlobId = std::int32_t;  ///< index into the engine's blob table; -1 = none

/// Where a step runs: place 0 is the host CPU; others are devices listed by the engine section.
using Place = std::uint8_t;

enum class Storage : std::uint8_t {
  kArena,     ///< planned activation memory
  kAlias,     ///< a part of `parent` (view, concat slice): offset and strides below
  kInput,     ///< bound by the caller (or the Context's own copy)
  kOutput,    ///< bound by the caller or owned by the Context
  kConstant,  ///< blob of the engine, dense row-major
};

/// A value at run time. Shapes are expressions over the program's symbols.
struct Slot {
  std::string name;  ///< ONNX tensor name that it equals ("" = internal)
  DType dtype = DType::kUndefined;
  ir::Shape shape;  ///< logical extents, ONNX order
  /// Memory order: permutation of the logical axes, outermost first (empty = row-major). Channels-last of rank 4: {0, 2, 3, 1}.
  std::vector<std::int32_t> order;
  MemorySpace space = MemorySpace::kHost;
  Storage storage = Storage::kArena;
  SlotId parent = -1;            ///< kAlias: the slot whose memory this is part of
  std::int32_t alias_axis = -1;  ///< kAlias: logical axis of the parent that is sliced; -1: same elements, other shape (dense view)
  ir::Dim alias_offset;          ///< kAlias: first index on that axis
  BlobId blob = -1;              ///< kConstant
  /// Of a dynamic program, where dtype and shape do not tell: no tensor, or a tensor whose rank is not known.
  std::optional<ir::Type> type;

  ir::Type value_type() const { return type ? *type : ir::Type::tensor(dtype, shape); }
};

enum class StepKind : std::uint8_t { kKernel, kView, kCopy, kCall, kBranch, kLoop, kReadSize, kHostOp };

struct Step {
  StepKind kind = StepKind::kKernel;
  Place place = 0;
  std::string label;   ///< region's name for reports: "conv_block /model.0/conv/Conv"
  std::string kernel;  ///< KernelType name
  ir::Attrs params;
  std::vector<SlotId> inputs, outputs;  ///< -1 = optional left out
  std::vector<BlobId> weights;
  std::vector<std::string> sources;   ///< ONNX nodes inside
  std::vector<std::int32_t> regions;  ///< kCall: program index; kBranch: then, else; kLoop: body
  double measured_seconds = -1;       ///< at the hint shapes when tuned; -1 = not measured
  double flops = 0, bytes = 0;        ///< at the hint shapes, for floors
  std::optional<std::string> pinned;  ///< why a wider type was forced here
  std::string read_symbol;            ///< kReadSize: the symbol bound
};

struct Segment {
  std::int32_t first_step = 0, step_count = 0;  ///< a CUDA graph covers one segment; read-size ends one
};

struct Io {
  std::string name;
  SlotId slot = -1;              ///< caller-visible: always row-major
  std::int32_t donated_to = -1;  ///< input: output index that may overwrite it
};

struct SymbolHint {
  std::string symbol;
  std::int64_t min = 1, opt = -1, max = -1;  ///< -1 = unknown / no limit
};

struct Program {
  std::vector<Slot> slots;
  std::vector<Step> steps;
  std::vector<Segment> segments;
  std::vector<Io> inputs, outputs;
  std::vector<SymbolHint> symbols;   ///< every symbol of the input shapes
  std::vector<Program> subprograms;  ///< what kCall and kHostOp steps run
  /// Values are as large as they come: slots hold whole tensors, sequences, ... on the host. Every step is either
  /// - kCall: regions names one subprogram, which is not dynamic; inputs are the slots of its inputs in their order, of which the last few
  ///   ("carriers": an integer each) give only a symbol: the extent of that axis, or (-1 - k) the element k;
  /// - kHostOp: one node by its definition, as in the kernel cpu.reference ("domain", "op", "attr:NAME"). Nested graphs are dynamic
  ///   subprograms: regions names them, "graphs" their attributes, "formals" how many inputs of each the node supplies. Inputs are
  ///   the node's ("inputs": how many), then for each nested graph what it reads of the values around it.
  bool dynamic = false;
};

/// A weight blob and how to make it again: sources (indices of other blobs: the model's own constants) through a pure pack function.
struct Blob {
  Hash128 hash;                         ///< of the bytes
  std::uint64_t offset = 0, bytes = 0;  ///< in the engine's weight section
  std::string name;                     ///< initialiser's name for raw blobs
  DType dtype = DType::kUndefined;      ///< raw blobs: element type
  Dims dims;                            ///< raw blobs
  std::string pack;                     ///< PackFunction name; "" = raw initialiser
  ir::Attrs pack_params;
  std::vector<BlobId> sources;
};

/// Allowed types per value (by ONNX tensor name); the engine stores the plan that it was built with.
struct PrecisionEntry {
  std::string tensor;
  DType storage = DType::kFloat32, compute = DType::kFloat32;
  std::string reason;
};

}  // namespace lathe::plan
