// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Winograd convolution, fused: a task transforms a block of input tiles to scratch, multiplies plane by plane with the register tiles
// of one weight panel, and transforms each panel's sums back through the epilogue, so that all of it stays in the second-level cache.
//
// The planes are fp32 for bf16 problems too: a quarter of the products in fp32 is cheaper than all of them in bf16, and exact enough.
//
// Error class *fast*. With unit-variance data the measured error against exact sums is about 4 (2x2) and 12 (4x4) times that of the
// direct kernel; the bound 64 eps sqrt(K) sum|a||b| is held by the tests.
#include <cmath>
#include <cstring>
#include <vector>

#include "backend/cpu/conv_internal.h"
#include "base/half.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

struct Shape {
  std::int64_t m, tile, planes;
  std::int64_t cin, v_pixel, v_plane;  ///< channels padded; floats
  std::int64_t across, down, tiles;    ///< of all images
  std::int64_t panels, m_plane;
};

Shape winograd_shape(const ConvProblem& p, const ConvPlan& plan) {
  Shape s{};
  s.m = plan.algorithm == ConvAlgorithm::kWinograd2 ? 2 : 4;
  s.tile = s.m + 2;
  s.planes = s.tile * s.tile;
  s.cin = round_up(p.cin, 16);
  s.v_pixel = s.cin % 256 == 0 ? s.cin + 16 : s.cin;
  // Planes a line more than a multiple of 4 KiB apart, so that the stores of one channel vector spread over the cache sets.
  s.v_plane = round_up(plan.rows * s.v_pixel, 1024) + 16;
  s.across = ceil_div(p.ow(), s.m);
  s.down = ceil_div(p.oh(), s.m);
  s.tiles = p.n * s.across * s.down;
  s.panels = ceil_div(p.cout, plan.panel);
  s.m_plane = round_up(plan.rows * plan.panel * panels_side_by_side(kernel_table(), plan.panel), 1024) + 16;
  return s;
}

}  // namespace

std::size_t conv_winograd_scratch(const ConvProblem& p, const ConvPlan& plan) noexcept {
  const Shape s = winograd_shape(p, plan);
  return static_cast<std::size_t>((s.planes * (s.v_plane + s.m_plane) + 16 * kMaxPanel) * 4 + round_up(p.cin * 4, 64));
}

std::size_t conv_winograd_weight_bytes(const ConvProblem& p, const ConvPlan& plan) noexcept {
  const Shape s = winograd_shape(p, plan);
  return static_cast<std::size_t>(s.planes * s.cin * padded_cols(p.cout) * 4);
}

void pack_conv_winograd(const ConvProblem& p, const ConvPlan& plan, const float* oihw, void* packed) {
  static const double kG2[4][3] = {{1, 0, 0}, {0.5, 0.5, 0.5}, {0.5, -0.5, 0.5}, {0, 0, 1}};
  static const double kG4[6][3] = {
      {1.0 / 4, 0, 0}, {-1.0 / 6, -1.0 / 6, -1.0 / 6}, {-1.0 / 6, 1.0 / 6, -1.0 / 6}, {1.0 / 24, 1.0 / 12, 1.0 / 6}, {1.0 / 24, -1.0 / 12, 1.0 / 6}, {0, 0, 1}};
  const Shape s = winograd_shape(p, plan);
  const auto* g = s.m == 2 ? kG2 : kG4;
  float* out = static_cast<float*>(packed);
  std::memset(packed, 0, conv_winograd_weight_bytes(p, plan));
  for (std::int64_t o = 0; o < p.cout; ++o) {
    const std::int64_t panel = o / plan.panel, col = o % plan.panel, width = panel_width(p.cout, plan.panel, panel);
    for (std::int64_t c = 0; c < p.cin; ++c) {
      float w[9];
      for (int i = 0; i < 9; ++i) {
        w[i] = oihw[(o * p.cin + c) * 9 + i];
        if (p.weights == DType::kBFloat16) w[i] = bfloat16_to_float(float_to_bfloat16(w[i]));
      }
      double rows[6][3];
      for (std::int64_t i = 0; i < s.tile; ++i) {
        for (int x = 0; x < 3; ++x) rows[i][x] = g[i][0] * w[x] + g[i][1] * w[3 + x] + g[i][2] * w[6 + x];
      }
      for (std::int64_t i = 0; i < s.tile; ++i) {
        for (std::int64_t j = 0; j < s.tile; ++j) {
          const double u = rows[i][0] * g[j][0] + rows[i][1] * g[j][1] + rows[i][2] * g[j][2];
          // [panel][plane][channel][width]
          out[panel * plan.panel * s.cin * s.planes + ((i * s.tile + j) * s.cin + c) * width + col] = static_cast<float>(u);
        }
      }
    }
  }
}

void run_conv_winograd(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept {
  const KernelTable& kernels = kernel_table();
  const Shape s = winograd_shape(p, plan);
  const int which = s.m == 2 ? 0 : 1;
  const std::int64_t oh = p.oh(), ow = p.ow();
  const std::int64_t src_pixel = (args.src_pixel_stride ? args.src_pixel_stride : p.cin) * element_bytes(p.src);
  const std::int64_t dst_pixel = (args.dst_pixel_stride ? args.dst_pixel_stride : p.cout) * element_bytes(p.dst);
  const std::int64_t residual_pixel = (args.residual_pixel_stride ? args.residual_pixel_stride : p.cout) * element_bytes(args.residual_type);
  const std::int64_t blocks = ceil_div(s.tiles, plan.rows), panel_tasks = ceil_div(s.panels, plan.panels);
  const std::size_t scratch_bytes = round_up(static_cast<std::int64_t>(conv_winograd_scratch(p, plan)), 64);

  pool.parallel_for(blocks * panel_tasks, [&](std::int64_t task, int worker) {
    const std::int64_t panel_begin = task % panel_tasks * plan.panels;
    const std::int64_t panel_end = panel_begin + plan.panels < s.panels ? panel_begin + plan.panels : s.panels;
    const std::int64_t begin = task / panel_tasks * plan.rows;
    const std::int64_t count = s.tiles - begin < plan.rows ? s.tiles - begin : plan.rows;
    char* scratch = static_cast<char*>(args.scratch) + static_cast<std::size_t>(worker) * scratch_bytes;
    float* v = reinterpret_cast<float*>(scratch);
    float* sums = v + s.planes * s.v_plane;
    float* pixels_out = sums + s.planes * s.m_plane;
    char* zeros = reinterpret_cast<char*>(pixels_out + 16 * kMaxPanel);
    std::memset(zeros, 0, static_cast<std::size_t>(p.cin * 4));

    for (std::int64_t t = 0; t < count; ++t) {
      const std::int64_t index = begin + t, tx = index % s.across, ty = index / s.across % s.down, image = index / s.across / s.down;
      const char* src = static_cast<const char*>(args.src) + image * p.h * p.w * src_pixel;
      const char* pixels[36];
      const std::int64_t iy0 = ty * s.m - p.pad_top, ix0 = tx * s.m - p.pad_left;
      for (std::int64_t y = 0; y < s.tile; ++y) {
        const std::int64_t iy = iy0 + y;
        for (std::int64_t x = 0; x < s.tile; ++x) {
          const std::int64_t ix = ix0 + x;
          const bool inside = iy >= 0 && iy < p.h && ix >= 0 && ix < p.w;
          pixels[y * s.tile + x] = inside ? src + (iy * p.w + ix) * src_pixel : zeros;
        }
      }
      kernels.winograd_input[which]({pixels, p.cin, s.cin, p.src, v + t * s.v_pixel, s.v_plane});
    }

    TileArgs a{};
    a.a_stride = s.v_pixel * 4;
    a.k = s.cin;
    a.outer = a.inner = 1;
    const std::int64_t together = panels_side_by_side(kernels, plan.panel);
    std::int64_t next_panel = 0;
    for (std::int64_t panel = panel_begin; panel < panel_end; panel = next_panel) {
      next_panel = panel + together < panel_end ? panel + together : panel_end;
      const bool joined = next_panel - panel > 1;
      const std::int64_t one = panel_width(p.cout, plan.panel, panel), width = joined ? (next_panel - panel) * plan.panel : one, units = width / 16;
      const std::int64_t first = panel * plan.panel, cols = p.cout - first < width ? p.cout - first : width;
      const char* w_panel = static_cast<const char*>(args.weights) + panel * plan.panel * s.cin * s.planes * 4;
      a.w_stride = one * 4;
      a.w_unit = joined ? plan.panel * s.cin * s.planes * 4 : 64;
      a.acc_stride = width;
      const std::int64_t parts = ceil_div(count, kernels.max_rows), base = count / parts, extra = count % parts;
      for (std::int64_t plane = 0; plane < s.planes; ++plane) {
        std::int64_t t = 0;
        for (const std::int64_t rows : {base + 1, base}) {
          a.tiles = rows > base ? extra : parts - extra;
          if (a.tiles == 0 || rows == 0) continue;
          a.tile_step = rows * a.a_stride;
          a.a0 = reinterpret_cast<const char*>(v + plane * s.v_plane + t * s.v_pixel);
          a.a1 = a.a0 + (rows + 1) / 2 * a.a_stride;
          for (std::int64_t unit = 0; unit < units; unit += kernels.max_units) {
            const std::int64_t now = units - unit < kernels.max_units ? units - unit : kernels.max_units;
            a.w = w_panel + plane * s.cin * one * 4 + unit * a.w_unit;
            a.acc = sums + plane * s.m_plane + t * width + unit * 16;
            run_tiles(kernels.f32[now][rows], a);
          }
          t += a.tiles * rows;
        }
      }
      EpilogueArgs e{};
      e.acc_stride = width;
      e.cols = cols;
      e.bias = args.bias ? args.bias + first : nullptr;
      e.residual_stride = residual_pixel;
      e.dst_stride = dst_pixel;
      e.residual_type = args.residual_type;
      e.dst_type = p.dst;
      e.op = epilogue;
      for (std::int64_t t = 0; t < count; ++t) {
        const std::int64_t index = begin + t, tx = index % s.across, ty = index / s.across % s.down, image = index / s.across / s.down;
        kernels.winograd_output[which]({sums + t * width, s.m_plane, pixels_out, width, units});
        const std::int64_t oy = ty * s.m, ox = tx * s.m;
        e.rows = ow - ox < s.m ? ow - ox : s.m;
        for (std::int64_t y = 0; y < s.m && oy + y < oh; ++y) {
          const std::int64_t pixel = (image * oh + oy + y) * ow + ox;
          e.acc = pixels_out + y * s.m * width;
          e.dst = static_cast<char*>(args.dst) + pixel * dst_pixel + first * element_bytes(p.dst);
          e.residual = args.residual ? static_cast<const char*>(args.residual) + pixel * residual_pixel + first * element_bytes(args.residual_type) : nullptr;
          kernels.epilogue(e);
        }
      }
    }
  });
}

}  // namespace lathe::cpu
