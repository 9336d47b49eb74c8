// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Discrete Fourier transforms: in double precision, and as products.

#include <complex>
#include <cstdint>
#include <vector>

namespace lathe::ops {

struct ExpandContext;

using Complex = std::complex<double>;

/// X[k] = sum over n of x[n] exp(-+2 pi i n k / N), without a factor. Any length: powers of two by halving (Cooley and Tukey 1965), others by a
/// convolution of such a length (Bluestein 1970).
std::vector<Complex> fourier(std::vector<Complex> x, bool inverse);

// fourier_expand.cpp: both ops as products.
bool dft_expand(ExpandContext& ctx);
bool stft_expand(ExpandContext& ctx);

}  // namespace lathe::ops
