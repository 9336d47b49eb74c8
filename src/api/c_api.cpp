// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The C API over the C++ one. No exception leaves a function of this file; the message of the last failure is kept per thread.

#include "lathe/lathe.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>
#include <mutex>
#include <new>

#include "api/c_status.h"
#include "base/version.h"
#include "lathe/lathe.hpp"

struct lathe_engine {
  lathe::Engine engine;
  std::vector<lathe::IoInfo> inputs, outputs;
  std::vector<std::vector<const char*>> input_texts, output_texts;
  std::string section, report;
};

struct lathe_check_report {
  std::size_t errors, warnings;
  std::string text, json;
};

namespace {

struct CallbackAllocator final : lathe::Allocator {
  explicit CallbackAllocator(const lathe_allocator& c) : calls(c) {}
  void* allocate(std::size_t bytes, std::size_t alignment, lathe::MemorySpace space, void*) noexcept override {
    return space == lathe::MemorySpace::kHost ? calls.allocate(calls.user, bytes, alignment) : nullptr;
  }
  void deallocate(void* pointer, std::size_t bytes, lathe::MemorySpace, void*) noexcept override { calls.deallocate(calls.user, pointer, bytes); }
  lathe_allocator calls;
};

}  // namespace

struct lathe_context {
  std::unique_ptr<CallbackAllocator> allocator;  // goes after the context
  lathe::Context context;
  std::vector<lathe::ConstTensorView> inputs;
  std::vector<lathe::TensorView> outputs;
};

namespace {

using lathe::Code;

// Fixed storage, so that reporting a failure of the run path allocates nothing.
thread_local std::array<char, 4096> last_error{};

using lathe::api::c_failed;
using lathe::api::c_guarded;
using lathe::api::init_struct;
using lathe::api::need;

struct CallbackProgress final : lathe::Progress {
  lathe_progress_fn call = nullptr;
  void* user = nullptr;
  bool update(std::string_view phase, std::int64_t done, std::int64_t total, double seconds_left) noexcept override {
    std::array<char, 128> text{};  // zero-terminated for C
    std::memcpy(text.data(), phase.data(), std::min(phase.size(), text.size() - 1));
    return call(user, text.data(), done, total, seconds_left) != 0;
  }
};

/// The process's sink for C: the function and its argument change together, under a lock.
class LogBridge final : public lathe::LogSink {
 public:
  void set(lathe_log_fn log, void* user, std::int32_t level) noexcept {
    {
      const std::lock_guard lock(mutex_);
      log_ = log;
      user_ = user;
    }
    lathe::set_log_level(static_cast<lathe::LogLevel>(std::clamp(level, 0, 3)));
    lathe::set_log_sink(log ? this : nullptr);
  }
  void write(lathe::LogLevel level, std::string_view message) noexcept override {
    std::array<char, 1024> text{};  // zero-terminated for C
    std::memcpy(text.data(), message.data(), std::min(message.size(), text.size() - 1));
    lathe_log_fn log = nullptr;
    void* user = nullptr;
    {
      const std::lock_guard lock(mutex_);
      log = log_;
      user = user_;
    }
    if (log) log(user, static_cast<std::int32_t>(level), text.data());
  }

 private:
  std::mutex mutex_;
  lathe_log_fn log_ = nullptr;
  void* user_ = nullptr;
};

LogBridge& log_bridge() {
  static LogBridge bridge;
  return bridge;
}

lathe::BuildConfig config_of(const lathe_build_config* given, CallbackProgress& progress) {
  lathe_build_config c;
  lathe_build_config_init(&c, sizeof c);
  if (given) {
    lathe::api::read_struct(c, *given, offsetof(lathe_build_config, device) + sizeof(char*), "build configuration", "lathe_build_config_init");
  }
  lathe::BuildConfig config;
  if (c.device) config.device = c.device;
  if (c.precision) config.precision = c.precision;
  if (c.libraries) config.libraries = c.libraries;
  config.budget_seconds = c.budget_seconds;
  config.exact = c.exact != 0;
  config.verify = c.verify != 0;
  config.use_cache = c.use_cache != 0;
  config.native = c.native != 0;
  need(c.shapes || c.shape_count == 0, "shapes");
  for (std::size_t i = 0; i < c.shape_count; ++i) {
    const lathe_input_shape& shape = c.shapes[i];
    need(shape.name && shape.opt && shape.rank >= 0, "name and opt of a shape");
    const auto list = [&](const int64_t* from) { return from ? std::vector<std::int64_t>(from, from + shape.rank) : std::vector<std::int64_t>(); };
    config.shapes[shape.name] = {list(shape.min), list(shape.opt), list(shape.max)};
  }
  if (c.progress) {
    progress.call = c.progress;
    progress.user = c.progress_user;
    config.progress = &progress;
  }
  return config;
}

lathe_engine* wrap(lathe::Engine engine) {
  auto handle = std::make_unique<lathe_engine>(lathe_engine{std::move(engine), {}, {}, {}, {}, {}, {}});
  const auto texts = [](const std::vector<lathe::IoInfo>& infos, std::vector<std::vector<const char*>>& into) {
    for (const lathe::IoInfo& info : infos) {
      into.emplace_back();
      for (const std::string& text : info.shape_text) into.back().push_back(text.c_str());
    }
  };
  handle->inputs = handle->engine.inputs();
  handle->outputs = handle->engine.outputs();
  texts(handle->inputs, handle->input_texts);
  texts(handle->outputs, handle->output_texts);
  handle->section = handle->engine.section();
  handle->report = handle->engine.report_json();
  return handle.release();
}

void give(const std::vector<lathe::IoInfo>& infos, const std::vector<std::vector<const char*>>& texts, std::size_t index, lathe_io_info* info) {
  need(info != nullptr, "info");
  if (info->struct_size < sizeof(lathe_io_info))
    throw lathe::Error(Code::kInvalidArgument, "struct_size of the info is not set").with_remedy("Call lathe_io_info_init first.");
  if (index >= infos.size()) throw lathe::Error(Code::kInvalidArgument, "there is no input or output of this index");
  const lathe::IoInfo& from = infos[index];
  info->name = from.name.c_str();
  info->dtype = static_cast<std::int32_t>(from.dtype);
  info->rank = static_cast<std::int32_t>(from.shape.size());
  info->shape = from.shape.data();
  info->shape_text = texts[index].data();
}

lathe::DType dtype_of(std::int32_t number) noexcept {
  return number > 0 && number < lathe::kDTypeCount ? static_cast<lathe::DType>(number) : lathe::DType::kUndefined;
}

std::span<const std::int64_t> shape_of(const lathe_tensor& tensor) noexcept {
  return {tensor.shape, tensor.shape && tensor.rank > 0 ? static_cast<std::size_t>(tensor.rank) : 0};
}

lathe_check_report* wrap(const lathe::CheckReport& report) {
  return std::make_unique<lathe_check_report>(lathe_check_report{report.errors(), report.warnings(), report.text(), report.json()}).release();
}

}  // namespace

lathe_status lathe::api::c_failed(Code code, std::string_view message) noexcept {
  const std::size_t length = std::min(message.size(), last_error.size() - 1);
  std::memcpy(last_error.data(), message.data(), length);
  last_error[length] = '\0';
  return static_cast<lathe_status>(code);
}

extern "C" {

const char* lathe_version(void) { return lathe::kVersion.data(); }
const char* lathe_last_error(void) { return last_error.data(); }

void lathe_build_config_init(lathe_build_config* config, size_t struct_size) {
  const lathe::BuildConfig defaults;
  lathe_build_config all{};
  all.device = "cpu";
  all.precision = "fp32";
  all.libraries = "cublaslt";
  all.budget_seconds = defaults.budget_seconds;
  all.exact = defaults.exact;
  all.verify = defaults.verify;
  all.use_cache = defaults.use_cache;
  all.native = defaults.native;
  init_struct(config, all, struct_size);
}

void lathe_io_info_init(lathe_io_info* info, size_t struct_size) { init_struct(info, {}, struct_size); }

lathe_status lathe_check(const char* onnx_file, lathe_check_report** report) {
  return c_guarded([&] {
    need(onnx_file && report, "file and report");
    *report = wrap(lathe::check(std::filesystem::path(onnx_file)));
  });
}

lathe_status lathe_check_bytes(const void* onnx, size_t bytes, lathe_check_report** report) {
  return c_guarded([&] {
    need(onnx && report, "data and report");
    *report = wrap(lathe::check(std::span(static_cast<const std::byte*>(onnx), bytes)));
  });
}

size_t lathe_check_errors(const lathe_check_report* report) { return report ? report->errors : 0; }
size_t lathe_check_warnings(const lathe_check_report* report) { return report ? report->warnings : 0; }
const char* lathe_check_text(const lathe_check_report* report) { return report ? report->text.c_str() : ""; }
const char* lathe_check_json(const lathe_check_report* report) { return report ? report->json.c_str() : ""; }
void lathe_check_destroy(lathe_check_report* report) { delete report; }

lathe_status lathe_build(const char* onnx_file, const lathe_build_config* config, lathe_engine** engine) {
  return c_guarded([&] {
    need(onnx_file && engine, "file and engine");
    CallbackProgress progress;
    *engine = wrap(lathe::build(onnx_file, config_of(config, progress)));
  });
}

lathe_status lathe_build_bytes(const void* onnx, size_t bytes, const lathe_build_config* config, lathe_engine** engine) {
  return c_guarded([&] {
    need(onnx && engine, "data and engine");
    CallbackProgress progress;
    *engine = wrap(lathe::build(std::span(static_cast<const std::byte*>(onnx), bytes), config_of(config, progress)));
  });
}

lathe_status lathe_engine_load(const char* file, lathe_engine** engine) {
  return c_guarded([&] {
    need(file && engine, "file and engine");
    *engine = wrap(lathe::Engine::load(std::filesystem::path(file)));
  });
}

lathe_status lathe_engine_load_on(const char* file, const char* device, lathe_engine** engine) {
  return c_guarded([&] {
    need(file && engine, "file and engine");
    *engine = wrap(lathe::Engine::load(std::filesystem::path(file), device ? device : ""));
  });
}

lathe_status lathe_engine_load_bytes(const void* data, size_t bytes, lathe_engine** engine) {
  return c_guarded([&] {
    need(data && engine, "data and engine");
    *engine = wrap(lathe::Engine::load(std::span(static_cast<const std::byte*>(data), bytes)));
  });
}

lathe_status lathe_engine_save(const lathe_engine* engine, const char* file) {
  return c_guarded([&] {
    need(engine && file, "engine and file");
    engine->engine.save(file);
  });
}

void lathe_engine_destroy(lathe_engine* engine) { delete engine; }

size_t lathe_engine_input_count(const lathe_engine* engine) { return engine ? engine->inputs.size() : 0; }
size_t lathe_engine_output_count(const lathe_engine* engine) { return engine ? engine->outputs.size() : 0; }

lathe_status lathe_engine_input(const lathe_engine* engine, size_t index, lathe_io_info* info) {
  return c_guarded([&] {
    need(engine != nullptr, "engine");
    give(engine->inputs, engine->input_texts, index, info);
  });
}

lathe_status lathe_engine_output(const lathe_engine* engine, size_t index, lathe_io_info* info) {
  return c_guarded([&] {
    need(engine != nullptr, "engine");
    give(engine->outputs, engine->output_texts, index, info);
  });
}

const char* lathe_engine_section(const lathe_engine* engine) { return engine ? engine->section.c_str() : ""; }
const char* lathe_engine_report_json(const lathe_engine* engine) { return engine ? engine->report.c_str() : ""; }

void lathe_set_log(lathe_log_fn log, void* user, int32_t level) { log_bridge().set(log, user, level); }

void lathe_allocator_init(lathe_allocator* allocator, size_t struct_size) { init_struct(allocator, {}, struct_size); }

lathe_status lathe_context_create(const lathe_engine* engine, lathe_context** context) { return lathe_context_create_with(engine, nullptr, context); }

lathe_status lathe_context_create_with(const lathe_engine* engine, const lathe_allocator* allocator, lathe_context** context) {
  return c_guarded([&] {
    need(engine && context, "engine and context");
    std::unique_ptr<CallbackAllocator> bridge;
    if (allocator) {
      if (allocator->struct_size < sizeof *allocator)
        throw lathe::Error(Code::kInvalidArgument, "struct_size of the allocator is not set").with_remedy("Call lathe_allocator_init first.");
      need(allocator->allocate && allocator->deallocate, "allocate and deallocate");
      bridge = std::make_unique<CallbackAllocator>(*allocator);
    }
    lathe::Context created = engine->engine.create_context(bridge.get());
    auto handle = std::make_unique<lathe_context>(lathe_context{std::move(bridge), std::move(created), {}, {}});
    handle->inputs.resize(engine->inputs.size());
    handle->outputs.resize(engine->outputs.size());
    *context = handle.release();
  });
}

void lathe_context_destroy(lathe_context* context) { delete context; }

lathe_status lathe_context_run(lathe_context* context, const lathe_tensor* inputs, size_t input_count, const lathe_tensor* outputs, size_t output_count) {
  return lathe_context_run_on(context, inputs, input_count, outputs, output_count, nullptr);
}

lathe_status lathe_context_run_on(lathe_context* context, const lathe_tensor* inputs, size_t input_count, const lathe_tensor* outputs, size_t output_count,
                                  void* stream) {
  if (!context) return c_failed(Code::kInvalidArgument, "context must not be NULL");
  if ((!inputs && input_count > 0) || (!outputs && output_count > 0)) return c_failed(Code::kInvalidArgument, "a list of tensors must not be NULL");
  if (input_count != context->inputs.size()) return c_failed(Code::kInvalidArgument, "the number of inputs is not the engine's");
  if (output_count > context->outputs.size()) return c_failed(Code::kInvalidArgument, "more outputs were given than the engine has");
  for (std::size_t i = 0; i < input_count; ++i) context->inputs[i] = {inputs[i].data, dtype_of(inputs[i].dtype), shape_of(inputs[i])};
  for (std::size_t i = 0; i < output_count; ++i) context->outputs[i] = {outputs[i].data, dtype_of(outputs[i].dtype), shape_of(outputs[i])};
  const lathe::Status status = context->context.run(context->inputs, std::span<const lathe::TensorView>(context->outputs.data(), output_count), stream);
  return status ? LATHE_OK : c_failed(status.code(), status.message());
}

lathe_status lathe_context_output(const lathe_context* context, size_t index, lathe_tensor* tensor) {
  if (!context || !tensor) return c_failed(Code::kInvalidArgument, "context and tensor must not be NULL");
  const lathe::ConstTensorView view = context->context.output(index);
  if (view.dtype == lathe::DType::kUndefined) return c_failed(Code::kInvalidArgument, "there is no such output yet: run the context first");
  *tensor = lathe::api::tensor_of(view);
  return LATHE_OK;
}

}  // extern "C"
