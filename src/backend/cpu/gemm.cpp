// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Matrix product: tasks are blocks of rows x panels of a batch item. B that is not packed is packed per block of panels into the
// worker's scratch, A only where the tiles cannot read it in place (transposed, another type, odd k in bf16, rows 4 KiB apart).
#include "backend/cpu/gemm.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "backend/cpu/tile_grid.h"
#include "base/half.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

constexpr std::int64_t kPanel = 32;

struct Shape {
  bool bf16;
  std::int64_t element, per_step, steps, k_padded;
  std::int64_t lda, ldb, ldc;
  std::int64_t panels;
  bool pack_a, pack_b;
  std::int64_t rows;              ///< of a block that stays in cache while the panels pass
  std::int64_t parts, part;       ///< tasks along m; their rows
  std::int64_t group;             ///< panels of a task
  std::int64_t a_bytes, b_bytes;  ///< scratch of a worker
  std::int64_t a_pixel;           ///< packed A: bytes between rows
};

// Precondition: m and n are at least 1.
Shape gemm_shape(const GemmProblem& p, int threads) {
  Shape s{};
  s.bf16 = p.b == DType::kBFloat16;
  s.element = s.bf16 ? 2 : 4;
  s.per_step = s.bf16 ? 2 : 1;
  s.steps = ceil_div(p.k, s.per_step);
  s.k_padded = s.steps * s.per_step;
  s.lda = p.lda ? p.lda : (p.trans_a ? p.m : p.k);
  s.ldb = p.ldb ? p.ldb : (p.trans_b ? p.k : p.n);
  s.ldc = p.ldc ? p.ldc : p.n;
  s.panels = ceil_div(p.n, kPanel);
  const std::int64_t stride = s.lda * element_bytes(p.a);
  s.pack_a = p.trans_a || p.a != p.b || s.k_padded != p.k || (stride % 4096 == 0 && p.m > 4 && p.n >= 64);
  s.pack_b = !p.packed_b;

  const std::int64_t batch = p.batch_outer * p.batch_inner;
  const std::int64_t l2 = cache_sizes().l2, row_bytes = s.k_padded * s.element;
  s.a_pixel = row_bytes % 1024 == 0 ? row_bytes + 64 : round_up(row_bytes, 4);
  // Rows: the block of A takes at most a third of the second-level cache, in whole tiles.
  std::int64_t rows = std::max<std::int64_t>(l2 / 3 / std::max<std::int64_t>(row_bytes, 1), 2 * kMaxTileRows);
  rows = std::min<std::int64_t>(std::min<std::int64_t>(rows, 2048), p.m);
  // Where all of B stays in cache too, the block of C may as well: each of its lines is then completed by all panels before it leaves.
  if (s.steps * p.n * 4 <= l2 / 3) {
    const std::int64_t fit = l2 / 3 / std::max<std::int64_t>(p.n * element_bytes(p.c), 1);
    rows = std::min(rows, std::max<std::int64_t>(fit, 4 * kMaxTileRows));
  }
  std::int64_t group = s.panels, parts = ceil_div(p.m, rows);
  if (s.pack_b) {  // a packed group of panels takes at most a third too, and all rows use it
    group = std::clamp<std::int64_t>(l2 / 3 / std::max<std::int64_t>(s.steps * kPanel * 4, 1), 1, s.panels);
    parts = 1;
  }
  // Enough tasks for an even end, by panels first (B is read once), then by rows.
  const std::int64_t want = threads == 1 ? 1 : 4 * threads;
  const auto tasks = [&] { return batch * parts * ceil_div(s.panels, group); };
  while (tasks() < want && group > 2) group = ceil_div(group, 2);
  while (tasks() < want && ceil_div(p.m, parts + 1) >= 2 * kMaxTileRows) ++parts;
  while (tasks() < threads && group > 1) group = ceil_div(group, 2);
  // Few tasks: as many for every thread.
  if (tasks() < 8 * threads && tasks() > threads && tasks() % threads != 0) {
    std::int64_t more = parts + 1;
    while (batch * more * ceil_div(s.panels, group) % threads != 0) ++more;
    if (ceil_div(p.m, more) >= kMaxTileRows) parts = more;
  }
  s.part = ceil_div(p.m, parts);
  s.parts = ceil_div(p.m, s.part);
  s.rows = ceil_div(s.part, ceil_div(s.part, rows));
  s.group = ceil_div(s.panels, ceil_div(s.panels, group));
  s.a_bytes = s.pack_a ? round_up(s.rows * s.a_pixel, 64) : 0;
  s.b_bytes = s.pack_b ? round_up(s.group * kPanel * s.steps * 4, 64) : 0;
  return s;
}

// Columns [first, first + cols) of B as one panel of `width`: [step][width] fp32, or [step][width][2] bf16.
void pack_panel(const KernelTable& kernels, const GemmProblem& p, const Shape& s, DType from, const char* b, std::int64_t first, std::int64_t cols,
                std::int64_t width, char* out) {
  const std::int64_t element = element_bytes(from);
  if (!s.bf16) {
    if (cols < width) std::memset(out, 0, static_cast<std::size_t>(p.k * width * 4));
    if (!p.trans_b) {
      kernels.copy({b + first * element, s.ldb * element, out, width * 4, p.k, cols, from, DType::kFloat32});
    } else {
      kernels.transpose({b + first * s.ldb * element, out, cols, p.k, s.ldb * element, width * 4, from, DType::kFloat32});
    }
    return;
  }
  if (cols < width) std::memset(out, 0, static_cast<std::size_t>(s.steps * width * 4));
  if (!p.trans_b) {
    for (std::int64_t step = 0; step < s.steps; ++step) {
      const char* low = b + (2 * step * s.ldb + first) * element;
      kernels.pair_rows({low, 2 * step + 1 < p.k ? low + s.ldb * element : nullptr, reinterpret_cast<std::uint32_t*>(out + step * width * 4), cols, from});
    }
    return;
  }
  // Pairs lie side by side: bf16 pairs move as 32-bit units; what is left goes one by one.
  const std::int64_t whole = from == DType::kBFloat16 ? p.k / 2 : 0;
  if (whole > 0) kernels.transpose({b + first * s.ldb * 2, out, cols, whole, s.ldb * 2, width * 4, DType::kFloat32, DType::kFloat32});
  for (std::int64_t c = 0; c < cols; ++c) {
    const char* column = b + (first + c) * s.ldb * element;
    for (std::int64_t step = whole; step < s.steps; ++step) {
      std::uint32_t pair = 0;
      for (std::int64_t k = 2 * step; k < std::min(2 * step + 2, p.k); ++k) {
        std::uint16_t bits;
        if (from == DType::kBFloat16) {
          std::memcpy(&bits, column + k * 2, 2);
        } else {
          float value;
          std::memcpy(&value, column + k * 4, 4);
          bits = float_to_bfloat16(value);
        }
        pair |= static_cast<std::uint32_t>(bits) << (k % 2 * 16);
      }
      std::memcpy(out + (step * width + c) * 4, &pair, 4);
    }
  }
}

void pack_rows(const KernelTable& kernels, const GemmProblem& p, const Shape& s, const char* a, std::int64_t first, std::int64_t rows, char* out) {
  const DType type = s.bf16 ? DType::kBFloat16 : DType::kFloat32;
  const std::int64_t element = element_bytes(p.a);
  if (s.k_padded != p.k) {
    for (std::int64_t r = 0; r < rows; ++r) std::memset(out + r * s.a_pixel + p.k * s.element, 0, static_cast<std::size_t>((s.k_padded - p.k) * s.element));
  }
  if (p.trans_a) {
    kernels.transpose({a + first * element, out, p.k, rows, s.lda * element, s.a_pixel, p.a, type});
  } else {
    kernels.copy({a + first * s.lda * element, s.lda * element, out, s.a_pixel, rows, p.k, p.a, type});
  }
}

}  // namespace

std::size_t gemm_packed_b_bytes(const GemmProblem& p) {
  const std::int64_t steps = ceil_div(p.k, p.b == DType::kBFloat16 ? 2 : 1);
  return static_cast<std::size_t>(steps * padded_cols(p.n) * 4);
}

void pack_gemm_b(const GemmProblem& p, const void* b, DType from, void* packed) {
  if (p.n <= 0 || p.k <= 0) return;
  GemmProblem any_rows = p;  // the layout knows no rows
  any_rows.m = 1;
  const Shape s = gemm_shape(any_rows, 1);
  const KernelTable& kernels = kernel_table(Isa::kGeneric);  // a blob must not depend on the machine
  for (std::int64_t panel = 0; panel < s.panels; ++panel) {
    const std::int64_t first = panel * kPanel;
    pack_panel(kernels, p, s, from, static_cast<const char*>(b), first, std::min(kPanel, p.n - first), panel_width(p.n, kPanel, panel),
               static_cast<char*>(packed) + first * s.steps * 4);
  }
}

std::size_t gemm_scratch_bytes(const GemmProblem& p, int threads) {
  if (p.m <= 0 || p.n <= 0) return 0;
  const Shape s = gemm_shape(p, threads);
  return static_cast<std::size_t>(round_up(tile_grid_acc_bytes(0, 1), 64) + s.a_bytes + s.b_bytes) * static_cast<std::size_t>(std::max(1, threads));
}

void run_gemm(const GemmProblem& p, const Epilogue& epilogue, const GemmArgs& args, ThreadPool& pool) noexcept {
  if (p.m <= 0 || p.n <= 0) return;
  const KernelTable& kernels = kernel_table();
  const Shape s = gemm_shape(p, pool.size());
  const std::int64_t acc_bytes = round_up(tile_grid_acc_bytes(0, 1), 64), worker_bytes = acc_bytes + s.a_bytes + s.b_bytes;
  const std::int64_t groups = ceil_div(s.panels, s.group);
  const std::int64_t a_element = element_bytes(p.a), b_element = p.packed_b ? 1 : element_bytes(p.b), c_element = element_bytes(p.c);
  const std::int64_t residual_element = element_bytes(args.residual_type);

  TileGrid base{};
  base.chunks = 1;
  base.outer = p.k > 0 ? 1 : 0;  // an empty k leaves zeros
  base.inner = 1;
  base.k = base.last_k = s.steps;
  base.bf16 = s.bf16;
  base.panel = kPanel;
  base.n = p.n;
  base.dst_pixel = s.ldc * c_element;
  base.dst_type = p.c;
  base.residual_type = args.residual_type;
  base.residual_pixel = args.residual_stride * residual_element;
  base.bias = args.bias;
  base.op = epilogue;
  base.rows = 1;

  // Neighbouring tasks share the panels.
  pool.parallel_for(p.batch_outer * p.batch_inner * groups * s.parts, [&](std::int64_t task, int worker) {
    const std::int64_t part = task % s.parts, group = task / s.parts % groups, item = task / s.parts / groups;
    const std::int64_t outer = item / p.batch_inner, inner = item % p.batch_inner;
    char* scratch = static_cast<char*>(args.scratch) + worker * worker_bytes;
    const char* a = static_cast<const char*>(args.a) + (outer * p.a_outer + inner * p.a_inner) * a_element;
    const char* b = static_cast<const char*>(args.b) + (outer * p.b_outer + inner * p.b_inner) * b_element;
    const std::int64_t c_batch = outer * p.c_outer + inner * p.c_inner;
    const std::int64_t residual_batch = outer * args.residual_outer + inner * args.residual_inner;
    const std::int64_t panel0 = group * s.group, panel1 = std::min(panel0 + s.group, s.panels);

    TileGrid g = base;
    g.acc = reinterpret_cast<float*>(scratch);
    g.panel_begin = panel0;
    g.panel_end = panel1;
    if (s.pack_b) {
      char* packed = scratch + acc_bytes + s.a_bytes;
      for (std::int64_t panel = panel0; panel < panel1; ++panel) {
        const std::int64_t col = panel * kPanel;
        pack_panel(kernels, p, s, p.b, b, col, std::min(kPanel, p.n - col), panel_width(p.n, kPanel, panel), packed + (panel - panel0) * kPanel * s.steps * 4);
      }
      g.weights = packed - panel0 * kPanel * s.steps * 4;
    } else {
      g.weights = b;
    }
    const std::int64_t end = std::min((part + 1) * s.part, p.m);
    for (std::int64_t first = part * s.part; first < end; first += s.rows) {
      const std::int64_t rows = std::min(s.rows, end - first);
      g.cols = rows;
      if (s.pack_a) {
        char* packed = scratch + acc_bytes;
        pack_rows(kernels, p, s, a, first, rows, packed);
        g.a = packed;
        g.a_pixel = s.a_pixel;
      } else {
        g.a = a + first * s.lda * a_element;
        g.a_pixel = s.lda * a_element;
        g.prefetch_a = rows > kMaxTileRows;
      }
      g.dst = static_cast<char*>(args.c) + (c_batch + first * s.ldc) * c_element;
      if (args.residual) {
        g.residual = static_cast<const char*>(args.residual) + (residual_batch + first * args.residual_stride) * residual_element;
      }
      run_tile_grid(kernels, g);
    }
  });
}

}  // namespace lathe::cpu
