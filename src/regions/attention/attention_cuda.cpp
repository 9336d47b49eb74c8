// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of attention on CUDA devices: "cuda.attention" binds the fused kernels to strided tensors.

#include <array>

#include "plan/kernel_list.h"
#include "regions/attention/attention_plan.h"
#include "regions/attention/join_projections.h"
#include "regions/cuda_params.h"

namespace lathe::plan {
namespace {

using regions::AttentionOperand;
using regions::AttentionReach;

constexpr std::int64_t kMost = (std::int64_t{1} << 31) - 1, kMostExtent = std::int64_t{1} << 30;  ///< places; what the kernels' ints count

class AttentionKernel final : public Kernel {
 public:
  explicit AttentionKernel(const BindRequest& request) : device_(regions::need_device(request.device)), limits_(cuda::limits_of(device_.info())) {
    const ir::Attrs& params = request.params;
    if (request.outputs.size() != 1 || request.inputs.empty()) throw Error(Code::kCorruptFile, "an attention step with too few tensors");
    read(params, "q", request.inputs, q_);
    read(params, "k", request.inputs, k_);
    read(params, "v", request.inputs, v_);
    read(params, "out", request.outputs, out_);
    masked_ = params.has("mask");
    if (masked_) read(params, "mask", request.inputs, mask_);
    const auto extents = params.get_strings("extents");
    if (extents.size() != extents_.size()) throw Error(Code::kCorruptFile, "an attention step without its extents");
    for (std::size_t i = 0; i < extents_.size(); ++i) extents_[i] = ir::Dim::parse(extents[i]);
    shape_.depth = params.get_int("depth", 0);
    shape_.value_depth = params.get_int("value_depth", 0);
    params_.scale = params.get_float("scale", 1);
    zeroes_ = params.get_int("zeroes", 0) != 0;
    tuned_tile_ = params.get_int("tile", -1);
    tuned_queries_ = params.get_int("tuned_queries", 0);
    stored_ = request.outputs[0].dtype;
    if (stored_ != DType::kFloat16 && stored_ != DType::kBFloat16) throw Error(Code::kUnsupported, "an attention step on neither float16 nor bfloat16");
    for (const Operand* operand : {&q_, &k_, &v_})
      if (request.inputs[operand->input].dtype != stored_) throw Error(Code::kInternal, "the operands of an attention step have different types");
    if (masked_) {
      const DType mask = request.inputs[mask_.input].dtype;
      if (mask != DType::kFloat32 && mask != stored_) throw Error(Code::kInternal, "the mask of an attention step has another type than its operands");
      mask_type_ = regions::need_cuda_element(mask);
    }
    for (std::size_t i = 0; i < std::size(regions::kAttentionTiles); ++i) {
      const regions::AttentionTile& tile = regions::kAttentionTiles[i];
      if (tile.shared_bytes() + 2048 > static_cast<std::uint32_t>(limits_.shared_per_block)) continue;
      functions_[i] = device_.builtin_function(regions::attention_module(stored_), regions::attention_kernel_name(tile, stored_), tile.shared_bytes());
    }
    fit(request);
  }

  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  bool reads_symbols() const noexcept override { return true; }

  Status run(const KernelIo& io) const noexcept override {
    if (empty_) return Status::ok();
    cuda::AttentionParams p = params_;
    p.q = at(io.inputs[q_.input], q_offset_, 2);
    p.k = at(io.inputs[k_.input], k_offset_, 2);
    p.v = at(io.inputs[v_.input], v_offset_, 2);
    p.out = const_cast<void*>(at(io.outputs[0], out_offset_, 2));
    if (masked_) p.mask = at(io.inputs[mask_.input], mask_offset_, mask_type_ == cuda::kElementFloat32 ? 4 : 2);
    p.vectors = params_.vectors && cuda::wide(p.q) && cuda::wide(p.k) && cuda::wide(p.v) && cuda::wide(p.out);
    return functions_[static_cast<std::size_t>(tile_)].launch_with(static_cast<cuda::StreamHandle>(io.stream), launch_, p);
  }

 private:
  struct Operand : AttentionOperand {
    std::size_t input = 0;
  };

  static const void* at(const void* base, std::int64_t offset, std::int64_t bytes) noexcept { return static_cast<const char*>(base) + offset * bytes; }

  static void read(const ir::Attrs& params, const char* name, std::span<const TensorDesc> tensors, Operand& operand) {
    const auto list = params.get_ints(name);
    if (list.size() < 9 || list[0] < 0 || list[0] >= static_cast<std::int64_t>(tensors.size()) ||
        tensors[static_cast<std::size_t>(list[0])].dims.size() != list.size() - 9)
      throw Error(Code::kCorruptFile, fmt::format("the places of '{}' in an attention step are none", name));
    operand.input = static_cast<std::size_t>(list[0]);
    const auto place = [&](std::size_t i) {
      if (list[i] < -1 || list[i] > 15 || list[i + 1] < 0 || list[i + 1] > kMost) throw Error(Code::kCorruptFile, "a place in an attention step is none");
      return regions::Place{static_cast<int>(list[i]), list[i + 1]};
    };
    operand.batch = {place(1), place(3)};
    operand.row = place(5);
    operand.column = place(7);
    operand.offset.assign(list.begin() + 9, list.end());
    for (const std::int64_t offset : operand.offset)
      if (offset < 0 || offset > kMost) throw Error(Code::kCorruptFile, "an offset in an attention step is none");
  }

  void fit(const BindRequest& request) {
    std::array<std::int64_t, 4> extents{};
    for (std::size_t i = 0; i < extents.size(); ++i) {
      const auto extent = extents_[i].evaluate(request.symbols);
      if (!extent || *extent < 0 || *extent > kMostExtent) throw Error(Code::kUnsupported, "an extent of an attention step is not known");
      extents[i] = *extent;
    }
    regions::AttentionShape& s = shape_;
    s.outer = extents[0], s.inner = extents[1], s.queries = extents[2], s.keys = extents[3];
    empty_ = request.outputs[0].elements() == 0;
    if (empty_) return;
    if (s.outer < 1 || s.inner < 1 || s.queries < 1 || s.depth < 1 || s.value_depth < 1 || s.depth > regions::kMostAttentionDepth ||
        s.value_depth > regions::kMostAttentionDepth || s.batch() > 65535)
      throw Error(Code::kUnsupported, "an attention step of extents that it has no kernel for");
    std::string why;
    const auto reach = [&](const Operand& operand, const TensorDesc& desc, std::int64_t rows, std::int64_t columns, std::int64_t& offset) {
      const auto found = regions::attention_reach(operand, desc, {s.outer, s.inner}, rows, columns, why);
      if (!found) throw Error(Code::kCorruptFile, why);
      offset = found->offset;
      return *found;
    };
    const AttentionReach q = reach(q_, request.inputs[q_.input], s.queries, s.depth, q_offset_),
                         k = reach(k_, request.inputs[k_.input], s.keys, s.depth, k_offset_),
                         v = reach(v_, request.inputs[v_.input], s.keys, s.value_depth, v_offset_),
                         out = reach(out_, request.outputs[0], s.queries, s.value_depth, out_offset_);
    if (s.outer * s.inner * s.queries * s.value_depth != request.outputs[0].elements())
      throw Error(Code::kCorruptFile, "the result of an attention step does not have the extents that its plan says");
    bool vectors = s.depth % 8 == 0 && s.value_depth % 8 == 0;
    for (const AttentionReach* each : {&q, &k, &v, &out}) {
      if (each->column != 1 && (each == &v || each == &out ? s.value_depth : s.depth) > 1)
        throw Error(Code::kInternal, "the elements of a head are not contiguous");
      vectors = vectors && each->at.outer % 8 == 0 && each->at.inner % 8 == 0 && each->at.row % 8 == 0 && each->offset % 8 == 0;
    }
    cuda::AttentionParams& p = params_;
    p.q_at = q.at, p.k_at = k.at, p.v_at = v.at, p.out_at = out.at;
    if (masked_) {
      const AttentionReach mask = reach(mask_, request.inputs[mask_.input], s.queries, s.keys, mask_offset_);
      p.mask_at = mask.at;
      if (mask.column > kMost) throw Error(Code::kUnsupported, "the columns of an attention step's mask lie too far apart");
      p.mask_column = static_cast<int>(mask.column);
      p.mask_type = mask_type_;
    }
    p.queries = static_cast<int>(s.queries);
    p.keys = static_cast<int>(s.keys);
    p.depth = static_cast<int>(s.depth);
    p.value_depth = static_cast<int>(s.value_depth);
    p.batch_inner = cuda::fast_divisor(static_cast<std::uint32_t>(s.inner));
    p.vectors = vectors;
    p.zeroes = zeroes_ || s.keys == 0;  // a sum over no keys
    const std::int64_t work = s.queries * s.batch();
    const bool near = cuda::near_tuned(work, tuned_queries_);
    const bool tuned = near && tuned_tile_ >= 0 && tuned_tile_ < static_cast<std::int64_t>(functions_.size()) &&
                       regions::attention_tile_fits(regions::kAttentionTiles[tuned_tile_], s, limits_);
    tile_ = tuned ? static_cast<int>(tuned_tile_) : regions::best_attention_tile(s, limits_);
    if (tile_ < 0 || !functions_[static_cast<std::size_t>(tile_)]) throw Error(Code::kUnsupported, "an attention step with heads that no kernel holds");
    const regions::AttentionTile& tile = regions::kAttentionTiles[tile_];
    launch_ = {};
    launch_.grid_x = static_cast<std::uint32_t>((s.queries + tile.rows() - 1) / tile.rows());
    launch_.grid_y = static_cast<std::uint32_t>(s.batch());
    launch_.block = static_cast<std::uint32_t>(32 * tile.row_warps * tile.key_warps);
    launch_.shared_bytes = tile.shared_bytes();
    launch_.overlaps = limits_.arch >= 90;
  }

  cuda::Device& device_;
  cuda::GpuLimits limits_;
  Operand q_, k_, v_, out_, mask_;
  std::array<ir::Dim, 4> extents_;
  regions::AttentionShape shape_;
  std::array<cuda::Function, std::size(regions::kAttentionTiles)> functions_;
  cuda::AttentionParams params_;
  cuda::LaunchShape launch_;
  DType stored_ = DType::kUndefined;
  cuda::ElementType mask_type_ = cuda::kElementFloat32;
  std::int64_t q_offset_ = 0, k_offset_ = 0, v_offset_ = 0, out_offset_ = 0, mask_offset_ = 0, tuned_tile_ = -1, tuned_queries_ = 0;
  int tile_ = -1;
  bool masked_ = false, zeroes_ = false, empty_ = false;
};

std::unique_ptr<Kernel> bind_attention(const BindRequest& request) { return std::make_unique<AttentionKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cuda.attention", bind_attention, ""}}};

}  // namespace

KernelSet kernels_attention_cuda() { return {kKernels, {}}; }

}  // namespace lathe::plan
