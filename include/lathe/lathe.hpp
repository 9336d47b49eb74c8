// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Lathe's public C++ API: Network -> BuildConfig -> Engine -> Context. Only standard types cross it.
//
//   lathe::Engine engine = lathe::build("model.onnx", {});        // or lathe::Engine::load("model.engine")
//   lathe::Context context = engine.create_context();
//   lathe::Status status = context.run({{"images", pixels}}, {{"output0", boxes}});
//
// Import, build and load throw lathe::Error; the run path returns lathe::Status and neither throws nor, from the second run of a
// shape class on, allocates.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "lathe/check.h"
#include "lathe/dtype.h"
#include "lathe/export.h"
#include "lathe/log.h"
#include "lathe/services.h"
#include "lathe/status.h"
#include "lathe/value.h"

namespace lathe {

LATHE_API std::string_view version() noexcept;   ///< "0.1.0"

/// An input or output as the model declares it.
struct IoInfo {
  std::string name;  ///< as the model has it
  DType dtype = DType::kUndefined;  ///< of its elements
  /// Extents; -1 where symbolic.
  std::vector<std::int64_t> shape;
  /// One text per axis: the extent or its expression ("batch", "floordiv(height, 8)").
  std::vector<std::string> shape_text;
  /// Of an engine: the extents that it was tuned for, -1 where none was known. Empty for a Network.
  std::vector<std::int64_t> tuned_shape;
  /// What it is where that is no tensor of known rank: "seq(float[?])", "map(string, float)", "optional(...)", "float[...]"; else empty.
  std::string type;
};

/// A dense row-major tensor in the caller's memory. The run path never keeps the pointers after it returns.
struct TensorView {
  void* data = nullptr;  ///< first element
  DType dtype = DType::kUndefined;  ///< of its elements
  std::span<const std::int64_t> shape;  ///< extents; the caller's memory, only read during the call
};
struct ConstTensorView {  ///< The same, only read.
  const void* data = nullptr;  ///< first element
  DType dtype = DType::kUndefined;  ///< of its elements
  std::span<const std::int64_t> shape;  ///< extents
};

/// Minimum, preferred and maximum extents of one input. Empty min/max: equal to opt.
struct InputRange {
  std::vector<std::int64_t> min, opt, max;  ///< least, tuned for, greatest; as many numbers as the input has axes
};

struct BuildConfig {  ///< How an engine is built; the defaults are those of `lathe build`.
  std::string device = "cpu";                    ///< or "cuda", "cuda:N"
  std::string precision = "fp32";                ///< fp32, bf16; on cuda also fp16
  std::map<std::string, InputRange> shapes;      ///< hints and limits by input name
  double budget_seconds = 60;                    ///< for timing candidates; 0 = modelled costs only
  std::string libraries = "cublaslt";            ///< NVIDIA's that steps on cuda may depend on: none, cublaslt, cudnn, or both
  bool exact = false;                            ///< forbid algorithms of error class *fast* (Winograd)
  bool verify = true;                            ///< hold the engine against the oracle; failing throws Error(kVerification)
  bool use_cache = true;                         ///< tuning cache of this machine
  bool native = true;                            ///< on cuda: keep machine code of fused regions in the engine, signed by this user's key
  Progress* progress = nullptr;  ///< told how far the work is, and may stop it; nullptr: nobody
};

class Engine;

/// A model before it is built: read, inspected, its interface changed.
class LATHE_API Network {
 public:
  /// Reads an ONNX file (weights stay mapped). Throws Error(kInvalidModel, kCorruptFile, kIo).
  static Network parse(const std::filesystem::path& file);
  /// Reads ONNX bytes; they are copied. `base_dir` is where external data files are looked up.
  static Network parse(std::span<const std::byte> bytes, const std::filesystem::path& base_dir = {});

  std::vector<IoInfo> inputs() const;  ///< in the model's order
  std::vector<IoInfo> outputs() const;  ///< in the model's order
  std::size_t node_count() const;  ///< of the graph, nested graphs not counted
  std::string to_text() const;                        ///< the readable graph
  void mark_output(std::string_view tensor);          ///< makes an inner tensor an output
  /// Removes what need not run; see `lathe simplify`. Returns a table of op counts before and after as text.
  std::string simplify();
  void save(const std::filesystem::path& file) const; ///< writes ONNX
  Engine build(const BuildConfig& config = {}) const;  ///< Simplifies, chooses, times, verifies. Throws Error.

  struct Impl;
  explicit Network(std::shared_ptr<Impl> impl);
  const std::shared_ptr<Impl>& impl() const noexcept { return impl_; }

 private:
  std::shared_ptr<Impl> impl_;
};

/// Time and memory of one step, from Context::profile().
struct StepProfile {
  std::string label, kernel;  ///< what it computes, and by which kernel
  std::vector<std::string> sources;     ///< ONNX nodes inside
  double seconds = 0;                   ///< mean per run, without those of the steps that it runs (an island's, a nested graph's), which follow it
  double flops = 0, bytes = 0;          ///< of one call at the shapes that the engine was tuned for
  DType dtype = DType::kUndefined;      ///< of the step's first input
  bool on_host = false;                 ///< runs on the CPU between copies, in an engine for a GPU
  double calls = 1;                     ///< per run, mean: a step of a loop's body has several, one of a branch fewer
};

/// Whole runs, from Context::run_profile(). On a GPU its own time; the difference to the steps' sum is what lies between them (negative where
/// steps overlap).
struct RunProfile {
  double seconds = 0;                   ///< mean per run, without the marks between steps
  std::int64_t runs = 0;  ///< how many were measured
  bool replayed = false;                ///< as one CUDA graph
};

class Context;

/// An immutable program with its weights; shared by threads. Copies share.
class LATHE_API Engine {
 public:
  /// `device` ("cpu", "cuda", "cuda:N") demands a section for it: Error(kMachine) when none runs there. Empty: the file's first section that
  /// runs here, on the first GPU where it is for one; section() tells which, and why.
  static Engine load(const std::filesystem::path& file, std::string_view device = {});
  static Engine load(std::span<const std::byte> bytes, std::string_view device = {});   ///< copied
  void save(const std::filesystem::path& file) const;  ///< Writes the file, whole or not at all. Throws Error(kIo).
  std::vector<std::byte> to_bytes() const;                ///< what save() would write

  std::vector<IoInfo> inputs() const;  ///< in the order that run() takes them
  std::vector<IoInfo> outputs() const;  ///< in the order that run() gives them
  Context create_context(Allocator* allocator = nullptr) const;  ///< activations from `allocator`; nullptr: the process's own

  std::string device() const;             ///< "cpu", or the section's name for a GPU: "cuda:sm_90"
  std::string section() const;            ///< the section in use: tuned or generic, and why
  std::string native_code() const;        ///< on a GPU: who signed the file's machine code, or why it is ignored; empty where it has none
  std::string report_json() const;        ///< the build report
  std::string to_text() const;            ///< steps, candidates, memory
  std::size_t weight_bytes() const;       ///< packed weights that the section in use names

  struct Impl;
  explicit Engine(std::shared_ptr<const Impl> impl);
  const std::shared_ptr<const Impl>& impl() const noexcept { return impl_; }

 private:
  std::shared_ptr<const Impl> impl_;
};

/// One thread's activations for one Engine. Create one per thread; a Context itself is not thread-safe.
class LATHE_API Context {
 public:
  Context(Context&&) noexcept;
  Context& operator=(Context&&) noexcept;
  ~Context();

  /// Binds and plans for these input shapes ahead of the first run, and returns the outputs' shapes.
  Status prepare(std::span<const std::vector<std::int64_t>> input_shapes);
  /// Runs with views in the order of Engine::inputs()/outputs(). Outputs without memory (data == nullptr, or an empty span) stay in
  /// the Context's own memory: see output(). On a GPU each view may lie in the host's memory or in the device's. `stream` (a CUstream of
  /// the device; (void*)1 is the legacy default stream) takes the work; the call then returns before it is done, unless some view is on the
  /// host. Runs of one Context on different streams follow each other.
  Status run(std::span<const ConstTensorView> inputs, std::span<const TensorView> outputs = {}, void* stream = nullptr) noexcept;
  Status run(std::initializer_list<std::pair<std::string_view, ConstTensorView>> inputs,
             std::initializer_list<std::pair<std::string_view, TensorView>> outputs) noexcept;  ///< by name; others stay in the Context's memory
  /// Runs with values of any type, in the order of Engine::inputs(); `outputs` takes those of the run, as large as they are. For engines
  /// whose inputs or outputs are texts, sequences, maps or optionals this is the only way; others copy.
  Status run(std::span<const Value> inputs, std::vector<Value>& outputs) noexcept;
  /// Output `index` of the last run, in the Context's (or the caller's) memory; valid until the next run.
  ConstTensorView output(std::size_t index) const noexcept;

  /// Times each step from the next run on.
  void start_profile();
  std::vector<StepProfile> profile() const;  ///< means since start_profile()
  RunProfile run_profile() const;  ///< the whole runs since start_profile()
  std::size_t activation_bytes() const noexcept;   ///< planned activations of the current shape class

  struct Impl;
  explicit Context(std::unique_ptr<Impl> impl);
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Network::parse and Network::build in one, reading included in the progress.
LATHE_API Engine build(const std::filesystem::path& onnx_file, const BuildConfig& config = {});
/// The same from ONNX bytes, which are copied.
LATHE_API Engine build(std::span<const std::byte> onnx, const BuildConfig& config = {}, const std::filesystem::path& base_dir = {});

}  // namespace lathe
