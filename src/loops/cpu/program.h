// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
#pragma once
// A stage of a region, compiled for concrete extents and strides: a loop nest over tiles, and for each tile a list of vector kernels on
// registers that stay in the first-level cache. Compiling allocates and may throw; running does neither.
//
// A tile is rows x cols points, dense in its registers; values that do not vary along its rows or columns are kept once per column or
// row. Of a reduction either may be reduced. All other loops step by one. tile_shape.h chooses.
//
// Stages that read what others just wrote run fused: slice by slice of their shared outer loops, the last of which is cut into blocks
// that are rows or columns of every stage's tiles. Temporaries of such a group exist for one block at a time, per worker.

#include <array>
#include <cstdint>
#include <memory_resource>
#include <string>
#include <vector>

#include "loops/cpu/analysis.h"
#include "loops/cpu/kernels.h"
#include "plan/kernel.h"

namespace lathe::loops::cpu {

inline constexpr std::int64_t kTilePoints = 1024;
inline constexpr int kMaxValues = 192;  ///< values of one tile program
inline constexpr int kMaxAccesses = 48;

/// c + sum over the nest's loops of k[l] * start of loop l, then `row` and `col` per step inside the tile.
struct TileAffine {
  std::int64_t c = 0;
  std::int64_t row = 0, col = 0;
  int loops = 0;  ///< how many of k count
  std::array<std::int64_t, kMaxLoops> k{};
};

struct NestLoop {
  std::int64_t extent = 1, step = 1;
  std::int64_t count() const { return (extent + step - 1) / step; }
};

/// A guarded or computed dimension of a read.
struct GuardedDim {
  TileAffine index;  ///< when affine
  int value = -1;    ///< else: the int64 value that holds it
  std::int64_t extent = 0, stride = 0;
  bool check = false;  ///< may miss
};

struct TileRead {
  BufferId buffer = -1;
  TileAffine offset;  ///< elements, over the affine dimensions
  MoveFn load = nullptr;
  std::size_t size = 0;                  ///< bytes of an element in memory
  bool same_type = false;                ///< memory holds what a register holds
  std::int32_t first_dim = 0, dims = 0;  ///< in StageProgram::dims, those that must be checked or computed; none: plain
  int fallback = -1;                     ///< value where out of bounds; -1 with a check: an error of the data
  bool computed = false;                 ///< some dimension is a value: element by element
};

/// Along which sides of the tile a value varies: 0 (one element), rows, columns, both.
inline constexpr int kByRow = 1, kByCol = 2;

struct TileValue {
  VmType type = VmType::kF32;
  int varies = 0;
  bool scalar() const { return varies == 0; }
  std::int32_t reg = -1;      ///< byte offset of its register; -1: a constant or read in place
  std::int64_t constant = 0;  ///< bit pattern
};

struct TileInstr {
  /// kSpread: repeats a value that varies along one side, or neither, over the sides of dst.
  enum class Kind : std::uint8_t { kConstant, kRead, kIota, kSpread, kKernel } kind = Kind::kKernel;
  KernelFn fn = nullptr;
  bool by_row = false;  ///< called once per row: operands may vary along one side only
  std::int32_t dst = -1, a = -1, b = -1, c = -1;
  std::int32_t read = -1;  ///< kRead: index into reads; kIota: into iotas
};

struct StageProgram {
  const std::string* source = nullptr;       ///< of the region's stage
  std::vector<NestLoop> kept, reduced;       ///< kept: the outermost `fused` first
  std::vector<int> kept_loop, reduced_loop;  ///< index into TileAffine::k
  int fused = 0;                             ///< leading kept loops shared with the group's other stages
  int row_loop = -1, col_loop = -1;          ///< index into k; -1: one row / one column
  std::int64_t row_extent = 1, row_step = 1, col_extent = 1, col_step = 1;
  bool row_kept = true, col_kept = true;

  std::vector<TileInstr> instrs;
  std::vector<TileValue> values;
  std::vector<TileRead> reads;
  std::vector<GuardedDim> dims;
  std::vector<TileAffine> iotas;
  std::int32_t result = -1;

  BufferId target = -1;
  TileAffine store_offset;
  std::size_t store_size = 0;
  MoveFn store = nullptr, store_fill = nullptr;
  KernelFn fill = nullptr;
  bool store_same_type = false;
  bool pure_copy = false;  ///< result is one plain read of the same type

  Reduce reduce = Reduce::kNone;
  ReduceFn reduce_fn = nullptr;
  ArgReduceFn arg_fn = nullptr;
  VmType accumulate = VmType::kF32;
  std::int64_t identity = 0;                                    ///< bit pattern
  TileAffine position;                                          ///< of arg reductions
  std::int32_t accumulators = -1, positions = -1, filled = -1;  ///< registers

  std::int32_t register_bytes = 0;
  std::int64_t tasks = 1;            ///< product of kept counts
  std::int64_t pieces = 1;           ///< a long reduction to few results: each task in so many parts, combined afterwards
  int piece_loop = -1;               ///< index into `reduced` of the loop that is cut
  std::int64_t tasks_per_outer = 1;  ///< of those behind the fused loops
  std::int64_t points_per_task = 1;
  int weight = 1;  ///< rough cost per point

  /// As new, but the vectors keep their memory.
  void clear();
};

/// How a stage runs together with its neighbours: the leading `loops` are shared, the last of them in blocks of `block`; `local` buffers
/// hold one block (their descs have stride 0 along the shared loops before).
struct Fusion {
  explicit Fusion(std::pmr::memory_resource* memory) : local(memory) {}
  int loops = 0;
  std::int64_t block = 1;
  std::pmr::vector<bool> local;
};

/// `buffers`: how each buffer of the region lies in memory. `into` is overwritten and keeps its vectors' memory; what compiling itself
/// needs comes from `memory`, which need not take it back (Arena). The region must outlive the program.
void compile_stage(const LoopRegion& region, StageAnalysis analysis, std::span<const plan::TensorDesc> buffers, const Fusion& fusion,
                   std::pmr::memory_resource* memory, StageProgram& into);

/// Where a run's data is; `pointers` per buffer. `registers` holds register_bytes, `raw` kTilePoints elements of 8 bytes.
struct TileMemory {
  void* const* pointers;
  std::byte* registers;
  std::byte* raw;
};
/// Runs tasks [begin, end). False when a computed index left its buffer.
bool run_stage(const StageProgram& stage, const TileMemory& memory, std::int64_t begin, std::int64_t end) noexcept;

/// Bytes of the partial results of one piece.
std::size_t partial_bytes(const StageProgram& stage) noexcept;
/// A stage in pieces: piece `piece` of `task` into `partial`; then, after all pieces, the sum of `partials` (stage.pieces of them in a
/// row) into the target.
bool run_piece(const StageProgram& stage, const TileMemory& memory, std::int64_t task, std::int64_t piece, std::byte* partial) noexcept;
void combine_pieces(const StageProgram& stage, const TileMemory& memory, std::int64_t task, const std::byte* partials) noexcept;

}  // namespace lathe::loops::cpu
