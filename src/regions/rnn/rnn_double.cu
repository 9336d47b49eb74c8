// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Recurrent layers of float64: see rnn_device.cuh.
//! limits rnn_double_step_*: registers 168, shared 0, spill 32
//! limits rnn_double_project_tiles: registers 128, shared 17408, spill 0
//! limits rnn_double_*: registers 128, shared 0, spill 16

#include "regions/rnn/rnn_device.cuh"

LATHE_RNN_KERNELS(rnn_double, double)
