// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Status is what the run path returns: no throw, no allocation. Error is what import and build throw.
// One Error names the code, the ONNX node, the tensor and the remedy; the API edge turns it into a Status.

#include <array>
#include <cstdint>
#include <exception>
#include <string>
#include <string_view>

#include "lathe/export.h"

namespace lathe {

enum class Code : std::uint8_t {
  kOk = 0,
  kInvalidModel,     ///< the ONNX file breaks the format's or an operator's rules
  kInvalidArgument,  ///< wrong name, shape, dtype or option given by the caller
  kUnsupported,      ///< a valid model that needs something Lathe lacks
  kCorruptFile,      ///< truncated or altered file
  kIo,               ///< the operating system refused a read or a write
  kOutOfMemory,
  kMachine,  ///< the machine lacks a feature, a device or a library
  kCancelled,
  kVerification,  ///< the engine's numbers disagree with the oracle
  kInternal,      ///< a broken promise inside Lathe; please report
};

LATHE_API std::string_view code_name(Code code) noexcept;
/// The command's exit code: 0 ok, 1 the model or data is at fault, 2 wrong usage, 3 the machine lacks something.
LATHE_API int exit_code(Code code) noexcept;

/// Result of a run-path call. The message lives inline (truncated when longer), so making one never allocates.
class [[nodiscard]] LATHE_API Status {
 public:
  Status() noexcept = default;
  Status(Code code, std::string_view message) noexcept;
  static Status ok() noexcept { return {}; }

  bool is_ok() const noexcept { return code_ == Code::kOk; }
  explicit operator bool() const noexcept { return is_ok(); }
  Code code() const noexcept { return code_; }
  std::string_view message() const noexcept { return {message_.data(), length_}; }

 private:
  Code code_ = Code::kOk;
  std::uint8_t length_ = 0;
  std::array<char, 254> message_;  // only the first length_ bytes are written
};

/// Thrown by import, simplify and build, and by the C++ API's non-run calls.
class LATHE_API Error : public std::exception {
 public:
  Error(Code code, std::string message);

  Error& at_node(std::string name, std::string op);  ///< the ONNX node's name (or "#index") and op type
  Error& at_tensor(std::string name);
  Error& in_source(std::string file);  ///< the model or engine file
  Error& with_remedy(std::string what_to_do);

  Code code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& node() const noexcept { return node_; }
  const std::string& op() const noexcept { return op_; }
  const std::string& tensor() const noexcept { return tensor_; }
  const std::string& source() const noexcept { return source_; }
  const std::string& remedy() const noexcept { return remedy_; }
  /// One paragraph: what, where (file, node, tensor), what to do.
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  void compose();
  Code code_;
  std::string message_, node_, op_, tensor_, source_, remedy_, text_;
};

}  // namespace lathe
