// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A protobuf message under construction: small parts are copied, large ones only referred to, so that a model's weights are never
// held twice. Fields are written in the order of the calls.

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace lathe::onnx {

class Message {
 public:
  void number(std::uint32_t tag, std::int64_t value) {
    key(tag, 0);
    varint(static_cast<std::uint64_t>(value));
  }
  void number_if(std::uint32_t tag, std::int64_t value) {
    if (value != 0) number(tag, value);
  }
  void single(std::uint32_t tag, float value) {
    key(tag, 5);
    char bytes[4];
    std::memcpy(bytes, &value, 4);
    append({bytes, 4});
  }
  void string(std::uint32_t tag, std::string_view value) {
    key(tag, 2);
    varint(value.size());
    append(value);
  }
  void string_if(std::uint32_t tag, std::string_view value) {
    if (!value.empty()) string(tag, value);
  }
  /// Refers to `bytes`, which must outlive the message.
  void bytes(std::uint32_t tag, std::span<const std::byte> bytes) {
    key(tag, 2);
    varint(bytes.size());
    if (bytes.size() < 4096) {
      append({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
      return;
    }
    parts_.push_back({text_.size(), bytes});
    size_ += bytes.size();
  }
  void message(std::uint32_t tag, const Message& inner) {
    key(tag, 2);
    varint(inner.size_);
    std::size_t from = 0;
    for (const Part& part : inner.parts_) {
      append(std::string_view(inner.text_).substr(from, part.at - from));
      parts_.push_back({text_.size(), part.bytes});
      size_ += part.bytes.size();
      from = part.at;
    }
    append(std::string_view(inner.text_).substr(from));
  }
  template <class T>
  void packed_numbers(std::uint32_t tag, const T& values) {
    if (values.empty()) return;
    Message inner;
    for (const auto value : values) inner.varint(static_cast<std::uint64_t>(value));
    string(tag, inner.text_);
  }
  void packed_floats(std::uint32_t tag, const std::vector<float>& values) {
    if (!values.empty()) string(tag, {reinterpret_cast<const char*>(values.data()), values.size() * 4});
  }

  /// Fields that are encoded already.
  void encoded(std::string_view fields) { append(fields); }

  std::uint64_t size() const noexcept { return size_; }
  /// Hands out the message piece by piece.
  template <class Sink>
  void write_to(Sink&& sink) const {
    std::size_t from = 0;
    for (const Part& part : parts_) {
      sink(std::as_bytes(std::span(text_.data() + from, part.at - from)));
      sink(part.bytes);
      from = part.at;
    }
    sink(std::as_bytes(std::span(text_.data() + from, text_.size() - from)));
  }

 private:
  struct Part {
    std::size_t at;  // position in text_ that the bytes stand before
    std::span<const std::byte> bytes;
  };
  void key(std::uint32_t tag, std::uint32_t wire) { varint((static_cast<std::uint64_t>(tag) << 3) | wire); }
  void varint(std::uint64_t value) {
    char bytes[10];
    std::size_t n = 0;
    do {
      bytes[n] = static_cast<char>((value & 0x7f) | (value > 0x7f ? 0x80 : 0));
      ++n;
      value >>= 7;
    } while (value);
    append({bytes, n});
  }
  void append(std::string_view text) {
    text_.append(text);
    size_ += text.size();
  }
  std::string text_;
  std::vector<Part> parts_;
  std::uint64_t size_ = 0;
};

}  // namespace lathe::onnx
