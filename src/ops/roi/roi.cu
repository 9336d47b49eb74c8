// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// RoiAlign: a block for a region and a few channels, a thread for a bin. Places are computed in double precision and rounded as the reference rounds them
// (no product is fused with a sum: a sample at the border of the map would fall beyond it), once for all channels of the block. A region of an image that
// is not there reads nothing. MaxRoiPool: the same blocks, a thread for a result, which goes through its bin; what is no number counts nothing.
//! limits roi_align: registers 64, shared 0, spill 8
//! limits max_roi_pool: registers 64, shared 0, spill 16

#include "backend/cuda/kernels/ptx.cuh"
#include "ops/roi/roi_params.h"

namespace lathe::cuda {

/// The two pixels of a sample along one axis, and the share of the second.
struct RoiPlace {
  int low, high;
  float share;
};
__device__ inline RoiPlace place_at(double at, int extent) {
  at = at < 0 ? 0 : at;
  const int low = static_cast<int>(at);
  if (low >= extent - 1) return {extent - 1, extent - 1, 0};
  return {low, low + 1, static_cast<float>(at - low)};
}

/// Samples of a bin along one axis.
__device__ inline int roi_samples(const RoiParams& p, double bin, int extent) {
  if (p.ratio > 0) return p.ratio;
  const double wanted = ceil(bin), most = 16.0 * extent + 16;
  return wanted > 0 ? static_cast<int>(wanted < most ? wanted : most) : 0;
}

__device__ inline void align(const RoiParams& p) {
  launch_dependents();
  const int region = static_cast<int>(blockIdx.x), channel = static_cast<int>(blockIdx.y) * kRoiChannels, have = min(kRoiChannels, p.channels - channel);
  wait_for_previous();
  const long long image = p.batch[region * p.batch_step];
  const bool is_there = image >= 0 && image < p.images;
  double box[4];
  for (int side = 0; side < 4; ++side)
    box[side] = __dadd_rn(__dmul_rn(load_element(p.rois, region * p.roi_step[0] + side * p.roi_step[1], p.roi_type), p.scale), p.half_pixel ? -0.5 : 0.0);
  double width = box[2] - box[0], height = box[3] - box[1];
  if (!p.half_pixel) width = width > 1 ? width : 1, height = height > 1 ? height : 1;
  const double bin_height = height / p.rows, bin_width = width / p.columns;
  const int high = roi_samples(p, bin_height, p.height), wide = roi_samples(p, bin_width, p.width);
  const long long map = (is_there ? image : 0) * p.x_step[0] + channel * p.x_step[1];
  for (int bin = static_cast<int>(threadIdx.x); bin < p.rows * p.columns; bin += static_cast<int>(blockDim.x)) {
    const int row = bin / p.columns, column = bin - row * p.columns;
    float result[kRoiChannels] = {};
    for (int i = 0; i < high && is_there; ++i) {
      const double at_y = __dadd_rn(box[1], __dmul_rn(row + (i + 0.5) / high, bin_height));
      const bool inside_y = at_y >= -1 && at_y <= p.height;
      const RoiPlace y = place_at(inside_y ? at_y : 0, p.height);
      for (int j = 0; j < wide; ++j) {
        const double at_x = __dadd_rn(box[0], __dmul_rn(column + (j + 0.5) / wide, bin_width));
        const bool inside = inside_y && at_x >= -1 && at_x <= p.width;
        const RoiPlace x = place_at(inside ? at_x : 0, p.width);
        // Outside the first pixel counts nothing.
        const float weight[4] = {inside ? (1 - y.share) * (1 - x.share) : 0, inside ? (1 - y.share) * x.share : 0, inside ? y.share * (1 - x.share) : 0,
                                 inside ? y.share * x.share : 0};
        const long long top = inside ? y.low * p.x_step[2] : 0, bottom = inside ? y.high * p.x_step[2] : 0;
        const long long left = inside ? x.low * p.x_step[3] : 0, right = inside ? x.high * p.x_step[3] : 0;
        const long long offset[4] = {top + left, top + right, bottom + left, bottom + right};
#pragma unroll
        for (int c = 0; c < kRoiChannels; ++c) {
          if (c >= have) continue;
          float part[4];
          for (int k = 0; k < 4; ++k) part[k] = weight[k] * load_element(p.x, map + c * p.x_step[1] + offset[k], p.x_type);
          if (p.average) {
            result[c] += part[0] + part[1] + part[2] + part[3];
          } else {
            float greatest = __int_as_float(static_cast<int>(0xff800000u));
            for (int k = 0; k < 4; ++k) greatest = greatest < part[k] ? part[k] : greatest;
            result[c] = (i == 0 && j == 0) || result[c] < greatest ? greatest : result[c];
          }
        }
      }
    }
    const float count = p.average && high > 0 && wide > 0 ? static_cast<float>(static_cast<double>(high) * wide) : 1.0f;
#pragma unroll
    for (int c = 0; c < kRoiChannels; ++c)
      if (c < have)
        store_element(p.y, region * p.y_step[0] + (channel + c) * p.y_step[1] + row * p.y_step[2] + column * p.y_step[3], p.y_type, result[c] / count);
  }
}

/// A side of a box as a whole pixel, half of one away from zero.
__device__ inline long long whole_pixel(const RoiParams& p, long long at) {
  const double v = __dmul_rn(load_element(p.rois, at, p.roi_type), p.scale);
  return v == v ? static_cast<long long>(max(min(round(v), 1e9), -1e9)) : -1000000000;
}
/// The first pixels of bin `i` and behind it, along one axis of the map.
struct RoiBounds {
  int first, behind;
};
__device__ inline RoiBounds bounds_of(int i, double bin, long long start, int extent) {
  const long long first = static_cast<long long>(floor(__dmul_rn(i, bin))) + start, behind = static_cast<long long>(ceil(__dmul_rn(i + 1, bin))) + start;
  return {static_cast<int>(min(max(first, 0ll), static_cast<long long>(extent))), static_cast<int>(min(max(behind, 0ll), static_cast<long long>(extent)))};
}

__device__ inline void pool(const RoiParams& p) {
  launch_dependents();
  const int region = static_cast<int>(blockIdx.x), channel = static_cast<int>(blockIdx.y) * kRoiChannels, have = min(kRoiChannels, p.channels - channel);
  wait_for_previous();
  const long long roi = region * p.roi_step[0];
  const float image = load_element(p.rois, roi, p.roi_type);
  const bool is_there = image >= 0 && static_cast<double>(image) < p.images;
  long long box[4];
  for (int side = 0; side < 4; ++side) box[side] = whole_pixel(p, roi + (side + 1) * p.roi_step[1]);
  const double bin_height = static_cast<double>(max(box[3] - box[1] + 1, 1ll)) / p.rows,
               bin_width = static_cast<double>(max(box[2] - box[0] + 1, 1ll)) / p.columns;
  const long long map = (is_there ? static_cast<long long>(image) : 0) * p.x_step[0] + channel * p.x_step[1];
  const int bins = p.rows * p.columns;
  for (int i = static_cast<int>(threadIdx.x); i < have * bins; i += static_cast<int>(blockDim.x)) {
    const int c = i / bins, bin = i - c * bins, row = bin / p.columns, column = bin - row * p.columns;
    const RoiBounds y = bounds_of(row, bin_height, box[1], p.height), x = bounds_of(column, bin_width, box[0], p.width);
    float best = 0;
    if (is_there && y.first < y.behind && x.first < x.behind) {
      best = __int_as_float(static_cast<int>(0xff800000u));
      for (int down = y.first; down < y.behind; ++down) {
        const long long line = map + c * p.x_step[1] + down * p.x_step[2];
        for (int across = x.first; across < x.behind; ++across) {
          const float pixel = load_element(p.x, line + across * p.x_step[3], p.x_type);
          best = best < pixel ? pixel : best;
        }
      }
    }
    store_element(p.y, region * p.y_step[0] + (channel + c) * p.y_step[1] + row * p.y_step[2] + column * p.y_step[3], p.y_type, best);
  }
}

}  // namespace lathe::cuda

extern "C" __global__ void __launch_bounds__(256) roi_align(const __grid_constant__ lathe::cuda::RoiParams p) { lathe::cuda::align(p); }
extern "C" __global__ void __launch_bounds__(256) max_roi_pool(const __grid_constant__ lathe::cuda::RoiParams p) { lathe::cuda::pool(p); }
