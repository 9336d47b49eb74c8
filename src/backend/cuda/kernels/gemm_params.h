// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Parameters of the tensor-core product, shared by host and device code: read by NVRTC too, so it includes nothing.
//
// One kernel family serves convolution and matrix products: C[rows, columns] = epilogue(A[rows, depth] x B[depth, columns]).
// Convolution: rows are output pixels (image, y, x), columns the output channels of a group, depth = (tap, input channel); A is gathered
// from the NHWC image while it is copied to shared memory. A matrix product is the 1x1 case with height 1. grid.z = group or batch item.
//
// Packed B: [item][chunk][columns rounded up to 8][128 bytes of depth], the 16-byte pieces of column n at piece ^ (n & 7): the image
// of a shared-memory tile, so that a tile of any width is one contiguous copy. Depth order, see `chunk_major`.

namespace lathe::cuda {

/// Division of values below 2^31 by a fixed divisor: (umulhi(n, multiplier) + n) >> shift.
struct FastDivisor {
  unsigned divisor = 1, multiplier = 1, shift = 0;
};

/// What a product multiplies; sums are float32. kProductF32 keeps 2 x 11 bits of each operand in three TF32 products: close to a
/// product in float32.
enum ProductType : int { kProductF16, kProductBF16, kProductTF32, kProductF32 };
/// How operands reach shared memory. kElement...: any channel count, alignment and strides. Rows: B stored [columns][depth]; Across:
/// [depth][columns].
enum OperandA : int { kVectorA, kElementA };
enum OperandB : int { kPackedB, kRowsB, kRowsElementB, kAcrossB, kAcrossElementB };

enum ElementType : int { kElementFloat32 = 0, kElementFloat16 = 1, kElementBFloat16 = 2 };

/// In the order of the CPU back end's list, so that a step's parameter means the same activation everywhere.
enum ActivationKind : int {
  kActNone,
  kActRelu,
  kActLeakyRelu,
  kActClip,
  kActSilu,
  kActHardSwish,
  kActHardSigmoid,
  kActSigmoid,
  kActGeluErf,
  kActGeluTanh,
  kActTanh,
  kActElu,
  kActMish,
  kActCount
};

/// result = act(scale * product + bias [+ residual_scale * residual]) [+ residual_scale * residual], in float32, then stored.
struct EpilogueParams {
  int activation = kActNone;
  int residual_after = 0;
  float alpha = 0, beta = 0;
  float scale = 1, residual_scale = 1;
  int stored_type = kElementFloat32;  ///< of C and of the residual
  int vectors = 0;                    ///< addresses and strides of C and the residual allow accesses of 8 columns
};

/// How the pipe kernels (gemm_pipe.cuh) bring A: by the threads' own copies, or by the copy engine through a map of the tensor. Rows: a
/// matrix product or a 1x1 convolution; image: the engine walks the window (its "im2col" mode), for channels that are multiples of a chunk.
enum MapKind : int { kGathered, kMapRows, kMapImage };

constexpr int kAllColumns = 0x7fffffff;

struct GemmParams {
  const void* a = nullptr;
  const void* b = nullptr;         ///< 16-byte aligned
  const float* bias = nullptr;     ///< per column, or null
  const void* residual = nullptr;  ///< rows like C's, or null; may be C itself
  void* c = nullptr;
  float* partials = nullptr;     ///< splits > 1 without a cluster: [item][tile][split][tile rows][tile columns]
  unsigned* counters = nullptr;  ///< one per item and tile, zero before the launch and after it

  int rows = 0, columns = 0;
  int chunks = 0;                        ///< pieces of 128 bytes of depth
  int splits = 1, chunks_per_split = 0;  ///< grid.y
  int cluster = 0;                       ///< the splits of a tile form a cluster and add through distributed shared memory
  FastDivisor tiles_n;                   ///< grid.x = tiles_m * tiles_n, columns fastest
  FastDivisor batch_inner;               ///< grid.z = outer * inner
  long long a_outer = 0, a_inner = 0;    ///< elements between batch items; B packed: bytes
  long long b_outer = 0, b_inner = 0, c_outer = 0, c_inner = 0, residual_outer = 0, residual_inner = 0;
  int bias_inner = 0;

  // How A is gathered.
  int plain = 0;  ///< 1: 1x1, stride 1, no padding, so row m starts at m * a_pixel and everything is inside
  int height = 1, width = 1;
  int kernel_h = 1, kernel_w = 1, stride_h = 1, stride_w = 1, pad_top = 0, pad_left = 0, dilation_h = 1, dilation_w = 1;
  int channels = 0;  ///< per tap; depth = kernel_h * kernel_w * channels
  /// 1: channels are a multiple of a chunk, chunks run over (channel block, tap).
  /// 0: depth runs over (tap, channel) and is padded with zeros to a whole chunk.
  int chunk_major = 0;
  FastDivisor out_width, out_pixels;  ///< row -> image, y, x
  FastDivisor channels_div, kernel_w_div;
  long long a_image = 0;  ///< elements
  int a_row = 0, a_pixel = 0;
  int a_channel = 1;             ///< element-wise gather only
  int a_type = kElementFloat32;  ///< element-wise gather only: float32 is converted to the product's type

  // B.
  int packed_columns = 0;               ///< packed: columns rounded up to 8
  int b_row = 0;                        ///< not packed: elements between rows as stored
  int c_pixel = 0, residual_pixel = 0;  ///< elements between rows
  EpilogueParams epilogue;
  // Weights of a later kernel, which the second-level cache fetches meanwhile; 16-byte aligned, or null.
  const void* next = nullptr;
  unsigned next_bytes = 0;

  // Two products of one A side by side: columns from first_columns on, a multiple of the tile's, go to a tensor of their own.
  int c_second_pixel = 0;
  void* c_second = nullptr;
  int first_columns = kAllColumns;
  int map_kind = kGathered;  ///< pipe kernels
};

/// What the pipe kernels take: every launch copies its parameters, so the others do without.
struct PipeParams : GemmParams {
  alignas(64) unsigned long long map[16] = {};  ///< of A, as the driver encodes it for `a` and the tile's rows
};

}  // namespace lathe::cuda
