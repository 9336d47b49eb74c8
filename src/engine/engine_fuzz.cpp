// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// libFuzzer target: any bytes end with an Error or a sound engine, its native code with a refusal or whole images. The two hashes in front of everything are
// put right first, so that the fuzzer works on what lies behind them. Seeds: tests/golden/*.engine.

#include <cstdint>
#include <cstring>

#include "base/tensor.h"
#include "engine/engine.h"
#include "engine/file_header.h"
#include "engine/native_code.h"
#include "engine/semantic_verifier.h"
#include "lathe/status.h"
#include "plan/shape_program.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace lathe;
  using namespace lathe::engine;
  Tensor file(DType::kUint8, {static_cast<std::int64_t>(size)});
  std::byte* bytes = file.mutable_raw();
  if (size > 0) std::memcpy(bytes, data, size);
  if (size > kHeaderBytes && looks_like_engine({bytes, size})) {
    FileHeader header;
    std::memcpy(&header.metadata_bytes, bytes + 24, 8);
    if (header.metadata_bytes > size - kHeaderBytes) header.metadata_bytes = size - kHeaderBytes;
    header.file_bytes = size;
    header.metadata_hash = hash128(bytes + kHeaderBytes, header.metadata_bytes);
    const auto encoded = header.encode();
    std::memcpy(bytes, encoded.data(), encoded.size());
  }
  try {
    const EngineData engine = read_engine({bytes, size}, nullptr);
    for (const DeviceSection& section : engine.sections) {
      // As if somebody trusted had signed it: no mutation gets behind a signature.
      trust::KeyRing keys;
      if (!section.native.signatures.empty()) keys.own = section.native.signatures[0].key;
      judge_native(section.native, keys);
      try {
        if (!section.native.bytes.empty()) unpack_native(section.native.bytes);
      } catch (const Error&) {
      }
      ir::Bindings bindings;
      const std::vector<Dims> dims(section.program.inputs.size(), Dims{1, 3, 4, 5});
      if (plan::bind_symbols(section.program, dims, bindings)) plan::resolve_slots(section.program, bindings);
    }
  } catch (const Error&) {
  }
  return 0;
}
