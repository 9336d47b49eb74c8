// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Boxes with captions on a picture.

#include <span>
#include <string>

#include "postprocess.h"

namespace yolov5 {

/// One rectangle and caption ("MUG 0.93") per detection, weakest first, so that the best are on top. A class has one colour.
void draw_boxes(Picture& picture, std::span<const Detection> found, std::span<const std::string> names);

}  // namespace yolov5
