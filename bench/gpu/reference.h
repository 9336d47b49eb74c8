// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the GPU kernels are held against: plain loops with sums in double, one output a thread, compiled by NVRTC when the benchmark
// runs. They share no code and no parameters with the kernels.

namespace lathe::bench {

struct ReferenceEpilogue {
  int activation = 0, residual_mode = 0;  ///< residual: 0 none, 1 before the activation, 2 after
  float alpha = 0, beta = 0, scale = 1;
  int stored = 0;
};

struct ReferenceConv {
  const void* src;
  const float* weights;  ///< OIHW, already rounded to the product's type
  const float* bias;
  const void* residual;
  float* out;  ///< dense [rows][cout]
  int h, w, cin, cout, kh, kw, sh, sw, pt, pl, dh, dw, groups, oh, ow;
  long long image, row, pixel, channel;   ///< strides of src
  int residual_pixel, src_type, product;  ///< product: 0 f16, 1 bf16, 2 tf32, 3 f32
  long long first_row, rows;              ///< which outputs
  ReferenceEpilogue epilogue;
};

struct ReferenceMatMul {
  const void *a, *b;
  const float* bias;
  const void* residual;
  float* out;  ///< [item][rows][columns]
  int rows, columns, depth, items, inner;
  long long a_row, a_column, a_outer, a_inner, b_row, b_column, b_outer, b_inner, residual_row, residual_outer, residual_inner;
  int a_type, b_type, product;
  ReferenceEpilogue epilogue;
};

struct ReferencePool {
  const void* src;
  float* out;  ///< dense [pixels][channels]
  int type, maximum, count_padding, n, h, w, c, oh, ow, kh, kw, sh, sw, pt, pl, pb, pr, dh, dw, pixel;
};

/// Compares [rows][columns] of a tensor with rows `pixel` elements apart to the reference.
struct ReferenceCompare {
  const void* out;
  const float* reference;
  int type;
  long long rows, columns, pixel, guard;  ///< guard elements behind each row must still be poison (all bits set)
  double* sums;                           ///< squared error, squared reference
  unsigned* counts;                       ///< largest error (float bits), poisoned or NaN outputs, touched guards
};

inline constexpr const char* kReferenceSource = R"(
__device__ float half_bits(unsigned short h) { float f; asm("cvt.f32.f16 %0, %1;" : "=f"(f) : "h"(h)); return f; }
__device__ float element(const void* p, long long i, int type) {
  if (type == 0) return ((const float*)p)[i];
  unsigned short h = ((const unsigned short*)p)[i];
  return type == 1 ? half_bits(h) : __uint_as_float((unsigned)h << 16);
}
__device__ float rounded(float v, int product) {
  if (product == 0) { unsigned short h; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(h) : "f"(v)); return half_bits(h); }
  if (product == 1) { unsigned short h; asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(h) : "f"(v)); return __uint_as_float((unsigned)h << 16); }
  return v;
}
__device__ double act(double x, int kind, double a, double b) {
  switch (kind) {
    case 1: return x > 0 ? x : 0;
    case 2: return x > 0 ? x : a * x;
    case 3: return fmin(fmax(x, a), b);
    case 4: return x / (1 + exp(-x));
    case 5: return x * fmin(fmax(x / 6 + 0.5, 0.0), 1.0);
    case 6: return fmin(fmax(a * x + b, 0.0), 1.0);
    case 7: return 1 / (1 + exp(-x));
    case 8: return 0.5 * x * (1 + erf(x / sqrt(2.0)));
    case 9: return 0.5 * x * (1 + tanh(sqrt(2 / 3.14159265358979323846) * (x + 0.044715 * x * x * x)));
    case 10: return tanh(x);
    case 11: return x > 0 ? x : a * (exp(x) - 1);
    case 12: return x * tanh(log1p(exp(x)));
  }
  return x;
}
struct Epilogue { int activation, residual_mode; float alpha, beta, scale; int stored; };
__device__ float finish(double v, double bias, double residual, const Epilogue& e) {
  v = v * e.scale + bias + (e.residual_mode == 1 ? residual : 0.0);
  v = act(v, e.activation, e.alpha, e.beta);
  return (float)(v + (e.residual_mode == 2 ? residual : 0.0));
}
struct Conv { const void* src; const float* weights; const float* bias; const void* residual; float* out;
  int h, w, cin, cout, kh, kw, sh, sw, pt, pl, dh, dw, groups, oh, ow; long long image, row, pixel, channel;
  int residual_pixel, src_type, product; long long first_row, rows; Epilogue epilogue; };
extern "C" __global__ void reference_conv(const __grid_constant__ Conv p) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= p.rows * p.cout) return;
  long long m = p.first_row + i / p.cout; int n = (int)(i % p.cout);
  int ox = (int)(m % p.ow), oy = (int)(m / p.ow % p.oh); long long image = m / p.ow / p.oh;
  int per = p.cin / p.groups, g = n / (p.cout / p.groups);
  double sum = 0;
  for (int ky = 0; ky < p.kh; ++ky) for (int kx = 0; kx < p.kw; ++kx) {
    int iy = oy * p.sh - p.pt + ky * p.dh, ix = ox * p.sw - p.pl + kx * p.dw;
    if (iy < 0 || iy >= p.h || ix < 0 || ix >= p.w) continue;
    for (int c = 0; c < per; ++c)
      sum += (double)rounded(element(p.src, image * p.image + iy * p.row + ix * p.pixel + (g * per + c) * p.channel, p.src_type), p.product) *
             p.weights[(((long long)n * per + c) * p.kh + ky) * p.kw + kx];
  }
  double residual = p.epilogue.residual_mode ? element(p.residual, m * p.residual_pixel + n, p.epilogue.stored) : 0.0;
  p.out[i] = finish(sum, p.bias ? p.bias[n] : 0.0, residual, p.epilogue);
}
struct MatMul { const void *a, *b; const float* bias; const void* residual; float* out; int rows, columns, depth, items, inner;
  long long a_row, a_column, a_outer, a_inner, b_row, b_column, b_outer, b_inner, residual_row, residual_outer, residual_inner;
  int a_type, b_type, product; Epilogue epilogue; };
extern "C" __global__ void reference_matmul(const __grid_constant__ MatMul p) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (long long)p.items * p.rows * p.columns) return;
  int n = (int)(i % p.columns), m = (int)(i / p.columns % p.rows); long long item = i / p.columns / p.rows, outer = item / p.inner, inner = item % p.inner;
  double sum = 0;
  for (int k = 0; k < p.depth; ++k)
    sum += (double)rounded(element(p.a, outer * p.a_outer + inner * p.a_inner + m * p.a_row + k * p.a_column, p.a_type), p.product) *
           element(p.b, outer * p.b_outer + inner * p.b_inner + n * p.b_column + k * p.b_row, p.b_type);
  double residual = p.epilogue.residual_mode ? element(p.residual, outer * p.residual_outer + inner * p.residual_inner + m * p.residual_row + n, p.epilogue.stored) : 0.0;
  p.out[i] = finish(sum, p.bias ? p.bias[n] : 0.0, residual, p.epilogue);
}
struct Pool { const void* src; float* out; int type, maximum, count_padding, n, h, w, c, oh, ow, kh, kw, sh, sw, pt, pl, pb, pr, dh, dw, pixel; };
extern "C" __global__ void reference_pool(const __grid_constant__ Pool p) {
  long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x;
  if (i >= (long long)p.n * p.oh * p.ow * p.c) return;
  int c = (int)(i % p.c); long long m = i / p.c; int ox = (int)(m % p.ow), oy = (int)(m / p.ow % p.oh); long long image = m / p.ow / p.oh;
  double sum = 0, most = -1.0 / 0.0; int count = 0;
  for (int ky = 0; ky < p.kh; ++ky) for (int kx = 0; kx < p.kw; ++kx) {
    int iy = oy * p.sh - p.pt + ky * p.dh, ix = ox * p.sw - p.pl + kx * p.dw;
    bool inside = iy >= 0 && iy < p.h && ix >= 0 && ix < p.w;
    if (inside || (p.count_padding && iy < p.h + p.pb && ix < p.w + p.pr)) ++count;
    if (!inside) continue;
    double v = element(p.src, ((image * p.h + iy) * p.w + ix) * p.pixel + c, p.type);
    sum += v; most = v > most ? v : most;
  }
  p.out[i] = (float)(p.maximum ? most : sum / count);
}
struct Compare { const void* out; const float* reference; int type; long long rows, columns, pixel, guard; double* sums; unsigned* counts; };
extern "C" __global__ void reference_compare(const __grid_constant__ Compare p) {
  double error = 0, size = 0;
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < p.rows * p.columns; i += (long long)gridDim.x * blockDim.x) {
    float v = element(p.out, i / p.columns * p.pixel + i % p.columns, p.type), r = p.reference[i];
    if (!(fabsf(v) < 3e38f)) { atomicAdd(p.counts + 1, 1u); continue; }
    double d = (double)v - r;
    error += d * d; size += (double)r * r;
    atomicMax(p.counts, __float_as_uint((float)fabs(d)));
  }
  for (long long i = (long long)blockIdx.x * blockDim.x + threadIdx.x; i < p.rows * p.guard; i += (long long)gridDim.x * blockDim.x) {
    long long at = i / p.guard * p.pixel + p.columns + i % p.guard;
    if (p.type == 0 ? ((const unsigned*)p.out)[at] != 0xffffffffu : ((const unsigned short*)p.out)[at] != 0xffffu) atomicAdd(p.counts + 2, 1u);
  }
  atomicAdd(p.sums, error); atomicAdd(p.sums + 1, size);
}
)";

}  // namespace lathe::bench
