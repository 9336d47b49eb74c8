// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/tile_grid.h"

#include <algorithm>

namespace lathe::cpu {
namespace {

constexpr std::int64_t kBatchPixels = 4 * kMaxTileRows;  // sums that wait for one call of the epilogue

/// `all` cut into as few parts of at most `most` as can be, of about one size.
std::int64_t even(std::int64_t all, std::int64_t most) { return ceil_div(all, ceil_div(all, most)); }

// The grid's cut into tiles: rows are cut evenly; where two rows fit one tile, they are paired.
struct Cut {
  std::int64_t across, base, extra;  ///< tiles in a row; their width, the first `extra` are one wider
  std::int64_t row_step;             ///< 1 or 2
  Cut(std::int64_t rows, std::int64_t cols, std::int64_t max_rows) {
    row_step = rows > 1 && cols * 2 <= max_rows ? 2 : 1;
    across = ceil_div(cols, max_rows);
    base = cols / across;
    extra = cols % across;
  }
};

void store_tile(const KernelTable& kernels, const TileGrid& g, const float* acc, std::int64_t acc_stride, std::int64_t row, std::int64_t col,
                std::int64_t pixels, std::int64_t first_col, std::int64_t cols) {
  EpilogueArgs e;
  e.acc = acc;
  e.acc_stride = acc_stride;
  e.rows = pixels;
  e.cols = cols;
  alignas(64) static constexpr float kNoBias[kMaxPanel] = {};  // the epilogue's quick path wants one
  e.bias = g.bias ? g.bias + first_col : kNoBias;
  e.residual = g.residual ? g.residual + row * g.residual_row + col * g.residual_pixel + first_col * element_bytes(g.residual_type) : nullptr;
  e.residual_stride = g.residual_pixel;
  e.dst = g.dst + row * g.dst_row + col * g.dst_pixel + first_col * element_bytes(g.dst_type);
  e.dst_stride = g.dst_pixel;
  e.residual_type = g.residual_type;
  e.dst_type = g.dst_type;
  e.op = g.op;
  kernels.epilogue(e);
}

struct Taps {
  std::int64_t begin, end;
  bool operator==(const Taps&) const = default;
};
Taps taps_inside(const TileGrid& g, std::int64_t row) {
  if (g.height == 0) return {0, g.outer};
  const std::int64_t y = g.top + row * g.top_step;
  std::int64_t begin = y < 0 ? ceil_div(-y, g.tap_step) : 0, end = y < g.height ? ceil_div(g.height - y, g.tap_step) : 0;
  if (end > g.outer) end = g.outer;
  if (begin > end) begin = end;
  return {begin, end};
}

void prefetch_rows(const char* p, std::int64_t pixels, std::int64_t stride, std::int64_t bytes) {
  for (std::int64_t m = 0; m < pixels; ++m) {
    for (std::int64_t b = 0; b < bytes; b += 64) __builtin_prefetch(p + m * stride + b);
  }
}

}  // namespace

void run_tiles_in_pieces(TileFn tile, const TileArgs& whole) noexcept {
  TileArgs t = whole;
  const std::int64_t plane = whole.inner * whole.k;
  // Pieces of whole outer segments where one is short enough, else of inner ones, else of steps; all of about the same length.
  const std::int64_t fits = kChainSteps / std::max<std::int64_t>(plane, 1), inside = kChainSteps / whole.k;
  const std::int64_t outer = fits > 0 ? even(whole.outer, fits) : 1;
  const std::int64_t inner = fits > 0 ? whole.inner : inside > 0 ? even(whole.inner, inside) : 1;
  const std::int64_t k = fits > 0 || inside > 0 ? whole.k : even(whole.k, kChainSteps);
  for (std::int64_t o = 0; o < whole.outer; o += outer) {
    t.outer = std::min(outer, whole.outer - o);
    for (std::int64_t i = 0; i < whole.inner; i += inner) {
      t.inner = std::min(inner, whole.inner - i);
      for (std::int64_t at = 0; at < whole.k; at += k) {
        t.k = std::min(k, whole.k - at);
        const std::int64_t a = o * whole.outer_stride + i * whole.inner_stride + at * 4;
        t.a0 = whole.a0 + a;
        t.a1 = whole.a1 + a;
        t.w = whole.w + ((o * whole.inner + i) * whole.k + at) * whole.w_stride;
        tile(t);
        t.accumulate = true;
      }
    }
  }
}

std::int64_t tile_grid_acc_bytes(std::int64_t pixels, std::int64_t chunks) noexcept {
  // A batch of tiles, or with chunks all of them; a tile may be paired rows, hence the slack of one tile.
  const std::int64_t rows = chunks > 1 ? pixels + kMaxTileRows : kBatchPixels;
  return rows * kMaxPanel * 4;
}

void run_tile_grid(const KernelTable& kernels, const TileGrid& g) noexcept {
  const Cut cut(g.rows, g.cols, kernels.max_rows);
  const auto& tiles = g.bf16 ? kernels.bf16 : kernels.f32;
  const std::int64_t segments = g.outer * g.inner;
  const std::int64_t steps = ((g.chunks - 1) * g.k + g.last_k) * segments;

  TileArgs t;
  t.a_stride = g.a_pixel;
  t.inner = g.inner;
  t.outer_stride = g.outer_stride;
  t.inner_stride = g.inner_stride;
  const std::int64_t together = panels_side_by_side(kernels, g.panel);
  std::int64_t next_panel = 0;
  for (std::int64_t panel = g.panel_begin; panel < g.panel_end; panel = next_panel) {
    next_panel = panel + together < g.panel_end ? panel + together : g.panel_end;
    const bool joined = next_panel - panel > 1;
    const std::int64_t one = panel_width(g.n, g.panel, panel), width = joined ? (next_panel - panel) * g.panel : one, units = width / 16;
    const std::int64_t first_col = panel * g.panel;
    const std::int64_t cols = g.n - first_col < width ? g.n - first_col : width;
    const char* w_panel = g.weights + panel * g.panel * steps * 4;
    const bool touch = g.prefetch_a && panel == g.panel_begin;
    t.w_stride = one * 4;
    t.w_unit = joined ? g.panel * steps * 4 : 64;
    t.acc_stride = width;
    for (std::int64_t chunk = 0; chunk < g.chunks; ++chunk) {
      const bool last = chunk + 1 == g.chunks;
      t.k = last ? g.last_k : g.k;
      t.accumulate = chunk > 0;
      const char* w = w_panel + chunk * g.k * segments * one * 4;
      const char* a_chunk = g.a + chunk * g.a_chunk;
      float* acc = g.acc;
      std::int64_t next = 0;
      for (std::int64_t row = 0; row < g.rows; row = next) {
        const Taps taps = taps_inside(g, row);
        const bool pair = cut.row_step == 2 && row + 1 < g.rows && taps_inside(g, row + 1) == taps;
        next = row + (pair ? 2 : 1);
        t.outer = taps.end - taps.begin;
        const char* a_row = a_chunk + row * g.a_row + taps.begin * g.outer_stride;
        const char* w_row = w + taps.begin * g.inner * t.k * one * 4;
        // Tiles of one height go to the kernel together; their sums wait in acc until a batch is full or the row ends.
        std::int64_t col = 0, stored = 0, now = 0;
        for (std::int64_t x = 0; x < cut.across; x += now) {
          const std::int64_t wide = cut.base + (x < cut.extra ? 1 : 0), pixels = pair ? wide * 2 : wide;
          const std::int64_t alike = (x < cut.extra ? cut.extra : cut.across) - x;
          const std::int64_t room = g.chunks > 1 ? alike : (kBatchPixels - (col - stored)) / wide;
          now = touch ? 1 : alike < room ? alike : room;
          t.a0 = a_row + col * g.a_pixel;
          t.a1 = pair ? t.a0 + g.a_row : t.a0 + ((pixels + 1) / 2) * g.a_pixel;
          t.tiles = now;
          t.tile_step = wide * g.a_pixel;
          if (touch) prefetch_rows(t.a0 + wide * g.a_pixel, wide, g.a_pixel, t.k * 4);
          for (std::int64_t unit = 0; unit < units; unit += kernels.max_units) {
            const std::int64_t in_tile = units - unit < kernels.max_units ? units - unit : kernels.max_units;
            t.w = w_row + unit * t.w_unit;
            t.acc = acc + (pair ? 0 : col - stored) * width + unit * 16;
            run_tiles(tiles[in_tile][pixels], t);
          }
          col += now * wide;
          if (pair) {  // one tile across
            if (last) {
              store_tile(kernels, g, acc, width, row, 0, wide, first_col, cols);
              store_tile(kernels, g, acc + wide * width, width, row + 1, 0, wide, first_col, cols);
            }
            if (g.chunks > 1) acc += pixels * width;
            break;
          }
          if (col < g.cols && (g.chunks > 1 || kBatchPixels - (col - stored) >= wide)) continue;
          if (last) store_tile(kernels, g, acc, width, row, stored, col - stored, first_col, cols);
          if (g.chunks > 1) acc += (col - stored) * width;
          stored = col;
        }
      }
    }
  }
}

}  // namespace lathe::cpu
