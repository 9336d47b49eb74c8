// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// plan::Program <-> the schema's Program. Extents are interned: one text for each expression. Private to src/engine.

#include <memory>

#include "engine_generated.h"
#include "plan/program.h"

namespace lathe::engine {

std::unique_ptr<fb::ProgramT> pack_program(const plan::Program& program);
/// Throws Error(kCorruptFile) where the stored form itself makes no sense (an index into the extents, an enumerator); whether the
/// program is sound is for find_program_defect().
plan::Program unpack_program(const fb::Program& stored, int depth = 0);

}  // namespace lathe::engine
