// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Status and Error: see lathe/status.h.

#include "lathe/status.h"

#include <algorithm>
#include <cstring>

namespace lathe {

std::string_view code_name(Code code) noexcept {
  switch (code) {
    case Code::kOk: return "ok";
    case Code::kInvalidModel: return "invalid model";
    case Code::kInvalidArgument: return "invalid argument";
    case Code::kUnsupported: return "unsupported";
    case Code::kCorruptFile: return "corrupt file";
    case Code::kIo: return "input/output error";
    case Code::kOutOfMemory: return "out of memory";
    case Code::kMachine: return "missing on this machine";
    case Code::kCancelled: return "cancelled";
    case Code::kVerification: return "verification failed";
    case Code::kInternal: return "internal error";
  }
  return "unknown";
}

int exit_code(Code code) noexcept {
  switch (code) {
    case Code::kOk: return 0;
    case Code::kInvalidArgument: return 2;
    case Code::kMachine:
    case Code::kOutOfMemory: return 3;
    default: return 1;
  }
}

Status::Status(Code code, std::string_view message) noexcept : code_(code) {
  length_ = static_cast<std::uint8_t>(std::min(message.size(), message_.size()));
  if (length_ > 0) std::memcpy(message_.data(), message.data(), length_);
}

Error::Error(Code code, std::string message) : code_(code), message_(std::move(message)) { compose(); }

Error& Error::at_node(std::string name, std::string op) {
  node_ = std::move(name);
  op_ = std::move(op);
  compose();
  return *this;
}

Error& Error::at_tensor(std::string name) {
  tensor_ = std::move(name);
  compose();
  return *this;
}

Error& Error::in_source(std::string file) {
  source_ = std::move(file);
  compose();
  return *this;
}

Error& Error::with_remedy(std::string what_to_do) {
  remedy_ = std::move(what_to_do);
  compose();
  return *this;
}

void Error::compose() {
  text_.clear();
  if (!source_.empty()) text_ += source_ + ": ";
  if (!op_.empty() || !node_.empty()) text_ += "node '" + node_ + "' (" + op_ + "): ";
  if (!tensor_.empty()) text_ += "tensor '" + tensor_ + "': ";
  text_ += message_.empty() ? std::string(code_name(code_)) : message_;
  if (!text_.empty() && text_.back() != '.') text_ += '.';
  if (!remedy_.empty()) text_ += ' ' + remedy_;
}

}  // namespace lathe
