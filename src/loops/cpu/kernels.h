// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The vector kernels that tile programs are made of, compiled per instruction set and chosen at run time. A kernel works on n
// elements of dense registers (or of memory with the same form); an operand marked scalar is one element that meets all.
//
// Register types: float and half types compute in f32, int8..int32 and bool in i32 (bool as 0 or 1), the rest in i64 or f64.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "lathe/dtype.h"
#include "loops/region.h"

namespace lathe::loops::cpu {

enum class VmType : std::uint8_t { kF32, kF64, kI32, kI64 };

VmType vm_type(DType type) noexcept;
inline std::size_t vm_size(VmType t) noexcept { return t == VmType::kF32 || t == VmType::kI32 ? 4 : 8; }

enum class Mode : std::uint8_t { kVectors, kScalarRight, kScalarLeft };

using KernelFn = void (*)(void* dst, const void* a, const void* b, const void* c, std::size_t n);
/// `stride` in elements between the ones read (load) or written (store).
using MoveFn = void (*)(void* dst, const void* src, std::size_t n, std::int64_t stride);
/// Combines a tile into accumulators: the tile has `rows` x `cols` dense values; kept dimensions index the accumulators.
using ReduceFn = void (*)(void* accumulators, const void* values, std::size_t rows, std::size_t cols, bool rows_kept, bool cols_kept);
/// As ReduceFn, with the running positions (int64). The value at (r, c) has position first + r * row_step + c * col_step.
using ArgReduceFn = void (*)(void* best, std::int64_t* positions, const void* values, std::size_t rows, std::size_t cols, bool rows_kept, bool cols_kept,
                             std::int64_t first, std::int64_t row_step, std::int64_t col_step);

/// A two-dimensional view; strides in elements.
struct View {
  void* data;
  std::int64_t row_stride, col_stride;
};

struct Kernels {
  std::string_view target;
  KernelFn (*unary)(ExprOp op, VmType type);
  KernelFn (*binary)(ExprOp op, VmType type, Mode mode);
  KernelFn (*cast)(VmType from, DType to);  ///< nullptr: nothing to do
  /// a * b + c in f32; bit 0: b is scalar, bit 1: c is scalar.
  KernelFn (*mul_add)(int scalars);
  KernelFn (*silu)();  ///< a * sigmoid(a)
  /// condition a (i32), b or c; bit 0: b is scalar, bit 1: c is scalar.
  KernelFn (*select)(VmType type, int scalars);
  KernelFn (*fill)(VmType type);   ///< n copies of a's element
  MoveFn (*load)(DType from);      ///< memory to register
  MoveFn (*store)(DType to);       ///< register to memory
  MoveFn (*store_fill)(DType to);  ///< one register element to n in memory
  ReduceFn (*reduce)(Reduce reduce, VmType type);
  ArgReduceFn (*arg_reduce)(Reduce reduce, VmType type);
  /// Memory to memory, elements of `size` bytes: rows, broadcast or blocked transpose as the strides ask.
  void (*copy)(const View& dst, const View& src, std::size_t rows, std::size_t cols, std::size_t size);
};

/// Those of the best instruction set that the CPU has and LATHE_CPU_FEATURES leaves, or that a test chose.
const Kernels& kernels();
/// One table per instruction set that runs here, best first.
std::span<const Kernels* const> all_kernels();
/// For tests: what kernels() gives from now on; nullptr: the best again.
void choose_kernels(const Kernels* table);

}  // namespace lathe::loops::cpu
