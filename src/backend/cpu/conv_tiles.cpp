// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include <cstring>

#include "backend/cpu/conv_internal.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

struct PatchSource {
  const char* image;               ///< first element of the image (and of the group's channels, channels-last)
  std::int64_t pixel, row, plane;  ///< bytes; NCHW: pixel = element, plane = channel stride
  DType type;
};

// One input row of the patch, columns [x0, x0 + valid) of it inside the image.
void fill_row(const KernelTable& kernels, const PatchSource& src, const char* row, char* dst, std::int64_t pixel, std::int64_t cols, std::int64_t left,
              std::int64_t valid, std::int64_t channels, std::int64_t padded, DType type) {
  const std::int64_t element = element_bytes(type);
  if (left > 0) std::memset(dst, 0, static_cast<std::size_t>(left * pixel));
  const std::int64_t right = cols - left - valid;
  if (right > 0) std::memset(dst + (left + valid) * pixel, 0, static_cast<std::size_t>(right * pixel));
  if (valid <= 0) return;
  dst += left * pixel;
  if (channels != padded) {
    for (std::int64_t x = 0; x < valid; ++x) std::memset(dst + x * pixel + channels * element, 0, static_cast<std::size_t>((padded - channels) * element));
  }
  if (pixel == src.pixel && channels == padded && pixel == channels * element && src.type == type) {
    std::memcpy(dst, row, static_cast<std::size_t>(valid * pixel));
    return;
  }
  kernels.copy({row, src.pixel, dst, pixel, valid, channels, src.type, type});
}

void fill_patch(const KernelTable& kernels, const ConvProblem& p, const ConvShape& s, const PatchLayout& l, const PatchSource& src, std::int64_t oy0,
                char* patch) {
  const DType type = s.bf16 ? DType::kBFloat16 : DType::kFloat32;
  const std::int64_t iy0 = oy0 * p.stride_h - p.pad_top;
  const std::int64_t skip = p.pad_left < 0 ? -p.pad_left : 0;  // a phase of a transposed convolution may start inside the image
  const std::int64_t left = p.pad_left < 0 ? 0 : p.pad_left < l.in_cols ? p.pad_left : l.in_cols;
  std::int64_t end = p.w + p.pad_left;  // patch column after the image's last
  if (end > l.in_cols) end = l.in_cols;
  const std::int64_t valid = end > left ? end - left : 0;

  if (s.order == KOrder::kPlanar) {
    for (std::int64_t c = 0; c < s.group_cin; ++c) {
      for (std::int64_t y = 0; y < l.in_rows; ++y) {
        char* dst = patch + c * l.chunk + y * l.row;
        const std::int64_t iy = iy0 + y;
        if (iy < 0 || iy >= p.h || valid == 0) {
          std::memset(dst, 0, static_cast<std::size_t>(l.row));
          continue;
        }
        const char* row = src.image + c * src.plane + iy * src.row;
        std::memset(dst, 0, static_cast<std::size_t>(left * l.pixel));
        kernels.copy({row, 0, dst + left * l.pixel, 0, 1, valid, src.type, type});
        std::memset(dst + end * l.pixel, 0, static_cast<std::size_t>(l.row - end * l.pixel));
      }
    }
    return;
  }
  for (std::int64_t chunk = 0; chunk < s.chunks; ++chunk) {
    const std::int64_t padded = chunk + 1 == s.chunks ? s.last_chunk : s.chunk;
    const std::int64_t first = chunk * s.chunk;
    const std::int64_t channels = s.group_cin - first < padded ? s.group_cin - first : padded;
    for (std::int64_t y = 0; y < l.in_rows; ++y) {
      char* dst = patch + chunk * l.chunk + y * l.row;
      const std::int64_t iy = iy0 + y;
      if (iy < 0 || iy >= p.h || valid == 0) {
        std::memset(dst, 0, static_cast<std::size_t>(l.row));
        continue;
      }
      if (!p.src_nchw) {
        const char* row = src.image + iy * src.row + skip * src.pixel + first * element_bytes(src.type);
        fill_row(kernels, src, row, dst, l.pixel, l.in_cols, left, valid, channels, padded, type);
        continue;
      }
      // NCHW into pixels: the transposing kernel, channel by channel rows.
      std::memset(dst, 0, static_cast<std::size_t>(l.row));
      TransposeArgs t;
      t.src = src.image + first * src.plane + iy * src.row;
      t.dst = dst + left * l.pixel;
      t.rows = channels;
      t.cols = valid;
      t.src_stride = src.plane;
      t.dst_stride = l.pixel;
      t.src_type = src.type;
      t.dst_type = type;
      kernels.transpose(t);
    }
  }
}

}  // namespace

std::size_t conv_tiles_scratch(const ConvProblem& p, const ConvPlan& plan) noexcept {
  const ConvShape s = conv_shape(p, plan);
  const std::int64_t pixels = plan.flat ? plan.rows : plan.rows * s.ow;
  std::int64_t bytes = round_up(tile_grid_acc_bytes(pixels, s.chunks), 64);
  if (plan.patch) bytes += round_up(patch_layout(p, s, plan.rows).bytes, 64) + 64;
  return static_cast<std::size_t>(bytes);
}

void run_conv_tiles(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, ThreadPool& pool) noexcept {
  ConvOutput out;
  out.dst = static_cast<char*>(args.dst);
  out.pixel = (args.dst_pixel_stride ? args.dst_pixel_stride : p.cout) * element_bytes(p.dst);
  out.row = out.pixel * p.ow();
  out.image = out.row * p.oh();
  out.residual = static_cast<const char*>(args.residual);
  out.residual_pixel = (args.residual_pixel_stride ? args.residual_pixel_stride : p.cout) * element_bytes(args.residual_type);
  out.residual_row = out.residual_pixel * p.ow();
  out.residual_image = out.residual_row * p.oh();
  run_conv_tiles_to(p, plan, epilogue, args, out, pool);
}

void run_conv_tiles_to(const ConvProblem& p, const ConvPlan& plan, const Epilogue& epilogue, const ConvArgs& args, const ConvOutput& out,
                       ThreadPool& pool) noexcept {
  const KernelTable& kernels = kernel_table();
  const ConvShape s = conv_shape(p, plan);
  const std::int64_t src_element = element_bytes(p.src);
  PatchSource src;
  src.type = p.src;
  if (p.src_nchw) {
    src.pixel = src_element;
    src.row = p.w * src_element;
    src.plane = p.h * src.row;
  } else {
    src.pixel = (args.src_pixel_stride ? args.src_pixel_stride : p.cin) * src_element;
    src.row = p.w * src.pixel;
    src.plane = 0;
  }
  const std::int64_t image_bytes = p.src_nchw ? p.cin * src.plane : p.h * src.row;

  // A flat plan sees all images as one row of pixels.
  const std::int64_t images = plan.flat ? 1 : p.n;
  const std::int64_t extent = plan.flat ? p.n * s.oh * s.ow : s.oh;
  const std::int64_t blocks = ceil_div(extent, plan.rows);
  const std::int64_t panel_tasks = ceil_div(s.panels, plan.panels);
  const std::size_t scratch_bytes = round_up(static_cast<std::int64_t>(conv_tiles_scratch(p, plan)), 64);
  const std::int64_t weight_group = s.steps * padded_cols(s.group_cout) * 4;

  TileGrid base{};
  base.bf16 = s.bf16;
  base.panel = plan.panel;
  base.n = s.group_cout;
  base.dst_type = p.dst;
  base.residual_type = args.residual_type;
  base.op = epilogue;
  base.dst_pixel = out.pixel;
  base.dst_row = out.row;
  base.residual_pixel = out.residual_pixel;
  base.residual_row = out.residual_row;
  base.chunks = s.chunks;

  pool.parallel_for(images * p.groups * blocks * panel_tasks, [&](std::int64_t task, int worker) {
    const std::int64_t panel_task = task % panel_tasks, block = task / panel_tasks % blocks;
    const std::int64_t group = task / panel_tasks / blocks % p.groups, image = task / panel_tasks / blocks / p.groups;
    const std::int64_t begin = block * plan.rows;
    const std::int64_t count = extent - begin < plan.rows ? extent - begin : plan.rows;
    char* scratch = static_cast<char*>(args.scratch) + static_cast<std::size_t>(worker) * scratch_bytes;

    TileGrid g = base;
    g.acc = reinterpret_cast<float*>(scratch);
    g.weights = static_cast<const char*>(args.weights) + group * weight_group;
    g.panel_begin = panel_task * plan.panels;
    g.panel_end = g.panel_begin + plan.panels < s.panels ? g.panel_begin + plan.panels : s.panels;
    const std::int64_t first_out = group * s.group_cout;
    g.bias = args.bias ? args.bias + first_out : nullptr;
    g.rows = plan.flat ? 1 : count;
    g.cols = plan.flat ? count : s.ow;
    const std::int64_t out_offset = plan.flat ? 0 : image;
    g.dst = out.dst + out_offset * out.image + begin * (plan.flat ? out.pixel : out.row) + first_out * element_bytes(p.dst);
    g.residual = out.residual ? out.residual + out_offset * out.residual_image + begin * (plan.flat ? out.residual_pixel : out.residual_row) +
                                    first_out * element_bytes(args.residual_type)
                              : nullptr;

    const char* image_src = static_cast<const char*>(args.src) + image * image_bytes;
    PatchSource from = src;
    from.image = image_src + group * s.group_cin * (p.src_nchw ? src.plane : src_element);
    const std::int64_t per_step = s.bf16 ? 2 : 1;
    if (s.order == KOrder::kPixels && !plan.flat) {
      g.height = p.h;
      g.top = begin * p.stride_h - p.pad_top;
      g.top_step = p.stride_h;
      g.tap_step = p.dilation_h;
    }
    if (plan.patch) {
      const PatchLayout l = patch_layout(p, s, count);
      char* patch = scratch + round_up(tile_grid_acc_bytes(plan.flat ? plan.rows : plan.rows * s.ow, s.chunks), 64);
      fill_patch(kernels, p, s, l, from, begin, patch);
      g.a = patch;
      g.a_pixel = l.pixel * p.stride_w;
      g.a_row = l.row * p.stride_h;
      g.a_chunk = l.chunk;
      if (s.order == KOrder::kPlanar) {
        g.outer = s.group_cin;
        g.outer_stride = l.chunk;
        g.inner = p.kh;
        g.inner_stride = l.row * p.dilation_h;
        g.k = g.last_k = s.taps_k;
      } else {
        const bool joined = s.chunks == 1 && p.dilation_w == 1 && l.pixel == s.chunk * s.element;
        g.outer = p.kh;
        g.outer_stride = l.row * p.dilation_h;
        g.inner = joined ? 1 : p.kw;
        g.inner_stride = l.pixel * p.dilation_w;
        g.k = s.chunk / per_step * (joined ? p.kw : 1);
        g.last_k = s.last_chunk / per_step * (joined ? p.kw : 1);
      }
    } else {
      g.a = from.image + (plan.flat ? begin * src.pixel : begin * p.stride_h * src.row);
      g.a_pixel = src.pixel * (plan.flat ? 1 : p.stride_w);
      g.a_row = src.row * p.stride_h;
      g.a_chunk = s.chunk * s.element;
      g.outer = p.kh;
      g.outer_stride = src.row * p.dilation_h;
      g.inner = p.kw;
      g.inner_stride = src.pixel * p.dilation_w;
      g.k = s.chunk / per_step;
      g.last_k = s.last_chunk / per_step;
      g.prefetch_a = p.kh * p.kw == 1;
    }
    run_tile_grid(kernels, g);
  });
}

}  // namespace lathe::cpu
