// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The rules that a sound program keeps, beyond what the schema can say. See "Checks" in docs/engine_format.md.

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "engine/engine.h"

namespace lathe::engine {
namespace {

constexpr std::size_t kMaxItems = std::size_t{1} << 20, kMaxAxes = 256;
constexpr int kMaxDepth = 64;

class Checker {
 public:
  Checker(const plan::Program& program, std::size_t blobs, int depth) : p_(program), blobs_(blobs), depth_(depth) {}

  std::vector<std::string> run() {
    if (depth_ > kMaxDepth) {
      add("subprograms are nested too deeply");
      return defects_;
    }
    if (p_.slots.size() > kMaxItems || p_.steps.size() > kMaxItems) add("more slots or steps than the format allows");
    symbols();
    for (std::size_t i = 0; i < p_.slots.size() && defects_.empty(); ++i) slot(i);
    if (defects_.empty()) alias_cycles();
    for (std::size_t i = 0; i < p_.steps.size() && defects_.empty(); ++i) step(i);
    if (defects_.empty()) segments();
    if (defects_.empty()) interface();
    for (const plan::Program& sub : p_.subprograms)
      if (defects_.empty()) defects_ = Checker(sub, blobs_, depth_ + 1).run();
    return defects_;
  }

 private:
  void add(std::string text) { defects_.push_back(std::move(text)); }
  bool is_slot(std::int32_t id) const { return id >= 0 && static_cast<std::size_t>(id) < p_.slots.size(); }
  bool is_blob(std::int32_t id) const { return id >= 0 && static_cast<std::size_t>(id) < blobs_; }
  const plan::Slot& at(std::int32_t id) const { return p_.slots[static_cast<std::size_t>(id)]; }

  void symbols() {
    for (const plan::SymbolHint& symbol : p_.symbols)
      if (!bound_.insert(symbol.symbol).second) add(fmt::format("the symbol '{}' is declared twice", symbol.symbol));
    for (const plan::Step& step : p_.steps)
      if (step.kind == plan::StepKind::kReadSize) bound_.insert(step.read_symbol);
  }

  void slot(std::size_t i) {
    const plan::Slot& s = p_.slots[i];
    if (s.shape.size() > kMaxAxes) add(fmt::format("slot {} has {} axes", i, s.shape.size()));
    std::set<std::string> symbols;
    for (const ir::Dim& dim : s.shape) dim.collect_symbols(symbols);
    if (s.storage == plan::Storage::kAlias) s.alias_offset.collect_symbols(symbols);
    for (const std::string& symbol : symbols)
      if (!bound_.count(symbol)) add(fmt::format("slot {} '{}' has the symbol '{}', which nothing binds", i, s.name, symbol));
    if (s.dtype == DType::kUndefined) add(fmt::format("slot {} '{}' has no element type", i, s.name));
    if (!s.order.empty()) {
      std::vector<bool> seen(s.shape.size(), false);
      bool permutation = s.order.size() == s.shape.size();
      for (const std::int32_t axis : s.order) {
        permutation = permutation && axis >= 0 && static_cast<std::size_t>(axis) < seen.size() && !seen[static_cast<std::size_t>(axis)];
        if (!permutation) break;
        seen[static_cast<std::size_t>(axis)] = true;
      }
      if (!permutation) add(fmt::format("the memory order of slot {} '{}' is no permutation of its axes", i, s.name));
    }
    if (s.storage == plan::Storage::kAlias) {
      if (!is_slot(s.parent)) add(fmt::format("slot {} '{}' is part of slot {}, which does not exist", i, s.name, s.parent));
      else if (s.alias_axis >= 0 && (at(s.parent).shape.size() != s.shape.size() || static_cast<std::size_t>(s.alias_axis) >= s.shape.size() || at(s.parent).order != s.order))
        add(fmt::format("slot {} '{}' is no slice of slot {}", i, s.name, s.parent));
      else if (at(s.parent).dtype != s.dtype) add(fmt::format("slot {} '{}' has another element type than its parent", i, s.name));
    }
    if (s.storage == plan::Storage::kConstant && !is_blob(s.blob)) add(fmt::format("the constant slot {} '{}' names blob {}, which does not exist", i, s.name, s.blob));
    if ((s.storage == plan::Storage::kInput || s.storage == plan::Storage::kOutput) && !s.order.empty()) add(fmt::format("slot {} '{}' belongs to the caller and is not row-major", i, s.name));
  }

  void alias_cycles() {
    std::vector<char> state(p_.slots.size(), 0);
    for (std::size_t i = 0; i < p_.slots.size(); ++i) {
      std::vector<std::size_t> path;
      std::size_t now = i;
      while (state[now] == 0 && p_.slots[now].storage == plan::Storage::kAlias) {
        state[now] = 1;
        path.push_back(now);
        now = static_cast<std::size_t>(p_.slots[now].parent);
        if (state[now] == 1) {
          add(fmt::format("slot {} is an alias of itself", now));
          return;
        }
      }
      for (const std::size_t seen : path) state[seen] = 2;
      state[i] = 2;
    }
  }

  plan::Storage root_storage(std::int32_t id) const {
    while (at(id).storage == plan::Storage::kAlias) id = at(id).parent;
    return at(id).storage;
  }

  void step(std::size_t i) {
    const plan::Step& s = p_.steps[i];
    const auto say = [&](const std::string& what) { add(fmt::format("step {} '{}' {}", i, s.label, what)); };
    for (const std::int32_t id : s.inputs)
      if (id != -1 && !is_slot(id)) say(fmt::format("reads slot {}, which does not exist", id));
    for (const std::int32_t id : s.outputs) {
      if (id == -1) continue;
      if (!is_slot(id)) say(fmt::format("writes slot {}, which does not exist", id));
      else if (const plan::Storage root = root_storage(id); root == plan::Storage::kInput || root == plan::Storage::kConstant) say("writes an input or a constant");
    }
    for (const std::int32_t id : s.weights)
      if (!is_blob(id)) say(fmt::format("names blob {}, which does not exist", id));
    for (const std::int32_t id : s.regions)
      if (id < 0 || static_cast<std::size_t>(id) >= p_.subprograms.size()) say(fmt::format("names subprogram {}, which does not exist", id));
    if (s.kind == plan::StepKind::kCopy && (s.inputs.size() != 1 || s.outputs.size() != 1 || s.inputs[0] < 0 || s.outputs[0] < 0)) say("copies something else than one slot to one slot");
    if ((s.kind == plan::StepKind::kKernel || s.kind == plan::StepKind::kCopy || s.kind == plan::StepKind::kHostOp) && s.kernel.empty()) say("names no kernel");
  }

  void segments() {
    std::int64_t next = 0;
    for (const plan::Segment& segment : p_.segments) {
      if (segment.first_step != next || segment.step_count < 0) return add("the segments do not cover the steps in order");
      next += segment.step_count;
      if (next > static_cast<std::int64_t>(p_.steps.size())) return add("a segment reaches beyond the last step");
    }
    if (next != static_cast<std::int64_t>(p_.steps.size())) add("the segments do not cover all steps");
  }

  void interface() {
    std::set<std::string> names;
    for (const plan::Io& io : p_.inputs) {
      if (!is_slot(io.slot) || at(io.slot).storage != plan::Storage::kInput) add(fmt::format("the input '{}' has no input slot", io.name));
      if (!names.insert(io.name).second) add(fmt::format("two inputs are called '{}'", io.name));
      if (io.donated_to < -1 || io.donated_to >= static_cast<std::int32_t>(p_.outputs.size())) add(fmt::format("the input '{}' is donated to an output that does not exist", io.name));
    }
    names.clear();
    for (const plan::Io& io : p_.outputs) {
      if (!is_slot(io.slot) || at(io.slot).storage != plan::Storage::kOutput) add(fmt::format("the output '{}' has no output slot", io.name));
      if (!names.insert(io.name).second) add(fmt::format("two outputs are called '{}'", io.name));
    }
    // Each caller-visible slot belongs to exactly one input or output.
    std::set<std::int32_t> visible;
    for (const plan::Io& io : p_.inputs) visible.insert(io.slot);
    for (const plan::Io& io : p_.outputs) visible.insert(io.slot);
    for (std::size_t i = 0; i < p_.slots.size(); ++i)
      if ((p_.slots[i].storage == plan::Storage::kInput || p_.slots[i].storage == plan::Storage::kOutput) && !visible.count(static_cast<std::int32_t>(i)))
        add(fmt::format("slot {} belongs to the caller, but to no input or output", i));
  }

  const plan::Program& p_;
  std::size_t blobs_;
  int depth_;
  std::set<std::string> bound_;
  std::vector<std::string> defects_;
};

}  // namespace

std::vector<std::string> find_defects(const plan::Program& program, std::size_t blobs) { return Checker(program, blobs, 0).run(); }

}  // namespace lathe::engine
