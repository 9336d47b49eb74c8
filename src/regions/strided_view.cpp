// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See strided_view.h.

#include "regions/strided_view.h"

#include <deque>

namespace lathe::regions {
namespace {

const ir::Dim kOne(1);

bool reshapes(const ir::Node& node) { return node.is("Reshape") || node.is("Flatten") || node.is("Squeeze") || node.is("Unsqueeze") || node.is("Identity"); }

/// The sub-axes in order, dealt to axes of these extents.
bool regroup(StridedView& view, const ir::Shape& shape) {
  std::deque<SubAxis> left;
  for (auto& axis : view.axes) left.insert(left.end(), axis.begin(), axis.end());
  view.axes.clear();
  for (const ir::Dim& extent : shape) {
    auto& axis = view.axes.emplace_back();
    ir::Dim rest = extent;
    while (rest != kOne) {
      if (left.empty()) return false;
      const SubAxis head = left.front();
      left.pop_front();
      if (head.extent == rest) {
        axis.push_back(head);
        break;
      }
      if (const auto quotient = ir::Dim::exact_div(rest, head.extent)) {
        axis.push_back(head);
        rest = *quotient;
        continue;
      }
      const auto inner = ir::Dim::exact_div(head.extent, rest);
      if (!inner) return false;
      const auto pieces = cut(head, {rest, *inner});
      if (!pieces) return false;
      axis.push_back((*pieces)[0]);
      left.push_front((*pieces)[1]);
      break;
    }
  }
  return left.empty();
}

/// Index `start` of `axis` and what follows it becomes index 0.
bool shift(StridedView& view, std::size_t axis, std::int64_t start) {
  if (start == 0) return true;
  if (view.axes[axis].size() != 1) return false;
  const SubAxis& only = view.axes[axis][0];
  view.offset[static_cast<std::size_t>(only.axis)] += start * only.step;
  return true;
}

bool narrow(StridedView& view, std::size_t axis, std::int64_t start, const ir::Dim& extent) {
  if (start < 0 || !shift(view, axis, start)) return false;
  auto& sub = view.axes[axis];
  if (extent == kOne) sub.clear();
  else if (sub.size() == 1) sub[0].extent = extent;
  else return false;
  return true;
}

std::optional<std::size_t> axis_of(std::int64_t axis, std::size_t rank) {
  if (axis < 0) axis += static_cast<std::int64_t>(rank);
  if (axis < 0 || axis >= static_cast<std::int64_t>(rank)) return std::nullopt;
  return static_cast<std::size_t>(axis);
}

bool follow_split(const ir::Node& node, std::size_t index, StridedView& view) {
  const auto axis = axis_of(node.attrs.get_int("axis", 0), view.axes.size());
  if (!axis) return false;
  std::int64_t start = 0;
  for (std::size_t i = 0; i < index; ++i) {
    const ir::Value* part = node.output(i);
    const auto extent = part && part->has_shape() ? part->shape()[*axis].constant() : std::nullopt;
    if (!extent) return false;
    start += *extent;
  }
  const ir::Value* part = node.output(index);
  return part && part->has_shape() && narrow(view, *axis, start, part->shape()[*axis]);
}

bool follow_slice(const ir::Node& node, StridedView& view) {
  const ir::Value *starts = node.input(1), *axes = node.input(3), *steps = node.input(4), *source = node.input(0);
  if (!starts || !starts->is_constant() || (axes && !axes->is_constant()) || (steps && !steps->is_constant())) return false;
  for (std::int64_t i = 0; i < starts->constant.size(); ++i) {
    const auto at = [&](const ir::Value* value) { return static_cast<std::int64_t>(value->constant.as_double(i)); };
    if (steps && at(steps) != 1) return false;
    const auto axis = axis_of(axes ? at(axes) : i, view.axes.size());
    if (!axis) return false;
    std::int64_t start = at(starts);
    const auto extent = source->shape()[*axis].constant();
    if (start < 0) start = extent ? start + *extent : -1;
    if (start < 0 || (start > 0 && (!extent || start >= *extent))) return false;
    if (!narrow(view, *axis, start, node.output()->shape()[*axis])) return false;
  }
  return true;
}

bool follow_gather(const ir::Node& node, StridedView& view) {
  const ir::Value *indices = node.input(1), *source = node.input(0);
  const auto axis = axis_of(node.attrs.get_int("axis", 0), view.axes.size());
  if (!axis || !indices || !indices->is_constant() || indices->constant.rank() != 0) return false;
  const auto extent = source->shape()[*axis].constant();
  if (!extent) return false;
  std::int64_t index = static_cast<std::int64_t>(indices->constant.as_double(0));
  if (index < 0) index += *extent;
  if (index < 0 || index >= *extent || !shift(view, *axis, index)) return false;
  view.axes.erase(view.axes.begin() + static_cast<std::ptrdiff_t>(*axis));
  return true;
}

}  // namespace

StridedView whole_view(ir::Value* value) {
  StridedView view;
  view.source = value;
  view.offset.assign(value->shape().size(), 0);
  for (std::size_t i = 0; i < value->shape().size(); ++i) {
    auto& axis = view.axes.emplace_back();
    if (value->shape()[i] != kOne) axis.push_back({value->shape()[i], static_cast<int>(i), 1});
  }
  return view;
}

bool moves_elements(const ir::Node& node) {
  return node.input(0) && !node.input(0)->is_constant() &&
         (reshapes(node) || node.is("Transpose") || node.is("Split") || node.is("Slice") || node.is("Gather"));
}

bool follow(const ir::Node& node, std::size_t index, StridedView& view) {
  const ir::Value *source = node.input(0), *result = node.output(index);
  if (!source || !result || !source->has_shape() || !result->has_shape() || source->shape().size() != view.axes.size()) return false;
  bool good = false;
  if (reshapes(node)) good = regroup(view, result->shape());
  else if (node.is("Split")) good = follow_split(node, index, view);
  else if (node.is("Slice")) good = follow_slice(node, view);
  else if (node.is("Gather")) good = follow_gather(node, view);
  else if (node.is("Transpose")) {
    const auto perm = node.attrs.get_ints("perm");
    std::vector<std::vector<SubAxis>> axes;
    for (std::size_t i = 0; i < view.axes.size(); ++i) {
      const std::size_t from = perm.empty() ? view.axes.size() - 1 - i : static_cast<std::size_t>(perm[i]);
      axes.push_back(view.axes.at(from));
    }
    view.axes = std::move(axes);
    good = true;
  }
  if (!good || view.axes.size() != result->shape().size()) return false;
  for (std::size_t i = 0; i < view.axes.size(); ++i) {
    ir::Dim extent(1);
    for (const SubAxis& sub : view.axes[i]) extent = extent * sub.extent;
    if (extent != result->shape()[i]) return false;
  }
  return true;
}

std::optional<std::vector<SubAxis>> cut(const SubAxis& axis, const std::vector<ir::Dim>& extents) {
  std::vector<SubAxis> pieces(extents.size());
  ir::Dim inner(1);
  for (std::size_t i = extents.size(); i-- > 0;) {
    const auto within = inner.constant();
    if (!within) return std::nullopt;  // the step would be a symbol
    pieces[i] = {extents[i], axis.axis, axis.step * *within};
    inner = inner * extents[i];
  }
  if (inner != axis.extent) return std::nullopt;
  return pieces;
}

}  // namespace lathe::regions
