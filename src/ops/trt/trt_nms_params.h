// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the kernels of TensorRT's NMS plugins, shared by host and device code: read by NVRTC too, so it includes nothing.
// EfficientNMS_TRT has one group an image, all pairs of box and class; BatchedNMS_TRT one for each class.

namespace lathe::cuda {

constexpr int kTrtNmsThreads = 256;

struct TrtNmsParams {
  const void *boxes = nullptr, *scores = nullptr, *anchors = nullptr;
  int box_type = 0, score_type = 0, anchor_type = 0, padding = 0;     ///< ElementType
  long long box_image = 0, box_row = 0, box_class = 0, box_side = 1;  ///< steps in elements; classes that share boxes: 0
  long long score_image = 0, score_row = 0, score_class = 1;
  long long anchor_image = 0, anchor_row = 0, anchor_side = 1;  ///< images that share anchors: 0
  int images = 0, count = 0, classes = 0;
  int groups = 0, each = 0, room = 0, rows = 0, found = 0;  ///< candidates of a group; boxes it can have taken; rows of an image, and those that can be filled
  int efficient = 0, background = -1, sigmoid = 0, agnostic = 0, centre = 0, clip = 0;
  double least = 0, iou = 0, more_common = 0, more = 0;  ///< thresholds; what a side's length is added
  float* keys = nullptr;                                 ///< [images, groups, boxes or pairs]: scores, -inf for what is no candidate
  const long long* order = nullptr;                      ///< [images, groups, each]: the best candidates by falling key
  double* corners = nullptr;                             ///< [images, groups, room, 4] of the boxes taken
  int* taken = nullptr;                                  ///< [images, groups, room]: places in a group
  float* taken_keys = nullptr;                           ///< [images, groups, room]: -inf behind the last one
  const long long* best = nullptr;                       ///< [images, found]: places among an image's taken ones by falling key; null: they lie so
  int* counts_out = nullptr;
  void *boxes_out = nullptr, *scores_out = nullptr, *classes_out = nullptr;          ///< null where left out
  int box_out_type = 0, score_out_type = 0, class_out_type = 0, padding_behind = 0;  ///< the classes' of BatchedNMS_TRT; EfficientNMS_TRT's are int32
  long long count_out_image = 1, box_out_image = 0, box_out_row = 4, box_out_side = 1;
  long long score_out_image = 0, score_out_row = 1, class_out_image = 0, class_out_row = 1;
};

}  // namespace lathe::cuda
