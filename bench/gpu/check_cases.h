// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Problems of the GPU kernel benchmark: lines of a problem file, and shapes chosen so that every way through the kernels is taken: odd
// extents, channels that fill no piece or chunk, groups, dilation, slices of wider buffers, every activation, residuals before and after.

#include <fmt/format.h>

#include <fstream>
#include <sstream>
#include <string>
#include <vector>

#include "backend/cuda/kernels/gemm_plan.h"
#include "lathe/status.h"

namespace lathe::bench {

struct Case {
  std::string network = "check", line;
  int count = 1;
  bool matmul = false;
  cuda::ConvShape conv;
  cuda::MatMulShape product_shape;
  int b = 0;  ///< matmul: 0 packed, 1 nk, 2 kn
  bool transposed_a = false;
  cuda::ProductType product = cuda::kProductF16;
  cuda::ElementType src = cuda::kElementFloat16, stored = cuda::kElementFloat16;
  int activation = cuda::kActNone, residual = 0;  ///< residual: 0 none, 1 before, 2 after the activation
  float alpha = 0, beta = 0, scale = 1;
  bool bias = true, planar = false;
  bool pairs = false;                         ///< a first layer as a convolution of pairs of pixels; the source has 4 channels a pixel
  std::int64_t src_extra = 0, dst_extra = 0;  ///< the tensors are slices of buffers with so many more channels
  std::int64_t b_extra = 0;                   ///< matmul with B not packed: likewise

  void types(cuda::ProductType p) {
    product = p;
    src = stored = p == cuda::kProductF16 ? cuda::kElementFloat16 : p == cuda::kProductBF16 ? cuda::kElementBFloat16 : cuda::kElementFloat32;
  }
  cuda::ConvOperands conv_operands() const {
    cuda::ConvOperands o;
    o.product = product;
    o.src = src;
    o.stored = stored;
    o.src_pixel = conv.cin + src_extra;
    o.dst_pixel = o.residual_pixel = conv.cout + dst_extra;
    o.src_planar = planar;
    o.residual = residual != 0;
    return o;
  }
  cuda::MatMulOperands product_operands() const {
    const cuda::MatMulShape& s = product_shape;
    cuda::MatMulOperands o;
    o.product = product;
    o.a_type = src;
    o.stored = stored;
    o.a_row = transposed_a ? 1 : s.depth + src_extra;
    o.a_column = transposed_a ? s.rows : 1;
    o.a_inner = transposed_a ? s.rows * s.depth : s.rows * o.a_row;
    o.a_outer = o.a_inner * s.inner;
    o.packed_b = b == 0;
    o.b_across = b == 2;
    if (b != 0) {
      o.b_row = (b == 2 ? s.columns : s.depth) + b_extra;
      o.b_inner = (b == 2 ? s.depth : s.columns) * o.b_row;
      o.b_outer = o.b_inner * s.inner;
    }
    o.c_row = o.residual_row = s.columns + dst_extra;
    o.c_inner = o.residual_inner = s.rows * o.c_row;
    o.c_outer = o.residual_outer = o.c_inner * s.inner;
    o.residual = residual != 0;
    return o;
  }
  std::size_t src_elements() const {
    if (matmul)
      return static_cast<std::size_t>(product_shape.outer * product_shape.inner * product_shape.rows * (product_shape.depth + (transposed_a ? 0 : src_extra)));
    return static_cast<std::size_t>(conv.n * conv.h * conv.w * (conv.cin + (planar ? 0 : src_extra)));
  }
  std::string type_text() const {
    static constexpr const char* kProducts[] = {"f16", "bf16", "tf32", "f32"};
    static constexpr const char* kElements[] = {"f32", "f16", "bf16"};
    return fmt::format("{}({}->{})", kProducts[product], kElements[src], kElements[stored]);
  }
  std::string text() const {
    if (matmul)
      return fmt::format("{} {} {}x{} {}x{}x{} {}{}{}", network, type_text(), product_shape.outer, product_shape.inner, product_shape.rows,
                         product_shape.columns, product_shape.depth,
                         b == 0   ? "packed"
                         : b == 1 ? "nk"
                                  : "kn",
                         transposed_a ? " A transposed" : "", residual ? fmt::format(" r{}", residual) : "");
    return fmt::format("{} {} {}x{}x{} {}->{} k{}x{} s{} d{} g{}{}{}{}", network, type_text(), conv.n, conv.h, conv.w, conv.cin, conv.cout, conv.kh, conv.kw,
                       conv.stride_h, conv.dilation_h, conv.groups,
                       planar  ? " planar"
                       : pairs ? " pairs"
                               : "",
                       residual ? fmt::format(" r{}", residual) : "", src_extra || dst_extra ? " slice" : "");
  }
};

inline std::vector<Case> read_cases(const std::string& path, cuda::ProductType product) {
  std::ifstream file(path);
  if (!file) throw Error(Code::kIo, "cannot read " + path);
  std::vector<Case> cases;
  for (std::string line; std::getline(file, line);) {
    if (line.empty() || line[0] == '#') continue;
    std::istringstream in(line);
    Case c;
    c.line = line;
    c.types(product);
    in >> c.network;
    if (c.network == "matmul") {
      std::string b;
      c.matmul = true;
      cuda::MatMulShape& s = c.product_shape;
      in >> c.network >> c.count >> s.outer >> s.inner >> s.rows >> s.columns >> s.depth >> b;
      c.b = b == "nk" ? 1 : b == "kn" ? 2 : 0;
      c.bias = c.b == 0;
      if (c.b) {  // an engine lays run-time matrices out in rows of whole pieces
        const auto surplus = [](std::int64_t n) { return (8 - n % 8) % 8; };
        c.src_extra = surplus(s.depth), c.dst_extra = surplus(s.columns), c.b_extra = surplus(c.b == 2 ? s.columns : s.depth);
      }
    } else {
      cuda::ConvShape& s = c.conv;
      in >> c.count >> s.n >> s.h >> s.w >> s.cin >> s.cout >> s.kh >> s.kw >> s.stride_h >> s.stride_w >> s.pad_top >> s.pad_left >> s.pad_bottom >>
          s.pad_right >> s.dilation_h >> s.dilation_w >> s.groups;
      c.activation = cuda::kActSilu;
      c.pairs = c.product != cuda::kProductF32 && c.product != cuda::kProductTF32 && cuda::pairs_pixels(s);
      if (c.pairs) c.src_extra = 4 - s.cin;
      if (s.groups == s.cin && s.groups > 1) continue;  // depthwise has its own kernel
    }
    if (!in) throw Error(Code::kInvalidArgument, "not a problem: " + line);
    cases.push_back(c);
  }
  return cases;
}

inline std::vector<Case> check_cases() {
  std::vector<Case> cases;
  const auto conv = [&](std::int64_t n, std::int64_t h, std::int64_t w, std::int64_t cin, std::int64_t cout, std::int64_t k, std::int64_t stride,
                        std::int64_t pad, std::int64_t groups = 1, std::int64_t dilation = 1) {
    Case c;
    c.conv = {n, h, w, cin, cout, k, k, stride, stride, pad, pad, pad, pad, dilation, dilation, groups};
    return c;
  };
  const auto product = [&](std::int64_t outer, std::int64_t inner, std::int64_t rows, std::int64_t columns, std::int64_t depth, int b) {
    Case c;
    c.matmul = true;
    c.b = b;
    c.product_shape = {rows, columns, depth, outer, inner};
    c.bias = b == 0;
    return c;
  };
  std::vector<Case> shapes = {
      conv(1, 13, 11, 64, 64, 3, 1, 1),       conv(2, 9, 10, 128, 200, 3, 2, 1),    conv(1, 20, 20, 32, 48, 1, 1, 0), conv(3, 7, 5, 24, 255, 1, 1, 0),
      conv(1, 15, 17, 40, 72, 3, 1, 2, 1, 2), conv(1, 12, 12, 64, 128, 3, 1, 1, 4), conv(1, 33, 32, 3, 32, 6, 2, 2),  conv(2, 19, 22, 3, 64, 7, 2, 3),
      conv(1, 10, 10, 20, 36, 3, 1, 1, 2),    conv(1, 8, 8, 512, 96, 3, 1, 1),      conv(2, 6, 6, 256, 512, 1, 2, 0), conv(1, 1, 40, 16, 16, 1, 1, 0),
      conv(1, 5, 5, 7, 9, 5, 1, 2),           conv(1, 16, 16, 64, 8, 2, 2, 0),      conv(2, 5, 9, 60, 255, 1, 1, 0),  product(1, 1, 197, 384, 768, 0),
      product(1, 1, 1, 1000, 2048, 0),        product(2, 3, 50, 64, 64, 1),         product(2, 3, 50, 64, 72, 2),     product(1, 4, 197, 197, 64, 1),
      product(1, 4, 197, 64, 197, 2),         product(1, 2, 33, 65, 31, 0),         product(3, 1, 130, 136, 24, 2),   conv(2, 40, 36, 64, 160, 3, 1, 1),
      conv(3, 30, 31, 72, 72, 1, 1, 0),       conv(1, 60, 60, 24, 48, 3, 2, 1),     product(1, 1, 1500, 520, 200, 0), product(2, 2, 700, 136, 320, 0)};
  // A window that is not square, with paddings of its own on every side.
  Case uneven = conv(2, 21, 34, 64, 136, 3, 1, 1);
  uneven.conv.kw = 5, uneven.conv.pad_left = 3, uneven.conv.pad_right = 0, uneven.conv.pad_top = 0, uneven.conv.pad_bottom = 2;
  uneven.conv.stride_w = 2;
  shapes.push_back(uneven);
  int turn = 0;
  for (const cuda::ProductType type : {cuda::kProductF16, cuda::kProductBF16, cuda::kProductTF32, cuda::kProductF32})
    for (Case c : shapes) {
      c.types(type);
      c.activation = turn % cuda::kActCount;
      c.alpha = c.activation == cuda::kActClip ? -0.25f : 0.3f;
      c.beta = 0.5f;
      c.residual = turn % 3;
      c.scale = turn % 4 == 3 ? 0.125f : 1;
      if (turn % 5 == 1) c.src_extra = 8, c.dst_extra = 16;
      if (turn % 5 == 3) c.dst_extra = 3;
      if (!c.matmul && c.conv.cin == 60) c.src_extra = 4, c.dst_extra = turn % 2;
      if (!c.matmul && c.conv.cin <= 3) {
        c.planar = turn % 2 == 0;
        if (c.planar) c.src = cuda::kElementFloat32, c.src_extra = 0;
        c.pairs = !c.planar && c.src != cuda::kElementFloat32 && cuda::pairs_pixels(c.conv);
        if (c.pairs) c.src_extra = 4 - c.conv.cin;
      }
      if (turn % 7 == 2 && (type == cuda::kProductF16 || type == cuda::kProductBF16)) c.stored = cuda::kElementFloat32;
      if (c.matmul && turn % 6 == 5) c.transposed_a = true;
      if (c.matmul && c.b) c.bias = false;
      if (c.matmul && turn % 2 == 0) {
        c.src_extra = (8 - c.product_shape.depth % 8) % 8, c.dst_extra = (8 - c.product_shape.columns % 8) % 8;
        if (c.b) c.b_extra = (8 - (c.b == 2 ? c.product_shape.columns : c.product_shape.depth) % 8) % 8;
      }
      ++turn;
      cases.push_back(c);
    }
  // Every activation, with a residual before it, after it and without, where rows leave in whole pieces.
  for (const cuda::ProductType type : {cuda::kProductF16, cuda::kProductBF16})
    for (int activation = 0; activation < cuda::kActCount; ++activation)
      for (int residual = 0; residual < 3; ++residual) {
        Case c = product(1, 1, 300, 136, 128, 0);
        c.types(type);
        c.activation = activation, c.residual = residual;
        c.alpha = activation == cuda::kActClip ? -0.25f : 0.3f;
        c.beta = 0.5f;
        cases.push_back(c);
      }
  return cases;
}

}  // namespace lathe::bench
