// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The matrices of Fourier transforms, computed in double precision.

#include "base/tensor.h"
#include "ops/signal/fourier.h"

namespace lathe::ops {

/// cos and sin of 2 pi i / n, exact at the eighths of a turn.
class Turns {
 public:
  explicit Turns(std::int64_t n) : n_(n) {}
  Complex operator()(std::int64_t i) const;

 private:
  Complex at(std::int64_t j) const;  ///< of pi j / n with 0 <= j / n <= 1/2
  std::int64_t n_;
};

/// What is transformed: `extent` numbers of `parts` parts each, zeros behind them, to `kept` of `out_parts`.
struct Transform {
  std::int64_t length = 1, extent = 1, parts = 1, kept = 1, out_parts = 2;
  bool inverse = false, mirrored = false;  ///< mirrored: half a spectrum of real numbers comes in
  std::vector<double> window;              ///< of `extent` factors, or empty
};

/// rows (number, part), columns (number, part)
Tensor matrix_of(const Transform& t);
/// rows (part, k), columns (part, n): the same for numbers whose parts lie apart, to multiply from the left
Tensor planes_of(const Transform& t);

}  // namespace lathe::ops
