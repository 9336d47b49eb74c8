// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Fused attention on bfloat16 operands.
//! limits attention_bf16_64_*: registers 168, shared 1024, spill 64
//! limits attention_bf16_128_*: registers 255, shared 1024, spill 0

#include "regions/attention/attention.cuh"
#include "regions/attention/attention_tiles.h"

#define LATHE_KERNEL(...) LATHE_ATTENTION(bf16, kProductBF16, __VA_ARGS__)
LATHE_ATTENTION_TILES(LATHE_KERNEL)
