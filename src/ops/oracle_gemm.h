// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The blocked oracle's product in double precision: C[m,n] = A[m,k] x B[k,n], operands made block by block by the caller, so that
// neither im2col nor a converted weight is ever held whole. Each element sums its k products in rising order with separate roundings:
// the same bytes on every machine and for any number of threads.

#include <cstdint>
#include <functional>

namespace lathe::ops {

/// Writes rows [row, row + rows) of A, row-major with k columns.
using FillRows = std::function<void(std::int64_t row, std::int64_t rows, double* a)>;
/// Writes columns [column, column + columns) of B as k rows of `columns` values.
using FillColumns = std::function<void(std::int64_t column, std::int64_t columns, double* b)>;
/// Takes a finished block of C, row-major with `columns` columns. Called from several threads, each block once.
using TakeBlock = std::function<void(std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns, const double* c)>;

void oracle_product(std::int64_t m, std::int64_t n, std::int64_t k, const FillRows& fill_a, const FillColumns& fill_b, const TakeBlock& take);

}  // namespace lathe::ops
