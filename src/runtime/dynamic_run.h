// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// One thread's run state of a dynamic program (src/plan/program.h): values as large as they come, calls of planned subprograms by Contexts
// of their own, nodes by their definitions, nested graphs by further programs of the same kind. It allocates while it runs. On a GPU the values
// that planned steps make stay there (device_values.h) until something on the host looks at them.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "ops/evaluate.h"
#include "runtime/context.h"
#include "runtime/device_values.h"
#include "runtime/engine.h"

namespace lathe::runtime {

struct DynamicOptions {
  bool keep_values = false;   ///< value() can be asked after a run
  bool note_symbols = false;  ///< symbols() can be asked after a run
  Allocator* allocator = nullptr;
};

class DynamicRun {
 public:
  /// Throws Error(kCorruptFile, kUnsupported) for a program that this build cannot run.
  explicit DynamicRun(std::shared_ptr<const Engine> engine, DynamicOptions options = {});
  ~DynamicRun();
  DynamicRun(const DynamicRun&) = delete;
  DynamicRun& operator=(const DynamicRun&) = delete;

  /// Values in the order of the program's inputs (undefined: not given, which only an optional one may be); returns those of its outputs, which on a
  /// GPU may lie there. Throws Error.
  std::vector<Tensor> run(std::span<const Tensor> inputs);
  /// The values' memory on a GPU; nullptr on the CPU.
  const std::shared_ptr<DeviceValues>& device_values() const noexcept { return device_values_; }
  /// With keep_values: what the ONNX tensor `name` of the outermost graph was in the last run; undefined when nothing holds it.
  Tensor value(std::string_view name) const;

  /// With note_symbols: values that the symbols of all programs had when they were last bound.
  const ir::Bindings& symbols() const noexcept { return symbols_; }
  /// Of all planned subprograms that ran.
  std::size_t arena_bytes() const noexcept;
  std::size_t specialisations() const noexcept;  ///< the most that one subprogram holds
  /// Times every step from the next run on, those inside islands and nested graphs too.
  void start_profile();
  /// What Context::profiled_steps() tells of a dynamic program.
  void add_profile(std::vector<ProfiledStep>& into) const;

 private:
  struct Step;
  struct Body;
  std::unique_ptr<Body> make_body(const plan::Program& program, int depth);
  void make_node(const plan::Program& program, const plan::Step& step, Step& made, int depth);
  std::vector<Tensor> run_body(Body& body, std::vector<Tensor> inputs);
  void call(Body& body, const plan::Step& step, Step& state);
  void evaluate(Body& body, const plan::Step& step, Step& state);
  static double add_profile(const Body& body, std::vector<ProfiledStep>& into);

  std::shared_ptr<const Engine> engine_;
  DynamicOptions options_;
  std::shared_ptr<DeviceValues> device_values_;
  std::unique_ptr<Body> main_;
  std::int64_t most_trips_ = ops::most_trips_wanted();  // of a Loop
  ir::Bindings symbols_;
  bool profiling_ = false;
};

}  // namespace lathe::runtime
