// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// ROIAlign_TRT, which is RoiAlign with numbers for its modes, and the anchors of SSD (Liu et al. 2016), which read nothing.
//
// GridAnchor_TRT: layer i of n has the scale s(i) = minSize + (maxSize - minSize) i / (n - 1). At each cell of its grid stand boxes of
// scale s(i) with each aspect ratio, and one of sqrt(s(i) s(i + 1)) with the ratio 1, where s(n) is 1; the first layer has instead
// boxes of scales 0.1, s(0), s(0) with the first three ratios. Outputs are [2, cells * boxes * 4, 1]: corners, then variances.
#include <cmath>

#include "ops/expand_util.h"
#include "ops/expansion.h"
#include "ops/ref_util.h"
#include "ops/trt/trt.h"

namespace lathe::ops {
namespace {

bool roi_align(ExpandContext& ctx) {
  const Attrs& attrs = ctx.attrs();
  const std::int64_t mode = attrs.get_int("mode", 1), shift = attrs.get_int("coordinate_transformation_mode", 1);
  if ((mode != 0 && mode != 1) || (shift != 0 && shift != 1)) ctx.fail("mode and coordinate_transformation_mode must be 0 or 1");
  Attrs as = some_attrs(attrs, {"output_height", "output_width", "sampling_ratio", "spatial_scale"});
  as.set("mode", mode == 1 ? "avg" : "max");
  as.set("coordinate_transformation_mode", shift == 1 ? "half_pixel" : "output_half_pixel");
  Parts p(ctx);
  ctx.replace(0, ctx.add("RoiAlign", {ctx.node.input(0), ctx.node.input(1), p.cast(ctx.node.input(2), DType::kInt64)}, std::move(as)));
  return true;
}

struct Layer {
  std::int64_t height = 0, width = 0;
  std::vector<double> widths, heights;  // of the boxes at each cell
  std::int64_t numbers() const { return element_count({height, width, static_cast<std::int64_t>(widths.size()), 4}); }
};

/// `defect` says what is wrong with the attributes.
std::vector<Layer> anchor_layers(const Node& node, bool pairs, std::string& defect) {
  const Attrs& attrs = node.attrs;
  const auto grids = attrs.get_ints("featureMapShapes");
  const auto ratios = attrs.get_floats("aspectRatios");
  const std::size_t step = pairs ? 2 : 1;
  const auto count = static_cast<std::int64_t>(grids.size() / step);
  if (grids.empty() || grids.size() % step != 0) defect = "featureMapShapes has " + std::to_string(grids.size()) + " numbers";
  else if (attrs.get_int("numLayers", count) != count || node.outputs.size() > static_cast<std::size_t>(count))
    defect = "has " + std::to_string(node.outputs.size()) + " outputs and " + std::to_string(attrs.get_int("numLayers", count)) + " layers for " +
             std::to_string(count) + " grids";
  else if (ratios.empty() || ratios.size() > 1024) defect = "has " + std::to_string(ratios.size()) + " aspect ratios";
  else if (attrs.get_floats("variance", {0.1f, 0.1f, 0.2f, 0.2f}).size() != 4) defect = "variance must have 4 numbers";
  for (const float r : ratios)
    if (!(r > 0)) defect = "an aspect ratio is not positive";
  for (const std::int64_t n : grids)
    if (n < 1 || n > (std::int64_t{1} << 16)) defect = "a feature map has the extent " + std::to_string(n);
  if (!defect.empty()) return {};
  const auto least = static_cast<double>(attrs.get_float("minSize", 0.2f)), most = static_cast<double>(attrs.get_float("maxSize", 0.95f));
  const auto scale = [&](std::int64_t i) {
    return i == count ? 1.0 : count == 1 ? least : least + (most - least) * static_cast<double>(i) / static_cast<double>(count - 1);
  };
  std::vector<Layer> layers;
  for (std::int64_t i = 0; i < count; ++i) {
    Layer layer;
    const auto at = static_cast<std::size_t>(i) * step;
    layer.height = grids[at];
    layer.width = grids[at + step - 1];
    const auto add = [&](double size, double ratio) {
      layer.widths.push_back(size * std::sqrt(ratio));
      layer.heights.push_back(size / std::sqrt(ratio));
    };
    const std::size_t boxes = i == 0 ? std::min<std::size_t>(3, ratios.size()) : ratios.size();
    for (std::size_t k = 0; k < boxes; ++k) add(i == 0 && k == 0 ? 0.1 : scale(i), static_cast<double>(ratios[k]));
    if (i > 0) add(std::sqrt(scale(i) * scale(i + 1)), 1);
    if (layer.numbers() > std::int64_t{1} << 28) defect = "layer " + std::to_string(i) + " has " + std::to_string(layer.numbers()) + " numbers";
    layers.push_back(std::move(layer));
  }
  return layers;
}

template <bool kPairs>
void anchor_infer(InferContext& ctx) {
  std::string defect;
  const auto layers = anchor_layers(ctx.node(), kPairs, defect);
  if (!defect.empty()) ctx.fail(defect);
  for (std::size_t i = 0; i < ctx.node().outputs.size(); ++i) ctx.set(i, DType::kFloat32, {Dim(2), Dim(layers[i].numbers()), Dim(1)});
}

template <bool kPairs>
void anchor_reference(RefContext& ctx) {
  std::string defect;
  const auto layers = anchor_layers(ctx.node(), kPairs, defect);
  if (!defect.empty()) ctx.fail(defect);
  const auto variance = ctx.attrs().get_floats("variance", {0.1f, 0.1f, 0.2f, 0.2f});
  for (std::size_t i = 0; i < ctx.output_count(); ++i) {
    if (!ctx.wants_output(i)) continue;
    const Layer& layer = layers[i];
    std::vector<double> numbers;
    for (std::int64_t y = 0; y < layer.height; ++y)
      for (std::int64_t x = 0; x < layer.width; ++x)
        for (std::size_t k = 0; k < layer.widths.size(); ++k) {
          const double cy = (static_cast<double>(y) + 0.5) / static_cast<double>(layer.height),
                       cx = (static_cast<double>(x) + 0.5) / static_cast<double>(layer.width);
          const double w = layer.widths[k] / 2, h = layer.heights[k] / 2;
          numbers.insert(numbers.end(), {cx - w, cy - h, cx + w, cy + h});
        }
    const std::int64_t half = layer.numbers();
    for (std::int64_t n = 0; n < half; ++n) numbers.push_back(static_cast<double>(variance[static_cast<std::size_t>(n % 4)]));
    ctx.set_output(i, from_doubles(DType::kFloat32, {2, half, 1}, numbers));
  }
}

}  // namespace

std::vector<OpDef> region_plugins() {
  constexpr std::string_view kAnchors =
      "aspectRatios:floats featureMapShapes:ints maxSize:float=0.95 minSize:float=0.2 numLayers:int? plugin_namespace:string? plugin_version:string? "
      "variance:floats?";
  return {
      {.name = "ROIAlign_TRT",
       .versions = {{1, "X:T rois:T batch_indices:N -> Y:T",
                     "coordinate_transformation_mode:int=1 mode:int=1 output_height:int=1 output_width:int=1 plugin_namespace:string? plugin_version:string? "
                     "sampling_ratio:int=0 spatial_scale:float=1",
                     "T: float float16; N: int32 int64"}},
       .infer = infer_expanded,
       .tolerance = {.relative = 1e-5, .absolute = 1e-5},
       .expand = roi_align,
       .doc = "RoiAlign (TensorRT)"},
      {.name = "GridAnchor_TRT",
       .versions = {{1, "-> anchors+:T", kAnchors, "T: float"}},
       .infer = anchor_infer<false>,
       .reference = anchor_reference<false>,
       .doc = "anchor boxes of square grids (TensorRT)"},
      {.name = "GridAnchorRect_TRT",
       .versions = {{1, "-> anchors+:T", kAnchors, "T: float"}},
       .infer = anchor_infer<true>,
       .reference = anchor_reference<true>,
       .doc = "anchor boxes of grids (TensorRT)"},
  };
}

}  // namespace lathe::ops
