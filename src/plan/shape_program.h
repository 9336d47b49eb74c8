// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From the concrete shapes of a run to the values of a program's symbols, and to concrete descs of its slots.

#include <span>
#include <string>
#include <vector>

#include "lathe/status.h"
#include "plan/kernel.h"
#include "plan/program.h"
#include "plan/shape_class.h"

namespace lathe::plan {

using Extents = std::span<const std::int64_t>;

/// Where a slot's memory is: the slot that owns it, the element offset in it, and the concrete desc.
struct ResolvedSlot {
  SlotId root = -1;
  std::int64_t offset = 0;  ///< elements
  TensorDesc desc;
};

/// A program's questions of shape, with all that does not depend on the extents worked out beforehand: answering them again for other
/// extents allocates nothing as long as it succeeds. Refers to the program.
class ShapeProgram {
 public:
  explicit ShapeProgram(const Program& program);

  /// Symbols of the inputs' shapes, each once.
  const std::vector<std::string>& symbols() const noexcept { return symbols_; }
  /// Values of symbols() from the inputs' shapes: an extent that is a symbol binds it, any other expression is checked. The message names
  /// the input, the axis, what was expected and what came. `bindings` must hold symbols() (make_bindings()).
  Status solve(std::span<const Extents> inputs, ir::Bindings& bindings) const;
  ir::Bindings make_bindings() const;
  /// The class that `bindings` belong to.
  void classify(const ir::Bindings& bindings, ShapeClass& into) const;
  /// Extents that grow side by side (a cache, and the mask over it and the new token) cross a power of two a few steps apart, which would make two
  /// classes of every one: where one has just entered its range and others stand at the end of theirs, these get the next range as well.
  /// Where they do so a step behind `last`, the shapes before (nullptr: there were none), short ones get all of the first sixteen: a loop that begins
  /// with nothing would make a class of every power of two. True when it did.
  bool widen(const ir::Bindings& bindings, const ir::Bindings* last, ShapeClass& ranges) const;

  /// All slots under `bindings`. Throws Error: kInvalidArgument when the extents are too small or too large, kCorruptFile on a program
  /// whose aliases do not fit (an unverified file).
  void resolve(const ir::Bindings& bindings, std::vector<ResolvedSlot>& slots) const;

 private:
  struct Source {  ///< the axis that a symbol is read from, or (again) compared with
    std::int32_t input, axis, symbol;
  };
  const Program& program_;
  std::vector<std::string> symbols_;
  std::vector<SymbolHint> hints_;  ///< one per symbol
  std::vector<Source> sources_;    ///< in the order of inputs and axes
  std::vector<SlotId> order_;      ///< parents before their aliases
  SlotId cycle_ = -1;              ///< a slot that is an alias of itself
};

/// solve() and resolve() once, for callers that have no use for a second time.
Status bind_symbols(const Program& program, std::span<const Dims> input_dims, ir::Bindings& bindings);
std::vector<ResolvedSlot> resolve_slots(const Program& program, const ir::Bindings& bindings);

/// Elements from the first to the last of a strided tensor.
std::int64_t span_elements(const TensorDesc& desc);

}  // namespace lathe::plan
