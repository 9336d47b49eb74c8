// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// Element types of the plain kernels of products and convolutions, shared by host and device code: read by NVRTC too, so it includes nothing.

namespace lathe::cuda {

/// The first three are ElementType's.
enum PlainType : int { kPlainFloat32, kPlainFloat16, kPlainBFloat16, kPlainFloat64, kPlainInt32, kPlainUint32, kPlainInt64, kPlainUint64 };

}  // namespace lathe::cuda
