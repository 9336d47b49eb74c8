// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Around the network: letterbox, decode, NMS, boxes put back onto the picture. The same arithmetic as postprocess.py, so that both
// detectors give the same boxes; tests/test_example.py holds them together.

#include <cstdint>
#include <span>
#include <vector>

#include "picture.h"

namespace yolov5 {

/// How a picture lies in the network's input: scaled by `scale`, then moved by `left`, `top` pixels.
struct Fit {
  double scale = 1;
  int left = 0, top = 0;
};

struct Detection {
  float x0, y0, x1, y1;
  float score;
  int label;
};

/// The picture scaled to fit with its aspect kept, grey bars at the sides.
Picture letterbox(const Picture& picture, int height, int width, Fit& fit);
/// Bytes to the network's input [1, 3, h, w] in [0, 1].
std::vector<float> to_input(const Picture& picture);
/// Network output [boxes, 5 + classes] (centre, extents, objectness, class scores) to corner boxes above `conf`, of which none of a class
/// overlaps a better one by more than `iou`; best first.
std::vector<Detection> detections(std::span<const float> raw, int classes, float conf, float iou);
/// From the network's input to the original picture of this height and width.
void scale_back(std::vector<Detection>& found, const Fit& fit, int height, int width);
/// Antialiased bilinear resize: triangle filter, widened when shrinking; columns first, then rows, each rounded to bytes.
Picture resize(const Picture& picture, int height, int width);

}  // namespace yolov5
