// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// "cuda.matmul.cublaslt": matrix products by cuBLASLt where it is found. Its plans are the algorithms that its heuristics think best.

#include <array>
#include <optional>

#include "ops/candidate.h"
#include "regions/matmul_block/cublaslt_matmul_params.h"
#include "regions/matmul_block/matmul_plan.h"

namespace lathe::ops {
namespace {

namespace cublaslt = cuda::cublaslt;
using namespace regions;  // the helpers of matmul_plan.h

constexpr std::size_t kPlansTimed = 4;

struct Product {
  MatMulLayout layout;
  CublasltMatMul matmul;
};

/// The product as the library's; nullopt, and in `why` the reason, when it is none.
std::optional<Product> product_of(const PlanRequest& request, const MatMulBlock& block, std::string& why) {
  const bool packed = packs(block);
  const plan::TensorDesc &a = *desc_of(request, block.a), &c = request.outputs[0];
  const ir::Value* residual = residual_of(block);
  const auto a_type = cuda_element(a.dtype), c_type = cuda_element(c.dtype);
  if (!a_type || !c_type) why = kNoCudaElement;
  else if (packed && block.b->constant.rank() != 2) why = "the second operand is a vector";
  else if (!packed && desc_of(request, block.b)->dtype != a.dtype) why = "the operands are stored in different types";
  else if (residual && desc_of(request, residual)->dtype != c.dtype) why = "the residual is stored in another type than the result";
  else if (residual && block.tail.residual_after && !block.tail.activation.empty() && block.tail.residual == residual)
    why = "cuBLASLt adds nothing behind an activation";
  if (!why.empty()) return std::nullopt;
  const auto activation = cpu::find_activation(block.tail.activation);
  if (!activation) {
    why = "the activation has no kernel";
    return std::nullopt;
  }
  auto layout = layout_of(request, block, packed, why);
  if (!layout) return std::nullopt;
  if (layout->empty || layout->problem.k < 1) {
    why = "the product is empty";
    return std::nullopt;
  }
  Product p;
  p.layout = std::move(*layout);
  const bool bias = third_of(block) == Third::kBias || block.tail.bias;
  p.matmul = cublaslt_matmul(p.layout, regions::product_of(*a_type, request.tf32), *c_type, residual != nullptr, bias, static_cast<int>(*activation));
  std::int64_t calls = p.matmul.outer.extent;
  for (const MatMulLoop& loop : p.layout.loops) calls *= loop.extent;
  why = cublaslt::unsupported(p.matmul.problem);
  if (why.empty() && calls > kMostCublasltCalls) why = fmt::format("its batch axes would be {} calls of cuBLASLt", calls);
  if (!why.empty()) return std::nullopt;
  return p;
}

std::vector<cublaslt::Config> offered(const PlanRequest& request, const cublaslt::MatMulProblem& problem) {
  try {
    return cublaslt::MatMul(need_device(request.device), problem).algorithms(kPlansTimed);
  } catch (const Error&) {
    return {};
  }
}

Verdict supports(const PlanRequest& request) {
  if (!(request.libraries & ops::kCublasLt)) return Verdict::decline("not asked for: --libraries cublaslt");
  std::string why;
  if (!cublaslt::Library::find(&why)) return Verdict::decline(why);
  if (!request.timed) return Verdict::decline("without timing, a library is not worth its loading");
  if (request.outputs.size() != 1) return Verdict::decline("an inner value is read outside");
  const MatMulBlock block = match_matmul_block(request.region);
  const auto product = product_of(request, block, why);
  if (!product) return Verdict::decline(why);
  return offered(request, product->matmul.problem).empty() ? Verdict::decline("cuBLASLt's heuristics offer no algorithm for it") : Verdict::accept();
}

std::vector<StepPlan> plans(const PlanRequest& request) {
  const MatMulBlock block = match_matmul_block(request.region);
  std::string why;
  const Product p = *product_of(request, block, why);
  const cublaslt::MatMulProblem& problem = p.matmul.problem;
  const bool packed = packs(block);
  const plan::TensorDesc &a = *desc_of(request, block.a), &c = request.outputs[0];
  StepPlan step;
  step.kernel = "cuda.matmul.cublaslt";
  step.burden = kVendorBurden;
  step.params.set("product", static_cast<std::int64_t>(problem.product));
  step.params.set("library", cublaslt::Library::get().version_text());
  step.params.set("tuned_rows", problem.rows * problem.batch);
  describe_operands(block, packed, step);
  if (packed) {
    WeightRequest weights;
    weights.pack = "cuda.matmul.cublaslt.pack";
    weights.params.set("product", static_cast<std::int64_t>(problem.product));
    weights.params.set("trans_b", static_cast<std::int64_t>(block.trans_b));
    weights.sources = {block.b};
    step.weights.push_back(std::move(weights));
  }
  describe_bias(block, problem.columns, step);
  if (problem.bias) {
    WeightRequest& bias = step.weights.back();
    bias.pack = "cuda.matmul.cublaslt.pack_bias";
    bias.params.set("stored", static_cast<std::int64_t>(c.dtype));
  }
  step.outputs = {request.region.outputs.at(0)};
  step.flops = p.layout.flops;
  const std::int64_t b_elements = packed ? problem.columns * packed_row(problem.depth) : desc_of(request, block.b)->elements();
  step.bytes = static_cast<double>(dtype_bytes(a.dtype, a.elements() + b_elements) + dtype_bytes(c.dtype, c.elements()) * (problem.residual ? 2 : 1));
  std::vector<StepPlan> result;
  for (const cublaslt::Config& config : offered(request, problem)) {
    StepPlan next = step;
    next.variant = cublaslt::describe(config);
    next.params.set("algorithm", std::vector<std::int64_t>(config.begin(), config.end()));
    result.push_back(std::move(next));
  }
  return result;
}

}  // namespace

std::span<const Candidate> candidates_cublaslt_matmul_cuda() {
  static const std::array<Candidate, 1> list{{{"cuda.matmul.cublaslt", "matmul_block", supports, plans, matmul_layouts}}};
  return list;
}

}  // namespace lathe::ops
