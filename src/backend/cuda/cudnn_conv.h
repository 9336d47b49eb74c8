// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A convolution with what surrounds it as one operation graph of cuDNN: convolution, residual, bias, activation, in float32 from the tensor cores to
// the result. Plans are immutable, made for one set of extents and shared by all steps of a device that need the same.

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "backend/cuda/cudnn.h"
#include "backend/cuda/kernels/gemm_plan.h"

namespace lathe::cuda::cudnn {

/// Activations are channels-last, their pixels so many elements apart; weights are [cout][kh][kw][cin of a group].
struct ConvProblem {
  ConvShape shape;
  ElementType src = kElementFloat16, stored = kElementFloat16;  ///< stored: of result and residual
  std::int64_t src_pixel = 0, dst_pixel = 0, residual_pixel = 0;
  bool residual = false, residual_after = false, bias = false;
  bool narrow_bias = false;  ///< the bias is of the source's type, else float32
  int activation = kActNone;
  float alpha = 0;
};

/// "" when the library can be asked for it, else the reason why not.
std::string unsupported(const ConvProblem& problem);

/// An engine of the library and its settings.
struct EngineChoice {
  std::int64_t engine = -1;
  std::vector<std::pair<std::int64_t, std::int64_t>> knobs;
  friend bool operator==(const EngineChoice&, const EngineChoice&) = default;
};
std::string describe(const EngineChoice& choice);  ///< "engine 38 (2=1 7=4)", for --explain

struct ConvPointers {
  const void *x = nullptr, *w = nullptr, *bias = nullptr, *residual = nullptr;
  void *y = nullptr, *workspace = nullptr;
};

class ConvPlan {
 public:
  /// The plan by this engine, made by the first call for a device. Throws Error(kUnsupported) when the engine does not take the problem.
  static std::shared_ptr<const ConvPlan> get(Device& device, const ConvProblem& problem, const EngineChoice& choice);
  /// The same where it was made already, else nullptr.
  static std::shared_ptr<const ConvPlan> find(Device& device, const ConvProblem& problem, const EngineChoice& choice);
  /// Engines that the heuristics think best and that take the problem, best first; asked once for equal problems of a device. Empty: none, and
  /// `why` says what the library said.
  static std::vector<EngineChoice> offered(Device& device, const ConvProblem& problem, std::size_t most, std::string& why);

  ConvPlan(Device& device, const ConvProblem& problem, const EngineChoice& choice);
  /// Bytes of workspace, which need no alignment.
  std::size_t workspace_bytes() const noexcept { return workspace_ == 0 ? 0 : workspace_ + kWorkspaceAlignment; }
  /// Enqueues. The library makes an object of its own for each call; a replayed CUDA graph calls nothing.
  Status run(StreamHandle stream, const ConvPointers& pointers) const noexcept;

 private:
  static constexpr std::size_t kWorkspaceAlignment = 256;
  Device& device_;
  Handles& handles_;
  std::vector<Descriptor> parts_;  ///< what the plan was made of
  RawDescriptor plan_ = nullptr;   ///< the last of them
  std::vector<std::int64_t> ids_;
  bool bias_, residual_;
  std::size_t workspace_ = 0;
};

}  // namespace lathe::cuda::cudnn
