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

namespace lathe::plan {

/// Solves the symbols from the inputs' shapes: an extent that is a symbol binds it, any other expression is checked. The message names
/// the input, the axis, what was expected and what came. Allocates (only when shapes change).
Status bind_symbols(const Program& program, std::span<const Dims> input_dims, ir::Bindings& bindings);

/// Where a slot's memory is: the slot that owns it, the element offset in it, and the concrete desc.
struct ResolvedSlot {
  SlotId root = -1;
  std::int64_t offset = 0;   ///< elements
  TensorDesc desc;
};

/// All slots under `bindings`. Throws Error(kCorruptFile) on a program whose aliases do not fit (an unverified file).
std::vector<ResolvedSlot> resolve_slots(const Program& program, const ir::Bindings& bindings);

/// Elements from the first to the last of a strided tensor.
std::int64_t span_elements(const TensorDesc& desc);

}  // namespace lathe::plan
