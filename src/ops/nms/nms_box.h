// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Boxes and their overlap as NonMaxSuppression means them, in float32: for the reference and the CPU kernel. nms.cu has the same arithmetic.

#include <algorithm>

namespace lathe::ops {

struct Box {
  float x1, y1, x2, y2;
  float area() const noexcept { return (x2 - x1) * (y2 - y1); }
};

inline Box box_of(float a, float b, float c, float d, bool centre) noexcept {
  if (centre) return {a - c / 2, b - d / 2, a + c / 2, b + d / 2};
  // [y1, x1, y2, x2], any two opposite corners.
  return {std::min(b, d), std::min(a, c), std::max(b, d), std::max(a, c)};
}

inline bool overlaps(const Box& a, const Box& b, float threshold) noexcept {
  const float width = std::min(a.x2, b.x2) - std::max(a.x1, b.x1), height = std::min(a.y2, b.y2) - std::max(a.y1, b.y1);
  if (!(width > 0) || !(height > 0)) return false;
  const float common = width * height, total = a.area() + b.area() - common;
  if (!(a.area() > 0) || !(b.area() > 0) || !(total > 0)) return false;
  return common / total > threshold;
}

}  // namespace lathe::ops
