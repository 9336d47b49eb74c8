// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the candidates and kernels of the random operators share, and the tests without a GPU.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

#include "ops/random/draws.h"
#include "ops/random/random_params.h"
#include "plan/extents.h"

namespace lathe::ops {

inline std::optional<cuda::RandomType> random_type(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kRandomFloat32;
    case DType::kFloat16: return cuda::kRandomFloat16;
    case DType::kBFloat16: return cuda::kRandomBFloat16;
    case DType::kFloat64: return cuda::kRandomFloat64;
    case DType::kBool:
    case DType::kInt8:
    case DType::kUint8: return cuda::kRandomByte;
    case DType::kInt16:
    case DType::kUint16: return cuda::kRandomInt16;
    case DType::kInt32:
    case DType::kUint32: return cuda::kRandomInt32;
    case DType::kInt64:
    case DType::kUint64: return cuda::kRandomInt64;
    default: return std::nullopt;
  }
}

inline bool reads_input(cuda::RandomKind kind) noexcept { return kind == cuda::kRandomBernoulli || kind == cuda::kRandomMultinomial; }

/// What the parameters of a step say.
struct RandomHow {
  cuda::RandomKind kind = cuda::kRandomUniform;
  DType dtype = DType::kFloat32;  ///< of the node's result, which may be stored as another
  double scale = 1, offset = 0;
  std::optional<std::uint32_t> seed;
};

/// False, and in `why` the reason, when they are none of this version's.
inline bool random_how(const ir::Attrs& params, RandomHow& how, std::string& why) {
  const std::int64_t kind = params.get_int("kind", -1), dtype = params.get_int("dtype", 0), seed = params.get_int("seed", 0);
  why = kind < 0 || kind >= cuda::kRandomKinds ? "a kind that this version does not know" : dtype < 1 || dtype >= kDTypeCount ? "no element type" : "";
  if (why.empty() && (seed < 0 || seed > 0xffffffff)) why = "a seed of more than 32 bits";
  if (!why.empty()) return false;
  how.kind = static_cast<cuda::RandomKind>(kind);
  how.dtype = static_cast<DType>(dtype);
  how.scale = static_cast<double>(params.get_float("scale", 1)), how.offset = static_cast<double>(params.get_float("offset", 0));
  how.seed.reset();
  if (params.has("seed")) how.seed = static_cast<std::uint32_t>(seed);
  return true;
}

/// Numbers of a seed that a kernel keeps: of so many a model may make use, and so many an engine file may ask for.
inline constexpr std::int64_t kMostSeeded = std::int64_t{1} << 24, kMostSeededEver = std::int64_t{1} << 26;

/// All but addresses and the key. False, and in `why` the reason, when no kernel can run it.
inline bool random_plan(std::span<const plan::TensorDesc> inputs, std::span<const plan::TensorDesc> outputs, const RandomHow& how, cuda::RandomParams& p,
                        std::string& why) {
  const auto refuse = [&](const char* reason) {
    why = reason;
    return false;
  };
  const bool reads = reads_input(how.kind);
  if (outputs.size() != 1 || inputs.size() != (reads ? 1 : 0)) return refuse("another number of tensors than it takes");
  const plan::TensorDesc& y = outputs[0];
  const auto type = random_type(how.dtype), stored = random_type(y.dtype), x_type = random_type(reads ? inputs[0].dtype : DType::kFloat32);
  const auto converts = [](cuda::RandomType t) { return t <= cuda::kRandomBFloat16; };
  if (!type || !stored || !x_type || *x_type > cuda::kRandomFloat64) return refuse("no kernel reads this element type");
  if (how.dtype != y.dtype && !(converts(*type) && converts(*stored))) return refuse("a result of another type");
  if (!reads && *type > cuda::kRandomFloat64) return refuse("random numbers of a type that is not floating-point");
  p = {};
  p.kind = how.kind, p.type = *type, p.x_type = *x_type, p.y_type = *stored;
  p.scale = how.scale, p.offset = how.offset;
  p.seeded = how.seed.has_value();
  constexpr std::int64_t kMost = std::int64_t{1} << 38;
  p.count = 1;
  for (const std::int64_t extent : y.dims)
    if (extent < 0 || __builtin_mul_overflow(p.count, extent, &p.count)) return refuse("more elements than the kernels count");
  if (p.count > (how.seed ? kMostSeededEver : kMost)) return refuse("more elements than the kernels count");
  if (how.kind == cuda::kRandomMultinomial) {
    const plan::TensorDesc& x = inputs[0];
    if (y.dtype != DType::kInt32 && y.dtype != DType::kInt64) return refuse("classes that are neither int32 nor int64");
    if (x.dims.size() != 2 || y.dims.size() != 2 || x.dims[0] != y.dims[0]) return refuse("rows that do not fit");
    if (p.count > 0 && x.dims[1] < 1) return refuse("there are no classes");
    if (x.dims[0] >= std::int64_t{1} << 31 || x.dims[1] >= std::int64_t{1} << 31) return refuse("more rows or classes than the kernels count");
    p.classes = x.dims[1], p.draws = y.dims[1];
    p.axes = 2;
    for (std::size_t i = 0; i < 2; ++i) p.extent[i] = y.dims[i], p.x_step[i] = x.strides[i], p.y_step[i] = y.strides[i];
    return true;
  }
  if (reads && inputs[0].dims != y.dims) return refuse("extents that do not fit");
  for (std::size_t i = 0; i < y.dims.size(); ++i) {
    if (y.dims[i] == 1) continue;
    const long long x_step = reads ? inputs[0].strides[i] : 0, y_step = y.strides[i];
    const int last = p.axes - 1;
    if (p.axes > 0 && p.y_step[last] == y_step * y.dims[i] && p.x_step[last] == x_step * y.dims[i]) {
      p.extent[last] *= y.dims[i];
      p.x_step[last] = x_step, p.y_step[last] = y_step;
      continue;
    }
    if (p.axes == cuda::kRandomAxes) return refuse("more axes than the kernels walk");
    p.extent[p.axes] = y.dims[i], p.x_step[p.axes] = x_step, p.y_step[p.axes] = y_step;
    ++p.axes;
  }
  return true;
}

/// Blocks of the launch that draws or copies: a thread has the elements of four words, one to copy, or with others a row to draw from.
inline std::int64_t random_blocks(const cuda::RandomParams& p) noexcept {
  if (p.kind == cuda::kRandomMultinomial) return p.extent[0];
  const std::int64_t each = p.kind == cuda::kRandomBernoulli ? 2 : p.seeded ? 1 : p.type == cuda::kRandomFloat64 ? 2 : 4;
  return (p.count + each * cuda::kRandomThreads - 1) / (each * cuda::kRandomThreads);
}

/// The numbers of a seed that a step of so many elements reads (RandomParams::numbers); of fewer elements they are the first. Undefined where Bernoulli's
/// cannot be told one by one: the format's reference counts successes by inversion, and where rounding left its shares together below the number that was
/// drawn, it draws again. The shares are within 2^-50 of 1, so only a number nearer to 1 than kNearOne can do so: one of 2^48.
inline constexpr double kNearOne = 1.0 - 0x1p-48;
inline Tensor random_numbers(const RandomHow& how, std::int64_t count) {
  RandomStream stream(*how.seed);
  const Drawing drawing{how.dtype, how.kind == cuda::kRandomNormal, how.scale, how.offset};
  const bool uniform = reads_input(how.kind);
  Tensor numbers(uniform ? DType::kFloat64 : how.dtype, {count});
  for (std::int64_t i = 0; i < count; ++i) {
    const double number = uniform ? stream.uniform() : drawing.next(stream);
    if (how.kind == cuda::kRandomBernoulli && number >= kNearOne) return {};
    numbers.set_from_double(i, number);
  }
  return numbers;
}

}  // namespace lathe::ops
