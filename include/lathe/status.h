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

enum class Code : std::uint8_t {  ///< What kind of failure it is; exit_code() and the C API's lathe_status follow it.
  kOk = 0,                        ///< nothing failed
  kInvalidModel,                  ///< the ONNX file breaks the format's or an operator's rules
  kInvalidArgument,               ///< wrong name, shape, dtype or option given by the caller
  kUnsupported,                   ///< a valid model that needs something Lathe lacks
  kCorruptFile,                   ///< truncated or altered file
  kIo,                            ///< the operating system refused a read or a write
  kOutOfMemory,                   ///< the host's or the device's memory does not suffice
  kMachine,                       ///< the machine lacks a feature, a device or a library
  kCancelled,                     ///< who watches the progress asked to stop
  kVerification,                  ///< the engine's numbers disagree with the oracle
  kInternal,                      ///< a broken promise inside Lathe; please report
};

LATHE_API std::string_view code_name(Code code) noexcept;  ///< "invalid model", "input/output error", ...: a word for messages.
/// The command's exit code: 0 ok, 1 the model or data is at fault, 2 wrong usage, 3 the machine lacks something.
LATHE_API int exit_code(Code code) noexcept;

/// Result of a run-path call. The message lives inline (truncated when longer), so making one never allocates.
class [[nodiscard]] LATHE_API Status {
 public:
  Status() noexcept = default;
  Status(Code code, std::string_view message) noexcept;  ///< Copies `message`, at most 254 bytes of it.
  static Status ok() noexcept { return {}; }             ///< Success.

  bool is_ok() const noexcept { return code_ == Code::kOk; }                        ///< Did the call succeed?
  explicit operator bool() const noexcept { return is_ok(); }                       ///< The same as is_ok().
  Code code() const noexcept { return code_; }                                      ///< What kind of failure; kOk for none.
  std::string_view message() const noexcept { return {message_.data(), length_}; }  ///< One paragraph, empty for success; lives as long as the Status.

 private:
  Code code_ = Code::kOk;
  std::uint8_t length_ = 0;
  std::array<char, 254> message_;  // only the first length_ bytes are written
};

/// Thrown by import, simplify and build, and by the C++ API's non-run calls.
class LATHE_API Error : public std::exception {
 public:
  Error(Code code, std::string message);  ///< A sentence without where and what to do: the calls below add these.

  Error& at_node(std::string name, std::string op);  ///< the ONNX node's name (or "#index") and op type
  Error& at_tensor(std::string name);                ///< the tensor, input or output that it is about
  Error& in_source(std::string file);                ///< the model or engine file
  Error& with_remedy(std::string what_to_do);        ///< what the reader can do, as a sentence

  Code code() const noexcept { return code_; }                      ///< what kind of failure
  const std::string& message() const noexcept { return message_; }  ///< what went wrong, alone
  const std::string& node() const noexcept { return node_; }        ///< the ONNX node's name, or "#index"; "" when it is about none
  const std::string& op() const noexcept { return op_; }            ///< the node's op type
  const std::string& tensor() const noexcept { return tensor_; }    ///< the tensor's name
  const std::string& source() const noexcept { return source_; }    ///< the file
  const std::string& remedy() const noexcept { return remedy_; }    ///< what to do
  /// One paragraph: what, where (file, node, tensor), what to do.
  const char* what() const noexcept override { return text_.c_str(); }

 private:
  void compose();
  Code code_;
  std::string message_, node_, op_, tensor_, source_, remedy_, text_;
};

}  // namespace lathe
