// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What stands behind the public handles, shared by the files of src/api and by nobody else but the Python binding (a GPU engine's device and
// stream).

#include <memory>
#include <new>
#include <string>
#include <string_view>
#include <vector>

#include "builder/builder.h"
#include "ir/graph.h"
#include "lathe/lathe.hpp"
#include "runtime/context.h"
#include "runtime/engine.h"

namespace lathe {

struct Network::Impl {
  std::shared_ptr<ir::Model> model;  ///< as read, local functions inlined
};

struct Engine::Impl {
  std::shared_ptr<const runtime::Engine> engine;
  std::vector<IoInfo> inputs, outputs;
};

struct Context::Impl {
  Impl(std::shared_ptr<const Engine::Impl> e, Allocator* allocator) : engine(std::move(e)), context(engine->engine, allocator) {
    inputs.resize(engine->inputs.size());
    outputs.resize(engine->outputs.size());
  }
  std::shared_ptr<const Engine::Impl> engine;
  runtime::Context context;
  // Views of the current call, in the runtime's own types; sized once so that a run allocates nothing.
  std::vector<runtime::InputView> inputs;
  std::vector<runtime::OutputView> outputs;
};

namespace api {

IoInfo io_info(std::string name, DType dtype, const ir::Shape& shape);
IoInfo io_info(std::string name, const ir::Type& type);
/// On `device` (as in BuildConfig), or where it runs when that is empty. `to_run` false: it is only looked at.
Engine make_engine(engine::EngineData data, std::string_view device = {}, bool to_run = true);
/// To be described, not to be run: custom operators need not be registered.
Engine look_at(const std::filesystem::path& file);
builder::BuildOptions build_options(const BuildConfig& config);

/// Throws Error(kOutOfMemory): "there is not enough memory to <doing>", or shorter where there is none even to say so.
[[noreturn]] void out_of_memory(std::string_view doing);
/// What throws std::bad_alloc throws an Error instead.
template <class F>
auto guarded(std::string_view doing, F&& f) {
  try {
    return f();
  } catch (const std::bad_alloc&) {
    out_of_memory(doing);
  }
}

}  // namespace api
}  // namespace lathe
