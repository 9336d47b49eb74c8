// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// TensorRT's NMS plugins, around sorts by topk.cu: what is no candidate gets the score -inf; a block for each group goes through its candidates in pieces as
// wide as the block, every thread with one box against all that are taken already, and what is left of a piece is taken one by one; then each image's rows
// are written. The arithmetic is nms_plugins.cpp's, in double precision without fused multiply-adds.
//! limits trt_nms_*: registers 96, shared 12288, spill 8

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/trt/trt_nms_params.h"

namespace lathe::cuda {

// As std::min and std::max order, for what is no number too.
__device__ inline double trt_lesser(double a, double b) { return b < a ? b : a; }
__device__ inline double trt_greater(double a, double b) { return a < b ? b : a; }

struct TrtBox {
  double a[4];
};

__device__ inline double trt_sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

/// Of a group's place: the box, and its class.
struct TrtPlace {
  int box, label;
  __device__ TrtPlace(const TrtNmsParams& p, int group, int place) {
    box = p.efficient ? place / p.classes : place;
    label = p.efficient ? place - box * p.classes : group;
  }
};

__device__ inline void trt_nms_scores(const TrtNmsParams& p) {
  launch_dependents();
  wait_for_previous();
  const int size = p.efficient ? p.count * p.classes : p.count, item = static_cast<int>(blockIdx.x), image = item / p.groups;
  for (int i = static_cast<int>(blockIdx.y * kTrtNmsThreads + threadIdx.x); i < size; i += static_cast<int>(gridDim.y) * kTrtNmsThreads) {
    const TrtPlace at(p, item - image * p.groups, i);
    const float raw = load_element(p.scores, image * p.score_image + at.box * p.score_row + at.label * p.score_class, p.score_type);
    const double score = p.sigmoid ? trt_sigmoid(static_cast<double>(raw)) : static_cast<double>(raw);
    const bool counts = at.label != p.background && (p.efficient ? score >= p.least : score > p.least);
    // -inf, which a sigmoid may have been made of, is no candidate's: the lowest number is.
    p.keys[static_cast<long long>(item) * size + i] = counts ? fmaxf(raw, -3.402823466e38f) : __uint_as_float(0xff800000u);
  }
}

/// As it is suppressed and written: decoded from its anchor, and two corners where it was a centre.
__device__ inline TrtBox trt_box(const TrtNmsParams& p, int image, const TrtPlace& at) {
  TrtBox box;
  const long long from = image * p.box_image + at.box * p.box_row + at.label * p.box_class;
#pragma unroll
  for (int i = 0; i < 4; ++i) box.a[i] = static_cast<double>(load_element(p.boxes, from + i * p.box_side, p.box_type));
  if (p.anchors) {
    TrtBox anchor;
    const long long anchor_from = image * p.anchor_image + at.box * p.anchor_row;
#pragma unroll
    for (int i = 0; i < 4; ++i) anchor.a[i] = static_cast<double>(load_element(p.anchors, anchor_from + i * p.anchor_side, p.anchor_type));
#pragma unroll
    for (int i = 0; i < 2; ++i) {
      const double low = box.a[i], high = box.a[i + 2];
      if (p.centre) {
        box.a[i] = __dadd_rn(__dmul_rn(low, anchor.a[i + 2]), anchor.a[i]);
        box.a[i + 2] = __dmul_rn(exp(high), anchor.a[i + 2]);
      } else {
        box.a[i] = __dadd_rn(trt_lesser(low, high), trt_lesser(anchor.a[i], anchor.a[i + 2]));
        box.a[i + 2] = __dadd_rn(trt_greater(low, high), trt_greater(anchor.a[i], anchor.a[i + 2]));
      }
    }
  }
  if (!p.centre) return box;
  TrtBox corners;
#pragma unroll
  for (int i = 0; i < 2; ++i) {
    const double half = __dmul_rn(box.a[i + 2], 0.5);
    corners.a[i] = __dadd_rn(box.a[i], -half);
    corners.a[i + 2] = __dadd_rn(box.a[i], half);
  }
  return corners;
}

/// Is `q`, taken before, too much like `b`?
__device__ inline bool trt_drops(const TrtNmsParams& p, const TrtBox& b, const double* q) {
  double common = 1, first = 1, second = 1;
  bool apart = false;
#pragma unroll
  for (int axis = 0; axis < 2; ++axis) {
    const double b_low = trt_lesser(b.a[axis], b.a[axis + 2]), b_high = trt_greater(b.a[axis], b.a[axis + 2]);
    const double q_low = trt_lesser(q[axis], q[axis + 2]), q_high = trt_greater(q[axis], q[axis + 2]);
    const double low = trt_greater(b_low, q_low), high = trt_lesser(b_high, q_high), length = __dadd_rn(__dadd_rn(high, -low), p.more_common);
    apart = apart || !(high >= low) || !(length > 0);
    common = __dmul_rn(common, length);
    first = __dmul_rn(first, __dadd_rn(__dadd_rn(b_high, -b_low), p.more));
    second = __dmul_rn(second, __dadd_rn(__dadd_rn(q_high, -q_low), p.more));
  }
  const double all = __dadd_rn(__dadd_rn(first, second), -common), overlap = !apart && all > 0 ? common / all : 0;
  return p.efficient ? overlap >= p.iou : overlap > p.iou;
}

/// What the threads of a block share.
struct TrtNmsShared {
  double corners[kTrtNmsThreads][4];
  int labels[kTrtNmsThreads];
  u32 alive[kTrtNmsThreads / 32];
};

__device__ inline void trt_nms_take(const TrtNmsParams& p, TrtNmsShared& shared) {
  launch_dependents();
  const int item = static_cast<int>(blockIdx.x), image = item / p.groups, group = item - image * p.groups;
  const int thread = static_cast<int>(threadIdx.x), warp = thread / 32, lane = thread % 32;
  const int size = p.efficient ? p.count * p.classes : p.count;
  const float* keys = p.keys + static_cast<long long>(item) * size;
  const long long* order = p.order + static_cast<long long>(item) * p.each;
  int* taken = p.taken + static_cast<long long>(item) * p.room;
  float* taken_keys = p.taken_keys + static_cast<long long>(item) * p.room;
  double* corners = p.corners + static_cast<long long>(item) * p.room * 4;
  const float none = __uint_as_float(0xff800000u);
  // Boxes of other classes do not count, unless all do.
  const auto same = [&](int a, int b) { return p.agnostic || a == b; };
  wait_for_previous();
  int count = 0;
  for (int begin = 0; begin < p.each && count < p.room; begin += kTrtNmsThreads) {
    if (keys[order[begin]] == none) break;  // and all behind it
    const int i = begin + thread, place = i < p.each ? static_cast<int>(order[i]) : 0;
    const float key = i < p.each ? keys[place] : none;
    const TrtPlace at(p, group, place);
    bool alive = key != none;
    TrtBox own = {{0, 0, 0, 0}};
    if (alive) {
      own = trt_box(p, image, at);
      for (int k = 0; k < count && alive; ++k) alive = !(same(at.label, TrtPlace(p, group, taken[k]).label) && trt_drops(p, own, corners + 4 * k));
    }
#pragma unroll
    for (int side = 0; side < 4; ++side) shared.corners[thread][side] = own.a[side];
    shared.labels[thread] = at.label;
    for (int from = 0; count < p.room;) {
      const u32 lanes = __ballot_sync(0xffffffffu, alive);
      if (lane == 0) shared.alive[warp] = lanes;
      __syncthreads();
      int next = kTrtNmsThreads;
      for (int w = from / 32; w < kTrtNmsThreads / 32 && next == kTrtNmsThreads; ++w) {
        const u32 left = shared.alive[w] & (w == from / 32 ? ~0u << (from % 32) : ~0u);
        if (left) next = 32 * w + __ffs(static_cast<int>(left)) - 1;
      }
      if (next < kTrtNmsThreads) {
        if (thread == next) {
          taken[count] = place;
          taken_keys[count] = key;
#pragma unroll
          for (int side = 0; side < 4; ++side) corners[4 * count + side] = own.a[side];
        }
        if (thread > next && alive) alive = !(same(at.label, shared.labels[next]) && trt_drops(p, own, shared.corners[next]));
        ++count;
      }
      __syncthreads();  // the words have been read
      from = next + 1;
      if (from >= kTrtNmsThreads) break;
    }
    __syncthreads();  // the corners too, and those taken are there for all
  }
  for (int i = count + thread; i < p.room; i += kTrtNmsThreads) taken_keys[i] = none;
}

__device__ inline void trt_nms_write(const TrtNmsParams& p) {
  launch_dependents();
  wait_for_previous();
  const int image = static_cast<int>(blockIdx.x), all = p.groups * p.room;
  const long long first = static_cast<long long>(image) * all;
  const auto slot_of = [&](int row) { return p.best ? static_cast<int>(p.best[static_cast<long long>(image) * p.found + row]) : row; };
  const auto is_filled = [&](int row) { return row < p.found && p.taken_keys[first + slot_of(row)] != __uint_as_float(0xff800000u); };
  for (int row = static_cast<int>(blockIdx.y * kTrtNmsThreads + threadIdx.x); row < p.rows; row += static_cast<int>(gridDim.y) * kTrtNmsThreads) {
    const bool filled = is_filled(row);
    if (p.counts_out) {
      if (filled && !is_filled(row + 1)) p.counts_out[image * p.count_out_image] = row + 1;
      if (row == 0 && !filled) p.counts_out[image * p.count_out_image] = 0;
    }
    TrtBox box = {{0, 0, 0, 0}};
    float score = 0;
    int label = p.efficient ? 0 : -1;
    if (filled) {
      const int slot = slot_of(row), group = slot / p.room;
      const TrtPlace at(p, group, p.taken[first + slot]);
      const float key = p.taken_keys[first + slot];
      score = p.sigmoid ? static_cast<float>(trt_sigmoid(static_cast<double>(key))) : key;
      label = at.label;
#pragma unroll
      for (int side = 0; side < 4; ++side) {
        const double value = p.corners[(first + slot) * 4 + side];
        box.a[side] = !p.clip ? value : value < 0 ? 0 : 1 < value ? 1 : value;
      }
    }
    if (p.boxes_out) {
#pragma unroll
      for (int side = 0; side < 4; ++side)
        store_element(p.boxes_out, image * p.box_out_image + row * p.box_out_row + side * p.box_out_side, p.box_out_type, static_cast<float>(box.a[side]));
    }
    if (p.scores_out) store_element(p.scores_out, image * p.score_out_image + row * p.score_out_row, p.score_out_type, score);
    if (!p.classes_out) continue;
    const long long to = image * p.class_out_image + row * p.class_out_row;
    if (p.efficient) static_cast<int*>(p.classes_out)[to] = label;
    else store_element(p.classes_out, to, p.class_out_type, static_cast<float>(label));
  }
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(256) trt_nms_scores(const __grid_constant__ lathe::cuda::TrtNmsParams p) { lathe::cuda::trt_nms_scores(p); }
extern "C" __global__ void __launch_bounds__(256) trt_nms_take(const __grid_constant__ lathe::cuda::TrtNmsParams p) {
  __shared__ lathe::cuda::TrtNmsShared shared;
  lathe::cuda::trt_nms_take(p, shared);
}
extern "C" __global__ void __launch_bounds__(256) trt_nms_write(const __grid_constant__ lathe::cuda::TrtNmsParams p) { lathe::cuda::trt_nms_write(p); }
