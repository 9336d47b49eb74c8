// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Fused attention on float16 operands.
//! limits attention_f16_64_*: registers 168, shared 1024, spill 64
//! limits attention_f16_128_*: registers 255, shared 1024, spill 0

#include "regions/attention/attention.cuh"
#include "regions/attention/attention_tiles.h"

#define LATHE_KERNEL(...) LATHE_ATTENTION(f16, kProductF16, __VA_ARGS__)
LATHE_ATTENTION_TILES(LATHE_KERNEL)
