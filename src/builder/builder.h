// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a model to an engine: simplify, propose regions, choose a minimum-cost cover by timing candidates in place, lay out, plan,
// pack weights, verify against the oracle. The only layer that knows importer, passes and timing at once.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "engine/engine_data.h"
#include "ir/graph.h"
#include "lathe/status.h"
#include "lathe/services.h"

namespace lathe::builder {

enum class Precision : std::uint8_t { kFloat32, kTensorFloat32, kBFloat16, kFloat16 };
std::string_view precision_name(Precision precision) noexcept;  ///< "fp32", "tf32", "bf16", "fp16"
Precision parse_precision(std::string_view text);               ///< throws Error(kInvalidArgument)

/// Range of an input's shape; an empty vector = not given. The hint shape is `opt`.
struct ShapeRange {
  Dims min, opt, max;
};
/// "x:1x3x640x640" or "x:MIN:OPT:MAX"; returns the input's name and range. Throws Error(kInvalidArgument).
std::pair<std::string, ShapeRange> parse_shape_option(std::string_view text);

struct BuildOptions {
  std::string device = "cpu";  ///< or "cuda", "cuda:N"
  Precision precision = Precision::kFloat32;
  std::map<std::string, ShapeRange> shapes;
  double budget_seconds = 60;  ///< for timing candidates; 0 = modelled costs only
  bool exact = false;          ///< forbid error class *fast*
  unsigned libraries = 1;      ///< ops::kCublasLt, ops::kCudnn: NVIDIA's libraries that steps on a GPU may depend on
  bool verify = true;
  double verify_gflop = 30;            ///< above: sampled regions
  bool use_cache = true;               ///< read and write the tuning cache
  bool native = true;                  ///< keep the machine code of regions on a GPU in the engine, signed by this user's key
  int threads = 0;                     ///< 0 = the process's pool
  std::uint64_t cpu_features = ~0ull;  ///< allowed features (backend/cpu/features.h)
  Progress* progress = nullptr;
  void* device_handle = nullptr;  ///< the opened GPU (a cuda::Device); the builder fills it in
};

/// N of "cuda:N" (0 for "cuda"); nothing for the CPU. Throws Error(kInvalidArgument) for other names.
std::optional<int> cuda_ordinal(std::string_view device);

/// "none", "cublaslt", "cudnn" or "cublaslt,cudnn" as a set of bits. Throws Error(kInvalidArgument).
unsigned parse_libraries(std::string_view text);

/// One candidate that was asked for a region, for --explain.
struct Choice {
  std::string candidate, variant;
  bool accepted = false, chosen = false;
  std::string reason;   ///< why declined
  double seconds = -1;  ///< measured (or modelled when `modelled`)
  bool modelled = false;
  bool by_library = false;              ///< of another maker: a step's time is not all that it costs
  std::optional<double> in_run_gain{};  ///< part by which the run got shorter with it in all equal steps, where that was tried; noise counts as 0
};

struct RegionReport {
  std::string label, pattern;
  std::vector<std::string> sources;  ///< ONNX nodes
  std::vector<Choice> choices;
  double flops = 0, bytes = 0;
};

struct VerifyReport {
  bool ran = false, passed = false;
  std::string summary;  ///< one line
  double seconds = 0;
  struct Tensor {
    std::string name, region;
    double max_error = 0, rms_error = 0, scale = 0, max_allowed = 0, rms_allowed = 0;
    bool passed = false;
  };
  std::vector<Tensor> tensors;      ///< graph outputs first, then region outputs
  std::vector<std::string> pinned;  ///< regions moved to a wider type, with why
};

/// What a user can do about a verification that failed.
std::string remedy_of(const VerifyReport& report, Precision precision);

/// What was tried in the whole run on a GPU (in_place.h): options for all steps that are equal.
struct InRunReport {
  std::int64_t tried = 0, taken = 0;
  std::int64_t steps = 0;  ///< that run on another kernel for it
  double seconds = 0;      ///< of timing; in all rounds of the build
};

struct BuildReport {
  std::size_t nodes_read = 0, nodes_simplified = 0, steps = 0;
  std::vector<RegionReport> regions;
  std::vector<std::string> host_steps;  ///< regions of a GPU's program that run on the CPU between copies, and nodes of a dynamic one that do
  double simplify_seconds = 0, tune_seconds = 0, total_seconds = 0;
  std::int64_t timed = 0, cache_hits = 0;
  bool budget_exhausted = false;
  InRunReport in_run;
  std::size_t weight_bytes = 0, arena_bytes = 0;
  VerifyReport verify;
  std::string to_json() const;
};

struct BuildResult {
  engine::EngineData engine;  ///< ready for engine::write_engine
  BuildReport report;
};

/// Throws Error(kMachine, kInvalidArgument) when the device or the precision is not to be had; build_engine does so first.
void check_target(const BuildOptions& options);
/// Builds from a model as read (read_model()). The model is not changed. Throws Error.
BuildResult build_engine(std::shared_ptr<const ir::Model> model, const BuildOptions& options);

/// Holds an engine against the oracle on the model as read: `shapes` are the shape sets to try (empty: hint shapes and one odd one).
VerifyReport verify_engine(const ir::Model& model, const engine::EngineData& engine, const BuildOptions& options);

}  // namespace lathe::builder
