// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the NonMaxSuppression kernels, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

constexpr int kNmsThreads = 256;

struct NmsParams {
  const void *boxes = nullptr, *scores = nullptr;
  const long long* order = nullptr;                                ///< [images, classes, count]: boxes by falling score, NaN first
  const long long* most = nullptr;                                 ///< of a class; null: `room`
  const void *iou = nullptr, *least = nullptr;                     ///< thresholds; null: 0, none
  int box_type = 0, score_type = 0, iou_type = 0, least_type = 0;  ///< ElementType
  long long box_image = 0, box_row = 0, box_side = 1;              ///< steps in elements
  long long score_image = 0, score_class = 0, score_along = 1;
  int images = 0, classes = 0, count = 0;  ///< boxes of an image
  int room = 0;                            ///< boxes that a class can have taken
  int centre = 0;                          ///< [x, y, width, height], else [y, x, y, x] of two corners
  int* taken = nullptr;                    ///< [images, classes, room]
  float* corners = nullptr;                ///< [images, classes, room, 4] of those
  int* counts = nullptr;                   ///< [images, classes]
  long long* rows = nullptr;
  long long row_step = 3, column_step = 1;
  long long* all = nullptr;  ///< how many rows
};

}  // namespace lathe::cuda
