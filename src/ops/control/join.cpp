// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Tensors cut and joined along an axis; see join.h.
#include "ops/control/join.h"

#include <algorithm>
#include <cstring>

#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

/// Do the bytes of elements lie side by side, each on its own?
bool has_whole_bytes(DType dtype) { return dtype != DType::kString && dtype_bits(dtype) % 8 == 0; }

/// dst[to, to + count) = src[from, from + count), elements of one dtype.
void copy_run(Tensor& dst, std::int64_t to, const Tensor& src, std::int64_t from, std::int64_t count) {
  if (count == 0) return;
  if (!has_whole_bytes(dst.dtype())) {
    for (std::int64_t i = 0; i < count; ++i) copy_element(dst, to + i, src, from + i);
    return;
  }
  const auto width = static_cast<std::int64_t>(dtype_bytes(dst.dtype(), 1));
  std::memcpy(dst.mutable_raw() + to * width, src.raw() + from * width, static_cast<std::size_t>(count * width));
}

/// Calls of the driver; more pieces than that are quicker through the host, and so is what it fetches in the time of a call.
constexpr std::size_t kMostPieces = 256, kSmallBytes = 4096;
/// Of the driver's copies of rows.
constexpr std::size_t kLargestPitch = 0x7fffffff;

/// Copies one range of an axis of tensors on a device into one of another: undefined where the host has to do it.
class RemoteJoin {
 public:
  RemoteJoin(DType dtype, Dims dims, std::int64_t axis)
      : dtype_(dtype), dims_(std::move(dims)), whole_(around_axis(dims_, axis)), width_(static_cast<std::int64_t>(dtype_bytes(dtype, 1))) {}
  /// Elements [begin, begin + count) of the axis of `from`, which has `extent` of them, to `to` and on.
  void add(std::shared_ptr<const RemoteBytes> from, std::int64_t extent, std::int64_t begin, std::int64_t count, std::int64_t to) {
    if (count == 0 || whole_.outer == 0 || whole_.inner == 0) return;
    const auto bytes = [&](std::int64_t elements) { return static_cast<std::size_t>(elements * whole_.inner * width_); };
    pieces_.push_back({std::move(from), bytes(begin), bytes(extent), bytes(to), bytes(whole_.extent), bytes(count), static_cast<std::size_t>(whole_.outer)});
    fits_ &= whole_.outer == 1 || std::max(pieces_.back().pitch, pieces_.back().to_pitch) <= kLargestPitch;
  }
  Tensor made() const {
    if (pieces_.empty() || pieces_.size() > kMostPieces || !fits_) return {};
    return Tensor::remote(dtype_, dims_, pieces_.front().from->gathered(dtype_bytes(dtype_, element_count(dims_)), pieces_));
  }

 private:
  DType dtype_;
  Dims dims_;
  AxisView whole_;
  std::int64_t width_;
  std::vector<RemoteBytes::Piece> pieces_;
  bool fits_ = true;
};

/// Parts on a device are put together there. Where some are the host's, these follow unless all is small.
Tensor joined_remotely(const std::vector<Tensor>& parts, std::int64_t axis, const Dims& dims) {
  const DType dtype = parts.front().dtype();
  if (!has_whole_bytes(dtype)) return {};
  const RemoteBytes* somewhere = nullptr;
  bool all = true;
  for (const Tensor& part : parts) {
    if (part.size() == 0) continue;
    if (part.remote_bytes()) somewhere = part.remote_bytes();
    else all = false;
  }
  if (!somewhere || parts.size() > kMostPieces || (!all && dtype_bytes(dtype, element_count(dims)) <= kSmallBytes)) return {};
  RemoteJoin join(dtype, dims, axis);
  std::int64_t to = 0;
  for (const Tensor& part : parts) {
    const std::int64_t extent = part.dims()[static_cast<std::size_t>(axis)];
    if (part.size() > 0) join.add(part.remote_bytes() ? part.shared_remote_bytes() : somewhere->brought(part), extent, 0, extent, to);
    to += extent;
  }
  return join.made();
}

}  // namespace

bool is_worth_keeping_remote(const Tensor& tensor) { return !tensor.is_on_host() && tensor.bytes() > kSmallBytes && has_whole_bytes(tensor.dtype()); }

Tensor joined(const std::vector<Tensor>& parts, std::int64_t axis, const Dims& dims) {
  if (Tensor made = joined_remotely(parts, axis, dims); made.defined()) return made;
  const DType dtype = parts.front().dtype();
  Tensor out = has_whole_bytes(dtype) ? Tensor::to_be_filled(dtype, dims) : Tensor(dtype, dims);
  if (out.size() == 0) return out;
  const AxisView whole = around_axis(dims, axis);
  std::int64_t start = 0;
  for (const Tensor& part : parts) {
    const std::int64_t extent = part.dims()[static_cast<std::size_t>(axis)], run = extent * whole.inner;
    for (std::int64_t o = 0; o < whole.outer; ++o) copy_run(out, (o * whole.extent + start) * whole.inner, part, o * run, run);
    start += extent;
  }
  return out;
}

Tensor join_along(const RefContext& ctx, const std::vector<Tensor>& parts, std::int64_t axis) {
  if (parts.empty()) ctx.fail("joins no tensors");
  const auto at = static_cast<std::size_t>(axis);
  Dims dims = parts.front().dims();
  dims[at] = 0;
  for (const Tensor& part : parts) {
    Dims others = part.dims();
    if (others.size() == dims.size()) others[at] = dims[at];
    if (others != dims || part.dtype() != parts.front().dtype()) {
      ctx.fail("cannot join " + std::string(dtype_name(part.dtype())) + " " + lathe::to_string(part.dims()) + " to " +
               std::string(dtype_name(parts.front().dtype())) + " " + lathe::to_string(parts.front().dims()) + " along axis " + std::to_string(axis));
    }
    if (__builtin_add_overflow(dims[at], part.dims()[at], &dims[at])) ctx.fail("joins more than any machine can hold");
  }
  return joined(parts, axis, dims);
}

Tensor stack_along(const RefContext& ctx, const std::vector<Tensor>& parts, std::int64_t axis) {
  std::vector<Tensor> widened;
  widened.reserve(parts.size());
  for (const Tensor& part : parts) {
    if (part.dims() != parts.front().dims()) {
      ctx.fail("cannot stack " + lathe::to_string(part.dims()) + " on " + lathe::to_string(parts.front().dims()) + ": the shapes differ");
    }
    Dims dims = part.dims();
    dims.insert(dims.begin() + axis, 1);
    widened.push_back(part.reshaped(std::move(dims)));
  }
  return join_along(ctx, widened, axis);
}

Tensor take_along(const Tensor& tensor, std::int64_t axis, std::int64_t begin, std::int64_t count) {
  const auto at = static_cast<std::size_t>(axis);
  Dims dims = tensor.dims();
  const AxisView whole = around_axis(dims, axis);
  dims[at] = count;
  const std::int64_t run = count * whole.inner;
  if (tensor.remote_bytes() && has_whole_bytes(tensor.dtype())) {
    RemoteJoin join(tensor.dtype(), dims, axis);
    join.add(tensor.shared_remote_bytes(), whole.extent, begin, count, 0);
    if (Tensor made = join.made(); made.defined()) return made;
  }
  Tensor out(tensor.dtype(), dims);
  if (out.size() == 0) return out;
  for (std::int64_t o = 0; o < whole.outer; ++o) copy_run(out, o * run, tensor, (o * whole.extent + begin) * whole.inner, run);
  return out;
}

Tensor repeated_along(const Tensor& tensor, std::int64_t axis, std::int64_t count) {
  const auto at = static_cast<std::size_t>(axis);
  // In rounds, each of as many pieces as are told the driver at once.
  Tensor whole = take_along(tensor, axis, 0, std::min<std::int64_t>(count, 1));
  while (whole.dims()[at] < count) {
    const std::int64_t have = whole.dims()[at], times = std::min<std::int64_t>(count / have, kMostPieces - 1), rest = std::min(count - times * have, have);
    std::vector<Tensor> parts(static_cast<std::size_t>(times), whole);
    if (rest > 0) parts.push_back(take_along(whole, axis, 0, rest));
    Dims dims = whole.dims();
    dims[at] = times * have + rest;
    whole = joined(parts, axis, dims);
  }
  return whole;
}

Tensor take_one(const Tensor& tensor, std::int64_t axis, std::int64_t at) {
  Tensor out = take_along(tensor, axis, at, 1);
  Dims dims = out.dims();
  dims.erase(dims.begin() + axis);
  return out.reshaped(std::move(dims));
}

Tensor stacked_nothing(const RefContext& ctx, const ir::Type& element, std::size_t output, std::int64_t axis) {
  if (element.dtype == DType::kUndefined) ctx.fail("takes no trip, and the element type of output " + std::to_string(output) + " is not known");
  ir::Bindings symbols;
  for (std::size_t i = 0; i < ctx.input_count(); ++i) {
    const Value* value = ctx.node().input(i);
    if (!value || !ctx.has_input(i) || !value->has_shape() || value->shape().size() != ctx.input(i).dims().size()) continue;
    for (std::size_t a = 0; a < value->shape().size(); ++a)
      if (value->shape()[a].is_symbol()) symbols.emplace(value->shape()[a].to_string(), ctx.input(i).dims()[a]);
  }
  Dims dims;
  if (element.shape)
    for (const Dim& dim : *element.shape) dims.push_back(std::max<std::int64_t>(dim.evaluate(symbols).value_or(0), 0));
  const std::int64_t at = ref_axis(ctx, axis, static_cast<std::int64_t>(dims.size()) + 1);
  dims.insert(dims.begin() + at, 0);
  return Tensor(element.dtype, std::move(dims));
}

}  // namespace lathe::ops
