/* SPDX-FileCopyrightText: Lathe contributors */
/* SPDX-License-Identifier: Apache-2.0 */
#pragma once
/* What tests ask of the fake cuBLASLt and cuDNN: libraries without a GPU that check every call and compute on the host. Their violations are the
   fake driver's. */

#include <cstddef>

extern "C" {
struct fake_vendor_live {
  std::size_t handles, objects, runs, asked;
};
/* What exists now; `runs` and `asked` (products or convolutions run, heuristics asked) count from the start. */
fake_vendor_live fake_cublaslt_count();
fake_vendor_live fake_cudnn_count();
/* From now on (0: no more) the library gives no handle. */
void fake_cublaslt_fail(int fail);
void fake_cudnn_fail(int fail);
/* cuBLASLt: offers an algorithm for operands at multiples of 16 bytes only (0: for any). */
void fake_cublaslt_refuse_unaligned(int refuse);
/* cuDNN: refuses graphs with more than so many operations, and a bias of another type than the image's. */
void fake_cudnn_refuse(int most_operations, int wide_bias);
}
