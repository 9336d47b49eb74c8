// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See codec.h.

#include "engine/codec.h"

#include <fmt/format.h>

#include <cstring>

namespace lathe::engine {
namespace {

using plan::Program;

[[noreturn]] void corrupt(std::string what) { throw Error(Code::kCorruptFile, std::move(what)); }

template <class T>
std::unique_ptr<T> make() {
  return std::make_unique<T>();
}

std::unique_ptr<fb::TensorDataT> to_tree(const Tensor& tensor) {
  auto out = make<fb::TensorDataT>();
  out->dtype = static_cast<std::uint8_t>(tensor.dtype());
  out->dims = tensor.dims();
  out->bytes.resize(tensor.bytes());
  if (tensor.bytes() > 0) std::memcpy(out->bytes.data(), tensor.raw(), tensor.bytes());
  return out;
}

DType dtype_from(std::uint8_t number) {
  if (number >= kDTypeCount) corrupt(fmt::format("the element type {} is none that this version knows", number));
  return static_cast<DType>(number);
}

Tensor from_tree(const fb::TensorDataT& tree) {
  const DType dtype = dtype_from(tree.dtype);
  if (dtype == DType::kUndefined || dtype == DType::kString) corrupt("a tensor parameter without a numeric type");
  std::int64_t count = 1;
  for (const std::int64_t extent : tree.dims) {
    if (extent < 0 || (extent > 0 && count > (std::int64_t{1} << 40) / extent)) corrupt("a tensor parameter with impossible extents");
    count *= extent;
  }
  if (dtype_bytes(dtype, count) != tree.bytes.size()) corrupt("a tensor parameter whose bytes do not fit its extents");
  Tensor tensor(dtype, tree.dims);
  if (!tree.bytes.empty()) std::memcpy(tensor.mutable_raw(), tree.bytes.data(), tree.bytes.size());
  return tensor;
}

std::vector<std::unique_ptr<fb::AttrT>> to_tree(const ir::Attrs& attrs) {
  std::vector<std::unique_ptr<fb::AttrT>> list;
  for (const auto& [name, attribute] : attrs) {
    auto out = make<fb::AttrT>();
    out->name = name;
    out->kind = static_cast<std::uint8_t>(attribute.type());
    const auto& v = attribute.value;
    if (const auto* f = std::get_if<float>(&v)) out->f = *f;
    else if (const auto* i = std::get_if<std::int64_t>(&v)) out->i = *i;
    else if (const auto* s = std::get_if<std::string>(&v)) out->s = *s;
    else if (const auto* t = std::get_if<Tensor>(&v)) out->tensors.push_back(to_tree(*t));
    else if (const auto* fs = std::get_if<std::vector<float>>(&v)) out->floats = *fs;
    else if (const auto* is = std::get_if<std::vector<std::int64_t>>(&v)) out->ints = *is;
    else if (const auto* ss = std::get_if<std::vector<std::string>>(&v)) out->strings = *ss;
    else if (const auto* ts = std::get_if<std::vector<Tensor>>(&v))
      for (const Tensor& tensor : *ts) out->tensors.push_back(to_tree(tensor));
    else throw Error(Code::kInternal, fmt::format("the step parameter '{}' has a kind that an engine cannot hold", name));
    list.push_back(std::move(out));
  }
  return list;
}

ir::Attrs from_tree(const std::vector<std::unique_ptr<fb::AttrT>>& list) {
  ir::Attrs attrs;
  for (const auto& a : list) {
    if (!a) corrupt("an empty parameter");
    switch (static_cast<ir::AttrType>(a->kind)) {
      case ir::AttrType::kFloat: attrs.set(a->name, a->f); break;
      case ir::AttrType::kInt: attrs.set(a->name, static_cast<std::int64_t>(a->i)); break;
      case ir::AttrType::kString: attrs.set(a->name, a->s); break;
      case ir::AttrType::kFloats: attrs.set(a->name, a->floats); break;
      case ir::AttrType::kInts: attrs.set(a->name, a->ints); break;
      case ir::AttrType::kStrings: attrs.set(a->name, a->strings); break;
      case ir::AttrType::kTensor:
        if (a->tensors.size() != 1 || !a->tensors[0]) corrupt(fmt::format("the parameter '{}' is no tensor", a->name));
        attrs.set(a->name, from_tree(*a->tensors[0]));
        break;
      case ir::AttrType::kTensors: {
        std::vector<Tensor> tensors;
        for (const auto& t : a->tensors) {
          if (!t) corrupt("an empty tensor parameter");
          tensors.push_back(from_tree(*t));
        }
        attrs.set(a->name, std::move(tensors));
        break;
      }
      default: corrupt(fmt::format("the parameter '{}' has the kind {}, which this version does not know", a->name, a->kind));
    }
  }
  return attrs;
}

ir::Dim dim_from(const std::string& text) {
  if (text.size() > 4096) corrupt("an extent expression of more than 4096 characters");
  try {
    return ir::Dim::parse(text);
  } catch (const Error& error) {
    corrupt(fmt::format("the extent '{}' cannot be read: {}", text, error.message()));
  }
}

std::unique_ptr<fb::ProgramT> to_tree(const Program& program) {
  auto out = make<fb::ProgramT>();
  for (const plan::Slot& slot : program.slots) {
    auto s = make<fb::SlotT>();
    s->name = slot.name;
    s->dtype = static_cast<std::uint8_t>(slot.dtype);
    for (const ir::Dim& dim : slot.shape) s->shape.push_back(dim.to_string());
    s->order = slot.order;
    s->space = static_cast<std::uint8_t>(slot.space);
    s->storage = static_cast<std::uint8_t>(slot.storage);
    s->parent = slot.parent;
    s->alias_axis = slot.alias_axis;
    if (slot.storage == plan::Storage::kAlias) s->alias_offset = slot.alias_offset.to_string();
    s->blob = slot.blob;
    out->slots.push_back(std::move(s));
  }
  for (const plan::Step& step : program.steps) {
    auto s = make<fb::StepT>();
    s->kind = static_cast<std::uint8_t>(step.kind);
    s->place = step.place;
    s->label = step.label;
    s->kernel = step.kernel;
    s->params = to_tree(step.params);
    s->inputs = step.inputs;
    s->outputs = step.outputs;
    s->weights = step.weights;
    s->sources = step.sources;
    s->regions = step.regions;
    s->measured_seconds = step.measured_seconds;
    s->flops = step.flops;
    s->bytes = step.bytes;
    if (step.pinned) s->pinned = *step.pinned;
    s->read_symbol = step.read_symbol;
    out->steps.push_back(std::move(s));
  }
  for (const plan::Segment& segment : program.segments) out->segments.emplace_back(segment.first_step, segment.step_count);
  const auto io = [](const std::vector<plan::Io>& list, auto& to) {
    for (const plan::Io& entry : list) {
      auto i = make<fb::IoT>();
      i->name = entry.name;
      i->slot = entry.slot;
      i->donated_to = entry.donated_to;
      to.push_back(std::move(i));
    }
  };
  io(program.inputs, out->inputs);
  io(program.outputs, out->outputs);
  for (const plan::SymbolHint& symbol : program.symbols) {
    auto s = make<fb::SymbolT>();
    s->name = symbol.symbol;
    s->min = symbol.min;
    s->opt = symbol.opt;
    s->max = symbol.max;
    out->symbols.push_back(std::move(s));
  }
  for (const Program& sub : program.subprograms) out->subprograms.push_back(to_tree(sub));
  return out;
}

template <class E>
E enumerator(std::uint8_t number, E last, const char* what) {
  if (number > static_cast<std::uint8_t>(last)) corrupt(fmt::format("the {} {} is none that this version knows", what, number));
  return static_cast<E>(number);
}

Program from_tree(const fb::ProgramT& tree) {
  Program program;
  for (const auto& s : tree.slots) {
    if (!s) corrupt("an empty slot");
    plan::Slot slot;
    slot.name = s->name;
    slot.dtype = dtype_from(s->dtype);
    for (const std::string& text : s->shape) slot.shape.push_back(dim_from(text));
    slot.order = s->order;
    slot.space = enumerator(s->space, MemorySpace::kDevice, "memory space");
    slot.storage = enumerator(s->storage, plan::Storage::kConstant, "storage");
    slot.parent = s->parent;
    slot.alias_axis = s->alias_axis;
    if (!s->alias_offset.empty()) slot.alias_offset = dim_from(s->alias_offset);
    slot.blob = s->blob;
    program.slots.push_back(std::move(slot));
  }
  for (const auto& s : tree.steps) {
    if (!s) corrupt("an empty step");
    plan::Step step;
    step.kind = enumerator(s->kind, plan::StepKind::kHostOp, "step kind");
    step.place = s->place;
    step.label = s->label;
    step.kernel = s->kernel;
    step.params = from_tree(s->params);
    step.inputs = s->inputs;
    step.outputs = s->outputs;
    step.weights = s->weights;
    step.sources = s->sources;
    step.regions = s->regions;
    step.measured_seconds = s->measured_seconds;
    step.flops = s->flops;
    step.bytes = s->bytes;
    if (!s->pinned.empty()) step.pinned = s->pinned;
    step.read_symbol = s->read_symbol;
    program.steps.push_back(std::move(step));
  }
  for (const fb::Segment& segment : tree.segments) program.segments.push_back({segment.first_step(), segment.step_count()});
  const auto io = [](const auto& list, std::vector<plan::Io>& to) {
    for (const auto& entry : list) {
      if (!entry) corrupt("an empty input or output");
      to.push_back({entry->name, entry->slot, entry->donated_to});
    }
  };
  io(tree.inputs, program.inputs);
  io(tree.outputs, program.outputs);
  for (const auto& s : tree.symbols) {
    if (!s) corrupt("an empty symbol");
    program.symbols.push_back({s->name, s->min, s->opt, s->max});
  }
  for (const auto& sub : tree.subprograms) {
    if (!sub) corrupt("an empty subprogram");
    program.subprograms.push_back(from_tree(*sub));
  }
  return program;
}

}  // namespace

fb::EngineT to_tree(const EngineData& data) {
  fb::EngineT tree;
  tree.producer = data.producer;
  tree.model_name = data.model_name;
  for (const DeviceSection& section : data.sections) {
    auto s = make<fb::SectionT>();
    s->device = section.device;
    s->needs = section.needs;
    s->description = section.description;
    s->program = to_tree(section.program);
    tree.sections.push_back(std::move(s));
  }
  for (const plan::Blob& blob : data.blobs) {
    auto b = make<fb::BlobT>();
    b->hash = std::make_unique<fb::Hash>(blob.hash.low, blob.hash.high);
    b->offset = blob.offset;
    b->bytes = blob.bytes;
    b->name = blob.name;
    b->dtype = static_cast<std::uint8_t>(blob.dtype);
    b->dims = blob.dims;
    b->pack = blob.pack;
    b->pack_params = to_tree(blob.pack_params);
    b->sources = blob.sources;
    tree.blobs.push_back(std::move(b));
  }
  for (const plan::PrecisionEntry& entry : data.precision) {
    auto p = make<fb::PrecisionT>();
    p->tensor = entry.tensor;
    p->storage = static_cast<std::uint8_t>(entry.storage);
    p->compute = static_cast<std::uint8_t>(entry.compute);
    p->reason = entry.reason;
    tree.precision.push_back(std::move(p));
  }
  tree.custom_ops = data.custom_ops;
  for (const auto& [key, value] : data.metadata) {
    auto p = make<fb::PairT>();
    p->key = key;
    p->value = value;
    tree.metadata.push_back(std::move(p));
  }
  tree.report_json = data.report_json;
  return tree;
}

EngineData from_tree(const fb::EngineT& tree) {
  EngineData data;
  data.producer = tree.producer;
  data.model_name = tree.model_name;
  for (const auto& s : tree.sections) {
    if (!s || !s->program) corrupt("a device section without a program");
    data.sections.push_back({s->device, s->needs, s->description, from_tree(*s->program)});
  }
  for (const auto& b : tree.blobs) {
    if (!b || !b->hash) corrupt("a blob without a hash");
    plan::Blob blob;
    blob.hash = {b->hash->low(), b->hash->high()};
    blob.offset = b->offset;
    blob.bytes = b->bytes;
    blob.name = b->name;
    blob.dtype = dtype_from(b->dtype);
    blob.dims = b->dims;
    blob.pack = b->pack;
    blob.pack_params = from_tree(b->pack_params);
    blob.sources = b->sources;
    data.blobs.push_back(std::move(blob));
  }
  for (const auto& p : tree.precision) {
    if (!p) corrupt("an empty entry of the precision plan");
    data.precision.push_back({p->tensor, dtype_from(p->storage), dtype_from(p->compute), p->reason});
  }
  data.custom_ops = tree.custom_ops;
  for (const auto& p : tree.metadata)
    if (p) data.metadata.emplace_back(p->key, p->value);
  data.report_json = tree.report_json;
  return data;
}

}  // namespace lathe::engine
