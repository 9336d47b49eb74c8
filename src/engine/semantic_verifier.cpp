// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See semantic_verifier.h. A condition that does not hold throws its Defect, which the functions of the header return.

#include "engine/semantic_verifier.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/printable.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

using plan::Program;
using plan::Slot;
using plan::SlotId;
using plan::Step;
using plan::StepKind;
using plan::Storage;

/// Lets a condition fail under its name, unless it is the one that is passed over.
class Judge {
 public:
  explicit Judge(std::optional<Check> without) : without_(without) {}
  template <class... Args>
  void require(Check check, bool condition, fmt::format_string<Args...> format, Args&&... args) const {
    if (!condition && without_ != check) throw Defect{check, fmt::format(format, std::forward<Args>(args)...)};
  }

 private:
  std::optional<Check> without_;
};

/// Bytes of constant extents; false on overflow or beyond the format's limit.
bool bytes_of(DType dtype, const Dims& dims, std::int64_t& bytes) {
  std::int64_t count = 1;
  for (const std::int64_t extent : dims) {
    if (extent < 0) return false;
    if (__builtin_mul_overflow(count, std::max<std::int64_t>(extent, 1), &count) || count > kMaxSlotBytes) return false;
  }
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) count = 0;
  const std::size_t total = dtype_bytes(dtype, count);
  bytes = static_cast<std::int64_t>(total);
  return total <= static_cast<std::size_t>(kMaxSlotBytes);
}

class ProgramCheck : Judge {
 public:
  ProgramCheck(const Program& program, const std::vector<plan::Blob>& blobs, const Judge& judge) : Judge(judge), program_(program), blobs_(blobs) {}

  void run() {
    require(Check::kSlotCount, program_.slots.size() <= kMaxItems, "the program has more slots than the format allows");
    require(Check::kStepCount, program_.steps.size() <= kMaxItems, "the program has more steps than the format allows");
    for (std::size_t i = 0; i < program_.slots.size(); ++i) check_slot(i);
    check_alias_cycles();
    for (std::size_t i = 0; i < program_.slots.size(); ++i) check_alias(i);
    check_interface();
    if (!program_.dynamic) check_symbols();
    for (std::size_t i = 0; i < program_.steps.size(); ++i) {
      check_step(i);
      if (program_.dynamic) check_dynamic_step(i);
    }
    check_order();
    check_segments();
  }

 private:
  const Slot& slot(SlotId id) const { return program_.slots[static_cast<std::size_t>(id)]; }
  bool is_slot(SlotId id) const { return id >= 0 && static_cast<std::size_t>(id) < program_.slots.size(); }

  void check_slot(std::size_t i) const {
    const Slot& s = program_.slots[i];
    const bool whole = s.type && (!s.type->is_tensor() || !s.type->shape);
    require(Check::kSlotType, s.dtype != DType::kUndefined || whole, "slot {} has no element type", i);
    require(Check::kStaticType, !s.type || program_.dynamic, "slot {} holds no tensor of known rank, which only dynamic programs do", i);
    require(Check::kDynamicSlot,
            !program_.dynamic || (s.storage != Storage::kAlias && s.order.empty() && (s.storage != Storage::kConstant || s.dtype != DType::kUndefined)),
            "slot {} of a dynamic program is no whole value", i);
    require(Check::kStringConstant, s.dtype != DType::kString || s.storage != Storage::kConstant, "slot {} is a constant of strings", i);
    require(Check::kSlotRank, s.shape.size() <= kMaxRank, "slot {} has too many axes", i);
    if (!s.order.empty()) {
      require(Check::kOrderSize, s.order.size() == s.shape.size(), "slot {}: its memory order has {} axes, the slot {}", i, s.order.size(), s.shape.size());
      std::vector<bool> seen(s.order.size(), false);
      for (const std::int32_t axis : s.order) {
        require(Check::kOrder, axis >= 0 && static_cast<std::size_t>(axis) < seen.size() && !seen[static_cast<std::size_t>(axis)],
                "slot {}: its memory order is no permutation", i);
        seen[static_cast<std::size_t>(axis)] = true;
      }
    }
    const auto dims = ir::constant_dims(s.shape);
    std::int64_t bytes = 0;
    if (dims) require(Check::kSlotBytes, bytes_of(s.dtype, *dims, bytes), "slot {} has the impossible shape {}", i, to_string(*dims));
    if (s.storage == Storage::kConstant) {
      require(Check::kConstantBlob, s.blob >= 0 && static_cast<std::size_t>(s.blob) < blobs_.size(), "slot {} is constant but names no weight", i);
      require(Check::kConstantShape, dims.has_value(), "slot {} is constant but its shape or order is not", i);
      require(Check::kConstantOrder, s.order.empty(), "slot {} is constant but its shape or order is not", i);
      require(Check::kConstantBytes, static_cast<std::uint64_t>(bytes) <= blobs_[static_cast<std::size_t>(s.blob)].bytes,
              "slot {} takes {} bytes, its weight has {}", i, bytes, blobs_[static_cast<std::size_t>(s.blob)].bytes);
    } else {
      require(Check::kStrayBlob, s.blob == -1, "slot {} names a weight but is not constant", i);
    }
    if (s.storage == Storage::kAlias) {
      require(Check::kAliasParent, is_slot(s.parent), "slot {} is a part of slot {}, which does not exist", i, s.parent);
    } else {
      require(Check::kStrayParent, s.parent == -1, "slot {} has a parent but is no alias", i);
      require(Check::kStrayAxis, s.alias_axis == -1, "slot {} is sliced along axis {} but is no alias", i, s.alias_axis);
    }
  }

  void check_alias_cycles() const {
    // 0 = unseen, 1 = on the way, 2 = done.
    std::vector<char> state(program_.slots.size(), 0);
    std::vector<std::size_t> path;
    for (std::size_t i = 0; i < state.size(); ++i) {
      std::size_t at = i;
      path.clear();
      while (state[at] == 0) {
        state[at] = 1;
        path.push_back(at);
        if (program_.slots[at].storage != Storage::kAlias) break;
        at = static_cast<std::size_t>(program_.slots[at].parent);
        require(Check::kAliasCycle, state[at] != 1, "slot {} is an alias of itself", at);
      }
      // Resolving recurses along the chain, so its length is bounded too.
      require(Check::kAliasChain, path.size() <= kMaxAliasChain, "slot {} stands at the end of a chain of aliases that is too long", i);
      for (const std::size_t done : path) state[done] = 2;
    }
  }

  void check_alias(std::size_t i) const {
    const Slot& s = program_.slots[i];
    if (s.storage != Storage::kAlias) return;
    const Slot& parent = slot(s.parent);
    require(Check::kAliasType, s.dtype == parent.dtype, "slot {} is a part of slot {} but has another element type", i, s.parent);
    require(Check::kAliasSpace, s.space == parent.space, "slot {} is a part of slot {} but lies in another memory", i, s.parent);
    const auto dims = ir::constant_dims(s.shape), outer = ir::constant_dims(parent.shape);
    if (s.alias_axis == -1) {
      if (!dims || !outer) return;
      std::int64_t a = 0, b = 0;
      bytes_of(s.dtype, *dims, a);
      bytes_of(parent.dtype, *outer, b);
      require(Check::kViewSize, a == b, "slot {} is a view of slot {} but has another size", i, s.parent);
      return;
    }
    require(Check::kSlicePacked, dtype_bits(s.dtype) >= 8, "slot {} is a slice of a packed type", i);
    require(Check::kSliceAxis, s.alias_axis >= 0 && static_cast<std::size_t>(s.alias_axis) < parent.shape.size(),
            "slot {} is a slice along axis {}, which its parent lacks", i, s.alias_axis);
    require(Check::kSliceRank, s.shape.size() == parent.shape.size(), "slot {} is a slice but has another number of axes than its parent", i);
    for (std::size_t axis = 0; axis < s.shape.size(); ++axis) {
      const auto inner = s.shape[axis].constant(), whole = parent.shape[axis].constant(), offset = s.alias_offset.constant();
      if (axis == static_cast<std::size_t>(s.alias_axis)) {
        if (offset) require(Check::kSliceBegin, *offset >= 0, "slot {} begins before the slot that it is a slice of", i);
        if (inner && whole && offset)
          require(Check::kSliceEnd, *inner <= *whole && (*inner < 0 || *offset <= *whole - *inner), "slot {} reaches beyond the slot that it is a slice of", i);
      } else if (inner && whole) {
        require(Check::kSliceExtent, *inner == *whole, "slot {} is a slice along axis {} but differs on axis {}", i, s.alias_axis, axis);
      }
    }
  }

  SlotId root(SlotId id) const {
    while (slot(id).storage == Storage::kAlias) id = slot(id).parent;
    return id;
  }

  void check_interface() {
    std::vector<int> named(program_.slots.size(), 0);
    std::set<std::string_view> names;
    for (const plan::Io& io : program_.inputs) {
      require(Check::kInputSlot, is_slot(io.slot), "input '{}' has no slot for the caller's memory", io.name);
      require(Check::kInputStorage, slot(io.slot).storage == Storage::kInput, "input '{}' has no slot for the caller's memory", io.name);
      require(Check::kInputOrder, slot(io.slot).order.empty(), "input '{}' has no slot for the caller's memory", io.name);
      require(Check::kInputText, is_utf8(io.name), "the name of input {} is no UTF-8 text", io.slot);
      require(Check::kInputName, names.insert(io.name).second, "two inputs are called '{}'", io.name);
      require(Check::kDonation, io.donated_to >= -1 && io.donated_to < static_cast<std::int32_t>(program_.outputs.size()),
              "input '{}' is given to an output that does not exist", io.name);
      ++named[static_cast<std::size_t>(io.slot)];
    }
    for (const plan::Io& io : program_.outputs) {
      require(Check::kOutputSlot, is_slot(io.slot), "output '{}' has no slot for the caller's memory", io.name);
      require(Check::kOutputStorage, slot(io.slot).storage == Storage::kOutput, "output '{}' has no slot for the caller's memory", io.name);
      require(Check::kOutputOrder, slot(io.slot).order.empty(), "output '{}' has no slot for the caller's memory", io.name);
      require(Check::kOutputText, is_utf8(io.name), "the name of output {} is no UTF-8 text", io.slot);
      ++named[static_cast<std::size_t>(io.slot)];
    }
    for (std::size_t i = 0; i < program_.slots.size(); ++i) {
      const bool callers = program_.slots[i].storage == Storage::kInput || program_.slots[i].storage == Storage::kOutput;
      require(Check::kInterface, named[i] == (callers ? 1 : 0), "slot {} is named {} times as input or output", i, named[i]);
    }
  }

  /// Symbols that an input binds, and those that read-size steps add.
  void check_symbols() {
    std::set<std::string> bound;
    for (const plan::Io& io : program_.inputs)
      for (const ir::Dim& dim : slot(io.slot).shape)
        if (dim.is_symbol()) dim.collect_symbols(bound);
    for (const Step& step : program_.steps)
      if (step.kind == StepKind::kReadSize) bound.insert(step.read_symbol);
    for (std::size_t i = 0; i < program_.slots.size(); ++i) {
      std::set<std::string> used;
      for (const ir::Dim& dim : program_.slots[i].shape)
        if (!dim.is_constant()) dim.collect_symbols(used);
      if (!program_.slots[i].alias_offset.is_constant()) program_.slots[i].alias_offset.collect_symbols(used);
      for (const std::string& symbol : used)
        require(Check::kUnboundSymbol, bound.count(symbol) > 0, "slot {} depends on the symbol '{}', which nothing binds", i, symbol);
    }
    std::set<std::string_view> names;
    for (const plan::SymbolHint& hint : program_.symbols) {
      require(Check::kSymbolTwice, names.insert(hint.symbol).second, "the symbol '{}' is listed twice", hint.symbol);
      const auto range = [&](Check check, bool fits) { require(check, fits, "the range of the symbol '{}' is empty", hint.symbol); };
      range(Check::kSymbolMin, hint.min >= 0);
      range(Check::kSymbolOpt, hint.opt >= -1 && (hint.opt < 0 || hint.min <= hint.opt));
      range(Check::kSymbolMax, hint.max >= -1 && (hint.max < 0 || (hint.min <= hint.max && hint.opt <= hint.max)));
    }
  }

  void check_step(std::size_t i) const {
    const Step& step = program_.steps[i];
    const auto name = [&] { return fmt::format("step {} ('{}')", i, step.label); };
    for (const SlotId id : step.inputs) require(Check::kStepInput, id == -1 || is_slot(id), "{} reads slot {}, which does not exist", name(), id);
    for (const SlotId id : step.outputs) {
      require(Check::kStepOutput, id == -1 || is_slot(id), "{} writes slot {}, which does not exist", name(), id);
      if (id == -1) continue;
      const Storage storage = slot(root(id)).storage;
      require(Check::kStepTarget, storage == Storage::kArena || storage == Storage::kOutput, "{} writes slot {}, which is {}", name(), id,
              storage == Storage::kConstant ? "constant" : "an input");
    }
    for (const plan::BlobId id : step.weights)
      require(Check::kStepWeight, id >= 0 && static_cast<std::size_t>(id) < blobs_.size(), "{} reads the weight {}, which does not exist", name(), id);
    std::size_t regions = 0;
    switch (step.kind) {
      case StepKind::kKernel:
      case StepKind::kCopy:
      case StepKind::kHostOp:
        require(Check::kKernelName, !step.kernel.empty(), "{} names no kernel", name());
        if (program_.dynamic) regions = step.regions.size();
        break;
      case StepKind::kView: break;
      case StepKind::kCall:
      case StepKind::kLoop: regions = 1; break;
      case StepKind::kBranch: regions = 2; break;
      case StepKind::kReadSize: require(Check::kReadSymbol, !step.read_symbol.empty(), "{} binds no symbol", name()); break;
    }
    if (step.kind == StepKind::kCopy)
      require(Check::kCopyForm, step.inputs.size() == 1 && step.outputs.size() == 1 && step.inputs[0] >= 0 && step.outputs[0] >= 0,
              "{} is a copy without source or target", name());
    require(Check::kRegionCount, step.regions.size() == regions, "{} has {} subprograms, its kind needs {}", name(), step.regions.size(), regions);
    for (const std::int32_t region : step.regions)
      require(Check::kRegion, region >= 0 && static_cast<std::size_t>(region) < program_.subprograms.size(), "{} runs the subprogram {}, which does not exist",
              name(), region);
  }

  static bool has_slots(const std::vector<SlotId>& ids, std::size_t first, std::size_t last) {
    return std::all_of(ids.begin() + static_cast<std::ptrdiff_t>(first), ids.begin() + static_cast<std::ptrdiff_t>(last), [](SlotId id) { return id >= 0; });
  }

  /// What program.h says of steps of dynamic programs. The regions exist: check_step() came first.
  void check_dynamic_step(std::size_t i) const {
    const Step& step = program_.steps[i];
    const auto name = [&] { return fmt::format("step {} ('{}')", i, step.label); };
    require(Check::kDynamicStep, step.kind == StepKind::kCall || step.kind == StepKind::kHostOp, "{} is of a kind that dynamic programs have not", name());
    const auto region = [&](std::size_t r) -> const Program& { return program_.subprograms[static_cast<std::size_t>(step.regions[r])]; };
    if (step.kind == StepKind::kCall && step.regions.size() == 1 && static_cast<std::size_t>(step.regions[0]) < program_.subprograms.size()) {
      const Program& callee = region(0);
      const std::vector<std::int64_t> carriers = step.params.get_ints("carriers");
      require(Check::kCallInputs,
              !callee.dynamic && callee.inputs.size() == step.inputs.size() && carriers.size() <= step.inputs.size() &&
                  has_slots(step.inputs, 0, step.inputs.size()),
              "{} calls a program with other inputs", name());
      for (const std::int64_t carrier : carriers)
        require(Check::kCallCarrier, carrier < static_cast<std::int64_t>(kMaxRank) && carrier > -static_cast<std::int64_t>(kMaxItems),
                "{} takes an extent from the axis {}, which no tensor has", name(), carrier);
      require(Check::kCallOutputs, callee.outputs.size() == step.outputs.size(), "{} calls a program with other outputs", name());
    }
    if (step.kind != StepKind::kHostOp) return;
    require(Check::kNodeName, !step.params.get_string("op", "").empty(), "{} names no operator", name());
    const std::vector<std::int64_t> formals = step.params.get_ints("formals");
    const std::int64_t given = step.params.get_int("inputs", -1);
    require(Check::kNodeInputs,
            formals.size() == step.regions.size() && step.params.get_strings("graphs").size() == step.regions.size() && given >= 0 &&
                static_cast<std::size_t>(given) <= step.inputs.size(),
            "{} gives its nested graphs other inputs than they have", name());
    std::size_t next = static_cast<std::size_t>(std::max<std::int64_t>(given, 0));
    for (std::size_t r = 0; r < std::min(step.regions.size(), formals.size()); ++r) {
      if (step.regions[r] < 0 || static_cast<std::size_t>(step.regions[r]) >= program_.subprograms.size()) return;
      const Program& body = region(r);
      require(Check::kBodyDynamic, body.dynamic, "{} runs a nested graph that is no dynamic program", name());
      require(Check::kBodyInputs, formals[r] >= 0 && static_cast<std::size_t>(formals[r]) <= body.inputs.size(),
              "{} gives a nested graph more inputs than it has", name());
      next += body.inputs.size() - static_cast<std::size_t>(std::max<std::int64_t>(formals[r], 0));
    }
    require(
        Check::kNodeInputs,
        next == step.inputs.size() &&
            has_slots(step.inputs, std::min<std::size_t>(static_cast<std::size_t>(std::max<std::int64_t>(given, 0)), step.inputs.size()), step.inputs.size()),
        "{} gives its nested graphs other inputs than they have", name());
  }

  /// Nothing is read before something was written there.
  void check_order() const {
    std::vector<bool> written(program_.slots.size(), false);
    for (std::size_t i = 0; i < program_.steps.size(); ++i) {
      const Step& step = program_.steps[i];
      for (const SlotId id : step.inputs) {
        if (id == -1) continue;
        const SlotId from = root(id);
        const Storage storage = slot(from).storage;
        require(Check::kReadBeforeWrite, storage == Storage::kInput || storage == Storage::kConstant || written[static_cast<std::size_t>(from)],
                "step {} ('{}') reads slot {} before anything wrote it", i, step.label, id);
      }
      for (const SlotId id : step.outputs)
        if (id != -1) written[static_cast<std::size_t>(root(id))] = true;
    }
    for (const plan::Io& io : program_.outputs)
      require(Check::kOutputWritten, written[static_cast<std::size_t>(io.slot)], "nothing writes the output '{}'", io.name);
  }

  void check_segments() const {
    std::int64_t next = 0;
    for (const plan::Segment& segment : program_.segments) {
      require(Check::kSegment, segment.first_step == next && segment.step_count >= 0, "the segments do not cover the steps in order");
      next += segment.step_count;
    }
    require(Check::kSegmentsEnd, next == static_cast<std::int64_t>(program_.steps.size()), "the segments do not cover the steps in order");
  }

  const Program& program_;
  const std::vector<plan::Blob>& blobs_;
};

void check_program(const Program& program, const std::vector<plan::Blob>& blobs, const Judge& judge, int depth) {
  judge.require(Check::kNesting, depth <= kMaxNesting, "subprograms are nested too deeply");
  ProgramCheck(program, blobs, judge).run();
  for (const Program& sub : program.subprograms) check_program(sub, blobs, judge, depth + 1);
}

void check_blobs(const std::vector<plan::Blob>& blobs, const Judge& judge) {
  judge.require(Check::kBlobCount, blobs.size() <= kMaxItems, "the engine has more weights than the format allows");
  for (std::size_t i = 0; i < blobs.size(); ++i) {
    const plan::Blob& blob = blobs[i];
    for (const plan::BlobId source : blob.sources)
      judge.require(Check::kBlobSource, source >= -1 && source < static_cast<std::int64_t>(i),
                    "weight {} is made from the weight {}, which does not come before it", i, source);
    if (!blob.pack.empty()) continue;
    std::int64_t bytes = 0;
    judge.require(Check::kRawSources, blob.sources.empty(), "weight {} has sources but no recipe", i);
    judge.require(Check::kRawRank, blob.dims.size() <= kMaxRank, "weight {} has too many axes", i);
    judge.require(Check::kRawShape, bytes_of(blob.dtype, blob.dims, bytes), "weight {} has an impossible shape", i);
    judge.require(Check::kRawBytes, static_cast<std::uint64_t>(bytes) == blob.bytes, "weight {} ('{}') has {} bytes, its shape takes {}", i, blob.name,
                  blob.bytes, bytes);
  }
}

template <class F>
std::optional<Defect> catch_defect(F&& check) {
  try {
    check();
  } catch (Defect& defect) {
    return std::move(defect);
  }
  return std::nullopt;
}

bool same_names(const std::vector<plan::Io>& a, const std::vector<plan::Io>& b) {
  return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](const plan::Io& x, const plan::Io& y) { return x.name == y.name; });
}

}  // namespace

std::string find_program_defect(const Program& program, const std::vector<plan::Blob>& blobs) {
  const auto defect = catch_defect([&] { check_program(program, blobs, Judge({}), 0); });
  return defect ? defect->text : std::string();
}

std::string find_defect(const EngineData& data) {
  const std::optional<Defect> defect = first_defect(data);
  return defect ? defect->text : std::string();
}

std::optional<Defect> first_defect(const EngineData& data, std::optional<Check> without) {
  const Judge judge(without);
  return catch_defect([&] {
    judge.require(Check::kPrograms, !data.sections.empty(), "the engine has no program");
    check_blobs(data.blobs, judge);
    for (const DeviceSection& section : data.sections) {
      try {
        check_program(section.program, data.blobs, judge, 0);
      } catch (Defect& defect) {
        throw Defect{defect.check, fmt::format("device '{}': {}", section.device, defect.text)};
      }
      // All sections stand for one model: the caller must not see which one runs.
      const auto& first = data.sections.front().program;
      judge.require(Check::kSameInterface, same_names(section.program.inputs, first.inputs) && same_names(section.program.outputs, first.outputs),
                    "device '{}' has other inputs or outputs than device '{}'", section.device, data.sections.front().device);
    }
  });
}

}  // namespace lathe::engine
