// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cpu.loops": a region of the region language on the CPU. Binding compiles every stage to a tile program (program.h) and groups stages
// that share outer loops: such a group runs slice by slice, so that what one stage writes the next one finds in cache.

#include <algorithm>
#include <array>
#include <atomic>
#include <memory_resource>

#include <fmt/format.h>

#include "base/arena.h"
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

constexpr std::int64_t kSerialWork = 16384;  // points x instructions below which waking threads costs more than it brings
constexpr std::int64_t kGrain = 32768;       // the same per task group
constexpr std::size_t kRawBytes = static_cast<std::size_t>(loops::cpu::kTilePoints) * 8;
constexpr std::size_t kMaxBuffers = 256;

std::size_t align(std::size_t bytes) { return (bytes + 63) / 64 * 64; }

struct Group {
  std::size_t first = 0, last = 0;
  std::int64_t slices = 0;  ///< of fused stages; 0: one stage, task by task
  std::int64_t chunk = 1;   ///< tasks (or slices) per call
  bool serial = false;
  std::size_t first_local = 0, last_local = 0;  ///< its temporaries of one block, in locals_
};

/// Does a region use symbols anywhere, as an extent or as a value?
bool is_symbolic(const LoopRegion& region) {
  const auto symbolic = [](const ir::Dim& dim) { return !dim.is_constant(); };
  for (const loops::Stage& stage : region.stages)
    if (std::any_of(stage.axes.begin(), stage.axes.end(), [&](const loops::Axis& axis) { return symbolic(axis.extent); })) return true;
  for (const loops::Buffer& buffer : region.buffers)
    if (std::any_of(buffer.shape.begin(), buffer.shape.end(), symbolic)) return true;
  return std::any_of(region.exprs.begin(), region.exprs.end(), [&](const loops::Expr& e) { return e.op == loops::ExprOp::kDim && symbolic(e.dim); });
}

class LoopsKernel final : public Kernel {
 public:
  explicit LoopsKernel(const BindRequest& request) : region_(loops::parse_region(request.params.get_string("region", ""))) {
    const std::size_t count = region_.buffers.size();
    if (count > kMaxBuffers) throw Error(Code::kUnsupported, fmt::format("a region of more than {} buffers", kMaxBuffers));
    for (std::size_t b = 0; b < count; ++b) {
      if (region_.buffers[b].role == Role::kTemporary) continue;
      (region_.buffers[b].role == Role::kInput ? inputs_ : outputs_).push_back(static_cast<BufferId>(b));
    }
    if (inputs_.size() > request.inputs.size() || outputs_.size() > request.outputs.size())
      throw Error(Code::kCorruptFile, "a loops step has fewer tensors than its region has buffers");
    descs_.resize(count);
    elements_.resize(count);
    temporary_offset_.resize(count);
    stages_.resize(region_.stages.size());
    groups_.reserve(region_.stages.size());
    locals_.reserve(count);
    fit(request);
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  bool reads_symbols() const noexcept override { return symbolic_; }
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
        for (std::size_t i = group.first_local; i < group.last_local; ++i) {
          const auto& [buffer, offset] = locals_[i];
          own[static_cast<std::size_t>(buffer)] = memory.raw + kRawBytes + offset;
        }
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
      const std::string& source = *stages_[static_cast<std::size_t>(bad.load())].source;
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
      note(group.first, loops::cpu::run_piece(stage, memory_of(pointers, scratch, worker), unit / stage.pieces, unit % stage.pieces,
                                              partials + static_cast<std::size_t>(unit) * one));
    });
    for (std::int64_t task = 0; task < stage.tasks; ++task)
      loops::cpu::combine_pieces(stage, memory_of(pointers, scratch, 0), task, partials + static_cast<std::size_t>(task * stage.pieces) * one);
  }

  void fit(const BindRequest& request) {
    Arena own;  // for callers that bind once
    std::pmr::memory_resource* memory = request.memory ? request.memory : &own;
    loops::check_requirements(region_, request.symbols);
    settle_descs(request);
    std::pmr::vector<StageAnalysis> analyses(memory);
    analyses.reserve(stages_.size());
    for (const loops::Stage& stage : region_.stages) analyses.push_back(loops::cpu::analyze(region_, stage, request.symbols, memory));
    const auto plans = loops::cpu::plan_groups(region_, analyses, descs_, elements_, memory);
    groups_.clear();
    locals_.clear();
    local_bytes_ = 0;
    for (const loops::cpu::StageGroup& plan : plans) add_group(plan, analyses, request.threads, memory);
    place_temporaries(request.threads);
  }

  void settle_descs(const BindRequest& request) {
    std::size_t in = 0, out = 0;
    for (std::size_t b = 0; b < descs_.size(); ++b) {
      const loops::Buffer& buffer = region_.buffers[b];
      TensorDesc& desc = descs_[b];
      if (buffer.role == Role::kTemporary) desc.dtype = buffer.dtype;
      else desc = buffer.role == Role::kInput ? request.inputs[in++] : request.outputs[out++];
      Dims& dims = dims_;
      dims.clear();
      for (const ir::Dim& dim : buffer.shape) {
        const auto extent = dim.evaluate(request.symbols);
        if (!extent) throw Error(Code::kCorruptFile, fmt::format("the shape of '{}' has an unbound symbol", buffer.name));
        dims.push_back(*extent);
      }
      if (buffer.role == Role::kTemporary) {
        desc.dims = dims;
        desc.strides.resize(dims.size());
        std::int64_t stride = 1;
        for (std::size_t axis = dims.size(); axis-- > 0;) {
          desc.strides[axis] = stride;
          stride *= std::max<std::int64_t>(dims[axis], 1);
        }
      } else if (desc.dims != dims) {
        throw Error(Code::kInvalidArgument, fmt::format("'{}' has the extents {}, its step says {}", buffer.name, to_string(desc.dims), to_string(dims)));
      }
    }
  }

  void add_group(const loops::cpu::StageGroup& plan, std::pmr::vector<StageAnalysis>& analyses, int threads, std::pmr::memory_resource* memory) {
    Group group;
    group.first = plan.first;
    group.last = plan.last;
    group.slices = plan.slices;
    double work = 0;
    for (std::size_t s = plan.first; s < plan.last; ++s) {
      loops::cpu::compile_stage(region_, std::move(analyses[s]), descs_, plan.fusion, memory, stages_[s]);
      work += static_cast<double>(stages_[s].tasks) * static_cast<double>(stages_[s].points_per_task) * stages_[s].weight;
    }
    std::size_t bytes = 0;
    group.first_local = locals_.size();
    for (std::size_t b = 0; b < plan.fusion.local.size(); ++b)
      if (plan.fusion.local[b]) {
        locals_.emplace_back(static_cast<BufferId>(b), bytes);
        bytes += align(dtype_bytes(descs_[b].dtype, elements_[b]));
      }
    group.last_local = locals_.size();
    local_bytes_ = std::max(local_bytes_, bytes);
    const std::int64_t units = plan.slices > 0 ? plan.slices : stages_[plan.first].tasks;
    const double per_unit = work / static_cast<double>(std::max<std::int64_t>(1, units));
    group.chunk = std::clamp<std::int64_t>(static_cast<std::int64_t>(static_cast<double>(kGrain) / std::max(per_unit, 1.0)), 1,
                                           std::max<std::int64_t>(1, units / threads));
    group.serial = work < kSerialWork;
    groups_.push_back(group);
  }

  void place_temporaries(int threads) {
    scratch_ = registers_ = 0;
    for (std::size_t b = 0; b < descs_.size(); ++b) {
      temporary_offset_[b] = 0;
      const bool local = std::any_of(locals_.begin(), locals_.end(), [&](const auto& entry) { return entry.first == static_cast<BufferId>(b); });
      if (region_.buffers[b].role != Role::kTemporary || local) continue;
      temporary_offset_[b] = scratch_;
      scratch_ += align(dtype_bytes(descs_[b].dtype, elements_[b]));
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
    scratch_ += per_worker_ * static_cast<std::size_t>(std::max(1, threads));
  }

  LoopRegion region_;
  bool symbolic_ = is_symbolic(region_);
  std::vector<BufferId> inputs_, outputs_;
  std::vector<TensorDesc> descs_;  ///< one per buffer
  std::vector<std::int64_t> elements_;
  std::vector<StageProgram> stages_;
  std::vector<Group> groups_;
  std::vector<std::pair<BufferId, std::size_t>> locals_;  ///< temporaries of one block, and where they are in a worker's memory
  std::vector<std::size_t> temporary_offset_;
  Dims dims_;
  std::size_t scratch_ = 0, partial_offset_ = 0, worker_offset_ = 0, per_worker_ = 0, registers_ = 0, local_bytes_ = 0;
};

std::unique_ptr<Kernel> bind_loops(const BindRequest& request) { return std::make_unique<LoopsKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.loops", bind_loops, ""}}};

}  // namespace

KernelSet kernels_loops() { return {kKernels, {}}; }

}  // namespace lathe::plan
