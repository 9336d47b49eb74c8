// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#include "backend/cpu/features.h"

#include <gtest/gtest.h>

#include "backend/cpu/kernel_table.h"

namespace lathe::cpu {
namespace {

TEST(Features, LevelsIncludeThoseBelowThemOnTheirArchitecture) {
  for (const Isa isa : kAllIsas) {
    EXPECT_TRUE(includes(isa, Isa::kGeneric));
    EXPECT_TRUE(includes(isa, isa));
  }
  EXPECT_TRUE(includes(Isa::kAvx512Bf16, Isa::kAvx2));
  EXPECT_FALSE(includes(Isa::kAvx2, Isa::kAvx512));
  for (const Isa isa : {Isa::kAvx2, Isa::kAvx512, Isa::kAvx512Bf16}) {
    EXPECT_FALSE(includes(Isa::kNeon, isa));
    EXPECT_FALSE(includes(isa, Isa::kNeon));
  }
  EXPECT_FALSE(includes(Isa::kGeneric, Isa::kNeon));
}

TEST(Features, MasksOfArm) {
  const CpuFeatures orin{CpuFeatures::kNeon | CpuFeatures::kArmFp16 | CpuFeatures::kArmDotProd};
  EXPECT_EQ(orin.describe(), "neon (neon fp16 dotprod)");
  EXPECT_EQ(mask_cpu_features(orin, "neon").describe(), "neon (neon)");
  EXPECT_EQ(mask_cpu_features(orin, "generic").describe(), "generic ()");
  EXPECT_EQ(mask_cpu_features(orin, "neon,dotprod").describe(), "neon (neon dotprod)");
  EXPECT_EQ(mask_cpu_features(orin, "avx2").isa(), Isa::kNeon);  // takes nothing of Arm's away
  EXPECT_EQ(mask_cpu_features(orin, "nonsense").mask, orin.mask);
}

TEST(Features, EveryLevelOfThisMachineHasATable) {
  for (const Isa isa : kAllIsas) {
    if (includes(detect_cpu_features().isa(), isa)) {
      EXPECT_EQ(kernel_table(isa).isa, isa);
    } else if (includes(isa, Isa::kNeon) != includes(detect_cpu_features().isa(), Isa::kNeon)) {
      EXPECT_EQ(kernel_table(isa).isa, Isa::kGeneric) << "a plan of the other architecture";
    }
  }
}

TEST(Features, TheCapIsLifted) {
  const Isa own = kernel_table().isa;
  limit_kernel_isa(Isa::kGeneric);
  EXPECT_EQ(kernel_table().isa, Isa::kGeneric);
  limit_kernel_isa(std::nullopt);
  EXPECT_EQ(kernel_table().isa, own);
}

}  // namespace
}  // namespace lathe::cpu
