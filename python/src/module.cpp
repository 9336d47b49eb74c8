// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The extension module lathe._lathe: Engine, Context, Error, build, load, simplify over the C++ API. Conversions that are easier in Python
// (ModelProto, nn.Module, spellings of shapes and times) are done by lathe/__init__.py.

#include <nanobind/nanobind.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/vector.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>

#include "api/impl.h"
#include "arrays.h"
#include "base/printable.h"
#include "builder/equality.h"
#include "builder/hints.h"
#include "custom_op.h"
#include "device_arrays.h"
#include "gpu.h"
#include "ir/graph.h"
#include "lathe/lathe.hpp"
#include "network.h"
#include "onnx/reader.h"
#include "onnx/writer.h"
#include "ops/import.h"
#include "passes/simplify.h"
#include "values.h"

namespace lathe::python {
namespace {

// Errors -----------------------------------------------------------------------------------------------------------

PyObject* error_class = nullptr;  // owned by the module's dictionary too; lives as long as the process

std::string code_word(Code code) {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidModel: return "invalid_model";
    case Code::kInvalidArgument: return "invalid_argument";
    case Code::kUnsupported: return "unsupported";
    case Code::kCorruptFile: return "corrupt_file";
    case Code::kIo: return "io";
    case Code::kOutOfMemory: return "out_of_memory";
    case Code::kMachine: return "machine";
    case Code::kCancelled: return "cancelled";
    case Code::kVerification: return "verification";
    case Code::kInternal: return "internal";
  }
  return "internal";
}

void raise_error(const Error& error) {
  nb::object value = nb::steal(PyObject_CallFunction(error_class, "s", error.what()));
  if (!value.is_valid()) return;
  value.attr("code") = code_word(error.code());
  // Names in a file may be any bytes.
  value.attr("message") = as_utf8(error.message());
  value.attr("node") = as_utf8(error.node());
  value.attr("op") = as_utf8(error.op());
  value.attr("tensor") = as_utf8(error.tensor());
  value.attr("source") = as_utf8(error.source());
  value.attr("remedy") = as_utf8(error.remedy());
  PyErr_SetObject(error_class, value.ptr());
}

void check(const Status& status) {
  if (!status) throw Error(status.code(), std::string(status.message()));
}

// Progress ---------------------------------------------------------------------------------------------------------

/// Calls back into Python now and then, and looks for Ctrl-C. What Python raised is kept and raised again when the work has stopped.
class PythonProgress final : public Progress {
 public:
  explicit PythonProgress(nb::object callback) : callback_(std::move(callback)) {}
  bool update(std::string_view phase, std::int64_t done, std::int64_t total, double seconds_left) noexcept override {
    if (raised_) return false;
    nb::gil_scoped_acquire held;
    try {
      if (PyErr_CheckSignals() != 0) throw nb::python_error();
      if (callback_.is_none()) return true;
      const nb::object left = seconds_left < 0 ? nb::none() : nb::object(nb::float_(seconds_left));
      const nb::object answer = callback_(nb::str(phase.data(), phase.size()), done, total, left);
      return !answer.is(nb::bool_(false));
    } catch (nb::python_error& error) {
      raised_ = std::make_unique<nb::python_error>(std::move(error));
    } catch (...) {
    }
    return false;
  }
  void rethrow() {
    if (raised_) throw std::move(*raised_);
  }

 private:
  nb::object callback_;
  std::unique_ptr<nb::python_error> raised_;
};

// Log --------------------------------------------------------------------------------------------------------------

/// The process's messages into Python. The callable is replaced, never dropped while a thread may still write.
class PythonLog final : public LogSink {
 public:
  void set(nb::object callback) { callback_ = std::move(callback); }
  void write(LogLevel level, std::string_view message) noexcept override {
    static constexpr std::array kNames{"error", "warning", "info", "debug"};
    if (!Py_IsInitialized()) return;
    nb::gil_scoped_acquire held;
    try {
      const nb::object callback = callback_;
      if (!callback.is_none()) callback(kNames[static_cast<std::size_t>(level)], nb::str(message.data(), message.size()));
    } catch (nb::python_error& error) {
      error.discard_as_unraisable("lathe.set_log");
    } catch (...) {
    }
  }

 private:
  nb::object callback_ = nb::none();
};

void set_log(nb::object callback, const std::string& level) {
  static PythonLog& log = *new PythonLog();  // never destroyed: threads may write while Python shuts down
  const std::array<std::string_view, 4> names{"error", "warning", "info", "debug"};
  const auto at = std::find(names.begin(), names.end(), level);
  if (at == names.end()) throw Error(Code::kInvalidArgument, "there is no log level '" + level + "'").with_remedy("Use error, warning, info or debug.");
  set_log_level(static_cast<LogLevel>(at - names.begin()));
  const bool to_python = !callback.is_none();
  log.set(std::move(callback));
  set_log_sink(to_python ? &log : nullptr);
}

// Models and shapes ------------------------------------------------------------------------------------------------

using Extents = std::vector<std::int64_t>;

/// {name: (min, opt, max)}, as lathe/__init__.py writes them.
std::map<std::string, InputRange> ranges_of(const nb::dict& shapes) {
  std::map<std::string, InputRange> ranges;
  for (const auto& [name, value] : shapes) {
    const nb::tuple triple = nb::cast<nb::tuple>(value);
    ranges[nb::cast<std::string>(name)] = {nb::cast<Extents>(triple[0]), nb::cast<Extents>(triple[1]), nb::cast<Extents>(triple[2])};
  }
  return ranges;
}

struct Source {
  std::string path;
  std::span<const std::byte> bytes;
  bool in_memory = false;
};

Source source_of(nb::handle model) {
  if (nb::isinstance<nb::bytes>(model)) {
    const nb::bytes bytes = nb::borrow<nb::bytes>(model);  // the caller holds them during the call
    return {{}, {reinterpret_cast<const std::byte*>(bytes.c_str()), bytes.size()}, true};
  }
  return {nb::cast<std::string>(model), {}, false};
}

// Context ----------------------------------------------------------------------------------------------------------

nb::tuple extents_of(const std::vector<std::int64_t>& values) {
  nb::list extents;
  for (const std::int64_t value : values) extents.append(value);
  return nb::tuple(extents);
}

nb::tuple shape_of(const IoInfo& info) {
  nb::list extents;
  for (std::size_t i = 0; i < info.shape.size(); ++i) {
    if (info.shape[i] >= 0) extents.append(info.shape[i]);
    else extents.append(info.shape_text[i]);
  }
  return nb::tuple(extents);
}

[[noreturn]] void no_such(std::string_view what, const std::string& name, const std::vector<IoInfo>& infos) {
  std::string known;
  for (const IoInfo& info : infos) known += (known.empty() ? "'" : ", '") + info.name + "'";
  throw Error(Code::kInvalidArgument, "the engine has no " + std::string(what) + " '" + name + "'; it has " + (known.empty() ? "none" : known));
}

std::size_t index_of(std::string_view what, nb::handle key, const std::vector<IoInfo>& infos) {
  std::string name;
  if (!nb::try_cast(key, name))
    throw Error(Code::kInvalidArgument, std::string(what) + "s are given by name, a text, not by " + nb::cast<std::string>(nb::repr(key)));
  for (std::size_t i = 0; i < infos.size(); ++i)
    if (infos[i].name == name) return i;
  no_such(what, name, infos);
}

class ContextObject {
 public:
  explicit ContextObject(const Engine& engine) : inputs_(engine.inputs()), outputs_(engine.outputs()), context_(engine.create_context()) {}

  nb::dict run(nb::handle inputs, nb::handle outputs, nb::handle stream, bool device_outputs) {
    const Turn turn(busy_);
    const cuda::StreamHandle given_stream = stream_handle(stream);
    const std::optional<DeviceUse> use = device_use(given_stream);
    if (!use && given_stream) throw Error(Code::kInvalidArgument, "a stream was given, and the engine runs on the CPU").with_remedy("Leave stream out.");
    if (!use && device_outputs)
      throw Error(Code::kInvalidArgument, "device_outputs was asked for, and the engine runs on the CPU").with_remedy("Leave device_outputs out.");
    if (context_.impl().context.engine().program().dynamic) return run_values(inputs, outputs, use, given_stream, device_outputs);
    std::vector<Array> in = gather(inputs, use);
    std::vector<ConstTensorView> in_views;
    std::vector<std::vector<std::int64_t>> shapes;
    for (const Array& array : in) {
      in_views.push_back({array.data, array.dtype, array.shape});
      shapes.push_back(array.shape);
    }
    {
      // Binding a new shape may take a while; afterwards the outputs' shapes are known.
      nb::gil_scoped_release released;
      check(context_.prepare(shapes));
    }
    std::vector<Array> out(outputs_.size());
    std::vector<nb::object> results(outputs_.size());
    if (!outputs.is_none()) {
      if (!PyDict_Check(outputs.ptr())) throw Error(Code::kInvalidArgument, "outputs are given as {name: array}");
      for (const auto& [key, value] : nb::cast<nb::dict>(outputs)) {
        const std::size_t i = index_of("output", key, outputs_);
        const std::string what = "output '" + outputs_[i].name + "'";
        out[i] = as_stored(on_device(value, use, what) ? device_array(value, *use, true, what) : write_array(value, outputs_[i].name), outputs_[i].dtype);
        results[i] = nb::borrow(value);
      }
    }
    std::vector<TensorView> out_views;
    std::vector<std::pair<std::size_t, DeviceArray>> kept;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (!results[i].is_valid()) {
        const auto shape = context_.output(i).shape;
        if (device_outputs) {
          kept.emplace_back(i, DeviceArray::make(*use, outputs_[i].dtype, {shape.begin(), shape.end()}));
          out[i].data = kept.back().second.memory->data();
          out[i].dtype = outputs_[i].dtype;
          out[i].shape = kept.back().second.shape;
        } else {
          results[i] = new_array(outputs_[i].dtype, {shape.begin(), shape.end()}, out[i]);
        }
      }
      out_views.push_back({out[i].data, out[i].dtype, out[i].shape});
    }
    Status status;
    {
      nb::gil_scoped_release released;
      status = context_.run(in_views, out_views, given_stream);
    }
    check(status);
    std::shared_ptr<cuda::Event> ready;
    if (given_stream && !kept.empty()) {
      const cuda::Current current(*use->device);
      ready = std::make_shared<cuda::Event>(use->device, false);
      check(ready->record(given_stream));
    }
    for (std::size_t i = 0; i < results.size(); ++i)
      if (results[i].is_valid() && results[i].is_none()) results[i] = unpacked_array(out[i]);
    for (auto& [i, array] : kept) {
      array.ready = ready;
      array.stream = given_stream;
      if (ready) array.stream_owner = nb::borrow(stream);
      results[i] = nb::cast(std::move(array));
    }
    nb::dict named;
    for (std::size_t i = 0; i < outputs_.size(); ++i) named[nb::str(outputs_[i].name.c_str(), outputs_[i].name.size())] = results[i];
    return named;
  }

  /// Binds these input shapes ahead of a run; the outputs' shapes.
  nb::dict prepare(const nb::dict& shapes) {
    const Turn turn(busy_);
    std::vector<Extents> extents(inputs_.size());
    std::vector<bool> given(inputs_.size(), false);
    for (const auto& [name, shape] : shapes) {
      const std::size_t i = index_of("input", name, inputs_);
      extents[i] = nb::cast<Extents>(shape);
      given[i] = true;
    }
    for (std::size_t i = 0; i < given.size(); ++i)
      if (!given[i]) throw Error(Code::kInvalidArgument, "no shape was given for the input '" + inputs_[i].name + "'");
    {
      nb::gil_scoped_release released;
      check(context_.prepare(extents));
    }
    nb::dict named;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      const auto shape = context_.output(i).shape;
      named[nb::str(outputs_[i].name.c_str(), outputs_[i].name.size())] = extents_of({shape.begin(), shape.end()});
    }
    return named;
  }

  void start_profile() { context_.start_profile(); }
  nb::list profile() const {
    nb::list steps;
    for (const StepProfile& step : context_.profile()) {
      nb::dict item;
      item["label"] = as_utf8(step.label);
      item["kernel"] = as_utf8(step.kernel);
      nb::list sources;
      for (const std::string& source : step.sources) sources.append(as_utf8(source));
      item["sources"] = sources;
      item["seconds"] = step.seconds;
      item["flops"] = step.flops;
      item["bytes"] = step.bytes;
      item["on_host"] = step.on_host;
      item["calls"] = step.calls;
      steps.append(item);
    }
    return steps;
  }
  /// Seconds of a whole run, as it is when no step is timed.
  double profile_seconds() const { return context_.run_profile().seconds; }
  std::size_t activation_bytes() const { return context_.activation_bytes(); }
  std::size_t specialisations() { return context_.impl().context.specialisations(); }

 private:
  /// One call at a time.
  struct Turn {
    explicit Turn(std::atomic<bool>& b) : busy(b) {
      if (busy.exchange(true))
        throw Error(Code::kInvalidArgument, "this Context runs in another thread at the moment")
            .with_remedy("Create one Context per thread, or call Engine.run.");
    }
    ~Turn() { busy = false; }
    std::atomic<bool>& busy;
  };

  /// Of an engine on a GPU: the device, and the stream that takes the run.
  std::optional<DeviceUse> device_use(cuda::StreamHandle given) {
    const runtime::CudaEngine* cuda = context_.impl().context.engine().cuda();
    if (!cuda) return std::nullopt;
    return DeviceUse{cuda->device(), given ? given : static_cast<cuda::StreamHandle>(context_.impl().context.stream())};
  }

  /// Does the object lie on a GPU? An engine on the CPU refuses it.
  static bool on_device(nb::handle object, const std::optional<DeviceUse>& use, const std::string& what) {
    const std::optional<int> ordinal = device_of(object, what);
    if (ordinal && !use)
      throw Error(Code::kInvalidArgument, what + " lies on cuda:" + std::to_string(*ordinal) + ", and the engine runs on the CPU")
          .with_remedy("Bring it to the host: x.cpu() (PyTorch), x.get() (CuPy).");
    return ordinal.has_value();
  }

  /// Words of 16 bits are bfloat16 where that is wanted: what has no such type lends and takes them so.
  static Array as_stored(Array array, DType wanted) {
    if (array.dtype == DType::kUint16 && wanted == DType::kBFloat16) array.dtype = wanted;
    return array;
  }

  /// Outputs are as large as the data make them, and values of any type. On a GPU tensors come and go there, too.
  nb::dict run_values(nb::handle inputs, nb::handle outputs, const std::optional<DeviceUse>& use, cuda::StreamHandle stream, bool device_outputs) {
    runtime::Context& context = context_.impl().context;
    const plan::Program& program = context.engine().program();
    std::vector<Array> kept;
    std::vector<Tensor> given(inputs_.size()), made;
    for_each_input(inputs, [&](nb::handle value, std::size_t i) {
      const ir::Type& type = program.slots[static_cast<std::size_t>(program.inputs[i].slot)].value_type();
      const std::string what = "input '" + inputs_[i].name + "'";
      if (!on_device(value, use, what)) {
        given[i] = value_of(value, type, inputs_[i], kept);
        return;
      }
      const ir::Type& tensor = type.kind == ir::TypeKind::kOptional && type.element ? *type.element : type;
      if (!tensor.is_tensor()) throw Error(Code::kInvalidArgument, what + " is no tensor, and was given an array on a GPU").at_tensor(inputs_[i].name);
      Array array = as_stored(device_array(value, *use, false, what), tensor.dtype);
      if (array.dtype != tensor.dtype)
        throw Error(Code::kInvalidArgument, what + " has type " + numpy_name(array.dtype) + ", expected " + numpy_name(tensor.dtype))
            .at_tensor(inputs_[i].name);
      given[i] = element_count(array.shape) > 0 ? context.device_value(array.dtype, array.shape, array.data) : Tensor(array.dtype, array.shape);
      kept.push_back(std::move(array));
    });
    for (std::size_t i = 0; i < given.size(); ++i)
      if (!given[i].defined() && !inputs_[i].type.starts_with("optional("))
        throw Error(Code::kInvalidArgument, "the input '" + inputs_[i].name + "' was not given");
    // Where outputs are wanted: in arrays of the caller's, here or there, or in new ones there.
    std::vector<std::optional<Array>> here(outputs_.size()), there(outputs_.size());
    std::vector<std::optional<DeviceArray>> fresh(outputs_.size());
    std::vector<nb::object> results(outputs_.size());
    if (!outputs.is_none()) {
      if (!PyDict_Check(outputs.ptr())) throw Error(Code::kInvalidArgument, "outputs are given as {name: array}");
      for (const auto& [key, value] : nb::cast<nb::dict>(outputs)) {
        const std::size_t i = index_of("output", key, outputs_);
        const std::string what = "output '" + outputs_[i].name + "'";
        if (on_device(value, use, what)) there[i] = device_array(value, *use, true, what);
        else here[i] = write_array(value, outputs_[i].name);
        results[i] = nb::borrow(value);
      }
    }
    const auto require_fit = [&](std::size_t i, const Array& target, DType dtype, const Dims& dims) {
      const bool words = target.dtype == DType::kUint16 && dtype == DType::kBFloat16;
      if ((target.dtype != dtype && !words) || target.shape != dims)
        throw Error(Code::kInvalidArgument, "output '" + outputs_[i].name + "' was given an array of another type or shape than this run makes, " +
                                                (dtype == DType::kUndefined ? "which is no tensor" : numpy_name(dtype) + " " + to_string(dims)));
    };
    std::vector<bool> placed(outputs_.size(), false);
    runtime::ValueRun how;
    how.stream = stream;
    how.place = [&](std::size_t i, DType dtype, const Dims& dims) -> void* {
      if (there[i]) {
        require_fit(i, *there[i], dtype, dims);
        placed[i] = true;
        static std::byte nothing;  // an array without elements may lie nowhere
        return there[i]->data ? there[i]->data : &nothing;
      }
      if (!device_outputs || here[i]) return nullptr;
      fresh[i] = DeviceArray::make(*use, dtype, dims);
      return fresh[i]->memory->data();
    };
    Status status;
    {
      nb::gil_scoped_release released;
      status = context.run_values(given, made, how);
    }
    check(status);
    nb::dict named;
    for (std::size_t i = 0; i < outputs_.size(); ++i) {
      if (fresh[i]) results[i] = nb::cast(std::move(*fresh[i]));
      const bool tensor = made[i].is_tensor();
      if (there[i] && !placed[i]) require_fit(i, *there[i], DType::kUndefined, {});  // a value without a place: texts, a sequence
      if (here[i]) {
        require_fit(i, *here[i], tensor ? made[i].dtype() : DType::kUndefined, tensor ? made[i].dims() : Dims());
        if (made[i].bytes() > 0) std::memcpy(here[i]->data, made[i].raw(), made[i].bytes());
      }
      if (!results[i].is_valid()) results[i] = object_of(made[i]);
      named[nb::str(outputs_[i].name.c_str(), outputs_[i].name.size())] = results[i];
    }
    return named;
  }

  std::vector<Array> gather(nb::handle inputs, const std::optional<DeviceUse>& use) {
    std::vector<Array> arrays(inputs_.size());
    std::vector<bool> given(inputs_.size(), false);
    const auto read = [&](nb::handle value, std::size_t i) {
      const std::string what = "input '" + inputs_[i].name + "'";
      if (!on_device(value, use, what)) {
        arrays[i] = read_array(value, inputs_[i].dtype, inputs_[i].name);
      } else {
        arrays[i] = as_stored(device_array(value, *use, false, what), inputs_[i].dtype);
      }
      given[i] = true;
    };
    for_each_input(inputs, read);
    for (std::size_t i = 0; i < given.size(); ++i) {
      if (!given[i]) throw Error(Code::kInvalidArgument, "the input '" + inputs_[i].name + "' was not given");
      // Told here, in NumPy's words; the runtime would say it in ONNX's.
      if (arrays[i].dtype != inputs_[i].dtype)
        throw Error(Code::kInvalidArgument,
                    "input '" + inputs_[i].name + "' has type " + numpy_name(arrays[i].dtype) + ", expected " + numpy_name(inputs_[i].dtype))
            .at_tensor(inputs_[i].name)
            .with_remedy("Convert it: array.astype('" + numpy_name(inputs_[i].dtype) + "'), tensor.to(torch." + numpy_name(inputs_[i].dtype) + ").");
    }
    return arrays;
  }

  /// `read(object, index)` for everything that was given, by name or in order.
  template <class Read>
  void for_each_input(nb::handle inputs, const Read& read) const {
    // One map alone may be given as it is.
    const bool is_map = inputs_.size() == 1 && inputs_[0].type.starts_with("map(") && PyDict_Check(inputs.ptr()) &&
                        !nb::borrow<nb::dict>(inputs).contains(nb::str(inputs_[0].name.c_str(), inputs_[0].name.size()));
    if (PyDict_Check(inputs.ptr()) && !is_map) {
      for (const auto& [key, value] : nb::borrow<nb::dict>(inputs)) {
        read(value, index_of("input", key, inputs_));
      }
    } else if (PyList_Check(inputs.ptr()) || PyTuple_Check(inputs.ptr())) {
      std::size_t i = 0;
      for (const nb::handle value : inputs) {
        if (i < inputs_.size()) read(value, i);
        ++i;
      }
      if (i > inputs_.size()) throw Error(Code::kInvalidArgument, std::to_string(i) + " inputs were given, the engine has " + std::to_string(inputs_.size()));
    } else if (inputs_.size() == 1) {
      read(inputs, 0);
    } else {
      throw Error(Code::kInvalidArgument, "inputs are given as {name: array}, or as a list in the order of Engine.inputs");
    }
  }

  std::vector<IoInfo> inputs_, outputs_;
  Context context_;
  std::atomic<bool> busy_{false};
};

// Engine -----------------------------------------------------------------------------------------------------------

/// Engine.run takes a Context from here, so that any number of threads may call it.
class EngineObject {
 public:
  explicit EngineObject(Engine e) : engine(std::move(e)) {}
  Engine engine;

  nb::dict run(nb::handle inputs, nb::handle outputs, nb::handle stream, bool device_outputs) {
    std::unique_ptr<ContextObject> context;
    {
      const std::lock_guard lock(mutex_);
      if (!idle_.empty()) {
        context = std::move(idle_.back());
        idle_.pop_back();
      }
    }
    if (!context) context = std::make_unique<ContextObject>(engine);
    struct Return {
      EngineObject& owner;
      std::unique_ptr<ContextObject>& context;
      ~Return() {
        const std::lock_guard lock(owner.mutex_);
        owner.idle_.push_back(std::move(context));
      }
    } give_back{*this, context};
    return context->run(inputs, outputs, stream, device_outputs);
  }

 private:
  std::mutex mutex_;
  std::vector<std::unique_ptr<ContextObject>> idle_;
};

nb::dict ranges_of_symbols(const EngineObject& self) {
  nb::dict ranges;
  for (const plan::SymbolHint& hint : self.engine.impl()->engine->program().symbols) ranges[hint.symbol.c_str()] = nb::make_tuple(hint.min, hint.opt, hint.max);
  return ranges;
}

nb::dict metadata_of(const EngineObject& self) {
  nb::dict metadata;
  for (const auto& [key, value] : self.engine.impl()->engine->data().metadata) metadata[nb::str(as_utf8(key).c_str())] = as_utf8(value);
  return metadata;
}

EngineObject* load(nb::handle file, const std::string& device) {
  const Source source = source_of(file);
  nb::gil_scoped_release released;
  return new EngineObject(source.in_memory ? Engine::load(source.bytes, device) : Engine::load(std::filesystem::path(source.path), device));
}

/// `model`: a path, bytes, or a Network.
EngineObject* build_engine(nb::handle model, const std::string& device, const std::string& precision, const nb::dict& shapes, bool exact, double budget,
                           bool verify, bool cache, nb::object callback, const std::string& libraries, bool native) {
  const NetworkObject* network = nb::isinstance<NetworkObject>(model) ? nb::cast<NetworkObject*>(model) : nullptr;
  const Source source = network ? Source() : source_of(model);
  BuildConfig config;
  config.device = device;
  config.precision = precision;
  config.shapes = ranges_of(shapes);
  config.exact = exact;
  config.budget_seconds = budget;
  config.verify = verify;
  config.use_cache = cache;
  config.libraries = libraries;
  config.native = native;
  PythonProgress progress(std::move(callback));
  config.progress = &progress;
  try {
    nb::gil_scoped_release released;
    return new EngineObject(network            ? network->network.build(config)
                            : source.in_memory ? build(source.bytes, config)
                                               : build(std::filesystem::path(source.path), config));
  } catch (const Error&) {
    progress.rethrow();  // KeyboardInterrupt, or what the callback raised
    throw;
  }
}

/// (text, json)
nb::object check_model(nb::handle model, const std::string& base_dir) {
  const Source source = source_of(model);
  std::string text, json;
  {
    nb::gil_scoped_release released;
    const CheckReport report = source.in_memory ? lathe::check(source.bytes, base_dir) : lathe::check(std::filesystem::path(source.path));
    text = report.text();
    json = report.json();
  }
  return nb::make_tuple(text, json);
}

nb::object simplify(nb::handle model, const std::optional<std::string>& out, const nb::dict& shapes, bool check_numbers) {
  const Source source = source_of(model);
  std::map<std::string, builder::ShapeRange> ranges;
  for (const auto& [name, range] : ranges_of(shapes)) ranges[name] = {range.min, range.opt, range.max};
  passes::SimplifyReport report;
  builder::Equality equality;
  std::string bytes;
  {
    nb::gil_scoped_release released;
    const auto original = source.in_memory ? onnx::read_model(source.bytes, nullptr) : onnx::read_model(std::filesystem::path(source.path));
    onnx::inline_functions(*original);
    const auto changed = original->clone();
    ops::canonicalise_opsets(*changed);
    std::map<std::string, Dims> fixed;
    for (const auto& [name, range] : ranges) fixed[name] = range.opt;
    if (!fixed.empty()) passes::set_input_shapes(*changed, fixed);
    report = passes::simplify(*changed);
    if (check_numbers) equality = builder::check_equality(*original, *changed, ranges);
    if (out) onnx::write_model(*changed, *out);
    else bytes = onnx::model_bytes(*changed);
  }
  nb::dict result, ops;
  for (const auto& [op, counts] : report.ops) ops[nb::str(op.c_str())] = nb::make_tuple(counts.first, counts.second);
  result["nodes_before"] = report.nodes_before;
  result["nodes_after"] = report.nodes_after;
  result["ops"] = ops;
  result["seconds"] = report.seconds;
  result["checked"] = check_numbers;
  result["max_relative_error"] = equality.max_relative_error;
  if (!out) result["model"] = nb::bytes(bytes.data(), bytes.size());
  return result;
}

constexpr const char* kRunDoc =
    "Runs the engine and returns {output name: array}.\n\n"
    "inputs: {name: array}, a list in the engine's order, or the only array. Shapes and dtypes are those of ``Engine.inputs``: nothing is cast. NumPy\n"
    "    arrays and what offers DLPack go in without a copy where they are dense and row-major. An engine on a GPU takes arrays in its memory (DLPack,\n"
    "    else ``__cuda_array_interface__``) as they lie, on its GPU; others are brought there from the host's memory.\n"
    "outputs: {name: array} to write in place, of the output's shape and dtype, in the host's memory or the GPU's; what is not named is new.\n"
    "stream: of the engine's GPU, a handle (0: the default stream) or an object of PyTorch's or CuPy's. With every array on the device the call\n"
    "    returns when the work is enqueued: outputs are ready, and inputs may be changed or dropped, in the stream's order. Without it, and of an engine with "
    "control flow\n"
    "    or extents that only data tell, a finished run.\n"
    "device_outputs: new outputs are DeviceArrays in the GPU's memory, not NumPy arrays; sequences, maps and texts come to the host.\n\n"
    "What is no tensor of numbers (``IoInfo.type``): texts are arrays of str, sequences lists, maps dicts, an optional that holds nothing None.\n"
    "bfloat16 comes as uint16 of the same bits where NumPy has no such type (package ml_dtypes). Raises Error with code \"invalid_argument\" for\n"
    "arrays that do not fit, \"out_of_memory\", \"machine\".";

}  // namespace
}  // namespace lathe::python

NB_MODULE(_lathe, m) {
  using namespace lathe;
  using namespace lathe::python;
  m.doc() = "Lathe's extension module; use the package lathe.";
  error_class = PyErr_NewExceptionWithDoc(
      "lathe.Error", "Import, build, load or run failed. ``str()`` is one paragraph: what, where, what to do; the fields tell the same apart.",
      PyExc_RuntimeError, nullptr);
  m.attr("Error") = nb::borrow(error_class);
  for (const char* field : {"message", "node", "op", "tensor", "source", "remedy"}) nb::borrow(error_class).attr(field) = "";
  nb::borrow(error_class).attr("code") = "internal";  // of an Error made in Python
  nb::register_exception_translator([](const std::exception_ptr& pointer, void*) {
    try {
      std::rethrow_exception(pointer);
    } catch (const Error& error) {
      raise_error(error);
    } catch (const std::bad_alloc&) {
      raise_error(Error(Code::kOutOfMemory, "there is not enough memory for this").with_remedy("Choose smaller shapes, or a machine with more memory."));
    }
  });
  m.def("version", [] { return std::string(version()); });

  nb::class_<IoInfo>(m, "IoInfo", "An input or output as the model declares it.")
      .def_ro("name", &IoInfo::name, "As the model has it.")
      .def_prop_ro(
          "dtype", [](const IoInfo& info) { return numpy_name(info.dtype); }, "NumPy's name of the element type: \"float32\", \"int64\"; \"bfloat16\" too.")
      .def_prop_ro("shape", &shape_of, "One entry for each axis: a number, or the text of a free extent (\"batch\", \"floordiv(height, 8)\").")
      .def_prop_ro(
          "tuned_shape", [](const IoInfo& info) { return extents_of(info.tuned_shape); },
          "The extents that an engine was tuned for, -1 where none was known; () for a model.")
      .def_prop_ro(
          "type", [](const IoInfo& info) { return as_utf8(info.type); },
          "What it is where that is no tensor of known rank: \"seq(float[?])\", \"map(string, float)\", \"optional(...)\", \"float[?]\"; else empty.")
      .def("__repr__", [](const IoInfo& info) {
        if (!info.type.empty()) return "IoInfo(" + info.name + ": " + info.type + ")";
        std::string shape;
        for (const std::string& text : info.shape_text) shape += (shape.empty() ? "" : ", ") + text;
        return "IoInfo(" + info.name + ": " + numpy_name(info.dtype) + "[" + shape + "])";
      });

  register_device_array(m);
  register_network(m);
  register_gpu(m);
  register_custom_op(m);
  nb::class_<ContextObject>(m, "Context", "One thread's activations for one Engine.")
      .def("run", &ContextObject::run, nb::arg("inputs").none(), nb::arg("outputs") = nb::none(), nb::kw_only(), nb::arg("stream") = nb::none(),
           nb::arg("device_outputs") = false, kRunDoc)
      .def("prepare", &ContextObject::prepare, nb::arg("shapes"),
           "Plans and binds for {input: shape} ahead of a run, so that the run itself allocates nothing, and returns {output: shape}.\n\n"
           "Raises Error with code \"invalid_argument\" for shapes that the engine does not take.")
      .def("start_profile", &ContextObject::start_profile, "Times each step of every run from the next one on; profile() reads.")
      .def("profile", &ContextObject::profile,
           "A dict for each step in the order of the run: label, kernel, sources (names of ONNX nodes), seconds (mean of a run), flops and bytes (at the "
           "shapes\n"
           "tuned for), on_host (on the CPU between copies, in an engine for a GPU).")
      .def_prop_ro("profile_seconds", &ContextObject::profile_seconds, "Mean seconds of the profiled runs as a whole; on a GPU its own time.")
      .def_prop_ro("specialisations", &ContextObject::specialisations, "How many classes of shapes are bound at the moment (of the part that has most).")
      .def_prop_ro("activation_bytes", &ContextObject::activation_bytes, "Bytes of planned activations for the shapes of the last run.");

  nb::class_<EngineObject>(
      m, "Engine",
      "An immutable program with its weights, from ``lathe.load`` or ``lathe.build``. Any number of threads may call run(); it pickles, and copies are the\n"
      "same engine.")
      .def("run", &EngineObject::run, nb::arg("inputs").none(), nb::arg("outputs") = nb::none(), nb::kw_only(), nb::arg("stream") = nb::none(),
           nb::arg("device_outputs") = false, kRunDoc)
      .def(
          "create_context", [](const EngineObject& self) { return new ContextObject(self.engine); },
          "A Context for one thread: activations of its own, and what run() does without looking for an idle one.")
      .def("_save",
           [](const EngineObject& self, const std::string& file) {
             nb::gil_scoped_release released;
             self.engine.save(file);
           })
      .def(
          "to_bytes",
          [](const EngineObject& self) {
            std::vector<std::byte> bytes;
            {
              nb::gil_scoped_release released;
              bytes = self.engine.to_bytes();
            }
            return nb::bytes(bytes.data(), bytes.size());
          },
          "What save() would write, as bytes; ``lathe.load`` takes them.")
      .def_prop_ro(
          "inputs", [](const EngineObject& self) { return self.engine.inputs(); }, "IoInfo of each input, in the order in which run() takes a list.")
      .def_prop_ro(
          "outputs", [](const EngineObject& self) { return self.engine.outputs(); }, "IoInfo of each output, in the order of what run() returns.")
      .def_prop_ro(
          "device", [](const EngineObject& self) { return self.engine.device(); }, "\"cpu\", or the section's name for a GPU: \"cuda:sm_90\".")
      .def_prop_ro(
          "section", [](const EngineObject& self) { return as_utf8(self.engine.section()); },
          "The section in use, and why: tuned for this machine, or the generic one.")
      .def_prop_ro(
          "native_code", [](const EngineObject& self) { return as_utf8(self.engine.native_code()); },
          "On a GPU: who signed the file's machine code, or why it is ignored; empty where it has none.")
      .def_prop_ro("ranges", &ranges_of_symbols, "{symbol: (least, tuned, greatest)} extents of the symbols in the inputs' shapes; -1: not known, no limit.")
      .def_prop_ro("metadata", &metadata_of, "{key: text}: the model's own metadata.")
      .def_prop_ro(
          "weight_bytes", [](const EngineObject& self) { return self.engine.weight_bytes(); }, "Bytes of packed weights that the section in use names.")
      .def_prop_ro(
          "report_json", [](const EngineObject& self) { return as_utf8(self.engine.report_json()); }, "``report`` as it lies in the file, in JSON.")
      .def(
          "to_text", [](const EngineObject& self) { return as_utf8(self.engine.to_text()); },
          "Steps, candidates and memory as text, as `lathe show` prints them.");

  m.def("set_log", &set_log, nb::arg("callback").none(), nb::arg("level"));
  m.def(
      "parse_shape",
      [](const std::string& text) {
        const auto [name, range] = builder::parse_shape_option(text);
        return nb::make_tuple(name, nb::make_tuple(extents_of(range.min), extents_of(range.opt), extents_of(range.max)));
      },
      nb::arg("text"), "NAME:SHAPE or NAME:MIN:OPT:MAX -> (name, (min, opt, max))");
  m.def("load", &load, nb::arg("file"), nb::arg("device"));
  m.def("build", &build_engine, nb::arg("model"), nb::arg("device"), nb::arg("precision"), nb::arg("shapes"), nb::arg("exact"), nb::arg("budget"),
        nb::arg("verify"), nb::arg("cache"), nb::arg("progress").none(), nb::arg("libraries"), nb::arg("native"));
  m.def("check", &check_model, nb::arg("model"), nb::arg("base_dir"));
  m.def("simplify", &lathe::python::simplify, nb::arg("model"), nb::arg("out").none(), nb::arg("shapes"), nb::arg("check"));
}
