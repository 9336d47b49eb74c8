// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.loops": a region of the region language on the CPU. Binding compiles every stage to a tile program (program.h) and groups stages
// that share outer loops: such a group runs slice by slice, so that what one stage writes the next one finds in cache.

#include <algorithm>
#include <array>
#include <atomic>

#include <fmt/format.h>

#include "base/thread_pool.h"
#include "loops/cpu/program.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

using loops::BufferId;
using loops::LoopRegion;
using loops::Role;
using loops::cpu::Access;
using loops::cpu::StageAnalysis;
using loops::cpu::StageProgram;
using loops::cpu::TileMemory;

constexpr std::int64_t kSerialWork = 16384;     // points x instructions below which waking threads costs more than it brings
constexpr std::int64_t kGrain = 32768;          // the same per task group
constexpr std::int64_t kFusedSlices = 16;       // fewest slices for which stages are fused
constexpr std::size_t kRawBytes = static_cast<std::size_t>(loops::cpu::kTilePoints) * 8;
constexpr std::size_t kMaxBuffers = 64;

std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

/// How many leading loops the stages [first, last) can share: not reduced, of one extent in all, and every buffer written in the group is
/// written and read at that loop's own index.
int shared_loops(const std::vector<StageAnalysis>& stages, std::size_t first, std::size_t last) {
  const auto plain_dim = [](const StageAnalysis& stage, const Access& access, int loop) {
    for (std::size_t d = 0; d < access.dims.size(); ++d)
      if (loops::cpu::plain_loop(stage, access.dims[d]) == loop) return static_cast<int>(d);
    return -1;
  };
  int shared = 0;
  for (;; ++shared) {
    std::array<int, kMaxBuffers> dim_of;
    dim_of.fill(-1);
    std::array<bool, kMaxBuffers> written{};
    bool fits = true;
    for (std::size_t s = first; s < last && fits; ++s) {
      const StageAnalysis& stage = stages[s];
      fits = !stage.empty && shared < static_cast<int>(stage.loops.size()) && !stage.loops[static_cast<std::size_t>(shared)].reduction &&
             stage.loops[static_cast<std::size_t>(shared)].extent == stages[first].loops[static_cast<std::size_t>(shared)].extent;
      if (!fits) break;
      const int d = plain_dim(stage, stage.store, shared);
      const auto target = static_cast<std::size_t>(stage.store.buffer);
      fits = d >= 0 && (!written[target] || dim_of[target] == d);
      written[target] = true;
      dim_of[target] = d;
    }
    for (std::size_t s = first; s < last && fits; ++s)
      for (const auto& [id, access] : stages[s].loads)
        if (written[static_cast<std::size_t>(access.buffer)]) fits &= plain_dim(stages[s], access, shared) == dim_of[static_cast<std::size_t>(access.buffer)] && access.fallback < 0;
    if (!fits) return shared;
  }
}

struct Group {
  std::size_t first = 0, last = 0;
  std::int64_t outer = 0;           ///< slices when stages are fused; 0: one stage, task by task
  std::int64_t chunk = 1;           ///< tasks (or slices) per call
  bool serial = false;
};

class LoopsKernel final : public Kernel {
 public:
  explicit LoopsKernel(const BindRequest& request) : region_(loops::parse_region(request.params.get_string("region", ""))) {
    const std::size_t count = region_.buffers.size();
    if (count > kMaxBuffers) throw Error(Code::kUnsupported, fmt::format("a region of more than {} buffers", kMaxBuffers));
    std::vector<TensorDesc> descs;
    std::size_t in = 0, out = 0;
    for (const loops::Buffer& buffer : region_.buffers) {
      const auto dims = ir::evaluate(buffer.shape, request.symbols);
      if (!dims) throw Error(Code::kInternal, fmt::format("the shape of '{}' has an unbound symbol", buffer.name));
      if (buffer.role == Role::kTemporary) {
        descs.push_back(TensorDesc::row_major(buffer.dtype, *dims));
        continue;
      }
      const bool is_input = buffer.role == Role::kInput;
      const auto& list = is_input ? request.inputs : request.outputs;
      const std::size_t at = is_input ? in++ : out++;
      if (at >= list.size()) throw Error(Code::kCorruptFile, "a loops step has fewer tensors than its region has buffers");
      descs.push_back(list[at]);
      if (descs.back().dims != *dims)
        throw Error(Code::kInternal, fmt::format("'{}' has the extents {}, its region says {}", buffer.name, to_string(descs.back().dims), to_string(*dims)));
      (is_input ? inputs_ : outputs_).push_back(static_cast<BufferId>(descs.size() - 1));
    }
    std::vector<StageAnalysis> analyses;
    for (const loops::Stage& stage : region_.stages) analyses.push_back(loops::cpu::analyze(region_, stage, request.symbols));
    plan_groups(analyses, descs, request.threads);

    temporary_offset_.assign(count, 0);
    for (std::size_t b = 0; b < count; ++b) {
      if (region_.buffers[b].role != Role::kTemporary) continue;
      temporary_offset_[b] = scratch_;
      scratch_ += align(dtype_bytes(descs[b].dtype, descs[b].elements()));
    }
    for (const StageProgram& stage : stages_) registers_ = std::max(registers_, align(static_cast<std::size_t>(stage.register_bytes)));
    worker_offset_ = scratch_;
    scratch_ += (registers_ + kRawBytes) * static_cast<std::size_t>(std::max(1, request.threads));
  }

  std::size_t scratch_bytes() const noexcept override { return scratch_; }

  Status run(const KernelIo& io) const noexcept override {
    std::array<void*, kMaxBuffers> pointers;
    auto* scratch = static_cast<std::byte*>(io.scratch);
    for (std::size_t b = 0; b < region_.buffers.size(); ++b) pointers[b] = scratch + temporary_offset_[b];
    for (std::size_t i = 0; i < inputs_.size(); ++i) pointers[static_cast<std::size_t>(inputs_[i])] = const_cast<void*>(io.inputs[i]);
    for (std::size_t i = 0; i < outputs_.size(); ++i) pointers[static_cast<std::size_t>(outputs_[i])] = io.outputs[i];
    std::atomic<std::int64_t> bad{-1};
    const auto memory_of = [&](int worker) {
      std::byte* registers = scratch + worker_offset_ + static_cast<std::size_t>(worker) * (registers_ + kRawBytes);
      return TileMemory{pointers.data(), registers, registers + registers_};
    };
    for (const Group& group : groups_) {
      const std::int64_t units = group.outer > 0 ? group.outer : stages_[group.first].tasks;
      const auto work = [&](std::int64_t piece, int worker) {
        const TileMemory memory = memory_of(worker);
        const std::int64_t begin = piece * group.chunk, end = std::min(units, begin + group.chunk);
        for (std::int64_t unit = begin; unit < end; unit += group.outer > 0 ? 1 : end - begin)
          for (std::size_t s = group.first; s < group.last; ++s) {
            const std::int64_t per = group.outer > 0 ? stages_[s].tasks_per_outer : 1;
            const std::int64_t last = group.outer > 0 ? (unit + 1) * per : end;
            if (!loops::cpu::run_stage(stages_[s], memory, unit * per, last)) bad.store(static_cast<std::int64_t>(s), std::memory_order_relaxed);
          }
      };
      const std::int64_t pieces = (units + group.chunk - 1) / group.chunk;
      if (group.serial)
        for (std::int64_t piece = 0; piece < pieces; ++piece) work(piece, 0);
      else io.pool->parallel_for(pieces, work);
    }
    if (bad.load() >= 0) {
      char text[200];
      const auto& source = stages_[static_cast<std::size_t>(bad.load())].source;
      const auto end = fmt::format_to_n(text, sizeof text, "an index is outside its tensor in node '{}'", source);
      return Status(Code::kInvalidArgument, {text, std::min<std::size_t>(end.size, sizeof text)});
    }
    return Status::ok();
  }

 private:
  void plan_groups(const std::vector<StageAnalysis>& analyses, const std::vector<TensorDesc>& descs, int threads) {
    for (std::size_t first = 0; first < analyses.size();) {
      std::size_t last = first + 1;
      int shared = 0;
      // The longest run of stages that share enough slices to keep threads busy. Which stages are fused decides the order of sums, so
      // the number of threads has no say in it.
      while (last < analyses.size()) {
        const int more = shared_loops(analyses, first, last + 1);
        std::int64_t slices = 1;
        for (int l = 0; l < more; ++l) slices *= analyses[first].loops[static_cast<std::size_t>(l)].extent;
        if (more == 0 || slices < kFusedSlices) break;
        shared = more;
        ++last;
      }
      Group group;
      group.first = first;
      group.last = last;
      const bool fused = last - first > 1;
      if (fused) shared = shared_loops(analyses, first, last);
      double work = 0;
      for (std::size_t s = first; s < last; ++s) {
        stages_.push_back(loops::cpu::compile_stage(region_, analyses[s], descs, fused ? shared : 0));
        work += static_cast<double>(stages_.back().tasks) * static_cast<double>(stages_.back().points_per_task) * stages_.back().weight;
      }
      std::int64_t units = stages_[first].tasks;
      if (fused) {
        group.outer = 1;
        for (int l = 0; l < shared; ++l) group.outer *= analyses[first].loops[static_cast<std::size_t>(l)].extent;
        units = group.outer;
      }
      const double per_unit = work / static_cast<double>(std::max<std::int64_t>(1, units));
      group.chunk = std::clamp<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(kGrain) / std::max(per_unit, 1.0)), 1, std::max<std::int64_t>(1, units / threads));
      group.serial = work < kSerialWork;
      groups_.push_back(group);
      first = last;
    }
  }

  LoopRegion region_;
  std::vector<BufferId> inputs_, outputs_;
  std::vector<StageProgram> stages_;
  std::vector<Group> groups_;
  std::vector<std::size_t> temporary_offset_;
  std::size_t scratch_ = 0, worker_offset_ = 0, registers_ = 0;
};

std::unique_ptr<Kernel> bind_loops(const BindRequest& request) { return std::make_unique<LoopsKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.loops", bind_loops, ""}}};

}  // namespace

KernelSet kernels_loops() { return {kKernels, {}}; }

}  // namespace lathe::plan
