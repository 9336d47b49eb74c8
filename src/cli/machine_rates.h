// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What this machine can do at best, for floors: measured in a fraction of a second.

namespace lathe::cli {

struct MachineRates {
  double flops;  ///< fp32 FLOP/s over all threads of the pool, measured with the matrix kernel
  double bytes;  ///< bytes per second of a large copy (read + written)
};

MachineRates measure_machine_rates();

}  // namespace lathe::cli
