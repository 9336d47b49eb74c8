// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See plain_conv_plan.h.

#include "regions/plain_conv/plain_conv_plan.h"

#include <algorithm>
#include <cstdlib>
#include <vector>

namespace lathe::regions {
namespace {

constexpr std::int64_t kMostBlocks = (std::int64_t{1} << 31) - 1, kMostCount = kMostBlocks - cuda::kPlainConvThreads;
/// The file may hold any numbers; sums and products of two of these do not overflow.
constexpr std::int64_t kMostAttribute = std::int64_t{1} << 30, kMostExtent = std::int64_t{1} << 31;
/// Of coordinates, which the kernels have in 32 bits.
constexpr std::int64_t kMostPlace = std::int64_t{1} << 29;

std::int64_t floor_div(std::int64_t a, std::int64_t b) { return a / b - (a % b != 0 && (a < 0) != (b < 0)); }

/// Pads in front, and the result's extent.
struct Settled {
  std::int64_t begin = 0, output = 0;
};

Settled settled_conv(const PlainConvSpec& spec, const PlainConvSpec::Axis& a, std::int64_t in, std::int64_t kernel) {
  const std::int64_t reach = (kernel - 1) * a.dilation + 1;
  if (spec.pads == PlainConvSpec::Pads::kGiven) return {a.begin, std::max<std::int64_t>(0, floor_div(in + a.begin + a.end - reach, a.stride) + 1)};
  const std::int64_t windows = in > 0 ? (in - 1) / a.stride + 1 : 0, total = std::max<std::int64_t>(0, (windows - 1) * a.stride + reach - in);
  return {spec.pads == PlainConvSpec::Pads::kSameUpper ? total / 2 : total - total / 2, windows};
}

Settled settled_transposed(const PlainConvSpec& spec, const PlainConvSpec::Axis& a, std::int64_t in, std::int64_t kernel) {
  const std::int64_t natural = (in - 1) * a.stride + a.output_padding + (kernel - 1) * a.dilation + 1;
  if (a.output < 0 && spec.pads == PlainConvSpec::Pads::kGiven) return {a.begin, natural - a.begin - a.end};
  const std::int64_t output = a.output < 0 ? in * a.stride : a.output, total = std::max<std::int64_t>(0, natural - output);
  return {spec.pads == PlainConvSpec::Pads::kSameUpper ? total / 2 : total - total / 2, output};
}

}  // namespace

std::optional<PlainConvSpec> plain_conv_spec(const ir::Attrs& attrs, bool transposed, std::size_t rank, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return std::nullopt;
  };
  if (rank < 1 || rank > cuda::kPlainConvAxes) return refuse("more axes than the kernels walk, or none");
  PlainConvSpec spec;
  spec.transposed = transposed;
  spec.rank = rank;
  spec.groups = attrs.get_int("group", 1);
  if (spec.groups < 1 || spec.groups >= kMostExtent) return refuse("a number of groups that makes no sense");
  const std::string automatic = attrs.get_string("auto_pad", "NOTSET");
  if (automatic == "SAME_UPPER") spec.pads = PlainConvSpec::Pads::kSameUpper;
  else if (automatic == "SAME_LOWER") spec.pads = PlainConvSpec::Pads::kSameLower;
  else if (automatic != "VALID" && automatic != "NOTSET") return refuse("an auto_pad that makes no sense");
  bool sane = true;
  const auto list = [&](const char* name, std::size_t length, std::int64_t least) {
    std::vector<std::int64_t> values = attrs.get_ints(name);
    sane = sane && (values.empty() || values.size() == length) &&
           std::all_of(values.begin(), values.end(), [&](std::int64_t v) { return v >= least && v < kMostAttribute; });
    return values;
  };
  const auto strides = list("strides", rank, 1), dilations = list("dilations", rank, 1), pads = list("pads", 2 * rank, 1 - kMostAttribute);
  std::vector<std::int64_t> kernel, padding, output;
  if (!transposed) {
    kernel = list("kernel_shape", rank, 1);
  } else {
    padding = list("output_padding", rank, 1 - kMostAttribute);
    output = attrs.get_ints("output_shape");
    if (output.size() == rank + 2) output.erase(output.begin(), output.begin() + 2);
    sane = sane && (output.empty() || output.size() == rank) &&
           std::all_of(output.begin(), output.end(), [](std::int64_t v) { return v >= 0 && v < kMostExtent; });
  }
  if (!sane) return refuse("attributes of other lengths than the window's, or out of all proportion");
  for (std::size_t i = 0; i < rank; ++i) {
    PlainConvSpec::Axis& a = spec.axes[i];
    if (!strides.empty()) a.stride = strides[i];
    if (!dilations.empty()) a.dilation = dilations[i];
    if (!pads.empty() && automatic != "VALID") a.begin = pads[i], a.end = pads[i + rank];
    if (!kernel.empty()) a.kernel = kernel[i];
    if (!padding.empty()) a.output_padding = padding[i];
    if (!output.empty()) a.output = output[i];
  }
  return spec;
}

bool plain_conv_plan(const PlainConvSpec& spec, const plan::TensorDesc& x, const plan::TensorDesc& w, const plan::TensorDesc* b, const plan::TensorDesc& y,
                     PlainConvPlan& into, std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  into = {};
  cuda::PlainConvParams& p = into.params;
  const auto x_type = plain_type(x.dtype), w_type = plain_type(w.dtype), y_type = plain_type(y.dtype), b_type = b ? plain_type(b->dtype) : y_type;
  if (!x_type || !w_type || !y_type || !b_type) return refuse("no kernel reads this element type");
  for (const auto type : {*x_type, *w_type, *y_type, *b_type}) {
    if (!is_plain_float(type)) return refuse("a convolution of integers");
    into.wide |= type == cuda::kPlainFloat64;
  }
  p.x_type = *x_type, p.w_type = *w_type, p.b_type = *b_type, p.y_type = *y_type;
  p.transposed = spec.transposed, p.has_b = b != nullptr;
  const std::size_t rank = spec.rank + 2;
  if (x.dims.size() != rank || w.dims.size() != rank || y.dims.size() != rank) return refuse("ranks that do not fit each other");
  for (const plan::TensorDesc* desc : {&x, &w, &y})
    if (std::any_of(desc->dims.begin(), desc->dims.end(), [](std::int64_t extent) { return extent < 0 || extent >= kMostExtent; }))
      return refuse("an extent is too large");
  const std::int64_t in = x.dims[1], out = spec.transposed ? w.dims[1] * spec.groups : w.dims[0];
  if (in % spec.groups != 0 || out % spec.groups != 0 || (spec.transposed ? w.dims[0] != in : w.dims[1] != in / spec.groups) || y.dims[1] != out ||
      y.dims[0] != x.dims[0])
    return refuse("channels or batches that do not fit each other");
  if (b && (b->dims.size() != 1 || b->dims[0] != out)) return refuse("a bias that does not fit the channels");
  if (out >= kMostExtent) return refuse("an extent is too large");
  p.in_per_group = static_cast<int>(in / spec.groups), p.out_per_group = static_cast<int>(out / spec.groups);
  p.x_n = x.strides[0], p.x_c = x.strides[1], p.y_n = y.strides[0], p.y_c = y.strides[1], p.b_step = b ? b->strides[0] : 0;
  p.w_in = w.strides[spec.transposed ? 0 : 1], p.w_out = w.strides[spec.transposed ? 1 : 0];
  p.w_group = spec.transposed ? p.in_per_group * p.w_in : p.out_per_group * p.w_out;
  double taps = 1, spread = 1;
  for (std::size_t i = 0; i < spec.rank; ++i) {
    const std::size_t to = i + cuda::kPlainConvAxes - spec.rank;
    const PlainConvSpec::Axis& a = spec.axes[i];
    const std::int64_t kernel = w.dims[i + 2];
    if (kernel < 1 || (a.kernel >= 0 && a.kernel != kernel)) return refuse("a window that makes no sense");
    const Settled settled = spec.transposed ? settled_transposed(spec, a, x.dims[i + 2], kernel) : settled_conv(spec, a, x.dims[i + 2], kernel);
    if (settled.output != y.dims[i + 2]) return refuse("a result of other extents");
    // The furthest that a window reaches on either side of both tensors.
    const std::int64_t places = std::max(x.dims[i + 2], y.dims[i + 2]) * a.stride;
    if (places >= kMostPlace || kernel * a.dilation >= kMostPlace || std::abs(settled.begin) >= kMostPlace / 2)
      return refuse("a window or an image is too large");
    const auto whole = [](std::int64_t number) { return static_cast<int>(number); };
    p.in[to] = whole(x.dims[i + 2]), p.out[to] = whole(y.dims[i + 2]), p.kernel[to] = whole(kernel);
    p.stride[to] = whole(a.stride), p.dilation[to] = whole(a.dilation), p.pad[to] = whole(settled.begin);
    p.x_step[to] = x.strides[i + 2], p.y_step[to] = y.strides[i + 2], p.w_step[to] = w.strides[i + 2];
    taps *= static_cast<double>(kernel);
    if (spec.transposed) spread *= static_cast<double>(a.stride);
  }
  std::int64_t count = 1, blocks = 0;
  for (std::size_t i = 1; i < rank; ++i)
    if (__builtin_mul_overflow(count, y.dims[i], &count)) return refuse("more elements than the kernels count");
  const std::int64_t of_image = count / cuda::kPlainConvThreads + (count % cuda::kPlainConvThreads != 0);
  if (count >= kMostCount || __builtin_mul_overflow(of_image, y.dims[0], &blocks) || blocks > kMostBlocks)
    return refuse("more elements than the kernels count");
  p.count = static_cast<int>(count), p.blocks = static_cast<int>(of_image);
  into.grid = static_cast<std::uint32_t>(blocks);
  into.flops = 2.0 * static_cast<double>(y.elements()) * static_cast<double>(p.in_per_group) * taps / spread;
  return true;
}

}  // namespace lathe::regions
