// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The matrices of Fourier transforms.
#include "ops/signal/fourier_matrix.h"

#include <cmath>
#include <numbers>

namespace lathe::ops {

Complex Turns::operator()(std::int64_t i) const {
  i = ((i % n_) + n_) % n_;
  if (8 * i > 4 * n_) return std::conj((*this)(n_ - i));
  if (8 * i > 2 * n_) {  // half a turn minus it
    const Complex mirrored = at(n_ - 2 * i);
    return {-mirrored.real(), mirrored.imag()};
  }
  return at(2 * i);
}

Complex Turns::at(std::int64_t j) const {
  const double angle = std::numbers::pi * static_cast<double>(j) / static_cast<double>(n_);
  if (4 * j <= n_) return {std::cos(angle), std::sin(angle)};
  const double rest = std::numbers::pi * static_cast<double>(n_ - 2 * j) / static_cast<double>(2 * n_);
  return {std::sin(rest), std::cos(rest)};
}

Tensor matrix_of(const Transform& t) {
  const std::int64_t columns = t.kept * t.out_parts;
  Tensor tensor(DType::kFloat32, {t.extent * t.parts, columns});
  const auto to = tensor.mutable_data<float>();
  const Turns turns(t.length);
  for (std::int64_t i = 0; i < t.extent; ++i) {
    double scale = t.inverse ? 1.0 / static_cast<double>(t.length) : 1.0;
    if (!t.window.empty()) scale *= t.window[static_cast<std::size_t>(i)];
    const bool alone = i == 0 || 2 * i == t.length;  // its mirror image is itself, its imaginary part nothing
    if (t.mirrored && !alone) scale *= 2;
    for (std::int64_t k = 0; k < t.kept; ++k) {
      const Complex turn = turns(t.inverse ? i * k : -i * k) * scale;
      const auto set = [&](std::int64_t part, std::int64_t out, double v) {
        to[static_cast<std::size_t>((i * t.parts + part) * columns + k * t.out_parts + out)] = static_cast<float>(v);
      };
      set(0, 0, turn.real());
      if (t.out_parts == 2) set(0, 1, turn.imag());
      if (t.parts == 1) continue;
      set(1, 0, t.mirrored && alone ? 0 : -turn.imag());
      if (t.out_parts == 2) set(1, 1, turn.real());
    }
  }
  return tensor;
}

Tensor planes_of(const Transform& t) {
  const Tensor pairs = matrix_of(t);
  Tensor planes(DType::kFloat32, {t.out_parts * t.kept, t.parts * t.extent});
  const auto from = pairs.data<float>();
  const auto to = planes.mutable_data<float>();
  for (std::int64_t n = 0; n < t.extent; ++n)
    for (std::int64_t in = 0; in < t.parts; ++in)
      for (std::int64_t k = 0; k < t.kept; ++k)
        for (std::int64_t out = 0; out < t.out_parts; ++out)
          to[static_cast<std::size_t>(((out * t.kept + k) * t.parts + in) * t.extent + n)] =
              from[static_cast<std::size_t>(((n * t.parts + in) * t.kept + k) * t.out_parts + out)];
  return planes;
}

}  // namespace lathe::ops
