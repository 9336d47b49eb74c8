// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// One thread's run state of an Engine: arena, kernels bound per class of shapes, outputs. Create one per thread.

#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/tensor.h"
#include "lathe/services.h"
#include "lathe/status.h"
#include "plan/kernel.h"
#include "runtime/engine.h"

namespace lathe::runtime {

struct InputView {
  const void* data = nullptr;
  DType dtype = DType::kUndefined;
  std::span<const std::int64_t> dims;
};
struct OutputView {
  void* data = nullptr;  ///< nullptr: the Context's own memory
  DType dtype = DType::kUndefined;
  std::span<const std::int64_t> dims;
};

struct StepTime {
  double seconds = 0;
  std::int64_t runs = 0;
};

/// A step and what it took in all runs together, the steps that it runs left out.
struct ProfiledStep {
  const plan::Program* program = nullptr;
  const plan::Step* step = nullptr;
  StepTime time;
};

/// What start_profile() collects.
struct RunTimes {
  std::vector<StepTime> steps;  ///< on a GPU between events, less what an event takes; of a dynamic program see profiled_steps()
  StepTime whole;               ///< runs as they are without those events; on a GPU the device's time
  bool replayed = false;        ///< the last of them was one replay of a CUDA graph
};

/// How Context::run_values takes its values and leaves them.
struct ValueRun {
  void* stream = nullptr;  ///< of the GPU: what it has under way is done before
  /// Where on the GPU an output of this type and these extents goes, whole; nullptr: it comes to the host. Asked once for each tensor of numbers, when
  /// the run has made it. May throw Error.
  std::function<void*(std::size_t output, DType dtype, const Dims& dims)> place;
};

class CudaRun;
class DynamicRun;
class Specialisation;

class Context {
 public:
  explicit Context(std::shared_ptr<const Engine> engine, Allocator* allocator = nullptr);
  ~Context();
  Context(const Context&) = delete;
  Context& operator=(const Context&) = delete;

  /// Binds these input shapes ahead of a run (allocates). Later runs of these and of other shapes of their class do not.
  Status prepare(std::span<const Dims> input_dims) noexcept;
  /// Views in the order of the program's inputs and outputs; `outputs` may be shorter or empty. On a GPU each may be in the host's memory
  /// or in the device's; `stream` (of the device) takes the work, and the call then returns before it is done unless something of it is
  /// on the host.
  Status run(std::span<const InputView> inputs, std::span<const OutputView> outputs, void* stream = nullptr) noexcept;
  /// Output of the last run, in the host's memory unless the caller gave it memory on the device. Empty where it is no tensor of numbers.
  InputView output(std::size_t index) const noexcept;
  /// Of an engine whose program is dynamic: values of any form, whole. `outputs` takes those of the run, but for those that `how` has a place for. The run
  /// is over when it returns.
  Status run_values(std::span<const Tensor> inputs, std::vector<Tensor>& outputs, const ValueRun& how = {}) noexcept;
  /// An input for run_values in memory of its GPU, which outlives the run. Precondition: `address` lies there. Throws Error(kInvalidArgument) on the CPU.
  Tensor device_value(DType dtype, const Dims& dims, const void* address);
  /// Type and extents of an output at the shapes that were prepared or run last; precondition: some were, and the program is not dynamic.
  const plan::TensorDesc& output_desc(std::size_t index) const noexcept;

  /// Every slot keeps its own bytes from the next binding on, so that slot() can be asked after a run. For verification.
  void keep_intermediates(bool keep);
  /// Row-major float (or integer) copy of a slot that holds the ONNX tensor `name`; undefined when no slot does.
  Tensor slot(std::string_view name) const;

  /// Times each step from the next run on; on a GPU every run then goes through the steps twice.
  void start_profile();
  const RunTimes& profile() const noexcept { return times_; }
  /// Every step in the program's order; behind a step of a dynamic program those of its island or of its nested graphs.
  std::vector<ProfiledStep> profiled_steps() const;
  std::size_t arena_bytes() const noexcept;      ///< planned activations and scratch of the current shapes' class
  std::size_t specialisations() const noexcept;  ///< shape classes held, at most 32
  std::int64_t graph_runs() const noexcept;      ///< runs that were one replay of a CUDA graph
  void* stream() const noexcept;                 ///< a GPU's stream for runs that are given none; nullptr on the CPU
  const Engine& engine() const noexcept { return *engine_; }

 private:
  struct Memory;
  struct Query;
  Specialisation* find_or_make(Status& status) noexcept;
  Specialisation* make_specialisation();
  void make_room(const Specialisation& spec);
  Status run_on_cuda(Specialisation& spec, std::span<const InputView> inputs, std::span<const OutputView> outputs, void* stream) noexcept;

  Status run_program(std::span<const Tensor> inputs, std::span<const OutputView> outputs, const ValueRun& how) noexcept;
  Status run_dynamic(std::span<const InputView> inputs, std::span<const OutputView> outputs, void* stream) noexcept;

  std::shared_ptr<const Engine> engine_;
  std::unique_ptr<DynamicRun> dynamic_;  // of an engine whose program is dynamic; what follows is then unused
  std::vector<Tensor> dynamic_outputs_;
  std::unique_ptr<CudaRun> cuda_;  // of an engine for a GPU
  std::unique_ptr<Allocator> device_allocator_;
  Allocator* allocator_;
  std::unique_ptr<Query> query_;
  std::vector<std::unique_ptr<Specialisation>> specialisations_;  // most recently used first
  std::unique_ptr<Memory> memory_;
  bool keep_ = false, profiling_ = false;
  RunTimes times_;
  Specialisation* current_ = nullptr;
};

}  // namespace lathe::runtime
