// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See shape_program.h.

#include "plan/shape_program.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/tensor.h"

namespace lathe::plan {

Status bind_symbols(const Program& program, std::span<const Dims> input_dims, ir::Bindings& bindings) {
  bindings.clear();
  const auto fail = [](std::string_view format, const auto&... args) {
    return Status(Code::kInvalidArgument, fmt::format(fmt::runtime(format), args...));
  };
  for (std::size_t i = 0; i < program.inputs.size(); ++i) {
    const Io& io = program.inputs[i];
    const ir::Shape& shape = program.slots[static_cast<std::size_t>(io.slot)].shape;
    const Dims& dims = input_dims[i];
    if (dims.size() != shape.size())
      return fail("input '{}' has rank {}, expected {}: {}", io.name, dims.size(), shape.size(), ir::to_string(shape));
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      if (dims[axis] < 0) return fail("input '{}' has the negative extent {} on axis {}", io.name, dims[axis], axis);
      if (!shape[axis].is_symbol()) continue;
      // The bare name: to_string() puts quotes around names that are no plain word.
      std::set<std::string> names;
      shape[axis].collect_symbols(names);
      const std::string& symbol = *names.begin();
      const auto [at, added] = bindings.emplace(symbol, dims[axis]);
      if (!added && at->second != dims[axis])
        return fail("input '{}' has extent {} on axis {}, but '{}' is {} in another input or axis", io.name, dims[axis], axis, symbol, at->second);
    }
  }
  for (std::size_t i = 0; i < program.inputs.size(); ++i) {
    const Io& io = program.inputs[i];
    const ir::Shape& shape = program.slots[static_cast<std::size_t>(io.slot)].shape;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      if (shape[axis].is_symbol()) continue;
      const auto expected = shape[axis].evaluate(bindings);
      if (!expected) return fail("input '{}': the extent {} of axis {} cannot be told from the inputs' shapes", io.name, shape[axis].to_string(), axis);
      if (*expected != input_dims[i][axis])
        return fail("input '{}' has shape {}, expected {} (axis {} must be {})", io.name, to_string(input_dims[i]), ir::to_string(shape), axis, *expected);
    }
  }
  for (const SymbolHint& hint : program.symbols) {
    const auto found = bindings.find(hint.symbol);
    if (found == bindings.end()) continue;
    if (hint.max >= 0 && found->second > hint.max)
      return fail("'{}' is {}, above the largest value {} that the engine was built for", hint.symbol, found->second, hint.max);
    if (hint.min > 1 && found->second < hint.min)
      return fail("'{}' is {}, below the least value {} that the engine was built for", hint.symbol, found->second, hint.min);
  }
  return Status::ok();
}

std::int64_t span_elements(const TensorDesc& desc) {
  std::int64_t last = 0;
  for (std::size_t axis = 0; axis < desc.dims.size(); ++axis) {
    if (desc.dims[axis] == 0) return 0;
    last += (desc.dims[axis] - 1) * desc.strides[axis];
  }
  return last + 1;
}

namespace {

/// 2^40 elements: far above any memory, far below any overflow.
constexpr std::int64_t kMaxElements = std::int64_t{1} << 40;

/// Product of the extents, empty axes counted as 1 (strides are made that way too).
std::int64_t element_count_or_huge(const Dims& dims) {
  std::int64_t count = 1;
  for (const std::int64_t extent : dims)
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(extent, 1), &count) || count > kMaxElements) return kMaxElements + 1;
  return count;
}

std::vector<std::int64_t> strides_in_order(const Dims& dims, const std::vector<std::int32_t>& order) {
  std::vector<std::int64_t> strides(dims.size(), 1);
  std::int64_t stride = 1;
  for (std::size_t i = dims.size(); i-- > 0;) {
    const std::size_t axis = order.empty() ? i : static_cast<std::size_t>(order[i]);
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(dims[axis], 1);
  }
  return strides;
}

}  // namespace

std::vector<ResolvedSlot> resolve_slots(const Program& program, const ir::Bindings& bindings) {
  const std::size_t count = program.slots.size();
  std::vector<ResolvedSlot> resolved(count);
  std::vector<int> state(count, 0);
  const auto corrupt = [&](std::size_t slot, std::string_view what) {
    return Error(Code::kCorruptFile, fmt::format("slot {} {}", slot, what)).at_tensor(program.slots[slot].name);
  };
  const auto resolve = [&](auto&& self, std::size_t i) -> void {
    if (state[i] == 2) return;
    if (state[i] == 1) throw corrupt(i, "is an alias of itself");
    state[i] = 1;
    const Slot& slot = program.slots[i];
    ResolvedSlot& out = resolved[i];
    const auto dims = ir::evaluate(slot.shape, bindings);
    if (!dims) throw Error(Code::kInvalidArgument, fmt::format("the shape {} cannot be told from the inputs' shapes", ir::to_string(slot.shape))).at_tensor(slot.name);
    for (const std::int64_t extent : *dims)
      if (extent < 0)
        throw Error(Code::kInvalidArgument, fmt::format("the inputs are too small: a tensor would get the shape {}", to_string(*dims))).at_tensor(slot.name);
    // Sizes and strides are multiplied without further checks from here on.
    const std::int64_t elements = element_count_or_huge(*dims);
    if (elements > kMaxElements)
      throw Error(Code::kInvalidArgument, fmt::format("the inputs are too large: a tensor would get the shape {}", to_string(*dims))).at_tensor(slot.name);
    out.desc.dtype = slot.dtype;
    out.desc.dims = *dims;
    if (slot.storage != Storage::kAlias) {
      out.root = static_cast<SlotId>(i);
      out.desc.strides = strides_in_order(*dims, slot.order);
    } else {
      const auto parent = static_cast<std::size_t>(slot.parent);
      self(self, parent);
      const ResolvedSlot& from = resolved[parent];
      out.root = from.root;
      out.offset = from.offset;
      if (slot.alias_axis < 0) {
        if (from.desc.elements() != out.desc.elements()) throw corrupt(i, "is a view of a tensor with another number of elements");
        out.desc.strides = strides_in_order(*dims, slot.order);
      } else {
        const auto axis = static_cast<std::size_t>(slot.alias_axis);
        const auto offset = slot.alias_offset.evaluate(bindings);
        bool inside = axis < from.desc.dims.size() && from.desc.dims.size() == dims->size() && offset && *offset >= 0;
        for (std::size_t a = 0; inside && a < dims->size(); ++a)
          inside = (*dims)[a] <= from.desc.dims[a] && (a != axis || *offset <= from.desc.dims[a] - (*dims)[a]);
        if (!inside) throw corrupt(i, "lies outside the tensor that it is a slice of");
        out.desc.strides = from.desc.strides;
        out.offset += *offset * from.desc.strides[axis];
      }
    }
    state[i] = 2;
  };
  for (std::size_t i = 0; i < count; ++i) resolve(resolve, i);
  return resolved;
}

}  // namespace lathe::plan
