// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Transposed convolution by output phases. On one axis, output t (counted from the first unpadded position) receives tap k from input
// (t - k d) / s where that is whole. All t of one residue r = t mod s take the same taps: those with k d = r (mod s), every (s / g)-th
// one for g = gcd(d, s). With the taps in falling order this is a convolution of stride 1 and dilation d / g whose input starts at a
// fixed offset, which may lie before or after the image's first row.
#include "backend/cpu/conv_transpose.h"

#include <algorithm>
#include <numeric>
#include <vector>

#include "backend/cpu/conv_internal.h"
#include "base/thread_pool.h"

namespace lathe::cpu {
namespace {

struct AxisPhase {
  std::int64_t first_tap = 0, tap_step = 1, taps = 0;
  std::int64_t dilation = 1, pad = 0;  ///< of the convolution; the pad may be negative
  std::int64_t first = 0, count = 0;   ///< output positions first, first + s, ...
};

AxisPhase axis_phase(std::int64_t out, std::int64_t k, std::int64_t s, std::int64_t d, std::int64_t pad, std::int64_t r) {
  AxisPhase a;
  const std::int64_t g = std::gcd(d, s);
  a.tap_step = s / g;
  a.dilation = d / g;
  for (a.first_tap = 0; a.first_tap < std::min(k, a.tap_step); ++a.first_tap) {
    if (a.first_tap * d % s == r) break;
  }
  const bool any = a.first_tap < std::min(k, a.tap_step);
  a.taps = any ? ceil_div(k - a.first_tap, a.tap_step) : 0;
  const std::int64_t q0 = pad > r ? ceil_div(pad - r, s) : 0;
  a.first = q0 * s + r - pad;
  a.count = a.first < out ? ceil_div(out - a.first, s) : 0;
  a.pad = any ? (a.taps - 1) * a.dilation - q0 - (r - a.first_tap * d) / s : 0;
  return a;
}

struct Phase {
  ConvProblem conv;
  AxisPhase y, x;
};

// A convolution whose output extent is the phase's: the far pad follows and may be negative, only the patch copy looks at the image's end.
Phase make_phase(const ConvTransposeProblem& p, std::int64_t ry, std::int64_t rx) {
  Phase f;
  f.y = axis_phase(p.oh(), p.kh, p.stride_h, p.dilation_h, p.pad_top, ry);
  f.x = axis_phase(p.ow(), p.kw, p.stride_w, p.dilation_w, p.pad_left, rx);
  ConvProblem& c = f.conv;
  c.n = p.n;
  c.h = p.h;
  c.w = p.w;
  c.cin = p.cin;
  c.cout = p.cout;
  c.groups = p.groups;
  c.kh = f.y.taps;
  c.kw = f.x.taps;
  c.dilation_h = f.y.dilation;
  c.dilation_w = f.x.dilation;
  c.pad_top = f.y.pad;
  c.pad_left = f.x.pad;
  c.pad_bottom = f.y.count - 1 - c.h - c.pad_top + c.dilation_h * (c.kh - 1) + 1;
  c.pad_right = f.x.count - 1 - c.w - c.pad_left + c.dilation_w * (c.kw - 1) + 1;
  c.src = p.src;
  c.weights = p.weights;
  c.dst = p.dst;
  return f;
}

ConvPlan phase_plan(const ConvProblem& c, int threads) {
  ConvPlan plan;
  plan.algorithm = ConvAlgorithm::kTiles;
  plan.panel = c.cout / c.groups <= 16 ? 16 : 32;
  const std::int64_t channels = c.cin / c.groups;
  if (channels * c.kh * c.kw > 1152 && channels > 128) plan.chunk = 128;
  return plan_strided_tiles(plan, c, threads);
}

template <class F>
void for_each_phase(const ConvTransposeProblem& p, F&& f) {
  for (std::int64_t ry = 0; ry < p.stride_h; ++ry) {
    for (std::int64_t rx = 0; rx < p.stride_w; ++rx) f(make_phase(p, ry, rx));
  }
}

// The packed layout knows neither image size nor threads.
std::size_t phase_weight_bytes(const ConvProblem& c) {
  if (c.kh == 0 || c.kw == 0) return 0;
  return static_cast<std::size_t>(round_up(static_cast<std::int64_t>(conv_weight_bytes(c, phase_plan(c, 1))), 64));
}

}  // namespace

std::string conv_transpose_unsupported(const ConvTransposeProblem& p) {
  auto real = [](DType t) { return t == DType::kFloat32 || t == DType::kBFloat16; };
  if (!real(p.src) || !real(p.dst) || !real(p.weights)) return "element types other than float32 and bfloat16";
  if (p.groups < 1 || p.cin % p.groups || p.cout % p.groups) return "channels are no multiple of the groups";
  if (p.n < 1 || p.h < 1 || p.w < 1 || p.cin < 1 || p.cout < 1) return "an empty tensor";
  if (p.kh < 1 || p.kw < 1 || p.stride_h < 1 || p.stride_w < 1 || p.dilation_h < 1 || p.dilation_w < 1) return "an empty kernel";
  if (p.pad_top < 0 || p.pad_left < 0 || p.pad_bottom < 0 || p.pad_right < 0) return "negative padding";
  if (p.output_pad_h < 0 || p.output_pad_w < 0) return "negative output padding";
  if (p.oh() < 1 || p.ow() < 1) return "the pads leave no output";
  return "";
}

std::size_t conv_transpose_weight_bytes(const ConvTransposeProblem& p) {
  std::size_t bytes = 0;
  for_each_phase(p, [&](const Phase& f) { bytes += phase_weight_bytes(f.conv); });
  return bytes;
}

void pack_conv_transpose_weights(const ConvTransposeProblem& p, const float* weights, void* packed) {
  char* out = static_cast<char*>(packed);
  const std::int64_t group_cin = p.cin / p.groups, group_cout = p.cout / p.groups;
  for_each_phase(p, [&](const Phase& f) {
    const std::size_t bytes = phase_weight_bytes(f.conv);
    if (bytes == 0) return;
    std::vector<float> oihw(static_cast<std::size_t>(p.cout * group_cin * f.conv.kh * f.conv.kw));
    float* to = oihw.data();
    for (std::int64_t o = 0; o < p.cout; ++o) {
      for (std::int64_t i = 0; i < group_cin; ++i) {
        const float* from = weights + ((o / group_cout * group_cin + i) * group_cout + o % group_cout) * p.kh * p.kw;
        for (std::int64_t y = f.y.taps; y-- > 0;) {
          for (std::int64_t x = f.x.taps; x-- > 0;) {
            *to++ = from[(f.y.first_tap + y * f.y.tap_step) * p.kw + f.x.first_tap + x * f.x.tap_step];
          }
        }
      }
    }
    const std::size_t used = conv_weight_bytes(f.conv, phase_plan(f.conv, 1));
    pack_conv_weights(f.conv, phase_plan(f.conv, 1), oihw.data(), out);
    std::fill(out + used, out + bytes, char{0});
    out += bytes;
  });
}

std::size_t conv_transpose_scratch_bytes(const ConvTransposeProblem& p, int threads) {
  std::size_t bytes = 0;
  for_each_phase(p, [&](const Phase& f) {
    if (f.y.count > 0 && f.x.count > 0) bytes = std::max(bytes, conv_scratch_bytes(f.conv, phase_plan(f.conv, threads), threads));
  });
  return bytes;
}

void run_conv_transpose(const ConvTransposeProblem& p, const Epilogue& epilogue, const ConvTransposeArgs& args, ThreadPool& pool) noexcept {
  const char* weights = static_cast<const char*>(args.weights);
  const std::int64_t pixel = (args.dst_pixel_stride ? args.dst_pixel_stride : p.cout) * element_bytes(p.dst);
  const std::int64_t residual_pixel = (args.residual_pixel_stride ? args.residual_pixel_stride : p.cout) * element_bytes(args.residual_type);
  const std::int64_t oh = p.oh(), ow = p.ow();
  for_each_phase(p, [&](const Phase& f) {
    const std::size_t bytes = phase_weight_bytes(f.conv);
    if (f.y.count > 0 && f.x.count > 0) {
      const std::int64_t first = f.y.first * ow + f.x.first;
      ConvOutput out;
      out.dst = static_cast<char*>(args.dst) + first * pixel;
      out.pixel = p.stride_w * pixel;
      out.row = p.stride_h * ow * pixel;
      out.image = oh * ow * pixel;
      out.residual = args.residual ? static_cast<const char*>(args.residual) + first * residual_pixel : nullptr;
      out.residual_pixel = p.stride_w * residual_pixel;
      out.residual_row = p.stride_h * ow * residual_pixel;
      out.residual_image = oh * ow * residual_pixel;
      ConvArgs a;
      a.src = args.src;
      a.src_pixel_stride = args.src_pixel_stride;
      a.weights = weights;
      a.bias = args.bias;
      a.residual_type = args.residual_type;
      a.scratch = args.scratch;
      run_conv_tiles_to(f.conv, phase_plan(f.conv, pool.size()), epilogue, a, out, pool);
    }
    weights += bytes;
  });
}

}  // namespace lathe::cpu
