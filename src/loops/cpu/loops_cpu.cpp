// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.loops": a region of the region language on the CPU. Binding compiles every stage to a tile program (program.h) and groups stages
// that share outer loops: such a group runs slice by slice, so that what one stage writes the next one finds in cache.

#include <algorithm>
#include <array>
#include <atomic>

#include <fmt/format.h>

#include "base/thread_pool.h"
#include "loops/cpu/grouping.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

using loops::BufferId;
using loops::LoopRegion;
using loops::Role;
using loops::cpu::StageAnalysis;
using loops::cpu::StageProgram;
using loops::cpu::TileMemory;

constexpr std::int64_t kSerialWork = 16384;     // points x instructions below which waking threads costs more than it brings
constexpr std::int64_t kGrain = 32768;          // the same per task group
constexpr std::size_t kRawBytes = static_cast<std::size_t>(loops::cpu::kTilePoints) * 8;
constexpr std::size_t kMaxBuffers = 64;

std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

struct Group {
  std::size_t first = 0, last = 0;
  std::int64_t slices = 0;          ///< of fused stages; 0: one stage, task by task
  std::int64_t chunk = 1;           ///< tasks (or slices) per call
  bool serial = false;
  std::vector<std::pair<BufferId, std::size_t>> local;   ///< temporaries of one block, and where they are in a worker's memory
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
    std::vector<std::int64_t> elements;
    const auto plans = loops::cpu::plan_groups(region_, analyses, descs, elements);
    std::vector<bool> local(count, false);
    for (const loops::cpu::StageGroup& plan : plans) add_group(plan, analyses, descs, elements, request.threads, local);

    temporary_offset_.assign(count, 0);
    for (std::size_t b = 0; b < count; ++b) {
      if (region_.buffers[b].role != Role::kTemporary || local[b]) continue;
      temporary_offset_[b] = scratch_;
      scratch_ += align(dtype_bytes(descs[b].dtype, elements[b]));
    }
    partial_offset_ = scratch_;
    std::size_t partials = 0;
    for (const StageProgram& stage : stages_) {
      registers_ = std::max(registers_, align(static_cast<std::size_t>(stage.register_bytes)));
      if (stage.pieces > 1) partials = std::max(partials, loops::cpu::partial_bytes(stage) * static_cast<std::size_t>(stage.tasks * stage.pieces));
    }
    scratch_ += align(partials);
    worker_offset_ = scratch_;
    per_worker_ = registers_ + kRawBytes + local_bytes_;
    scratch_ += per_worker_ * static_cast<std::size_t>(std::max(1, request.threads));
  }

  std::size_t scratch_bytes() const noexcept override { return scratch_; }

  Status run(const KernelIo& io) const noexcept override {
    Pointers pointers;
    auto* scratch = static_cast<std::byte*>(io.scratch);
    for (std::size_t b = 0; b < region_.buffers.size(); ++b) pointers[b] = scratch + temporary_offset_[b];
    for (std::size_t i = 0; i < inputs_.size(); ++i) pointers[static_cast<std::size_t>(inputs_[i])] = const_cast<void*>(io.inputs[i]);
    for (std::size_t i = 0; i < outputs_.size(); ++i) pointers[static_cast<std::size_t>(outputs_[i])] = io.outputs[i];
    std::atomic<std::int64_t> bad{-1};
    const auto note = [&](std::size_t stage, bool ok) {
      if (!ok) bad.store(static_cast<std::int64_t>(stage), std::memory_order_relaxed);
    };
    for (const Group& group : groups_) {
      const StageProgram& head = stages_[group.first];
      if (head.pieces > 1) {
        run_in_pieces(group, pointers, scratch, io.pool, note);
        continue;
      }
      const std::int64_t units = group.slices > 0 ? group.slices : head.tasks;
      const auto work = [&](std::int64_t piece, int worker) {
        const std::int64_t begin = piece * group.chunk, end = std::min(units, begin + group.chunk);
        if (group.slices == 0) return note(group.first, loops::cpu::run_stage(head, memory_of(pointers, scratch, worker), begin, end));
        Pointers own = pointers;
        const TileMemory memory = memory_of(own, scratch, worker);
        for (const auto& [buffer, offset] : group.local) own[static_cast<std::size_t>(buffer)] = memory.raw + kRawBytes + offset;
        for (std::int64_t slice = begin; slice < end; ++slice)
          for (std::size_t s = group.first; s < group.last; ++s) {
            const std::int64_t per = stages_[s].tasks_per_outer;
            note(s, loops::cpu::run_stage(stages_[s], memory, slice * per, (slice + 1) * per));
          }
      };
      const std::int64_t chunks = (units + group.chunk - 1) / group.chunk;
      if (group.serial)
        for (std::int64_t chunk = 0; chunk < chunks; ++chunk) work(chunk, 0);
      else io.pool->parallel_for(chunks, work);
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
  using Pointers = std::array<void*, kMaxBuffers>;

  TileMemory memory_of(Pointers& pointers, std::byte* scratch, int worker) const noexcept {
    std::byte* own = scratch + worker_offset_ + static_cast<std::size_t>(worker) * per_worker_;
    return {pointers.data(), own, own + registers_};
  }

  template <class Note>
  void run_in_pieces(const Group& group, Pointers& pointers, std::byte* scratch, ThreadPool* pool, const Note& note) const noexcept {
    const StageProgram& stage = stages_[group.first];
    const std::size_t one = loops::cpu::partial_bytes(stage);
    std::byte* partials = scratch + partial_offset_;
    pool->parallel_for(stage.tasks * stage.pieces, [&](std::int64_t unit, int worker) {
      note(group.first, loops::cpu::run_piece(stage, memory_of(pointers, scratch, worker), unit / stage.pieces, unit % stage.pieces, partials + static_cast<std::size_t>(unit) * one));
    });
    for (std::int64_t task = 0; task < stage.tasks; ++task)
      loops::cpu::combine_pieces(stage, memory_of(pointers, scratch, 0), task, partials + static_cast<std::size_t>(task * stage.pieces) * one);
  }

  void add_group(const loops::cpu::StageGroup& plan, const std::vector<StageAnalysis>& analyses, const std::vector<TensorDesc>& descs, const std::vector<std::int64_t>& elements,
                 int threads, std::vector<bool>& local) {
    Group group;
    group.first = plan.first;
    group.last = plan.last;
    group.slices = plan.slices;
    double work = 0;
    for (std::size_t s = plan.first; s < plan.last; ++s) {
      stages_.push_back(loops::cpu::compile_stage(region_, analyses[s], descs, plan.fusion));
      work += static_cast<double>(stages_.back().tasks) * static_cast<double>(stages_.back().points_per_task) * stages_.back().weight;
    }
    std::size_t bytes = 0;
    for (std::size_t b = 0; b < plan.fusion.local.size(); ++b)
      if (plan.fusion.local[b]) {
        local[b] = true;
        group.local.emplace_back(static_cast<BufferId>(b), bytes);
        bytes += align(dtype_bytes(descs[b].dtype, elements[b]));
      }
    local_bytes_ = std::max(local_bytes_, bytes);
    const std::int64_t units = plan.slices > 0 ? plan.slices : stages_[plan.first].tasks;
    const double per_unit = work / static_cast<double>(std::max<std::int64_t>(1, units));
    group.chunk = std::clamp<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(kGrain) / std::max(per_unit, 1.0)), 1, std::max<std::int64_t>(1, units / threads));
    group.serial = work < kSerialWork;
    groups_.push_back(std::move(group));
  }

  LoopRegion region_;
  std::vector<BufferId> inputs_, outputs_;
  std::vector<StageProgram> stages_;
  std::vector<Group> groups_;
  std::vector<std::size_t> temporary_offset_;
  std::size_t scratch_ = 0, partial_offset_ = 0, worker_offset_ = 0, per_worker_ = 0, registers_ = 0, local_bytes_ = 0;
};

std::unique_ptr<Kernel> bind_loops(const BindRequest& request) { return std::make_unique<LoopsKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.loops", bind_loops, ""}}};

}  // namespace

KernelSet kernels_loops() { return {kKernels, {}}; }

}  // namespace lathe::plan
