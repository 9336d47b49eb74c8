// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cudnn_graph.h.

#include "backend/cuda/cudnn_graph.h"

#include <algorithm>
#include <array>

namespace lathe::cuda::cudnn {
namespace {

constexpr std::int64_t kMostConfigs = 12;

DataType data_type(ElementType type) { return type == kElementFloat16 ? kFloat16 : type == kElementBFloat16 ? kBFloat16 : kFloat32; }

/// The library's name of an activation; -1: it has none that means the same.
int mode_of(int activation) {
  switch (activation) {
    case kActRelu:
    case kActLeakyRelu: return kRelu;
    case kActSilu: return kSwish;
    case kActSigmoid: return kSigmoid;
    case kActGeluErf: return kGelu;
    case kActGeluTanh: return kGeluTanh;
    case kActTanh: return kTanh;
    case kActElu: return kElu;
    default: return -1;
  }
}

}  // namespace

std::string unsupported(const ConvProblem& p) {
  const auto whole = [](std::int64_t pixel, ElementType type) { return pixel * bytes_of(type) % kAlignment == 0; };
  if (p.activation != kActNone && mode_of(p.activation) < 0) return "cuDNN has no such activation";
  if (!whole(p.src_pixel, p.src) || !whole(p.dst_pixel, p.stored) || (p.residual && !whole(p.residual_pixel, p.stored)))
    return "pixels do not fill whole pieces of 16 bytes";
  if (p.shape.groups > 1 && (p.shape.cin / p.shape.groups % 8 != 0 || p.shape.cout / p.shape.groups % 8 != 0)) return "its groups are narrow";
  return "";
}

std::vector<Descriptor> room_for_graph() {
  std::vector<Descriptor> parts;
  parts.reserve(64);  // references into it are kept while it fills
  return parts;
}

RawDescriptor make_graph(const ConvProblem& p, Handle handle, std::vector<Descriptor>& parts) {
  const ConvShape& s = p.shape;
  using Four = std::array<std::int64_t, 4>;
  const auto tensor = [&](std::int64_t id, DataType type, const Four& dims, const Four& strides, bool is_virtual = false) -> const Descriptor& {
    Descriptor& t = parts.emplace_back(kTensor);
    t.set_number(kTensorType, kTypeDataType, type);
    t.set(kTensorDims, dims);
    t.set(kTensorStrides, strides);
    t.set(kTensorId, id);
    t.set(kTensorAlignment, kAlignment);
    if (is_virtual) t.set_flag(kTensorVirtual, true);
    t.finalize("a tensor");
    return t;
  };
  const auto image = [](std::int64_t height, std::int64_t width, std::int64_t pixel) { return Four{height * width * pixel, 1, width * pixel, pixel}; };
  const std::int64_t oh = s.oh(), ow = s.ow(), cg = s.cin / s.groups;
  const Four out{s.n, s.cout, oh, ow};
  std::int64_t next_virtual = kFirstVirtual;
  int left = 0;  // operations behind the convolution
  left += p.residual + p.bias + (p.activation != kActNone);
  const auto result = [&]() -> const Descriptor& {
    return left-- == 0 ? tensor(kY, data_type(p.stored), out, image(oh, ow, p.dst_pixel)) : tensor(next_virtual++, kFloat32, out, image(oh, ow, s.cout), true);
  };
  std::vector<RawDescriptor> operations;

  Descriptor& convolution = parts.emplace_back(kConvolution);
  convolution.set_number(kConvolutionPrecision, kTypeDataType, kFloat32);
  convolution.set_number(kConvolutionMode, kTypeConvolutionMode, kCrossCorrelation);
  convolution.set(kConvolutionSpatialDims, 2);
  convolution.set(kConvolutionDilations, std::array{s.dilation_h, s.dilation_w});
  convolution.set(kConvolutionStrides, std::array{s.stride_h, s.stride_w});
  convolution.set(kConvolutionPadsBegin, std::array{s.pad_top, s.pad_left});
  convolution.set(kConvolutionPadsEnd, std::array{s.pad_bottom, s.pad_right});
  convolution.finalize("a convolution of such a window");
  const Descriptor& x = tensor(kX, data_type(p.src), {s.n, s.cin, s.h, s.w}, image(s.h, s.w, p.src_pixel));
  const Descriptor& w = tensor(kW, data_type(p.src), {s.cout, cg, s.kh, s.kw}, {s.kh * s.kw * cg, 1, s.kw * cg, cg});
  const Descriptor* at = &result();
  Descriptor& forward = parts.emplace_back(kConvolutionForward);
  forward.set_float(kForwardAlpha, 1);
  forward.set_float(kForwardBeta, 0);
  forward.set(kForwardConvolution, convolution);
  forward.set(kForwardX, x);
  forward.set(kForwardW, w);
  forward.set(kForwardY, *at);
  forward.finalize("a convolution of such tensors");
  operations.push_back(forward.raw());

  const auto apply = [&](int mode, const Descriptor* other) {
    Descriptor& pointwise = parts.emplace_back(kPointwise);
    pointwise.set_number(kPointwiseMode, kTypePointwiseMode, mode);
    pointwise.set_number(kPointwisePrecision, kTypeDataType, kFloat32);
    if (p.activation == kActLeakyRelu && mode == kRelu) pointwise.set_double(kPointwiseReluSlope, p.alpha);
    if (mode == kElu) pointwise.set_double(kPointwiseEluAlpha, p.alpha);
    if (mode == kSwish) pointwise.set_double(kPointwiseSwishBeta, 1);
    pointwise.finalize("an operation behind a convolution");
    const Descriptor& y = result();
    Descriptor& operation = parts.emplace_back(kPointwiseOperation);
    operation.set(kOperationPointwise, pointwise);
    operation.set(kOperationX, *at);
    if (other) operation.set(kOperationB, *other);
    operation.set(kOperationY, y);
    operation.finalize("an operation behind a convolution");
    operations.push_back(operation.raw());
    at = &y;
  };
  const auto add_residual = [&] { apply(kAdd, &tensor(kResidual, data_type(p.stored), out, image(oh, ow, p.residual_pixel))); };
  if (p.residual && !p.residual_after) add_residual();
  if (p.bias) apply(kAdd, &tensor(kBias, p.narrow_bias ? data_type(p.src) : kFloat32, {1, s.cout, 1, 1}, {s.cout, 1, s.cout, s.cout}));
  if (p.activation != kActNone) apply(mode_of(p.activation), nullptr);
  if (p.residual && p.residual_after) add_residual();

  Descriptor& graph = parts.emplace_back(kOperationGraph);
  graph.set(kGraphHandle, kTypeHandle, 1, &handle);
  graph.set(kGraphOperations, kTypeDescriptor, static_cast<std::int64_t>(operations.size()), operations.data());
  graph.finalize("such a graph of operations");
  return graph.raw();
}

std::vector<Config> ask(RawDescriptor graph, Mode mode) {
  Descriptor heuristics(kHeuristics);
  heuristics.set(kHeuristicsGraph, kTypeDescriptor, 1, &graph);
  heuristics.set_number(kHeuristicsMode, kTypeHeuristicsMode, mode);
  heuristics.finalize("such a graph of operations");
  std::vector<Descriptor> owners;
  std::vector<RawDescriptor> raw;
  for (std::int64_t i = 0; i < kMostConfigs; ++i) raw.push_back(owners.emplace_back(kEngineConfig).raw());
  const std::int64_t count = std::min(kMostConfigs, heuristics.get(kHeuristicsResults, kTypeDescriptor, kMostConfigs, raw.data()));
  std::vector<Config> configs;
  for (std::int64_t i = 0; i < count; ++i) {
    Config config;
    const Descriptor engine(kEngine);
    RawDescriptor engine_raw = engine.raw();
    const Descriptor& from = owners[static_cast<std::size_t>(i)];
    from.get(kConfigEngine, kTypeDescriptor, 1, &engine_raw);
    engine.get(kEngineIndex, kTypeInt64, 1, &config.choice.engine);
    std::array<int, 16> notes{};
    const std::int64_t noted = engine.get(kEngineNotes, kTypeNumericalNote, static_cast<std::int64_t>(notes.size()), notes.data());
    config.notes.assign(notes.begin(), notes.begin() + std::clamp<std::int64_t>(noted, 0, static_cast<std::int64_t>(notes.size())));
    std::vector<Descriptor> knobs;
    std::vector<RawDescriptor> knobs_raw;
    for (std::int64_t k = 0; k < kMostKnobs; ++k) knobs_raw.push_back(knobs.emplace_back(kKnobChoice).raw());
    const std::int64_t set = std::min(kMostKnobs, from.get(kConfigKnobs, kTypeDescriptor, kMostKnobs, knobs_raw.data()));
    for (std::int64_t k = 0; k < set; ++k) {
      int type = 0;
      std::int64_t value = 0;
      knobs[static_cast<std::size_t>(k)].get(kKnobType, kTypeKnob, 1, &type);
      knobs[static_cast<std::size_t>(k)].get(kKnobValue, kTypeInt64, 1, &value);
      config.choice.knobs.emplace_back(type, value);
    }
    configs.push_back(std::move(config));
  }
  return configs;
}

bool arithmetic_suits(const ConvProblem& p, const std::vector<int>& notes) {
  return std::none_of(notes.begin(), notes.end(), [&](int note) {
    return note == kNoteReducedSums || note == kNoteFourier || note == kNoteVaries || (note >= kNoteWinograd && note <= kNoteWinogradLast) ||
           (note == kNoteDownConverts && p.src != kElementFloat32);
  });
}

}  // namespace lathe::cuda::cudnn
