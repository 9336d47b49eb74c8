// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the kernels of RoiAlign and MaxRoiPool, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kRoiChannels = 8;  ///< of a block: RoiAlign computes places and weights once for so many

struct RoiParams {
  const void *x = nullptr, *rois = nullptr;
  const long long* batch = nullptr;  ///< RoiAlign
  void* y = nullptr;
  int x_type = 0, roi_type = 0, y_type = 0;  ///< ElementType
  // Steps in elements: image or region, channel, row, column.
  long long x_step[4] = {}, y_step[4] = {}, roi_step[2] = {}, batch_step = 1;
  int images = 0, channels = 0, height = 0, width = 0;
  int regions = 0, rows = 1, columns = 1;  ///< rows and columns of bins
  int ratio = 0;                           ///< samples of a bin along each axis; 0: as many as it has pixels
  int half_pixel = 1, average = 1;
  double scale = 1;
};

}  // namespace lathe::cuda
