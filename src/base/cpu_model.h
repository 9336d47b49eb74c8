// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// How os::cpu_model (os.h) reads what Linux says; apart for its test.

#include <string>
#include <string_view>

namespace lathe::os {

/// From the texts of /proc/cpuinfo and /proc/device-tree/model (empty where there is none): "AMD EPYC 9R14", or "NVIDIA Jetson AGX Orin, Cortex-A78AE".
std::string cpu_model_in(std::string_view cpuinfo, std::string_view board);

}  // namespace lathe::os
