// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Status and Error: see lathe/status.h.

#include "lathe/status.h"

#include <cstring>
#include <new>

#include "base/printable.h"

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
  constexpr std::string_view kMore = "...";
  const std::string_view kept = message.size() <= message_.size() ? message : whole_characters(message, message_.size() - kMore.size());
  if (!kept.empty()) std::memcpy(message_.data(), kept.data(), kept.size());
  if (kept.size() < message.size()) std::memcpy(message_.data() + kept.size(), kMore.data(), kMore.size());
  length_ = static_cast<std::uint8_t>(kept.size() + (kept.size() < message.size() ? kMore.size() : 0));
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

namespace {

/// What to do where whoever found the defect knows nothing better.
std::string_view usual_remedy(Code code) noexcept {
  switch (code) {
    case Code::kInvalidModel: return "`lathe check` says all that is wrong with a model.";
    case Code::kOutOfMemory: return "Choose smaller shapes, or a machine with more memory.";
    case Code::kInternal: return "This is a defect of Lathe: please report it with the model.";
    default: return {};
  }
}

}  // namespace

// Names come from files of strangers: whatever they hold, the text is one paragraph that a terminal can show.
void Error::compose() {
  constexpr std::size_t kLongestName = 200, kLongestMessage = 3000;
  const auto name = [](const std::string& text) { return printable(text, kLongestName); };
  text_.clear();
  if (!source_.empty()) text_ += printable(source_, kLongestMessage) + ": ";
  if (!op_.empty() || !node_.empty()) text_ += "node '" + name(node_) + "' (" + name(op_) + "): ";
  if (!tensor_.empty()) text_ += "tensor '" + name(tensor_) + "': ";
  text_ += message_.empty() ? std::string(code_name(code_)) : printable(message_, kLongestMessage);
  if (text_.back() != '.' && text_.back() != '?') text_ += '.';
  if (!remedy_.empty()) {
    text_ += ' ' + printable(remedy_, kLongestMessage);
    return;
  }
  try {
    const std::string_view usual = usual_remedy(code_);
    text_.reserve(text_.size() + 1 + usual.size());
    if (!usual.empty() && !text_.ends_with(usual)) text_.append(1, ' ').append(usual);
  } catch (const std::bad_alloc&) {  // where memory ended, the first words must do
  }
}

}  // namespace lathe
