// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See native.h.

#include "builder/native.h"

#include "base/log.h"
#include "base/tensor.h"
#include "builder/blob_store.h"
#include "engine/native_code.h"
#include "runtime/context.h"
#include "trust/key_store.h"

namespace lathe::builder {

void add_native_code(engine::EngineData& data, const std::shared_ptr<const runtime::Engine>& engine, const std::vector<std::vector<Dims>>& more) {
  const std::shared_ptr<cuda::Device>& device = engine->cuda()->device();
  for (const std::vector<Dims>& dims : more) {
    // The limits may be more than this machine has memory for; their code is then compiled where they are first used.
    runtime::Context context(engine);
    if (const Status status = context.prepare(dims); !status) log(LogLevel::kInfo, "no native code for other shapes than the tuned one: {}", status.message());
  }
  std::vector<engine::NativeImage> images;
  for (const cuda::Device::Image& image : device->kept_code()) images.push_back({image.key, image.arch, image.code});
  if (images.empty()) return;
  auto section = std::make_shared<const Tensor>(aligned_copy(engine::pack_native(std::move(images))));
  engine::NativeCode& native = data.sections.front().native;
  native.bytes = {section->raw(), section->bytes()};
  native.hash = hash128(section->raw(), section->bytes());
  data.owners.push_back(std::move(section));
  try {
    engine::sign_native(native, trust::own_key());
  } catch (const std::exception& error) {
    log(LogLevel::kWarning, "the native code of the engine stays unsigned, so nobody will run it: {}", error.what());
  }
}

}  // namespace lathe::builder
