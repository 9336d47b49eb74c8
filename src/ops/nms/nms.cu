// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// NonMaxSuppressionPadded behind a sort by score (topk.cu): a block for each image and class goes through its boxes in pieces as wide as the block.
// Every thread holds one box against all that are taken already; what is left of a piece is taken one by one, each against all behind it. Then
// the rows of all classes are put one behind the other. The arithmetic is nms_box.h's, without fused multiply-adds.
//! limits nms_*: registers 64, shared 8192, spill 0

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/nms/nms_params.h"

namespace lathe::cuda {

struct Corners {
  float x1, y1, x2, y2;
};

// As std::min and std::max order, for what is no number too.
__device__ inline float lesser(float a, float b) { return b < a ? b : a; }
__device__ inline float greater(float a, float b) { return a < b ? b : a; }
__device__ inline float area(const Corners& b) { return __fmul_rn(__fsub_rn(b.x2, b.x1), __fsub_rn(b.y2, b.y1)); }

__device__ inline bool overlap(const Corners& a, const Corners& b, float threshold) {
  const float width = __fsub_rn(lesser(a.x2, b.x2), greater(a.x1, b.x1)), height = __fsub_rn(lesser(a.y2, b.y2), greater(a.y1, b.y1));
  if (!(width > 0) || !(height > 0)) return false;
  const float common = __fmul_rn(width, height), a_area = area(a), b_area = area(b), total = __fsub_rn(__fadd_rn(a_area, b_area), common);
  if (!(a_area > 0) || !(b_area > 0) || !(total > 0)) return false;
  return __fdiv_rn(common, total) > threshold;
}

__device__ inline Corners corners_of(const NmsParams& p, int image, long long box) {
  const long long at = image * p.box_image + box * p.box_row;
  const float a = load_element(p.boxes, at, p.box_type), b = load_element(p.boxes, at + p.box_side, p.box_type);
  const float c = load_element(p.boxes, at + 2 * p.box_side, p.box_type), d = load_element(p.boxes, at + 3 * p.box_side, p.box_type);
  if (p.centre) {
    const float w = __fmul_rn(c, 0.5f), h = __fmul_rn(d, 0.5f);
    return {__fsub_rn(a, w), __fsub_rn(b, h), __fadd_rn(a, w), __fadd_rn(b, h)};
  }
  return {lesser(b, d), lesser(a, c), greater(b, d), greater(a, c)};
}

/// What the threads of a block share.
struct NmsShared {
  float corners[kNmsThreads][4];
  u32 alive[kNmsThreads / 32];
};

__device__ inline Corners corners_at(const float* p) { return {p[0], p[1], p[2], p[3]}; }

__device__ inline void nms_take(const NmsParams& p, NmsShared& shared) {
  launch_dependents();
  const int item = static_cast<int>(blockIdx.x), image = item / p.classes, thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const long long row = image * p.score_image + (item - image * p.classes) * p.score_class;
  const long long* order = p.order + static_cast<long long>(item) * p.count;
  int* taken = p.taken + static_cast<long long>(item) * p.room;
  float* corners = p.corners + static_cast<long long>(item) * p.room * 4;
  wait_for_previous();
  const long long wanted = p.most ? *p.most : 0;
  const int most = p.most ? static_cast<int>(min(max(wanted, 0ll), static_cast<long long>(p.room))) : p.room;
  const float threshold = p.iou ? load_element(p.iou, 0, p.iou_type) : 0.0f, least = p.least ? load_element(p.least, 0, p.least_type) : 0.0f;
  // Is a box with this score in the race?
  const auto counts = [&](float score) { return p.least ? score > least : score == score; };
  int count = 0;
  for (int begin = 0; begin < p.count && count < most; begin += kNmsThreads) {
    // Scores fall, behind those that are no numbers: where the piece begins with one that is too low, all are.
    const float first = load_element(p.scores, row + order[begin] * p.score_along, p.score_type);
    if (first == first && !counts(first)) break;
    const int i = begin + thread;
    const long long box = i < p.count ? order[i] : 0;
    bool alive = i < p.count && counts(load_element(p.scores, row + box * p.score_along, p.score_type));
    Corners own = {0, 0, 0, 0};
    if (alive) {
      own = corners_of(p, image, box);
      for (int k = 0; k < count && alive; ++k) alive = !overlap(own, corners_at(corners + 4 * k), threshold);
    }
    float* mine = shared.corners[thread];
    mine[0] = own.x1, mine[1] = own.y1, mine[2] = own.x2, mine[3] = own.y2;
    for (int from = 0; count < most;) {
      const u32 lanes = __ballot_sync(0xffffffffu, alive);
      if (lane == 0) shared.alive[warp] = lanes;
      __syncthreads();
      int next = kNmsThreads;
      for (int w = from / 32; w < kNmsThreads / 32 && next == kNmsThreads; ++w) {
        const u32 left = shared.alive[w] & (w == from / 32 ? ~0u << (from % 32) : ~0u);
        if (left) next = 32 * w + __ffs(static_cast<int>(left)) - 1;
      }
      if (next < kNmsThreads) {
        if (thread == next) {
          taken[count] = static_cast<int>(box);
          for (int side = 0; side < 4; ++side) corners[4 * count + side] = mine[side];
        }
        if (thread > next && alive) alive = !overlap(own, corners_at(shared.corners[next]), threshold);
        ++count;
      }
      __syncthreads();  // the words have been read
      from = next + 1;
      if (from >= kNmsThreads) break;
    }
    __syncthreads();  // the corners too, and those taken are there for all
  }
  if (thread == 0) p.counts[item] = count;
}

__device__ inline void nms_write(const NmsParams& p, int* sums) {
  launch_dependents();
  const int items = p.images * p.classes, item = static_cast<int>(blockIdx.x), thread = static_cast<int>(threadIdx.x);
  wait_for_previous();
  int before = 0;
  for (int i = thread; i < item; i += kNmsThreads) before += p.counts[i];
  sums[thread] = before;
  __syncthreads();
  for (int apart = kNmsThreads / 2; apart > 0; apart /= 2) {
    if (thread < apart) sums[thread] += sums[thread + apart];
    __syncthreads();
  }
  before = sums[0];
  const int own = item < items ? p.counts[item] : 0, image = items ? item / p.classes : 0;
  for (int i = thread; i < own; i += kNmsThreads) {
    long long* row = p.rows + (static_cast<long long>(before) + i) * p.row_step;
    row[0] = image;
    row[p.column_step] = item - image * p.classes;
    row[2 * p.column_step] = p.taken[static_cast<long long>(item) * p.room + i];
  }
  if (thread == 0 && blockIdx.x == gridDim.x - 1) *p.all = static_cast<long long>(before) + own;
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(256) nms_take(const __grid_constant__ lathe::cuda::NmsParams p) {
  __shared__ lathe::cuda::NmsShared shared;
  lathe::cuda::nms_take(p, shared);
}
extern "C" __global__ void __launch_bounds__(256) nms_write(const __grid_constant__ lathe::cuda::NmsParams p) {
  __shared__ int sums[lathe::cuda::kNmsThreads];
  lathe::cuda::nms_write(p, sums);
}
