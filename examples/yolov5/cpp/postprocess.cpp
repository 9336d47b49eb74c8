// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See postprocess.h.

#include "postprocess.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace yolov5 {
namespace {

constexpr std::uint8_t kGrey = 114;
constexpr std::size_t kMostCandidates = 3000, kMostDetections = 300;
constexpr int kFixedBits = 22;  // weights of the resize as fixed-point numbers

/// Which input positions an output position sums up, and with what weights.
struct Taps {
  int first = 0;
  std::vector<std::int32_t> weights;
};

std::vector<Taps> triangle_taps(int in, int out) {
  const double scale = static_cast<double>(in) / out, wide = std::max(scale, 1.0);
  std::vector<Taps> list(static_cast<std::size_t>(out));
  for (int i = 0; i < out; ++i) {
    const double centre = (i + 0.5) * scale;
    const int first = std::max(static_cast<int>(centre - wide + 0.5), 0), end = std::min(static_cast<int>(centre + wide + 0.5), in);
    std::vector<double> exact;
    for (int k = first; k < end; ++k) exact.push_back(std::max(1 - std::abs((k - centre + 0.5) / wide), 0.0));
    const double sum = std::accumulate(exact.begin(), exact.end(), 0.0);
    Taps& taps = list[static_cast<std::size_t>(i)];
    taps.first = first;
    for (const double weight : exact) taps.weights.push_back(static_cast<std::int32_t>(weight / sum * (1 << kFixedBits) + 0.5));
  }
  return list;
}

std::uint8_t rounded(std::int32_t sum) { return static_cast<std::uint8_t>(std::clamp(sum >> kFixedBits, 0, 255)); }

/// Sums along one axis: element k of the axis lies at `src + k * step`.
void apply(const Taps& taps, const std::uint8_t* src, std::size_t step, std::uint8_t* dst) {
  for (int c = 0; c < 3; ++c) {
    std::int32_t sum = 1 << (kFixedBits - 1);
    for (std::size_t k = 0; k < taps.weights.size(); ++k)
      sum += taps.weights[k] * src[(static_cast<std::size_t>(taps.first) + k) * step + static_cast<std::size_t>(c)];
    dst[c] = rounded(sum);
  }
}

float overlap(const Detection& a, const Detection& b) {
  const float w = std::max(std::min(a.x1, b.x1) - std::max(a.x0, b.x0), 0.0F), h = std::max(std::min(a.y1, b.y1) - std::max(a.y0, b.y0), 0.0F);
  const float common = w * h;
  const float all = (a.x1 - a.x0) * (a.y1 - a.y0) + (b.x1 - b.x0) * (b.y1 - b.y0) - common;
  return common / std::max(all, 1e-9F);
}

}  // namespace

Picture resize(const Picture& picture, int height, int width) {
  Picture narrow = picture;
  if (width != picture.width) {
    narrow = Picture(width, picture.height, 0);
    const std::vector<Taps> columns = triangle_taps(picture.width, width);
    for (int y = 0; y < picture.height; ++y)
      for (int x = 0; x < width; ++x) apply(columns[static_cast<std::size_t>(x)], picture.pixel(0, y), 3, narrow.pixel(x, y));
  }
  if (height == picture.height) return narrow;
  Picture result(width, height, 0);
  const std::vector<Taps> rows = triangle_taps(picture.height, height);
  for (int y = 0; y < height; ++y)
    for (int x = 0; x < width; ++x) apply(rows[static_cast<std::size_t>(y)], narrow.pixel(x, 0), static_cast<std::size_t>(width) * 3, result.pixel(x, y));
  return result;
}

Picture letterbox(const Picture& picture, int height, int width, Fit& fit) {
  fit.scale = std::min(static_cast<double>(height) / picture.height, static_cast<double>(width) / picture.width);
  // Halves go to the even neighbour, as Python's round() does.
  const int new_height = std::max(static_cast<int>(std::nearbyint(picture.height * fit.scale)), 1);
  const int new_width = std::max(static_cast<int>(std::nearbyint(picture.width * fit.scale)), 1);
  fit.top = (height - new_height) / 2;
  fit.left = (width - new_width) / 2;
  const Picture scaled = resize(picture, new_height, new_width);
  Picture canvas(width, height, kGrey);
  for (int y = 0; y < new_height; ++y) std::copy_n(scaled.pixel(0, y), static_cast<std::size_t>(new_width) * 3, canvas.pixel(fit.left, fit.top + y));
  return canvas;
}

std::vector<float> to_input(const Picture& picture) {
  const std::size_t pixels = picture.rgb.size() / 3;
  std::vector<float> planes(picture.rgb.size());
  for (std::size_t i = 0; i < pixels; ++i)
    for (std::size_t c = 0; c < 3; ++c) planes[c * pixels + i] = static_cast<float>(picture.rgb[3 * i + c]) / 255.0F;
  return planes;
}

std::vector<Detection> detections(std::span<const float> raw, int classes, float conf, float iou) {
  std::vector<Detection> all;
  const std::size_t row = 5 + static_cast<std::size_t>(classes);
  for (std::size_t i = 0; i + row <= raw.size(); i += row) {
    const float* box = raw.data() + i;
    if (!(box[4] > conf)) continue;  // the product below cannot be larger
    const float* best = std::max_element(box + 5, box + row);
    const float score = box[4] * *best;
    if (!(score > conf)) continue;
    const float half_w = box[2] / 2, half_h = box[3] / 2;
    all.push_back({box[0] - half_w, box[1] - half_h, box[0] + half_w, box[1] + half_h, score, static_cast<int>(best - (box + 5))});
  }
  std::stable_sort(all.begin(), all.end(), [](const Detection& a, const Detection& b) { return a.score > b.score; });
  if (all.size() > kMostCandidates) all.resize(kMostCandidates);  // only a very low `conf` lets so many through
  std::vector<Detection> kept;
  for (const Detection& one : all) {
    const bool clashes =
        std::any_of(kept.begin(), kept.end(), [&](const Detection& better) { return better.label == one.label && overlap(better, one) > iou; });
    if (!clashes) kept.push_back(one);
    if (kept.size() == kMostDetections) break;
  }
  return kept;
}

void scale_back(std::vector<Detection>& found, const Fit& fit, int height, int width) {
  const auto back = [&](float value, int offset, int limit) {
    return static_cast<float>(std::clamp((static_cast<double>(value) - offset) / fit.scale, 0.0, static_cast<double>(limit)));
  };
  for (Detection& one : found) {
    one.x0 = back(one.x0, fit.left, width);
    one.x1 = back(one.x1, fit.left, width);
    one.y0 = back(one.y0, fit.top, height);
    one.y1 = back(one.y1, fit.top, height);
  }
}

}  // namespace yolov5
