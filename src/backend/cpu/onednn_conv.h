// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A convolution by oneDNN's direct kernels, cut into pieces that Lathe's pool runs: bands of output rows (pixels for 1x1), or parts of the
// output channels. Each piece is one single-threaded primitive on one image; images of a batch are further pieces, so the batch may change
// from run to run. oneDNN's kernels want dense channels-last images: what is a slice of a wider buffer goes through scratch piece by piece.

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include "backend/cpu/conv.h"
#include "backend/cpu/onednn.h"

namespace lathe {
class ThreadPool;
}

namespace lathe::cpu::onednn {

struct ConvSplit {
  bool channels = false;   ///< parts of the output channels instead of rows
  std::int64_t count = 1;  ///< pieces wanted of an image
};

/// What primitives are made for. All plain data that a step records.
struct ConvSpec {
  ConvProblem problem;  ///< of one image; `weights` is product_type(): a source of another type is converted on its way through scratch
  Epilogue epilogue;
  bool bias = false, residual = false;
  DType residual_type = DType::kFloat32;
  ConvSplit split;
};

/// bfloat16 where either end is stored so, as Lathe's own kernels do.
inline DType product_type(DType src, DType dst) { return src == DType::kBFloat16 || dst == DType::kBFloat16 ? DType::kBFloat16 : DType::kFloat32; }

struct ConvStrides {
  std::int64_t src_pixel = 0, src_image = 0, dst_pixel = 0, dst_image = 0, residual_pixel = 0, residual_image = 0;  ///< elements
  bool operator==(const ConvStrides&) const = default;
};

struct ConvTensors {
  const void* src = nullptr;
  const void* residual = nullptr;
  void* dst = nullptr;
  void* scratch = nullptr;
};

/// "" when oneDNN has a direct kernel's meaning for it, else the reason why not; asks nothing of the library but what it is.
std::string conv_unsupported(const ConvSpec& spec);
/// Splits worth timing for a batch of `images`, the best guess first.
std::vector<ConvSplit> conv_splits(const ConvProblem& problem, std::int64_t images, bool dense, int threads);

/// "" when the library has an implementation for one of the splits, else why not for the last.
std::string no_implementation(ConvSpec spec, const std::vector<ConvSplit>& splits);

class Conv {
 public:
  /// Finds implementations; generates no code yet. Throws Error(kUnsupported) when there is none beyond oneDNN's reference loops.
  explicit Conv(const ConvSpec& spec);
  ~Conv();
  Conv(Conv&&) noexcept;

  std::string implementation() const;  ///< "brgconv:avx512_core"
  std::string weight_format() const;   ///< memory formats that the implementation chose
  std::size_t weight_bytes() const noexcept { return weight_bytes_; }
  std::vector<std::byte> pack(const float* oihw) const;

  /// Generates code and makes room for `threads` threads. `weights` as pack() made them and `bias` outlive this.
  void prepare(const void* weights, const float* bias, const ConvStrides& strides, int threads);
  /// Other strides, if nothing becomes a slice that was dense.
  bool move_to(const ConvStrides& strides) noexcept;
  std::size_t scratch_bytes() const noexcept { return scratch_each_ * static_cast<std::size_t>(threads_); }
  /// Allocates nothing, keeps no state between calls; several at once are fine.
  bool run(const ConvTensors& tensors, std::int64_t images, ThreadPool& pool) const noexcept;

 private:
  struct Shape;
  struct Part;
  struct Variant;
  struct Piece;
  struct Lane;
  PrimitiveDesc describe_primitive(const Shape& shape, const_dnnl_memory_desc_t weights) const;
  void cut();
  const_dnnl_memory_desc_t format_of(const Part& part) const;  ///< of its weights
  bool run_piece(const Piece& piece, const ConvTensors& tensors, std::int64_t image, std::byte* scratch, Lane& lane, ThreadPool& pool) const noexcept;
  Lane& claim(int worker) const noexcept;

  ConvSpec spec_;
  std::vector<Part> parts_;        ///< of the output channels, each with weights of its own
  std::vector<Variant> variants_;  ///< distinct primitives
  std::vector<Piece> pieces_;      ///< of one image
  std::size_t weight_bytes_ = 0;
  ConvStrides strides_;
  int threads_ = 1;
  std::size_t scratch_each_ = 0, src_at_ = 0, dst_at_ = 0, residual_at_ = 0;
  bool copy_src_ = false, copy_dst_ = false, copy_residual_ = false;
  std::unique_ptr<Lane[]> lanes_;
  int lane_count_ = 0;
};

}  // namespace lathe::cpu::onednn
