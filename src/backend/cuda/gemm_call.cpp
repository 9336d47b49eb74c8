// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See gemm_call.h.

#include "backend/cuda/gemm_call.h"

#include <algorithm>

#include "backend/cuda/gemm_map.h"

namespace lathe::cuda {
namespace {

OperandB element_of(OperandB b) {
  switch (b) {
    case kRowsB: return kRowsElementB;
    case kAcrossB: return kAcrossElementB;
    default: return b;
  }
}
OperandB vector_of(OperandB b) {
  switch (b) {
    case kRowsElementB: return kRowsB;
    case kAcrossElementB: return kAcrossB;
    default: return b;
  }
}

bool same_tile(const GemmPlan& a, const GemmPlan& b) { return a.core == b.core && a.rows == b.rows && a.columns == b.columns; }

std::size_t counter_bytes(const GemmGrid& launch) { return (launch.counters * sizeof(unsigned) + 255) / 256 * 256; }

}  // namespace

GpuLimits limits_of(const DeviceInfo& info) noexcept { return {info.arch(), info.multiprocessors, info.shared_per_block, info.shared_per_multiprocessor}; }

GemmCall::GemmCall(Device& device, const GemmSetup& given, const GemmPlan& plan, std::int64_t tuned_rows)
    : device_(device), limits_(limits_of(device.info())), tuned_rows_(tuned_rows) {
  const auto prepare = [&](Way& way, OperandA a, OperandB b) {
    GemmSetup setup = given;
    setup.a = way.a = a;
    setup.b = way.b = b;
    way.tuned = plan;
    for (const GemmPlan& each : all_gemm_plans(setup, limits_)) {
      if (std::any_of(way.tiles.begin(), way.tiles.end(), [&](const Way::Tile& tile) { return same_tile(tile.plan, each); })) continue;
      const GemmKernelName name = gemm_kernel_name(setup, each);
      if (!device.has_builtin_module(name.module)) continue;
      way.tiles.push_back({each, device.builtin_function(name.module, name.kernel, gemm_grid(setup, each, limits_).shared_bytes)});
    }
  };
  prepare(vector_, kVectorA, vector_of(given.b));
  // Before sm_80 there are 16-byte copies only.
  if (limits_.arch >= 80) prepare(element_, kElementA, element_of(given.b));
  if (!fit(given))
    throw Error(Code::kMachine, "this build of Lathe has no product kernel for " + device.info().arch_name())
        .with_remedy("Build Lathe with LATHE_CUDA_ARCHS=all.");
}

bool GemmCall::fit(Way& way, const GemmSetup& given) noexcept {
  way.exists = false;
  GemmSetup setup = given;
  setup.a = way.a;
  setup.b = way.b;
  const std::int64_t rows = static_cast<std::int64_t>(setup.params.rows) * setup.items;
  const bool near = near_tuned(rows, tuned_rows_);
  GemmPlan plan = near ? refit_gemm_plan(setup, way.tuned, limits_) : best_gemm_plan(setup, limits_);
  auto found = std::find_if(way.tiles.begin(), way.tiles.end(), [&](const Way::Tile& tile) { return same_tile(tile.plan, plan); });
  if (found == way.tiles.end()) {
    // The way has no such tile (it was tuned for the other way, or its module is not in this build): the first that it has.
    if (way.tiles.empty()) return false;
    found = way.tiles.begin();
    plan = refit_gemm_plan(setup, found->plan, limits_);
    if (!same_tile(plan, found->plan)) return false;
  }
  if (!plan_fits(setup, plan, limits_)) return false;
  way.launch = gemm_grid(setup, plan, limits_);
  way.function = found->function;
  way.exists = true;
  scratch_ = std::max(scratch_, counter_bytes(way.launch) + way.launch.partial_bytes);
  return true;
}

bool GemmCall::fit(const GemmSetup& setup) noexcept {
  scratch_ = 0;
  const bool copies = setup.a == kVectorA && fit(vector_, setup);
  if (!copies) vector_.exists = false;
  const bool elements = !element_.tiles.empty() && fit(element_, setup);
  return copies || elements;
}

Status GemmCall::run(StreamHandle stream, const GemmOperands& operands, const EpilogueParams& epilogue, void* scratch) const noexcept {
  const bool copies = vector_.exists && wide(operands.a) && wide(operands.b);
  const Way& way = copies ? vector_ : element_;
  if (!way.exists) return {Code::kUnsupported, "a product on addresses that this GPU's kernels cannot read: not multiples of 16 bytes"};
  PipeParams params = way.launch.params;
  params.a = operands.a;
  params.b = operands.b;
  params.bias = static_cast<const float*>(operands.bias);
  params.residual = operands.residual;
  params.c = operands.c;
  params.c_second = operands.c_second;
  if (wide(operands.next)) {
    params.next = operands.next;
    params.next_bytes = static_cast<unsigned>(std::min<std::size_t>(operands.next_bytes, 1u << 30));
  }
  const int stored = params.epilogue.stored_type, vectors = params.epilogue.vectors && wide(operands.c) && wide(operands.c_second) && wide(operands.residual);
  params.epilogue = epilogue;
  params.epilogue.stored_type = stored;
  params.epilogue.vectors = vectors;
  if (way.launch.counters > 0) {
    // The scratch is shared by all steps: the counters are cleared every time.
    const std::size_t counters = counter_bytes(way.launch);
    params.counters = static_cast<unsigned*>(scratch);
    params.partials = reinterpret_cast<float*>(static_cast<std::byte*>(scratch) + counters);
    const Driver& driver = device_.driver();
    if (const Result r = driver.fill_bytes(reinterpret_cast<DevicePointer>(scratch), 0, counters, stream); r != kSuccess)
      return driver.status(r, "cuMemsetD8Async of a product's counters");
  }
  if (params.map_kind != kGathered) encode_map(device_.driver(), params, way.launch.map_rows, static_cast<int>(way.launch.grid[2]));
  LaunchShape shape;
  shape.grid_x = way.launch.grid[0];
  shape.grid_y = way.launch.grid[1];
  shape.grid_z = way.launch.grid[2];
  shape.block = way.launch.block;
  shape.cluster_y = way.launch.cluster_y;
  shape.shared_bytes = way.launch.shared_bytes;
  shape.overlaps = limits_.arch >= 90;
  return way.function.launch_with(stream, shape, params);
}

}  // namespace lathe::cuda
