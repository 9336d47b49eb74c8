// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Fills the KernelTable of one ISA file. Include after the simd_*.h; LATHE_TILE_ROWS and LATHE_TILE_UNITS say which register tiles fit.

#include "backend/cpu/vmath.h"
// clang-format off
#include "backend/cpu/epilogue_body.h"
#include "backend/cpu/depthwise_body.h"
#include "backend/cpu/pool_body.h"
#include "backend/cpu/tile_body.h"
#include "backend/cpu/transpose_body.h"
#include "backend/cpu/winograd_body.h"
// clang-format on

namespace lathe::cpu {
namespace {

// constexpr: the table must be constant data, a start-up function in this file would run with the file's instructions.
constexpr KernelTable make_table(Isa isa) {
  KernelTable t{};
  t.isa = isa;
  t.max_rows = LATHE_TILE_ROWS;
  t.max_units = LATHE_TILE_UNITS;
  fill_tiles<DotF32, 1, LATHE_TILE_ROWS>(t.f32);
  fill_tiles<DotBf16, 1, LATHE_TILE_ROWS>(t.bf16);
#if LATHE_TILE_UNITS > 1
  fill_tiles<DotF32, 2, LATHE_TILE_ROWS>(t.f32);
  fill_tiles<DotBf16, 2, LATHE_TILE_ROWS>(t.bf16);
#endif
  t.epilogue = epilogue;
  t.copy = copy_rows_kernel;
  t.depthwise = depthwise;
  t.pool = pool;
  t.global_pool = global_pool;
  t.transpose = transpose;
  t.pair_rows = pair_rows;
  t.winograd_input[0] = winograd_input<2>;
  t.winograd_input[1] = winograd_input<4>;
  t.winograd_output[0] = winograd_output<2>;
  t.winograd_output[1] = winograd_output<4>;
  return t;
}

}  // namespace
}  // namespace lathe::cpu
