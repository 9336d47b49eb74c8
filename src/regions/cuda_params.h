// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// What the CUDA candidates write into step parameters and their kernels read: element and product types, plans of products, epilogues.

#include <optional>
#include <string>
#include <string_view>

#include <fmt/format.h>

#include "backend/cpu/epilogue_params.h"
#include "backend/cuda/gemm_call.h"
#include "backend/cuda/kernels/gemm_plan.h"
#include "ir/attribute.h"
#include "lathe/dtype.h"
#include "lathe/status.h"

namespace lathe::regions {

inline std::optional<cuda::ElementType> cuda_element(DType dtype) noexcept {
  switch (dtype) {
    case DType::kFloat32: return cuda::kElementFloat32;
    case DType::kFloat16: return cuda::kElementFloat16;
    case DType::kBFloat16: return cuda::kElementBFloat16;
    default: return std::nullopt;
  }
}
inline constexpr std::string_view kNoCudaElement = "the storage type is none of float32, float16 and bfloat16";

/// A step by cuBLASLt or cuDNN ties the engine to that version of a library of hundreds of megabytes, which its first run loads. A tie is not worth
/// that, nor is what the clock cannot tell from one.
inline constexpr double kVendorBurden = 1.05;

/// The element type of a tensor of a step; throws Error(kUnsupported).
inline cuda::ElementType need_cuda_element(DType dtype) {
  const auto type = cuda_element(dtype);
  if (!type) throw Error(Code::kUnsupported, fmt::format("a GPU kernel on {} elements", dtype_name(dtype)));
  return *type;
}

/// What is multiplied when the first operand is stored so.
inline cuda::ProductType product_of(cuda::ElementType source, bool tf32) noexcept {
  switch (source) {
    case cuda::kElementFloat16: return cuda::kProductF16;
    case cuda::kElementBFloat16: return cuda::kProductBF16;
    case cuda::kElementFloat32: break;
  }
  return tf32 ? cuda::kProductTF32 : cuda::kProductF32;
}
inline cuda::ElementType element_of(cuda::ProductType product) noexcept {
  return product == cuda::kProductF16 ? cuda::kElementFloat16 : product == cuda::kProductBF16 ? cuda::kElementBFloat16 : cuda::kElementFloat32;
}

inline cuda::ProductType read_product(const ir::Attrs& params) {
  const std::int64_t product = params.get_int("product", 0);
  if (product < cuda::kProductF16 || product > cuda::kProductF32) throw Error(Code::kCorruptFile, "the type of a product is not one that this version knows");
  return static_cast<cuda::ProductType>(product);
}

/// `rows`: rows times items at the hint shapes.
inline void write_gemm_plan(const cuda::GemmPlan& plan, std::int64_t rows, ir::Attrs& params) {
  params.set("plan", std::vector<std::int64_t>{static_cast<std::int64_t>(plan.core), plan.rows, plan.columns, plan.splits, plan.cluster});
  params.set("tuned_rows", rows);
}
inline cuda::GemmPlan read_gemm_plan(const ir::Attrs& params) {
  const auto v = params.get_ints("plan");
  if (v.size() != 5 || v[0] < 0 || v[0] > 2 || v[1] < 1 || v[1] > 1024 || v[2] < 1 || v[2] > 1024 || v[3] < 1 || v[3] > 64 || v[4] < 0 || v[4] > 1)
    throw Error(Code::kCorruptFile, "the plan of a product step is not one that this version knows");
  cuda::GemmPlan plan;
  plan.core = static_cast<cuda::GemmCore>(v[0]);
  plan.rows = static_cast<std::int32_t>(v[1]);
  plan.columns = static_cast<std::int32_t>(v[2]);
  plan.splits = static_cast<std::int32_t>(v[3]);
  plan.cluster = static_cast<std::int32_t>(v[4]);
  return plan;
}

inline cuda::EpilogueParams read_cuda_epilogue(const ir::Attrs& params) {
  // The lists of activations of both back ends have one order.
  static_assert(static_cast<int>(cpu::Activation::kMish) == cuda::kActMish && cpu::kActivationCount == cuda::kActCount);
  const auto activation = cpu::find_activation(params.get_string("activation", ""));
  if (!activation) throw Error(Code::kCorruptFile, fmt::format("the activation '{}' is not one that this version knows", params.get_string("activation", "")));
  cuda::EpilogueParams epilogue;
  epilogue.activation = static_cast<int>(*activation);
  epilogue.alpha = params.get_float("alpha", 0);
  epilogue.beta = params.get_float("beta", 0);
  epilogue.scale = params.get_float("scale", 1);
  epilogue.residual_scale = params.get_float("residual_scale", 1);
  epilogue.residual_after = params.get_int("residual_after", 0) != 0;
  return epilogue;
}

inline cuda::Device& need_device(void* device) {
  if (!device) throw Error(Code::kInternal, "a CUDA kernel was bound without a device");
  return *static_cast<cuda::Device*>(device);
}

}  // namespace lathe::regions
