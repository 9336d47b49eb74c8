// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Element conversions. Out-of-range real numbers saturate in an integer type of 8 bits and more (the format leaves them open) and wrap in
// a packed one, NaN becomes 0; integers wrap in narrower ones.
#include <algorithm>
#include <bit>
#include <charconv>
#include <cmath>
#include <cstdlib>

#include "base/half.h"
#include "lathe/status.h"
#include "ops/cast/cast.h"

namespace lathe::ops {
namespace {

bool is_complex(DType t) { return t == DType::kComplex64 || t == DType::kComplex128; }

std::uint8_t to_e8m0(float value, bool saturate, std::string_view mode) {
  const auto bits = std::bit_cast<std::uint32_t>(value);
  unsigned exponent = (bits >> 23) & 0xffu;
  if (exponent == 0xffu) return 0xff;
  const unsigned fraction = bits & 0x7fffffu;
  bool up = false;
  if (mode == "up") {
    up = fraction != 0;
  } else if (mode == "nearest") {
    up = (fraction & 0x400000u) && ((fraction & 0x3fffffu) || exponent > 0);
  } else if (mode != "down") {
    throw Error(Code::kInvalidModel, "round_mode '" + std::string(mode) + "' is none of up, down, nearest");
  }
  if (up && saturate && exponent == 0xfeu) up = false;
  return static_cast<std::uint8_t>(exponent + up);
}

std::int64_t real_to_integer(double v, DType to) {
  if (std::isnan(v)) return 0;
  const int bits = dtype_bits(to);
  const bool is_signed = is_signed_integer(to);
  const double low = is_signed ? -std::ldexp(1.0, bits - 1) : 0.0;
  const double high = std::ldexp(1.0, is_signed ? bits - 1 : bits);
  const double whole = std::trunc(v);
  // The packed types wrap, as the format's own cases show.
  if (bits < 8 && std::fabs(whole) < 9.0e18) return static_cast<std::int64_t>(whole);
  if (whole < low) return is_signed ? (bits == 64 ? std::numeric_limits<std::int64_t>::min() : -(std::int64_t{1} << (bits - 1))) : 0;
  if (whole >= high) {
    if (bits == 64) return is_signed ? std::numeric_limits<std::int64_t>::max() : -1;  // all bits set
    return static_cast<std::int64_t>(high) - 1;
  }
  if (bits == 64 && !is_signed) return static_cast<std::int64_t>(static_cast<std::uint64_t>(whole));
  return static_cast<std::int64_t>(whole);
}

template <class T>
std::string shortest(T value) {
  if (std::isnan(value)) return "nan";
  if (std::isinf(value)) return value < 0 ? "-inf" : "inf";
  char text[64];
  const auto [end, error] = std::to_chars(text, text + sizeof text, value);
  std::string out(text, end);
  if (out.find_first_of(".e") == std::string::npos) out += ".0";  // a real number shows that it is one
  return out;
}

std::string element_text(const Tensor& t, std::int64_t i) {
  if (t.dtype() == DType::kFloat64) return shortest(t.as_double(i));
  if (t.dtype() == DType::kFloat16) {
    // The fewest digits that read back as the same half.
    const double value = t.as_double(i);
    const auto bits = float_to_half(static_cast<float>(value));
    for (int digits = 1; digits < 6 && std::isfinite(value); ++digits) {
      char text[64];
      const auto [end, error] = std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits);
      if (float_to_half(std::strtof(std::string(text, end).c_str(), nullptr)) == bits) {
        std::string out(text, end);
        if (out.find_first_of(".e") == std::string::npos) out += ".0";
        return out;
      }
    }
    return shortest(static_cast<float>(value));
  }
  if (is_float(t.dtype())) return shortest(static_cast<float>(t.as_double(i)));
  if (t.dtype() == DType::kBool) return t.as_int64(i) ? "True" : "False";
  if (t.dtype() == DType::kUint64) return std::to_string(static_cast<std::uint64_t>(t.as_int64(i)));
  return std::to_string(t.as_int64(i));
}

double parse_real(const std::string& text) {
  const char* begin = text.c_str();
  char* end = nullptr;
  const double value = std::strtod(begin, &end);
  while (end && *end == ' ') ++end;
  if (end == begin || *end) throw Error(Code::kInvalidModel, "the text '" + text + "' is no number");
  return value;
}

void store_real(Tensor& out, std::int64_t i, double v, bool saturate, std::string_view round_mode) {
  switch (out.dtype()) {
    case DType::kFloat8E4M3FN:
    case DType::kFloat8E4M3FNUZ:
    case DType::kFloat8E5M2:
    case DType::kFloat8E5M2FNUZ: out.mutable_raw()[i] = static_cast<std::byte>(float_to_float8(static_cast<float>(v), out.dtype(), saturate)); break;
    case DType::kFloat8E8M0: out.mutable_raw()[i] = static_cast<std::byte>(to_e8m0(static_cast<float>(v), saturate, round_mode)); break;
    case DType::kBool: out.set_from_int64(i, v != 0); break;
    default:
      if (is_integer(out.dtype())) {
        out.set_from_int64(i, real_to_integer(v, out.dtype()));
      } else {
        out.set_from_double(i, v);
      }
  }
}

}  // namespace

Tensor convert_tensor(const Tensor& input, DType to, bool saturate, std::string_view round_mode) {
  if (input.dtype() == to) return input;
  if (is_complex(to) || is_complex(input.dtype())) throw Error(Code::kInvalidModel, "complex numbers have no conversion");
  Tensor out(to, input.dims());
  if (to == DType::kString) {
    auto& strings = out.mutable_string_data();
    for (std::int64_t i = 0; i < input.size(); ++i) strings[static_cast<std::size_t>(i)] = element_text(input, i);
    return out;
  }
  if (input.dtype() == DType::kString) {
    const auto& strings = input.string_data();
    for (std::int64_t i = 0; i < input.size(); ++i) {
      const std::string& text = strings[static_cast<std::size_t>(i)];
      const bool whole = text.find_first_of(".eEnNiI") == std::string::npos;
      if (is_integer(to) && whole && !text.empty()) {  // 64-bit integers do not survive a double
        parse_real(text);
        out.set_from_int64(
            i, to == DType::kUint64 ? static_cast<std::int64_t>(std::strtoull(text.c_str(), nullptr, 10)) : std::strtoll(text.c_str(), nullptr, 10));
      } else {
        store_real(out, i, parse_real(text), saturate, round_mode);
      }
    }
    return out;
  }
  const bool from_whole = is_integer(input.dtype()) || input.dtype() == DType::kBool;
  const bool to_whole = is_integer(to) || to == DType::kBool;
  for (std::int64_t i = 0; i < input.size(); ++i) {
    if (from_whole && to_whole) {
      const std::int64_t v = input.as_int64(i);
      out.set_from_int64(i, to == DType::kBool ? v != 0 : v);
    } else {
      store_real(out, i, input.as_double(i), saturate, round_mode);
    }
  }
  return out;
}

}  // namespace lathe::ops
