// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Tensors cut and joined along an axis; see join.h.
#include "ops/control/join.h"

#include <algorithm>
#include <cstring>

#include "ops/ref_util.h"

namespace lathe::ops {
namespace {

/// dst[to, to + count) = src[from, from + count), elements of one dtype.
void copy_run(Tensor& dst, std::int64_t to, const Tensor& src, std::int64_t from, std::int64_t count) {
  if (count == 0) return;
  if (dst.dtype() == DType::kString || dtype_bits(dst.dtype()) % 8 != 0) {
    for (std::int64_t i = 0; i < count; ++i) copy_element(dst, to + i, src, from + i);
    return;
  }
  const auto width = static_cast<std::int64_t>(dtype_bytes(dst.dtype(), 1));
  std::memcpy(dst.mutable_raw() + to * width, src.raw() + from * width, static_cast<std::size_t>(count * width));
}

/// Parts of tensors that lie on a device are put together there. More pieces than that are quicker through the host.
constexpr std::int64_t kMostPieces = 256;

/// Collects pieces while they all lie on a device.
class RemotePieces {
 public:
  explicit RemotePieces(DType dtype) : here_(dtype != DType::kString && dtype_bits(dtype) % 8 == 0) {}
  void add(const Tensor& tensor, std::int64_t first, std::int64_t count) {
    if (count == 0 || !here_) return;
    here_ = tensor.remote_bytes() != nullptr;
    const std::size_t width = dtype_bytes(tensor.dtype(), 1);
    if (here_) pieces_.push_back({tensor.remote_bytes(), static_cast<std::size_t>(first) * width, static_cast<std::size_t>(count) * width});
  }
  /// Undefined where the host has to do it.
  Tensor made(DType dtype, const Dims& dims) const {
    if (!here_ || pieces_.empty() || pieces_.size() > static_cast<std::size_t>(kMostPieces)) return {};
    return Tensor::remote(dtype, dims, pieces_.front().from->gathered(pieces_));
  }

 private:
  bool here_;
  std::vector<RemoteBytes::Piece> pieces_;
};

}  // namespace

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
  const AxisView whole = around_axis(dims, axis);
  if (whole.outer * static_cast<std::int64_t>(parts.size()) <= kMostPieces) {
    RemotePieces pieces(parts.front().dtype());
    for (std::int64_t o = 0; o < whole.outer; ++o)
      for (const Tensor& part : parts) pieces.add(part, o * part.dims()[at] * whole.inner, part.dims()[at] * whole.inner);
    if (Tensor made = pieces.made(parts.front().dtype(), dims); made.defined()) return made;
  }
  Tensor out(parts.front().dtype(), dims);
  if (out.size() == 0) return out;
  std::int64_t start = 0;
  for (const Tensor& part : parts) {
    const std::int64_t run = part.dims()[at] * whole.inner;
    for (std::int64_t o = 0; o < whole.outer; ++o) copy_run(out, (o * whole.extent + start) * whole.inner, part, o * run, run);
    start += part.dims()[at];
  }
  return out;
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
  if (tensor.remote_bytes() && whole.outer <= kMostPieces) {
    RemotePieces pieces(tensor.dtype());
    for (std::int64_t o = 0; o < whole.outer; ++o) pieces.add(tensor, (o * whole.extent + begin) * whole.inner, run);
    if (Tensor made = pieces.made(tensor.dtype(), dims); made.defined()) return made;
  }
  Tensor out(tensor.dtype(), dims);
  if (out.size() == 0) return out;
  for (std::int64_t o = 0; o < whole.outer; ++o) copy_run(out, o * run, tensor, (o * whole.extent + begin) * whole.inner, run);
  return out;
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
