// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See shape_program.h.

#include "plan/shape_program.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/tensor.h"

namespace lathe::plan {
namespace {

template <class... Args>
Status refuse(fmt::format_string<Args...> format, Args&&... args) {
  return {Code::kInvalidArgument, fmt::format(format, std::forward<Args>(args)...)};
}

}  // namespace

ShapeProgram::ShapeProgram(const Program& program) : program_(program) {
  for (std::size_t i = 0; i < program.inputs.size(); ++i) {
    const ir::Shape& shape = program.slots[static_cast<std::size_t>(program.inputs[i].slot)].shape;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      if (!shape[axis].is_symbol()) continue;
      std::string name = shape[axis].symbol_name();
      const auto at = std::find(symbols_.begin(), symbols_.end(), name);
      const auto symbol = static_cast<std::int32_t>(at - symbols_.begin());
      if (at == symbols_.end()) symbols_.push_back(std::move(name));
      sources_.push_back({static_cast<std::int32_t>(i), static_cast<std::int32_t>(axis), symbol});
    }
  }
  for (const std::string& symbol : symbols_) {
    const auto found = std::find_if(program.symbols.begin(), program.symbols.end(), [&](const SymbolHint& hint) { return hint.symbol == symbol; });
    hints_.push_back(found == program.symbols.end() ? SymbolHint{symbol} : *found);
  }
  std::vector<std::uint8_t> state(program.slots.size(), 0);  // 1: its parents are being placed, 2: placed
  std::vector<SlotId> chain;
  for (std::size_t i = 0; i < program.slots.size(); ++i) {
    SlotId at = static_cast<SlotId>(i);
    while (at >= 0 && state[static_cast<std::size_t>(at)] == 0) {
      state[static_cast<std::size_t>(at)] = 1;
      chain.push_back(at);
      const Slot& slot = program.slots[static_cast<std::size_t>(at)];
      at = slot.storage == Storage::kAlias ? slot.parent : -1;
    }
    if (at >= 0 && state[static_cast<std::size_t>(at)] == 1) cycle_ = at;
    for (; !chain.empty(); chain.pop_back()) {
      state[static_cast<std::size_t>(chain.back())] = 2;
      order_.push_back(chain.back());
    }
  }
}

ir::Bindings ShapeProgram::make_bindings() const {
  ir::Bindings bindings;
  for (const std::string& symbol : symbols_) bindings.emplace(symbol, 0);
  return bindings;
}

Status ShapeProgram::solve(std::span<const Extents> inputs, ir::Bindings& bindings) const {
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Io& io = program_.inputs[i];
    const ir::Shape& shape = program_.slots[static_cast<std::size_t>(io.slot)].shape;
    if (inputs[i].size() != shape.size())
      return refuse("input '{}' has rank {}, expected {}: {}", io.name, inputs[i].size(), shape.size(), ir::to_string(shape));
    for (std::size_t axis = 0; axis < shape.size(); ++axis)
      if (inputs[i][axis] < 0) return refuse("input '{}' has the negative extent {} on axis {}", io.name, inputs[i][axis], axis);
  }
  std::int32_t known = 0;  // symbols are numbered in the order of their first source
  for (const Source& source : sources_) {
    const std::int64_t extent = inputs[static_cast<std::size_t>(source.input)][static_cast<std::size_t>(source.axis)];
    const std::string& symbol = symbols_[static_cast<std::size_t>(source.symbol)];
    std::int64_t& value = bindings.at(symbol);
    if (source.symbol == known) {
      value = extent;
      ++known;
    } else if (value != extent) {
      return refuse("input '{}' has extent {} on axis {}, but '{}' is {} in another input or axis",
                    program_.inputs[static_cast<std::size_t>(source.input)].name, extent, source.axis, symbol, value);
    }
  }
  for (std::size_t i = 0; i < inputs.size(); ++i) {
    const Io& io = program_.inputs[i];
    const ir::Shape& shape = program_.slots[static_cast<std::size_t>(io.slot)].shape;
    for (std::size_t axis = 0; axis < shape.size(); ++axis) {
      if (shape[axis].is_symbol()) continue;
      const auto expected = shape[axis].evaluate(bindings);
      if (!expected) return refuse("input '{}': the extent {} of axis {} cannot be told from the inputs' shapes", io.name, shape[axis].to_string(), axis);
      if (*expected != inputs[i][axis])
        return refuse("input '{}' has shape {}, expected {} (axis {} must be {})", io.name, to_string(Dims(inputs[i].begin(), inputs[i].end())),
                      ir::to_string(shape), axis, *expected);
    }
  }
  for (const SymbolHint& hint : hints_) {
    const std::int64_t value = bindings.at(hint.symbol);
    if (hint.max >= 0 && value > hint.max) return refuse("'{}' is {}, above the largest value {} that the engine was built for", hint.symbol, value, hint.max);
    if (hint.min > 1 && value < hint.min) return refuse("'{}' is {}, below the least value {} that the engine was built for", hint.symbol, value, hint.min);
  }
  return Status::ok();
}

void ShapeProgram::classify(const ir::Bindings& bindings, ShapeClass& into) const {
  into.clear();
  for (const SymbolHint& hint : hints_) into.push_back(symbol_range(bindings.at(hint.symbol), hint));
}

bool ShapeProgram::widen(const ir::Bindings& bindings, const ir::Bindings* last, ShapeClass& ranges) const {
  const auto margin = [](const SymbolRange& range) { return (range.high - range.low) / 8; };
  const auto several = [](const SymbolRange& range) { return range.high > range.low; };
  bool entered = false;
  for (std::size_t i = 0; i < ranges.size(); ++i) entered |= several(ranges[i]) && bindings.at(symbols_[i]) - ranges[i].low <= margin(ranges[i]);
  if (!entered) return false;
  bool widened = false;
  for (std::size_t i = 0; i < ranges.size(); ++i) {
    if (!several(ranges[i]) || ranges[i].high - bindings.at(symbols_[i]) > margin(ranges[i])) continue;
    // A range of its own beginning and end (1..2, or cut by the hint) has entered nothing.
    if (bindings.at(symbols_[i]) - ranges[i].low <= margin(ranges[i])) continue;
    const std::int64_t most = hints_[i].max >= 0 ? hints_[i].max : ranges[i].high * 2;
    if (most <= ranges[i].high) continue;
    ranges[i].high = std::min(most, ranges[i].high * 2);
    widened = true;
  }
  constexpr std::int64_t kShort = 16;
  for (std::size_t i = 0; widened && last && i < ranges.size(); ++i) {
    const std::int64_t value = bindings.at(symbols_[i]);
    if (!several(ranges[i]) || last->at(symbols_[i]) != value - 1) continue;  // a batch stays as it is
    const std::int64_t most = hints_[i].max >= 0 ? std::min(hints_[i].max, kShort) : kShort;
    ranges[i].high = std::max(ranges[i].high, most);
  }
  return widened;
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

void strides_in_order(const Dims& dims, const std::vector<std::int32_t>& order, std::vector<std::int64_t>& strides) {
  strides.resize(dims.size());
  std::int64_t stride = 1;
  for (std::size_t i = dims.size(); i-- > 0;) {
    const std::size_t axis = order.empty() ? i : static_cast<std::size_t>(order[i]);
    strides[axis] = stride;
    stride *= std::max<std::int64_t>(dims[axis], 1);
  }
}

}  // namespace

void ShapeProgram::resolve(const ir::Bindings& bindings, std::vector<ResolvedSlot>& slots) const {
  const auto corrupt = [&](std::size_t slot, std::string_view what) {
    return Error(Code::kCorruptFile, fmt::format("slot {} {}", slot, what)).at_tensor(program_.slots[slot].name);
  };
  if (cycle_ >= 0) throw corrupt(static_cast<std::size_t>(cycle_), "is an alias of itself");
  slots.resize(program_.slots.size());
  for (const SlotId id : order_) {
    const auto i = static_cast<std::size_t>(id);
    const Slot& slot = program_.slots[i];
    ResolvedSlot& out = slots[i];
    Dims& dims = out.desc.dims;
    dims.resize(slot.shape.size());
    for (std::size_t axis = 0; axis < dims.size(); ++axis) {
      const auto extent = slot.shape[axis].evaluate(bindings);
      if (!extent)
        throw Error(Code::kInvalidArgument, fmt::format("the shape {} cannot be told from the inputs' shapes", ir::to_string(slot.shape))).at_tensor(slot.name);
      dims[axis] = *extent;
    }
    if (std::any_of(dims.begin(), dims.end(), [](std::int64_t extent) { return extent < 0; }))
      throw Error(Code::kInvalidArgument, fmt::format("the inputs are too small: a tensor would get the shape {}", to_string(dims))).at_tensor(slot.name);
    // Sizes and strides are multiplied without further checks from here on.
    if (element_count_or_huge(dims) > kMaxElements)
      throw Error(Code::kInvalidArgument, fmt::format("the inputs are too large: a tensor would get the shape {}", to_string(dims))).at_tensor(slot.name);
    out.desc.dtype = slot.dtype;
    if (slot.storage != Storage::kAlias) {
      out.root = id;
      out.offset = 0;
      strides_in_order(dims, slot.order, out.desc.strides);
      continue;
    }
    const ResolvedSlot& from = slots[static_cast<std::size_t>(slot.parent)];
    out.root = from.root;
    out.offset = from.offset;
    if (slot.alias_axis < 0) {
      if (from.desc.elements() != out.desc.elements()) {
        const auto fixed = [](const Slot& of) { return ir::constant_dims(of.shape).has_value(); };
        if (fixed(slot) && fixed(program_.slots[static_cast<std::size_t>(slot.parent)]))
          throw corrupt(i, "is a view of a tensor with another number of elements");
        throw Error(Code::kInvalidArgument,
                    fmt::format("a reshape between the shapes {} and {} would change the number of elements", to_string(from.desc.dims), to_string(dims)))
            .at_tensor(slot.name)
            .with_remedy("The model keeps sizes that it was exported with: give those (--shapes), or export it with these axes free.");
      }
      strides_in_order(dims, slot.order, out.desc.strides);
      continue;
    }
    const auto axis = static_cast<std::size_t>(slot.alias_axis);
    const auto offset = slot.alias_offset.evaluate(bindings);
    if (axis >= from.desc.dims.size() || from.desc.dims.size() != dims.size()) throw corrupt(i, "is a slice of a tensor of another rank");
    // Parts of a Concat agree on all other axes; where symbols say the extents only a run can tell.
    for (std::size_t a = 0; a < dims.size(); ++a) {
      if (a == axis || dims[a] == from.desc.dims[a]) continue;
      if (slot.shape[a].is_constant() && program_.slots[static_cast<std::size_t>(slot.parent)].shape[a].is_constant())
        throw corrupt(i, "lies outside the tensor that it is a slice of");
      throw Error(Code::kInvalidArgument, fmt::format("the inputs' shapes do not fit each other: a part of shape {} is joined to one of shape {} along axis {}",
                                                      to_string(dims), to_string(from.desc.dims), axis))
          .at_tensor(slot.name);
    }
    if (!offset || *offset < 0 || dims[axis] > from.desc.dims[axis] || *offset > from.desc.dims[axis] - dims[axis])
      throw corrupt(i, "lies outside the tensor that it is a slice of");
    out.desc.strides = from.desc.strides;
    out.offset += *offset * from.desc.strides[axis];
  }
}

Status bind_symbols(const Program& program, std::span<const Dims> input_dims, ir::Bindings& bindings) {
  const ShapeProgram shapes(program);
  const std::vector<Extents> inputs(input_dims.begin(), input_dims.end());
  bindings = shapes.make_bindings();
  return shapes.solve(inputs, bindings);
}

std::vector<ResolvedSlot> resolve_slots(const Program& program, const ir::Bindings& bindings) {
  std::vector<ResolvedSlot> slots;
  ShapeProgram(program).resolve(bindings, slots);
  return slots;
}

}  // namespace lathe::plan
