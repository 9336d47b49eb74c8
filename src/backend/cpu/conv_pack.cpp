// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Packing of convolution weights; the layouts are described in conv.h.
#include <cstring>
#include <vector>

#include "backend/cpu/conv_internal.h"
#include "base/half.h"

namespace lathe::cpu {
namespace {

void put(char* base, bool bf16, std::int64_t step, std::int64_t half, std::int64_t width, std::int64_t col, float value) {
  if (bf16) {
    const std::uint16_t bits = float_to_bfloat16(value);
    std::memcpy(base + ((step * width + col) * 2 + half) * 2, &bits, 2);
  } else {
    std::memcpy(base + (step * width + col) * 4, &value, 4);
  }
}

void pack_tiles(const ConvProblem& p, const ConvPlan& plan, const float* oihw, char* packed) {
  const ConvShape s = conv_shape(p, plan);
  const std::int64_t per_step = s.bf16 ? 2 : 1, taps = p.kh * p.kw;
  std::memset(packed, 0, conv_weight_bytes(p, plan));
  for (std::int64_t group = 0; group < p.groups; ++group) {
    char* group_out = packed + group * s.steps * padded_cols(s.group_cout) * 4;
    for (std::int64_t o = 0; o < s.group_cout; ++o) {
      const std::int64_t panel = o / plan.panel, col = o % plan.panel, width = panel_width(s.group_cout, plan.panel, panel);
      char* out = group_out + panel * plan.panel * s.steps * 4;
      const float* in = oihw + (group * s.group_cout + o) * s.group_cin * taps;
      for (std::int64_t c = 0; c < s.group_cin; ++c) {
        for (std::int64_t y = 0; y < p.kh; ++y) {
          for (std::int64_t x = 0; x < p.kw; ++x) {
            std::int64_t step, half;
            if (s.order == KOrder::kPlanar) {
              step = (c * p.kh + y) * s.taps_k + x / per_step;
              half = x % per_step;
            } else {
              const std::int64_t chunk = c / s.chunk, in_chunk = c % s.chunk;
              const std::int64_t width_k = chunk + 1 == s.chunks ? s.last_chunk : s.chunk;
              step = (chunk * s.chunk * taps + (y * p.kw + x) * width_k + in_chunk) / per_step;
              half = in_chunk % per_step;
            }
            put(out, s.bf16, step, half, width, col, in[(c * p.kh + y) * p.kw + x]);
          }
        }
      }
    }
  }
}

}  // namespace

std::size_t conv_weight_bytes(const ConvProblem& p, const ConvPlan& plan) {
  switch (plan.algorithm) {
    case ConvAlgorithm::kTiles: {
      const ConvShape s = conv_shape(p, plan);
      return static_cast<std::size_t>(p.groups * s.steps * padded_cols(s.group_cout) * 4);
    }
    case ConvAlgorithm::kDepthwise: return static_cast<std::size_t>(p.kh * p.kw * p.cin * 4);
    case ConvAlgorithm::kWinograd2:
    case ConvAlgorithm::kWinograd4: return conv_winograd_weight_bytes(p, plan);
  }
  return 0;
}

void pack_conv_weights(const ConvProblem& p, const ConvPlan& plan, const float* oihw, void* packed) {
  switch (plan.algorithm) {
    case ConvAlgorithm::kTiles: pack_tiles(p, plan, oihw, static_cast<char*>(packed)); break;
    case ConvAlgorithm::kDepthwise: {
      float* out = static_cast<float*>(packed);
      const std::int64_t taps = p.kh * p.kw;
      for (std::int64_t tap = 0; tap < taps; ++tap) {
        for (std::int64_t c = 0; c < p.cin; ++c) {
          float value = oihw[c * taps + tap];
          if (p.weights == DType::kBFloat16) value = bfloat16_to_float(float_to_bfloat16(value));
          out[tap * p.cin + c] = value;
        }
      }
      break;
    }
    case ConvAlgorithm::kWinograd2:
    case ConvAlgorithm::kWinograd4: pack_conv_winograd(p, plan, oihw, packed); break;
  }
}

}  // namespace lathe::cpu
