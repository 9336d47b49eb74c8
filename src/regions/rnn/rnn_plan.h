// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// From a recurrent node and its tensors to the launches of rnn.cu: what the candidate, the kernel and the tests without a GPU share.

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

#include "ir/attribute.h"
#include "lathe/status.h"
#include "plan/kernel.h"
#include "regions/rnn/rnn_params.h"

namespace lathe::regions {

enum class RnnOp : std::uint8_t { kLstm, kGru, kPlain };

/// What a node's attributes say.
struct RnnSpec {
  RnnOp op = RnnOp::kLstm;
  int gates = 4, directions = 1;
  bool first_reverse = false, linear = false, coupled = false, batch_first = false;
  float clip = 0;
  std::array<std::array<cuda::RnnFunction, 3>, 2> functions{};
};

/// nullopt, and in `why` the reason, where the format does not allow it.
std::optional<RnnSpec> rnn_spec(std::string_view op, const ir::Attrs& attrs, std::string& why);

/// Inputs of a step by "cuda.rnn"; weights are there only when they are no constants.
enum RnnInput : std::size_t { kRnnX, kRnnLengths, kRnnInitialH, kRnnInitialC, kRnnW, kRnnR, kRnnB, kRnnP, kRnnInputs };
/// How a weight comes.
enum class RnnWeight : std::uint8_t { kNone, kPacked, kGiven };

enum class RnnKernelKind : std::uint8_t {
  kBegin,
  kProjectRows,
  kProjectTiles,
  kPack,
  kBias,
  kStep,  ///< + 2 * part, + 1 for several rows of the batch
  kCount = kStep + 2 * (cuda::kRnnPlain + 1)
};
/// `wide`: of float64, whose kernels are a module of their own, which is also what their names begin with.
constexpr std::string_view rnn_module(bool wide) noexcept { return wide ? "rnn_double" : "rnn"; }
std::string rnn_kernel_name(RnnKernelKind kind, bool wide);
/// What a tensor of a layer may be stored in: an ElementType or kRnnFloat64.
std::optional<int> rnn_element(DType dtype) noexcept;

/// A step at concrete extents. Setting it up allocates nothing but texts of errors.
struct RnnPlan {
  RnnSpec spec;
  std::array<RnnWeight, 4> weights{};  ///< W, R, B, P
  std::int64_t steps = 0, batch = 0, in = 0, hidden = 0;
  int weight_type = 0;
  bool vectors = false;  ///< strides allow X to be read by 16 bytes
  cuda::RnnParams step;  ///< without addresses
  cuda::RnnProjectParams project;
  std::array<cuda::RnnPackParams, 3> packs;  ///< of W, R, P where given
  cuda::RnnBiasParams bias;
  /// Offsets in the workspace, bytes.
  std::size_t h[2] = {}, c = 0, update = 0, gated = 0, projected = 0, given_w = 0, given_r = 0, given_b = 0, given_p = 0, scratch = 0;

  bool empty() const noexcept { return batch == 0; }
  bool wide() const noexcept { return weight_type == cuda::kRnnFloat64; }
  int batch_rows() const noexcept { return wide() ? cuda::kRnnDoubleRows : cuda::kRnnRows; }  ///< of a warp
  /// Are the rows of X so few that a warp makes a column of their projection?
  bool few_rows() const noexcept { return project.rows <= 4 * batch_rows(); }
  std::size_t number_bytes() const noexcept { return wide() ? sizeof(double) : sizeof(float); }
  std::size_t packed_rows_bytes(std::int64_t columns) const noexcept;  ///< of W (`in`) or R (`hidden`)
  std::size_t packed_bias_bytes() const noexcept;                      ///< sums, and of a GRU the recurrent ones behind them
  std::size_t packed_peephole_bytes() const noexcept { return static_cast<std::size_t>(3 * spec.directions * hidden) * number_bytes(); }
};

/// `into.spec` and `into.weights` are set. Left out tensors have no type. False, and in `why` the reason, where the kernels cannot run it.
bool rnn_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, std::int64_t in, std::int64_t hidden, RnnPlan& into,
              std::string& why);

struct RnnAddresses {
  std::array<const void*, kRnnInputs> inputs{};
  std::array<void*, 3> outputs{};
  std::array<const void*, 4> packed{};  ///< W, R, B, P where packed
  void* scratch = nullptr;
};

struct RnnGrid {
  std::uint32_t x = 1, y = 1, z = 1, block = 128;
};

/// Calls launch(kind, grid, params) for each launch, in order, until one says false.
template <class Launch>
bool rnn_launches(const RnnPlan& plan, const RnnAddresses& at, Launch launch) {
  using namespace cuda;
  const auto blocks = [](std::int64_t count, std::int64_t each) { return static_cast<std::uint32_t>((count + each - 1) / each); };
  char* const scratch = static_cast<char*>(at.scratch);
  const auto part = [&](std::size_t offset) { return static_cast<void*>(scratch + offset); };
  const void *w = at.packed[0], *r = at.packed[1], *sums = at.packed[2], *peephole = at.packed[3];
  const std::int64_t rows = static_cast<std::int64_t>(plan.spec.directions) * plan.spec.gates * plan.hidden;
  const std::size_t sums_bytes = static_cast<std::size_t>(rows) * plan.number_bytes();
  const std::size_t given[3] = {plan.given_w, plan.given_r, plan.given_p};
  for (std::size_t i = 0; i < 3; ++i) {
    if (plan.weights[i == 2 ? 3 : i] != RnnWeight::kGiven) continue;
    RnnPackParams p = plan.packs[i];
    p.from = at.inputs[i == 2 ? kRnnP : kRnnW + i];
    p.to = scratch + given[i];
    (i == 0 ? w : r) = i == 2 ? r : p.to;
    if (i == 2) peephole = p.to;
    if (p.rows * p.padded > 0 && !launch(RnnKernelKind::kPack, RnnGrid{blocks(p.rows * p.padded, 256), 1, 1, 256}, p)) return false;
  }
  if (plan.weights[2] == RnnWeight::kGiven) {
    RnnBiasParams p = plan.bias;
    p.from = at.inputs[kRnnB];
    p.sums = part(plan.given_b);
    p.recurrent = part(plan.given_b + sums_bytes);
    sums = p.sums;
    if (!launch(RnnKernelKind::kBias, RnnGrid{blocks(rows, 256), 1, 1, 256}, p)) return false;
  }
  RnnParams p = plan.step;
  p.r = r;
  p.peephole = peephole;
  if (plan.spec.linear) p.recurrent_bias = static_cast<const char*>(sums) + sums_bytes;
  p.projected = part(plan.projected);
  p.lengths = static_cast<const int*>(at.inputs[kRnnLengths]);
  p.initial_h.data = const_cast<void*>(at.inputs[kRnnInitialH]);
  p.initial_c.data = const_cast<void*>(at.inputs[kRnnInitialC]);
  p.y = at.outputs[0];
  p.last_h.data = at.outputs[1];
  p.last_c.data = at.outputs[2];
  if (plan.spec.op == RnnOp::kLstm) p.c = part(plan.c);
  const bool two_parts = plan.spec.op == RnnOp::kGru && !plan.spec.linear;
  if (two_parts) p.update = part(plan.update), p.gated = part(plan.gated);
  p.h_to = part(plan.h[0]);
  p.h_from = part(plan.h[1]);
  p.last = plan.steps == 0;
  const std::int64_t states = plan.spec.directions * plan.batch * p.padded;
  if (!launch(RnnKernelKind::kBegin, RnnGrid{blocks(states, 256), 1, 1, 256}, p)) return false;
  if (plan.steps == 0) return true;
  RnnProjectParams project = plan.project;
  project.x = at.inputs[kRnnX];
  project.w = w;
  project.bias = sums;
  project.projected = part(plan.projected);
  project.vectors = plan.vectors && reinterpret_cast<std::uintptr_t>(project.x) % 16 == 0;
  const bool few = plan.few_rows();
  const RnnGrid grid = few ? RnnGrid{blocks(project.columns, kRnnWarps), blocks(project.rows, plan.batch_rows()), 1, 32 * kRnnWarps}
                           : RnnGrid{blocks(project.rows, kRnnTile), blocks(project.columns, kRnnTile), 1, 256};
  if (!launch(few ? RnnKernelKind::kProjectRows : RnnKernelKind::kProjectTiles, grid, project)) return false;
  const bool several = plan.batch > 1;
  const RnnGrid step_grid{blocks(plan.hidden, kRnnWarps), static_cast<std::uint32_t>(plan.spec.directions),
                          several ? blocks(plan.batch, plan.batch_rows()) : 1u, 32 * kRnnWarps};
  const auto kind = [&](RnnPart part) { return static_cast<RnnKernelKind>(static_cast<int>(RnnKernelKind::kStep) + 2 * part + (several ? 1 : 0)); };
  const RnnKernelKind first = kind(two_parts                      ? kRnnGruGates
                                   : plan.spec.op == RnnOp::kLstm ? kRnnLstm
                                   : plan.spec.op == RnnOp::kGru  ? kRnnGruLinear
                                                                  : kRnnPlain);
  for (p.step = 0; p.step < plan.steps; ++p.step) {
    p.h_from = part(plan.h[p.step % 2]);
    p.h_to = part(plan.h[(p.step + 1) % 2]);
    p.last = p.step + 1 == plan.steps;
    if (!launch(first, step_grid, p)) return false;
    if (two_parts && !launch(kind(kRnnGruCandidate), step_grid, p)) return false;
  }
  return true;
}

}  // namespace lathe::regions
