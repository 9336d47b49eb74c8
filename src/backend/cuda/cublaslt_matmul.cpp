// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See cublaslt_matmul.h. The library's matrices are column-major: our product is its product of the transposed matrices, so its A is our B, its rows
// are our columns, and its bias, one value a row, varies along our columns.

#include "backend/cuda/cublaslt_matmul.h"

#include <fmt/format.h>

#include <algorithm>

namespace lathe::cuda::cublaslt {
namespace {

constexpr std::size_t kMostWorkspace = 32 << 20;
constexpr std::size_t kWorkspaceAlignment = 256;
constexpr std::size_t kMostOffered = 8, kMostKept = 32;
constexpr std::uint32_t kWide = 16;

int data_type(ElementType type) {
  switch (type) {
    case kElementFloat16: return kFloat16;
    case kElementBFloat16: return kBFloat16;
    case kElementFloat32: break;
  }
  return kFloat32;
}
int operand_type(ProductType product) { return product == kProductF16 ? kFloat16 : product == kProductBF16 ? kBFloat16 : kFloat32; }
std::uint32_t bytes_of(int type) { return type == kFloat32 ? 4 : 2; }

Config config_of(const Library& library, const Algorithm& algorithm) noexcept {
  Config config{};
  for (int i = 0; i < kConfigCount; ++i) {
    std::uint16_t narrow = 0;
    const bool is_narrow = i >= kConfigInnerShape;
    std::size_t written = 0;
    void* to = is_narrow ? static_cast<void*>(&narrow) : &config[static_cast<std::size_t>(i)];
    if (library.config_get(&algorithm, i, to, is_narrow ? 2 : 4, &written) != kSuccess) config[static_cast<std::size_t>(i)] = 0;
    if (is_narrow) config[static_cast<std::size_t>(i)] = narrow;
  }
  return config;
}

bool begins_at(const void* pointer, std::uint32_t alignment) { return reinterpret_cast<std::uintptr_t>(pointer) % alignment == 0; }

}  // namespace

std::string describe(const Config& c) { return fmt::format("algorithm {} tile {} stages {} splits {} cluster {}", c[0], c[1], c[6], c[2], c[8]); }

std::string unsupported(const MatMulProblem& p) {
  if (p.activation == kActRelu) return "cuBLASLt's Relu turns NaN into 0";
  if (p.activation != kActNone && p.activation != kActGeluTanh) return "cuBLASLt has no such activation";
  if (p.rows < 1 || p.columns < 1 || p.depth < 1 || p.batch < 1) return "nothing to multiply";
  if (p.a_row < (p.a_transposed ? p.rows : p.depth) || p.b_row < (p.b_transposed ? p.depth : p.columns) || p.c_row < p.columns ||
      (p.residual && p.residual_row < p.columns))
    return "rows of a matrix overlap";
  return "";
}

MatMul::MatMul(Device& device, const MatMulProblem& problem) : device_(device), library_(Library::get()), handle_(handle_of(device)), problem_(problem) {
  if (const std::string why = unsupported(problem); !why.empty()) throw Error(Code::kUnsupported, why);
  kept_.reserve(kMostKept);
  const int operand = operand_type(problem.product), stored = data_type(problem.stored);
  try {
    require(library_.matmul_create(&desc_, problem.product == kProductTF32 ? kComputeTF32 : kCompute32F, kFloat32), "cublasLtMatmulDescCreate");
    const std::int32_t a = problem.b_transposed ? kTransposed : kAsStored, b = problem.a_transposed ? kTransposed : kAsStored;
    std::uint32_t epilogue = 0;
    if (problem.bias) epilogue |= kEpilogueBias;
    if (problem.activation == kActGeluTanh) epilogue |= kEpilogueGeluTanh;
    if (epilogue == 0) epilogue = kEpilogueNone;
    require(library_.matmul_set(desc_, kMatmulTransA, &a, sizeof a), "cublasLtMatmulDescSetAttribute");
    require(library_.matmul_set(desc_, kMatmulTransB, &b, sizeof b), "cublasLtMatmulDescSetAttribute");
    require(library_.matmul_set(desc_, kMatmulEpilogue, &epilogue, sizeof epilogue), "cublasLtMatmulDescSetAttribute");
    for (std::size_t i = 0; i < layouts_.size(); ++i)
      require(library_.layout_create(&layouts_[i], i < 2 ? operand : stored, 1, 1, 1), "cublasLtMatrixLayoutCreate");
    require(library_.preference_create(&preference_), "cublasLtMatmulPreferenceCreate");
    require(library_.preference_set(preference_, kPreferWorkspace, &kMostWorkspace, sizeof kMostWorkspace), "cublasLtMatmulPreferenceSetAttribute");
    // The heuristics want one to be there; set_bias() gives the real one.
    if (problem.bias) set_bias(reinterpret_cast<const void*>(kWorkspaceAlignment));
    if (!place(problem)) throw Error(Code::kUnsupported, "cuBLASLt does not take the extents of a matrix product");
  } catch (...) {
    release();
    throw;
  }
}

MatMul::~MatMul() { release(); }

void MatMul::release() noexcept {
  if (preference_) library_.preference_destroy(preference_);
  for (const Layout layout : layouts_)
    if (layout) library_.layout_destroy(layout);
  if (desc_) library_.matmul_destroy(desc_);
}

bool MatMul::place(const MatMulProblem& p) noexcept {
  const auto set = [&](Layout layout, std::int64_t rows, std::int64_t columns, std::int64_t leading, std::int64_t batch_stride) {
    const auto r = static_cast<std::uint64_t>(rows), c = static_cast<std::uint64_t>(columns);
    const auto batch = static_cast<std::int32_t>(p.batch);
    return library_.layout_set(layout, kLayoutRows, &r, sizeof r) == kSuccess && library_.layout_set(layout, kLayoutColumns, &c, sizeof c) == kSuccess &&
           library_.layout_set(layout, kLayoutLeading, &leading, sizeof leading) == kSuccess &&
           library_.layout_set(layout, kLayoutBatch, &batch, sizeof batch) == kSuccess &&
           library_.layout_set(layout, kLayoutBatchStride, &batch_stride, sizeof batch_stride) == kSuccess;
  };
  const bool b_down = p.b_transposed, a_down = p.a_transposed;
  return p.batch <= 0x7FFFFFFF && set(layouts_[0], b_down ? p.depth : p.columns, b_down ? p.columns : p.depth, p.b_row, p.b_batch) &&
         set(layouts_[1], a_down ? p.rows : p.depth, a_down ? p.depth : p.rows, p.a_row, p.a_batch) &&
         set(layouts_[2], p.columns, p.rows, p.residual ? p.residual_row : p.c_row, p.residual ? p.residual_batch : p.c_batch) &&
         set(layouts_[3], p.columns, p.rows, p.c_row, p.c_batch);
}

/// The number of algorithms in `results`.
int MatMul::ask(std::uint32_t alignment, std::span<Heuristic> results) noexcept {
  for (const int which : {kPreferAlignmentA, kPreferAlignmentB, kPreferAlignmentC, kPreferAlignmentD})
    if (library_.preference_set(preference_, which, &alignment, sizeof alignment) != kSuccess) return 0;
  int count = 0;
  if (library_.heuristics(handle_, desc_, layouts_[0], layouts_[1], layouts_[2], layouts_[3], preference_, static_cast<int>(results.size()), results.data(),
                          &count) != kSuccess)
    return 0;
  const auto end = std::remove_if(results.begin(), results.begin() + std::clamp<std::ptrdiff_t>(count, 0, static_cast<std::ptrdiff_t>(results.size())),
                                  [](const Heuristic& h) { return h.state != kSuccess || h.workspace > kMostWorkspace; });
  return static_cast<int>(end - results.begin());
}

std::vector<Config> MatMul::algorithms(std::size_t most) {
  const Current current(device_);
  std::array<Heuristic, kMostOffered> offered;
  std::vector<Config> configs;
  const int count = ask(kWide, offered);
  for (int i = 0; i < count && configs.size() < most; ++i)
    if (const Config config = config_of(library_, offered[static_cast<std::size_t>(i)].algorithm);
        std::find(configs.begin(), configs.end(), config) == configs.end())
      configs.push_back(config);
  return configs;
}

bool MatMul::choose(Way& way, std::uint32_t alignment, const Config& wanted) noexcept {
  std::array<Heuristic, kMostOffered> offered;
  const int count = ask(alignment, std::span(offered).first(wanted[0] < 0 ? 1 : kMostOffered));
  way.exists = count > 0;
  if (!way.exists) return false;
  const auto end = offered.begin() + count;
  const auto found = wanted[0] < 0 ? end : std::find_if(offered.begin(), end, [&](const Heuristic& h) { return config_of(library_, h.algorithm) == wanted; });
  way.chosen = found == end ? offered.front() : *found;
  return true;
}

bool MatMul::fit(const MatMulProblem& problem, const Config& wanted) noexcept {
  const Current current(device_);
  problem_ = problem;
  aligned_.exists = any_.exists = false;
  workspace_ = 0;
  if (!current.status() || !place(problem)) return false;
  const auto known = std::find_if(kept_.begin(), kept_.end(), [&](const Kept& k) { return k.wanted == (wanted[0] >= 0) && k.problem == problem; });
  if (known != kept_.end()) {
    aligned_ = known->aligned;
    any_ = known->any;
  } else {
    const std::uint32_t operand = bytes_of(operand_type(problem.product)), stored = bytes_of(data_type(problem.stored));
    const auto whole = [](std::int64_t stride, std::uint32_t bytes) { return stride * bytes % kWide == 0; };
    // Rows that begin anywhere leave no use for operands that begin at whole pieces.
    const bool rows = whole(problem.a_row, operand) && whole(problem.b_row, operand) && whole(problem.c_row, stored) && whole(problem.a_batch, operand) &&
                      whole(problem.b_batch, operand) && whole(problem.c_batch, stored) &&
                      (!problem.residual || (whole(problem.residual_row, stored) && whole(problem.residual_batch, stored)));
    if (rows) choose(aligned_, kWide, wanted);
    choose(any_, std::min(operand, stored), rows ? Config{-1} : wanted);
    Kept& kept = kept_.size() < kMostKept ? kept_.emplace_back() : kept_[next_kept_++ % kMostKept];
    kept = {problem, wanted[0] >= 0, aligned_, any_};
  }
  for (const Way* way : {&aligned_, &any_})
    if (way->exists && way->chosen.workspace > 0) workspace_ = std::max(workspace_, way->chosen.workspace + kWorkspaceAlignment);
  return aligned_.exists || any_.exists;
}

void MatMul::set_bias(const void* bias) { require(library_.matmul_set(desc_, kMatmulBias, &bias, sizeof bias), "cublasLtMatmulDescSetAttribute"); }

Status MatMul::run(StreamHandle stream, const MatMulPointers& at, float alpha, float beta) const noexcept {
  const void* residual = problem_.residual ? at.residual : at.c;
  const bool wide = begins_at(at.a, kWide) && begins_at(at.b, kWide) && begins_at(at.c, kWide) && begins_at(residual, kWide);
  const Way& way = wide && aligned_.exists ? aligned_ : any_;
  if (!way.exists) return {Code::kUnsupported, "cuBLASLt has no algorithm for a product whose operands begin at no multiple of 16 bytes"};
  const auto workspace = (reinterpret_cast<std::uintptr_t>(at.workspace) + kWorkspaceAlignment - 1) / kWorkspaceAlignment * kWorkspaceAlignment;
  const float none = 0;
  return status(
      library_.matmul(handle_, desc_, &alpha, at.b, layouts_[0], at.a, layouts_[1], problem_.residual ? &beta : &none, residual, layouts_[2], at.c, layouts_[3],
                      &way.chosen.algorithm, way.chosen.workspace > 0 ? reinterpret_cast<void*>(workspace) : nullptr, way.chosen.workspace, stream),
      "cublasLtMatmul");
}

}  // namespace lathe::cuda::cublaslt
