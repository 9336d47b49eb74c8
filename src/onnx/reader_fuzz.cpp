// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Fuzzer of the reader and the writer: any bytes end with an Error or give a model that is written, read again and written the same.

#include <cstddef>
#include <cstdint>
#include <cstdlib>

#include "lathe/status.h"
#include "onnx/reader.h"
#include "onnx/writer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lathe;
  const auto read = [](const void* bytes, std::size_t count) { return onnx::read_model(std::span(static_cast<const std::byte*>(bytes), count), nullptr); };
  std::string written;
  try {
    const auto model = read(data, size);
    written = onnx::model_bytes(*model);
    onnx::inline_functions(*model->clone());
  } catch (const Error& error) {
    if (error.code() == Code::kInternal) std::abort();
    if (written.empty()) return 0;
  }
  // What was written must be readable, and stable from here on.
  const auto again = read(written.data(), written.size());
  if (onnx::model_bytes(*again) != written) std::abort();
  return 0;
}
