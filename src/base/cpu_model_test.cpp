// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "base/cpu_model.h"

#include <gtest/gtest.h>

#include "base/os.h"

namespace lathe::os {
namespace {

TEST(CpuModel, X86SaysItsName) {
  EXPECT_EQ(cpu_model_in("processor\t: 0\nvendor_id\t: AuthenticAMD\nmodel\t\t: 17\nmodel name\t: AMD EPYC 9R14\nstepping\t: 1\n", ""), "AMD EPYC 9R14");
}

TEST(CpuModel, ArmSaysBoardAndKindsOfCores) {
  const std::string core = "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0x";
  EXPECT_EQ(cpu_model_in("processor\t: 0\n" + core + "d42\n\nprocessor\t: 1\n" + core + "d42\n", std::string_view("NVIDIA Jetson AGX Orin\0", 23)),
            "NVIDIA Jetson AGX Orin, Cortex-A78AE");
  EXPECT_EQ(cpu_model_in(core + "d05\n" + core + "d05\n" + core + "d41\n", ""), "Cortex-A55 + Cortex-A78");
  EXPECT_EQ(cpu_model_in("CPU implementer\t: 0x6d\nCPU part\t: 0xd49", ""), "Arm core 0x6d:0xd49");
}

TEST(CpuModel, NothingTold) {
  EXPECT_EQ(cpu_model_in("", ""), "unknown CPU");
  EXPECT_EQ(cpu_model_in("CPU part\nmodel name\t:\n", "board"), "board, Arm core 0x0:0x0");
  EXPECT_FALSE(cpu_model().empty());
}

}  // namespace
}  // namespace lathe::os
