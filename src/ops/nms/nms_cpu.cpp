// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The run half of NonMaxSuppressionPadded on the CPU: one task for each image and class, then their rows one behind the other.

#include <algorithm>
#include <array>
#include <limits>

#include "base/half.h"
#include "base/thread_pool.h"
#include "ops/nms/nms_box.h"
#include "ops/nms/nms_plan.h"
#include "plan/kernel_list.h"

namespace lathe::plan {
namespace {

float load(const void* data, std::int64_t at, DType dtype) noexcept {
  if (dtype == DType::kFloat32) return static_cast<const float*>(data)[at];
  const std::uint16_t bits = static_cast<const std::uint16_t*>(data)[at];
  return dtype == DType::kFloat16 ? half_to_float(bits) : bfloat16_to_float(bits);
}

class NmsKernel final : public Kernel {
 public:
  explicit NmsKernel(const BindRequest& request) { fit(request); }
  bool rebind(const BindRequest& request) noexcept override {
    return fits([&] { fit(request); });
  }
  std::size_t scratch_bytes() const noexcept override { return each_ * static_cast<std::size_t>(threads_) + plan_.taken_bytes() + plan_.count_bytes() + 64; }

  Status run(const KernelIo& io) const noexcept override {
    const cuda::NmsParams& p = plan_.params;
    auto* of_threads = static_cast<std::byte*>(io.scratch);
    auto* taken = reinterpret_cast<int*>(of_threads + each_ * static_cast<std::size_t>(threads_));
    int* counts = taken + plan_.items * static_cast<std::size_t>(p.room);
    const auto most = given(2) ? std::clamp<std::int64_t>(static_cast<const std::int64_t*>(io.inputs[2])[0], 0, p.room) : 0;
    const float iou = given(3) ? load(io.inputs[3], 0, types_[3]) : 0.0F, least = given(4) ? load(io.inputs[4], 0, types_[4]) : 0.0F;
    io.pool->parallel_for(static_cast<std::int64_t>(plan_.items), [&](std::int64_t item, int worker) {
      counts[item] = static_cast<int>(take(io, item, most, iou, least, of_threads + each_ * static_cast<std::size_t>(worker), taken + item * p.room));
    });
    auto* rows = static_cast<std::int64_t*>(io.outputs[0]);
    std::int64_t all = 0;
    for (std::int64_t item = 0; item < static_cast<std::int64_t>(plan_.items); ++item)
      for (int i = 0; i < counts[item]; ++i) {
        std::int64_t* row = rows + all++ * p.row_step;
        row[0] = item / p.classes;
        row[p.column_step] = item % p.classes;
        row[2 * p.column_step] = taken[item * p.room + i];
      }
    *static_cast<std::int64_t*>(io.outputs[1]) = all;
    return Status::ok();
  }

 private:
  struct Entry {
    float score;
    int box;
  };

  bool given(std::size_t i) const noexcept { return types_[i] != DType::kUndefined; }

  void fit(const BindRequest& request) {
    std::string why;
    if (!ops::nms_plan(request.inputs, request.outputs, request.params.get_int("most", -1), request.params.get_int("center_point_box", 0) != 0, plan_, why))
      throw Error(Code::kUnsupported, "a NonMaxSuppression step: " + why);
    for (std::size_t i = 0; i < ops::kNmsInputs; ++i) {
      types_[i] = ops::nms_is_given(request.inputs[i]) ? request.inputs[i].dtype : DType::kUndefined;
      if (i != 2 && given(i) && types_[i] != DType::kFloat32 && types_[i] != DType::kFloat16 && types_[i] != DType::kBFloat16)
        throw Error(Code::kUnsupported, "a NonMaxSuppression step of another type than float32");
    }
    threads_ = std::max(request.threads, 1);
    const auto count = static_cast<std::size_t>(plan_.params.count), room = static_cast<std::size_t>(plan_.params.room);
    each_ = (count * sizeof(Entry) + room * sizeof(ops::Box) + 63) / 64 * 64;
  }

  /// How many boxes of an image and class are taken; which, in `taken`.
  std::int64_t take(const KernelIo& io, std::int64_t item, std::int64_t most, float iou, float least, std::byte* scratch, int* taken) const noexcept {
    const cuda::NmsParams& p = plan_.params;
    const std::int64_t image = item / p.classes, row = image * p.score_image + item % p.classes * p.score_class;
    auto* entries = reinterpret_cast<Entry*>(scratch);
    auto* boxes = reinterpret_cast<ops::Box*>(entries + p.count);
    std::int64_t left = 0, count = 0;
    const auto enter = [&](const auto& score_of) {
      const bool by_score = given(4);
      for (int i = 0; i < p.count; ++i) {
        const float score = score_of(i);
        if (by_score ? score > least : score == score) entries[left++] = {score, i};
      }
    };
    if (types_[1] == DType::kFloat32 && p.score_along == 1) enter([scores = static_cast<const float*>(io.inputs[1]) + row](int i) { return scores[i]; });
    else enter([&](int i) { return load(io.inputs[1], row + i * p.score_along, types_[1]); });
    // Sorted in growing pieces: often the first few boxes are all that is asked for.
    const auto before = [](const Entry& a, const Entry& b) { return a.score > b.score || (a.score == b.score && a.box < b.box); };
    std::int64_t sorted = 0;
    for (std::int64_t i = 0; i < left && count < most; ++i) {
      if (i == sorted) {
        sorted = std::min(left, std::max<std::int64_t>(2 * sorted, 4 * most));
        if (sorted < left) std::nth_element(entries + i, entries + sorted, entries + left, before);
        std::sort(entries + i, entries + sorted, before);
      }
      const std::int64_t at = image * p.box_image + entries[i].box * p.box_row;
      const auto side = [&](std::int64_t s) { return load(io.inputs[0], at + s * p.box_side, types_[0]); };
      const ops::Box box = ops::box_of(side(0), side(1), side(2), side(3), p.centre != 0);
      if (std::any_of(boxes, boxes + count, [&](const ops::Box& other) { return ops::overlaps(box, other, iou); })) continue;
      boxes[count] = box;
      taken[count++] = entries[i].box;
    }
    return count;
  }

  ops::NmsPlan plan_;
  std::array<DType, ops::kNmsInputs> types_{};
  int threads_ = 1;
  std::size_t each_ = 0;
};

std::unique_ptr<Kernel> bind_nms(const BindRequest& request) { return std::make_unique<NmsKernel>(request); }

constexpr std::array<KernelType, 1> kKernels{{{"cpu.nms", bind_nms, ""}}};

}  // namespace

KernelSet kernels_nms() { return {kKernels, {}}; }

}  // namespace lathe::plan
