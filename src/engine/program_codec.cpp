// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See program_codec.h.

#include "engine/program_codec.h"

#include <fmt/format.h>

#include <unordered_map>

#include "engine/attributes.h"
#include "engine/semantic_verifier.h"
#include "lathe/status.h"

namespace lathe::engine {
namespace {

class DimTable {
 public:
  std::uint32_t add(const ir::Dim& dim) {
    std::string text = dim.to_string();
    const auto [at, added] = index_.emplace(text, static_cast<std::uint32_t>(texts_.size()));
    if (added) texts_.push_back(std::move(text));
    return at->second;
  }
  std::vector<std::string> take() { return std::move(texts_); }

 private:
  std::unordered_map<std::string, std::uint32_t> index_;
  std::vector<std::string> texts_;
};

[[noreturn]] void corrupt(const std::string& what) { throw Error(Code::kCorruptFile, what); }

template <class E>
E enumerator(std::uint8_t value, E last, std::string_view what) {
  if (value > static_cast<std::uint8_t>(last)) corrupt(fmt::format("the program holds the unknown {} {}", what, value));
  return static_cast<E>(value);
}

DType dtype_of(std::uint8_t value) {
  if (value >= kDTypeCount) corrupt(fmt::format("the program holds the unknown element type {}", value));
  return static_cast<DType>(value);
}

std::vector<std::string> strings_of(const flatbuffers::Vector<flatbuffers::Offset<flatbuffers::String>>* stored) {
  std::vector<std::string> out;
  if (stored)
    for (const flatbuffers::String* text : *stored) out.push_back(text->str());
  return out;
}

}  // namespace

std::unique_ptr<fb::ProgramT> pack_program(const plan::Program& program) {
  auto out = std::make_unique<fb::ProgramT>();
  DimTable dims;
  for (const plan::Slot& slot : program.slots) {
    auto item = std::make_unique<fb::SlotT>();
    item->name = slot.name;
    item->dtype = static_cast<std::uint8_t>(slot.dtype);
    for (const ir::Dim& dim : slot.shape) item->shape.push_back(dims.add(dim));
    item->order = slot.order;
    item->space = static_cast<std::uint8_t>(slot.space);
    item->storage = static_cast<std::uint8_t>(slot.storage);
    item->parent = slot.parent;
    item->alias_axis = slot.alias_axis;
    if (slot.storage == plan::Storage::kAlias && !(slot.alias_offset == ir::Dim(0)))
      item->alias_offset = static_cast<std::int32_t>(dims.add(slot.alias_offset));
    item->blob = slot.blob;
    if (slot.type) item->type = pack_type(*slot.type);
    out->slots.push_back(std::move(item));
  }
  for (const plan::Step& step : program.steps) {
    auto item = std::make_unique<fb::StepT>();
    item->kind = static_cast<std::uint8_t>(step.kind);
    item->place = step.place;
    item->label = step.label;
    item->kernel = step.kernel;
    item->params = pack_attrs(step.params);
    item->inputs = step.inputs;
    item->outputs = step.outputs;
    item->weights = step.weights;
    item->sources = step.sources;
    item->regions = step.regions;
    item->measured_seconds = step.measured_seconds;
    item->flops = step.flops;
    item->bytes = step.bytes;
    item->pinned = step.pinned.value_or("");
    item->read_symbol = step.read_symbol;
    out->steps.push_back(std::move(item));
  }
  for (const plan::Segment& segment : program.segments) out->segments.emplace_back(segment.first_step, segment.step_count);
  const auto pack_io = [](const std::vector<plan::Io>& list, std::vector<std::unique_ptr<fb::IoT>>& into) {
    for (const plan::Io& io : list) {
      auto item = std::make_unique<fb::IoT>();
      item->name = io.name;
      item->slot = io.slot;
      item->donated_to = io.donated_to;
      into.push_back(std::move(item));
    }
  };
  pack_io(program.inputs, out->inputs);
  pack_io(program.outputs, out->outputs);
  for (const plan::SymbolHint& hint : program.symbols) {
    auto item = std::make_unique<fb::SymbolHintT>();
    item->symbol = hint.symbol;
    item->min = hint.min;
    item->opt = hint.opt;
    item->max = hint.max;
    out->symbols.push_back(std::move(item));
  }
  for (const plan::Program& sub : program.subprograms) out->subprograms.push_back(pack_program(sub));
  out->dims = dims.take();
  out->dynamic = program.dynamic;
  return out;
}

plan::Program unpack_program(const fb::Program& stored, int depth) {
  if (depth > kMaxNesting) corrupt("the program's subprograms are nested too deeply");
  plan::Program program;
  std::vector<ir::Dim> dims;
  if (stored.dims())
    for (const flatbuffers::String* text : *stored.dims()) {
      if (text->size() > kMaxDimText) corrupt("an extent's expression is longer than the format allows");
      dims.push_back(ir::Dim::parse(text->string_view()));
    }
  const auto dim_at = [&](std::uint32_t index) -> const ir::Dim& {
    if (index >= dims.size()) corrupt(fmt::format("the program refers to the extent {}, but has {}", index, dims.size()));
    return dims[index];
  };
  if (stored.slots()) {
    program.slots.reserve(stored.slots()->size());
    for (const fb::Slot* item : *stored.slots()) {
      plan::Slot slot;
      slot.name = text_of(item->name());
      slot.dtype = dtype_of(item->dtype());
      if (item->shape()) {
        if (item->shape()->size() > kMaxRank) corrupt("a slot has more axes than the format allows");
        for (const std::uint32_t index : *item->shape()) slot.shape.push_back(dim_at(index));
      }
      slot.order = values_of(item->order());
      slot.space = enumerator(item->space(), MemorySpace::kDevice, "memory space");
      slot.storage = enumerator(item->storage(), plan::Storage::kConstant, "storage");
      slot.parent = item->parent();
      slot.alias_axis = item->alias_axis();
      if (item->alias_offset() >= 0) slot.alias_offset = dim_at(static_cast<std::uint32_t>(item->alias_offset()));
      slot.blob = item->blob();
      if (item->type()) slot.type = unpack_type(*item->type());
      program.slots.push_back(std::move(slot));
    }
  }
  if (stored.steps()) {
    program.steps.reserve(stored.steps()->size());
    for (const fb::Step* item : *stored.steps()) {
      plan::Step step;
      step.kind = enumerator(item->kind(), plan::StepKind::kHostOp, "kind of step");
      step.place = item->place();
      step.label = text_of(item->label());
      step.kernel = text_of(item->kernel());
      try {
        step.params = unpack_attrs(item->params());
      } catch (Error& error) {
        throw error.at_node(step.label, step.kernel);
      }
      step.inputs = values_of(item->inputs());
      step.outputs = values_of(item->outputs());
      step.weights = values_of(item->weights());
      step.sources = strings_of(item->sources());
      step.regions = values_of(item->regions());
      step.measured_seconds = item->measured_seconds();
      step.flops = item->flops();
      step.bytes = item->bytes();
      if (item->pinned() && item->pinned()->size() > 0) step.pinned = item->pinned()->str();
      step.read_symbol = text_of(item->read_symbol());
      program.steps.push_back(std::move(step));
    }
  }
  if (stored.segments())
    for (const fb::Segment* item : *stored.segments()) program.segments.push_back({item->first_step(), item->step_count()});
  if (stored.inputs())
    for (const fb::Io* item : *stored.inputs()) program.inputs.push_back({item->name()->str(), item->slot(), item->donated_to()});
  if (stored.outputs())
    for (const fb::Io* item : *stored.outputs()) program.outputs.push_back({item->name()->str(), item->slot(), item->donated_to()});
  if (stored.symbols())
    for (const fb::SymbolHint* item : *stored.symbols()) program.symbols.push_back({item->symbol()->str(), item->min(), item->opt(), item->max()});
  if (stored.subprograms())
    for (const fb::Program* item : *stored.subprograms()) program.subprograms.push_back(unpack_program(*item, depth + 1));
  program.dynamic = stored.dynamic();
  return program;
}

}  // namespace lathe::engine
