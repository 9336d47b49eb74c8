// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// The one list of attention kernels, for host and device: X(greatest head size, warps over queries, warps over keys, stages, blocks a multiprocessor).

#define LATHE_ATTENTION_TILES(X) \
  X(64, 4, 1, 2, 3)              \
  X(64, 2, 2, 1, 3)              \
  X(64, 1, 4, 1, 3)              \
  X(128, 4, 1, 2, 2)             \
  X(128, 1, 4, 1, 1)
