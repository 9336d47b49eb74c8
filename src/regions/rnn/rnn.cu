// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Recurrent layers of float32, float16 and bfloat16: see rnn_device.cuh.
//! limits rnn_step_*: registers 168, shared 0, spill 32
//! limits rnn_project_tiles: registers 96, shared 8704, spill 0
//! limits rnn_*: registers 96, shared 0, spill 0

#include "regions/rnn/rnn_device.cuh"

LATHE_RNN_KERNELS(rnn, float)
