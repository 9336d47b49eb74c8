// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Runs tile programs. Per tile: find where each access starts, run the kernels on registers (reading contiguous memory in place), then
// store or add to the accumulators.

#include <algorithm>
#include <array>
#include <cstring>

#include "loops/cpu/program.h"

namespace lathe::loops::cpu {
namespace {

struct Tile {
  std::array<std::int64_t, kMaxLoops> start{};
  std::int64_t rows = 1, cols = 1;
};

std::int64_t base_of(const TileAffine& f, const Tile& tile) noexcept {
  std::int64_t at = f.c;
  for (int l = 0; l < f.loops; ++l) at += f.k[static_cast<std::size_t>(l)] * tile.start[static_cast<std::size_t>(l)];
  return at;
}

/// Is a tile with these steps one contiguous run?
bool is_run(const TileAffine& f, const Tile& tile) noexcept {
  if (tile.cols == 1) return tile.rows == 1 || f.row == 1;
  return f.col == 1 && (tile.rows == 1 || f.row == tile.cols);
}

class Runner {
 public:
  Runner(const StageProgram& p, const TileMemory& m) noexcept : p_(p), m_(m) {}

  bool run(std::int64_t begin, std::int64_t end) noexcept {
    for (std::int64_t task = begin; task < end; ++task) one(task);
    return ok_;
  }

  bool run_piece(std::int64_t task, std::int64_t piece, std::byte* partial) noexcept {
    Tile tile = tile_of(task);
    const std::int64_t count = p_.reduced[static_cast<std::size_t>(p_.piece_loop)].count();
    accumulate(tile, partial, nullptr, piece * count / p_.pieces, (piece + 1) * count / p_.pieces);
    return ok_;
  }

  void combine(std::int64_t task, const std::byte* partials) noexcept {
    const Tile tile = tile_of(task);
    const std::int64_t rows = kept_rows(tile), cols = kept_cols(tile);
    std::byte* sum = m_.registers + p_.accumulators;
    const std::size_t one = partial_bytes(p_);
    std::memcpy(sum, partials, static_cast<std::size_t>(rows * cols) * vm_size(p_.accumulate));
    for (std::int64_t piece = 1; piece < p_.pieces; ++piece)
      p_.reduce_fn(sum, partials + static_cast<std::size_t>(piece) * one, static_cast<std::size_t>(rows), static_cast<std::size_t>(cols), true, true);
    store_rows(base_of(p_.store_offset, tile), sum, vm_size(p_.accumulate), rows, cols);
  }

 private:
  void limit(Tile& tile) const noexcept {
    tile.rows = p_.row_loop < 0 ? 1 : std::min(p_.row_step, p_.row_extent - tile.start[static_cast<std::size_t>(p_.row_loop)]);
    tile.cols = p_.col_loop < 0 ? 1 : std::min(p_.col_step, p_.col_extent - tile.start[static_cast<std::size_t>(p_.col_loop)]);
  }

  Tile tile_of(std::int64_t task) const noexcept {
    Tile tile;
    for (std::size_t i = p_.kept.size(); i-- > 0;) {
      const std::int64_t count = p_.kept[i].count();
      tile.start[static_cast<std::size_t>(p_.kept_loop[i])] = task % count * p_.kept[i].step;
      task /= count;
    }
    return tile;
  }

  void one(std::int64_t task) noexcept {
    Tile tile = tile_of(task);
    if (p_.reduce == Reduce::kNone) {
      limit(tile);
      if (p_.pure_copy) return copy(tile);
      compute(tile, true);
      if (p_.values[static_cast<std::size_t>(p_.result)].scalar() || pointers_[static_cast<std::size_t>(p_.result)] != in_place_) store(tile);
      return;
    }
    void* accumulators = m_.registers + p_.accumulators;
    auto* positions = reinterpret_cast<std::int64_t*>(m_.registers + p_.positions);
    accumulate(tile, accumulators, positions, 0, p_.piece_loop < 0 ? 0 : p_.reduced[static_cast<std::size_t>(p_.piece_loop)].count());
    const void* result = p_.arg_fn ? static_cast<const void*>(positions) : accumulators;
    store_rows(base_of(p_.store_offset, tile), result, p_.arg_fn ? 8 : vm_size(p_.accumulate), kept_rows(tile), kept_cols(tile));
  }

  std::int64_t kept_rows(const Tile& tile) const noexcept {
    return p_.row_kept && p_.row_loop >= 0 ? std::min(p_.row_step, p_.row_extent - tile.start[static_cast<std::size_t>(p_.row_loop)]) : 1;
  }
  std::int64_t kept_cols(const Tile& tile) const noexcept {
    return p_.col_kept && p_.col_loop >= 0 ? std::min(p_.col_step, p_.col_extent - tile.start[static_cast<std::size_t>(p_.col_loop)]) : 1;
  }

  void copy(const Tile& tile) noexcept {
    const TileRead& r = p_.reads[0];
    const View src{static_cast<std::byte*>(m_.pointers[r.buffer]) + base_of(r.offset, tile) * static_cast<std::int64_t>(r.size), r.offset.row, r.offset.col};
    const View dst{static_cast<std::byte*>(m_.pointers[p_.target]) + base_of(p_.store_offset, tile) * static_cast<std::int64_t>(p_.store_size),
                   p_.store_offset.row, p_.store_offset.col};
    kernels_.copy(dst, src, static_cast<std::size_t>(tile.rows), static_cast<std::size_t>(tile.cols), r.size);
  }

  /// Reduces a tile's points, of the loop that is cut into pieces only the steps [from, to). Leaves the tile at the start of the reduced
  /// loops, where the store does not vary.
  void accumulate(Tile& tile, void* accumulators, std::int64_t* positions, std::int64_t from, std::int64_t to) noexcept {
    const std::int64_t kept = kept_rows(tile) * kept_cols(tile);
    kernels_.fill(p_.accumulate)(accumulators, &p_.identity, nullptr, nullptr, static_cast<std::size_t>(kept));
    std::array<std::int64_t, kMaxLoops> counter{};
    const auto first = [&](std::size_t i) { return static_cast<int>(i) == p_.piece_loop ? from : 0; };
    const auto last = [&](std::size_t i) { return static_cast<int>(i) == p_.piece_loop ? to : p_.reduced[i].count(); };
    bool empty = false;
    for (std::size_t i = 0; i < p_.reduced.size(); ++i) {
      counter[i] = first(i);
      empty |= first(i) >= last(i) || p_.reduced[i].extent == 0;
    }
    if (p_.arg_fn) std::fill_n(positions, kept, empty ? 0 : -1);  // -1: nothing seen yet
    const bool rows_kept = p_.row_kept && p_.row_loop >= 0, cols_kept = p_.col_kept && p_.col_loop >= 0;
    while (!empty) {
      for (std::size_t i = 0; i < p_.reduced.size(); ++i)
        if (p_.reduced_loop[i] >= 0) tile.start[static_cast<std::size_t>(p_.reduced_loop[i])] = counter[i] * p_.reduced[i].step;
      limit(tile);
      compute(tile, false);
      const auto rows = static_cast<std::size_t>(tile.rows), cols = static_cast<std::size_t>(tile.cols);
      const void* values = pointers_[static_cast<std::size_t>(p_.result)];
      if (p_.values[static_cast<std::size_t>(p_.result)].scalar()) {
        p_.fill(m_.registers + p_.filled, values, nullptr, nullptr, rows * cols);
        values = m_.registers + p_.filled;
      }
      if (p_.arg_fn) p_.arg_fn(accumulators, positions, values, rows, cols, rows_kept, cols_kept, base_of(p_.position, tile), p_.position.row, p_.position.col);
      else p_.reduce_fn(accumulators, values, rows, cols, rows_kept, cols_kept);
      std::size_t i = p_.reduced.size();
      while (i-- > 0) {
        if (++counter[i] < last(i)) break;
        counter[i] = first(i);
      }
      if (i == static_cast<std::size_t>(-1)) break;
    }
    for (const int loop : p_.reduced_loop)
      if (loop >= 0) tile.start[static_cast<std::size_t>(loop)] = 0;
  }

  /// Runs the instructions; `direct`: the last one may write the output in place.
  void compute(const Tile& tile, bool direct) noexcept {
    in_place_ = nullptr;
    for (const TileInstr& instr : p_.instrs) {
      const auto dst = static_cast<std::size_t>(instr.dst);
      const TileValue& v = p_.values[dst];
      if (instr.kind == TileInstr::Kind::kConstant) {
        pointers_[dst] = &v.constant;
        continue;
      }
      void* to = m_.registers + v.reg;
      if (instr.kind == TileInstr::Kind::kRead) {
        pointers_[dst] = read(p_.reads[static_cast<std::size_t>(instr.read)], v, to, tile);
        continue;
      }
      if (instr.kind == TileInstr::Kind::kIota) {
        pointers_[dst] = to;
        auto* out = static_cast<std::int64_t*>(to);
        const TileAffine& iota = p_.iotas[static_cast<std::size_t>(instr.read)];
        const std::int64_t base = base_of(iota, tile);
        const Tile own = sides(v, tile);
        for (std::int64_t r = 0; r < own.rows; ++r)
          for (std::int64_t c = 0; c < own.cols; ++c) *out++ = base + r * iota.row + c * iota.col;
        continue;
      }
      if (instr.kind == TileInstr::Kind::kSpread) {
        pointers_[dst] = to;
        spread(instr, v, static_cast<std::byte*>(to), tile);
        continue;
      }
      std::int64_t row_step = tile.cols * static_cast<std::int64_t>(vm_size(v.type));
      bool by_row = instr.by_row;
      if (direct && instr.dst == p_.result && !v.scalar() && p_.store_same_type) {
        // Into memory at once where rows are contiguous there: as one run, or row by row.
        const bool run = is_run(p_.store_offset, tile);
        if (run || (p_.store_offset.col == 1 && tile.cols >= 32)) {
          const auto size = static_cast<std::int64_t>(p_.store_size);
          to = static_cast<std::byte*>(m_.pointers[p_.target]) + base_of(p_.store_offset, tile) * size;
          in_place_ = to;
          if (!run) row_step = p_.store_offset.row * size;
          by_row |= !run;
        }
      }
      const auto operand = [&](std::int32_t i) -> const void* { return i < 0 ? nullptr : pointers_[static_cast<std::size_t>(i)]; };
      pointers_[dst] = to;
      if (!by_row || tile.rows == 1) {
        instr.fn(to, operand(instr.a), operand(instr.b), operand(instr.c), points_of(v, tile));
        continue;
      }
      const std::int64_t a_step = row_step_of(instr.a, tile), b_step = row_step_of(instr.b, tile), c_step = row_step_of(instr.c, tile);
      auto* out = static_cast<std::byte*>(to);
      const auto *a = static_cast<const std::byte*>(operand(instr.a)), *b = static_cast<const std::byte*>(operand(instr.b)),
                 *c = static_cast<const std::byte*>(operand(instr.c));
      for (std::int64_t row = 0; row < tile.rows; ++row, out += row_step, a += a_step, b += b_step, c += c_step)
        instr.fn(out, a, b, c, static_cast<std::size_t>(tile.cols));
    }
  }

  /// The part of the tile that a value has elements for.
  static Tile sides(const TileValue& v, const Tile& tile) noexcept {
    return {tile.start, v.varies & kByRow ? tile.rows : 1, v.varies & kByCol ? tile.cols : 1};
  }
  static std::size_t points_of(const TileValue& v, const Tile& tile) noexcept {
    return static_cast<std::size_t>((v.varies & kByRow ? tile.rows : 1) * (v.varies & kByCol ? tile.cols : 1));
  }

  /// Bytes from one row of a value to the next.
  std::int64_t row_step_of(std::int32_t value, const Tile& tile) const noexcept {
    if (value < 0) return 0;
    const TileValue& v = p_.values[static_cast<std::size_t>(value)];
    if (!(v.varies & kByRow)) return 0;
    return static_cast<std::int64_t>(vm_size(v.type)) * (v.varies & kByCol ? tile.cols : 1);
  }

  void spread(const TileInstr& instr, const TileValue& v, std::byte* to, const Tile& tile) noexcept {
    const TileValue& source = p_.values[static_cast<std::size_t>(instr.a)];
    const auto* from = static_cast<const std::byte*>(pointers_[static_cast<std::size_t>(instr.a)]);
    const std::size_t element = vm_size(v.type), cols = static_cast<std::size_t>(tile.cols);
    if (source.scalar()) {
      instr.fn(to, from, nullptr, nullptr, points_of(v, tile));
    } else if (source.varies == kByRow) {
      for (std::int64_t row = 0; row < tile.rows; ++row, to += cols * element)
        instr.fn(to, from + static_cast<std::size_t>(row) * element, nullptr, nullptr, cols);
    } else {
      for (std::int64_t row = 0; row < tile.rows; ++row, to += cols * element) std::memcpy(to, from, cols * element);
    }
  }

  const void* read(const TileRead& r, const TileValue& v, void* to, const Tile& whole) noexcept {
    const Tile tile = sides(v, whole);
    const auto* memory = static_cast<const std::byte*>(m_.pointers[r.buffer]);
    const std::int64_t base = base_of(r.offset, tile);
    const auto size = static_cast<std::int64_t>(r.size);
    const std::size_t element = vm_size(v.type);
    if (r.dims == 0) {
      const std::byte* from = memory + base * size;
      if (v.scalar()) {
        if (r.same_type) return from;
        r.load(to, from, 1, 1);
        return to;
      }
      if (is_run(r.offset, tile)) {
        if (r.same_type) return from;
        r.load(to, from, static_cast<std::size_t>(tile.rows * tile.cols), 1);
        return to;
      }
      if (r.same_type && r.offset.row == 1 && r.offset.col != 1 && tile.rows > 1) {
        kernels_.copy({to, tile.cols, 1}, {const_cast<std::byte*>(from), r.offset.row, r.offset.col}, static_cast<std::size_t>(tile.rows),
                      static_cast<std::size_t>(tile.cols), r.size);
        return to;
      }
      if (tile.cols == 1) {
        r.load(to, from, static_cast<std::size_t>(tile.rows), r.offset.row);
        return to;
      }
      auto* out = static_cast<std::byte*>(to);
      const std::size_t row_bytes = static_cast<std::size_t>(tile.cols) * element;
      for (std::int64_t row = 0; row < tile.rows; ++row)
        r.load(out + static_cast<std::size_t>(row) * row_bytes, from + row * r.offset.row * size, static_cast<std::size_t>(tile.cols), r.offset.col);
      return to;
    }
    if (r.computed) gather(r, v, to, tile, memory, base);
    else guarded(r, v, to, tile, memory, base);
    return to;
  }

  std::span<const GuardedDim> dims_of(const TileRead& r) const noexcept {
    return std::span(p_.dims).subspan(static_cast<std::size_t>(r.first_dim), static_cast<std::size_t>(r.dims));
  }

  const void* fallback_at(const TileRead& r, std::size_t element, std::int64_t point) const noexcept {
    const auto f = static_cast<std::size_t>(r.fallback);
    return static_cast<const std::byte*>(pointers_[f]) + (p_.values[f].scalar() ? 0 : static_cast<std::size_t>(point) * element);
  }

  /// Affine dimensions that may leave the buffer: per row the columns that stay inside are one range.
  void guarded(const TileRead& r, const TileValue& v, void* to, const Tile& tile, const std::byte* memory, std::int64_t base) noexcept {
    const std::size_t element = vm_size(v.type);
    const auto size = static_cast<std::int64_t>(r.size);
    auto* out = static_cast<std::byte*>(to);
    const bool scalar_fallback = p_.values[static_cast<std::size_t>(r.fallback)].scalar();
    const KernelFn fill = kernels_.fill(v.type);
    for (std::int64_t row = 0; row < tile.rows; ++row, out += static_cast<std::size_t>(tile.cols) * element) {
      std::int64_t first = 0, last = tile.cols;  // [first, last) is inside
      for (const GuardedDim& d : dims_of(r)) {
        const std::int64_t at = base_of(d.index, tile) + row * d.index.row, k = d.index.col;
        if (k == 0) {
          if (at < 0 || at >= d.extent) last = first;
        } else if (k > 0) {
          if (at < 0) first = std::max(first, (-at + k - 1) / k);
          last = std::min(last, at >= d.extent ? std::int64_t{0} : (d.extent - 1 - at) / k + 1);
        } else {
          if (at >= d.extent) first = std::max(first, (at - d.extent) / -k + 1);
          last = std::min(last, at < 0 ? std::int64_t{0} : at / -k + 1);
        }
      }
      first = std::min(first, tile.cols);
      last = std::max(last, first);
      const auto outside = [&](std::int64_t from, std::int64_t end) {
        if (from >= end) return;
        std::byte* at = out + static_cast<std::size_t>(from) * element;
        const void* f = fallback_at(r, element, row * tile.cols + from);
        if (scalar_fallback) fill(at, f, nullptr, nullptr, static_cast<std::size_t>(end - from));
        else std::memcpy(at, f, static_cast<std::size_t>(end - from) * element);
      };
      outside(0, first);
      if (last > first)
        r.load(out + static_cast<std::size_t>(first) * element, memory + (base + row * r.offset.row + first * r.offset.col) * size,
               static_cast<std::size_t>(last - first), r.offset.col);
      outside(last, tile.cols);
    }
  }

  /// Computed indices: element by element, each index checked.
  void gather(const TileRead& r, const TileValue& v, void* to, const Tile& tile, const std::byte* memory, std::int64_t base) noexcept {
    const std::size_t element = vm_size(v.type);
    auto* raw = m_.raw;
    std::array<bool, kTilePoints> missed;
    bool any_missed = false;
    std::int64_t point = 0;
    for (std::int64_t row = 0; row < tile.rows; ++row)
      for (std::int64_t col = 0; col < tile.cols; ++col, ++point) {
        std::int64_t offset = base + row * r.offset.row + col * r.offset.col;
        bool inside = true;
        for (const GuardedDim& d : dims_of(r)) {
          std::int64_t index = 0;
          if (d.value < 0) {
            index = base_of(d.index, tile) + row * d.index.row + col * d.index.col;
          } else {
            const auto at = static_cast<std::size_t>(d.value);
            index = static_cast<const std::int64_t*>(pointers_[at])[p_.values[at].scalar() ? 0 : point];
            offset += index * d.stride;
          }
          inside &= index >= 0 && index < d.extent;
        }
        missed[static_cast<std::size_t>(point)] = !inside;
        any_missed |= !inside;
        if (inside) std::memcpy(raw + static_cast<std::size_t>(point) * r.size, memory + offset * static_cast<std::int64_t>(r.size), r.size);
        else std::memset(raw + static_cast<std::size_t>(point) * r.size, 0, r.size);
      }
    r.load(to, raw, static_cast<std::size_t>(point), 1);
    if (!any_missed) return;
    if (r.fallback < 0) {
      ok_ = false;
      return;
    }
    for (std::int64_t i = 0; i < point; ++i)
      if (missed[static_cast<std::size_t>(i)])
        std::memcpy(static_cast<std::byte*>(to) + static_cast<std::size_t>(i) * element, fallback_at(r, element, i), element);
  }

  void store(const Tile& tile) noexcept {
    const TileValue& v = p_.values[static_cast<std::size_t>(p_.result)];
    const void* value = pointers_[static_cast<std::size_t>(p_.result)];
    const std::int64_t base = base_of(p_.store_offset, tile);
    if (!v.scalar()) return store_rows(base, value, vm_size(v.type), tile.rows, tile.cols);
    auto* to = static_cast<std::byte*>(m_.pointers[p_.target]);
    if (is_run(p_.store_offset, tile)) {
      p_.store_fill(to + base * static_cast<std::int64_t>(p_.store_size), value, static_cast<std::size_t>(tile.rows * tile.cols), 1);
      return;
    }
    for (std::int64_t row = 0; row < tile.rows; ++row)
      p_.store_fill(to + (base + row * p_.store_offset.row) * static_cast<std::int64_t>(p_.store_size), value, static_cast<std::size_t>(tile.cols),
                    p_.store_offset.col);
  }

  void store_rows(std::int64_t base, const void* values, std::size_t element, std::int64_t rows, std::int64_t cols) noexcept {
    auto* to = static_cast<std::byte*>(m_.pointers[p_.target]);
    const auto* from = static_cast<const std::byte*>(values);
    const auto size = static_cast<std::int64_t>(p_.store_size);
    Tile shape;
    shape.rows = rows;
    shape.cols = cols;
    if (is_run(p_.store_offset, shape)) {
      p_.store(to + base * size, from, static_cast<std::size_t>(rows * cols), 1);
    } else if (cols == 1) {
      p_.store(to + base * size, from, static_cast<std::size_t>(rows), p_.store_offset.row);
    } else if (p_.store_same_type && p_.store_offset.row == 1 && rows > 1) {
      kernels_.copy({to + base * size, p_.store_offset.row, p_.store_offset.col}, {const_cast<std::byte*>(from), cols, 1}, static_cast<std::size_t>(rows),
                    static_cast<std::size_t>(cols), p_.store_size);
    } else {
      for (std::int64_t row = 0; row < rows; ++row)
        p_.store(to + (base + row * p_.store_offset.row) * size, from + static_cast<std::size_t>(row * cols) * element, static_cast<std::size_t>(cols),
                 p_.store_offset.col);
    }
  }

  const StageProgram& p_;
  const TileMemory& m_;
  const Kernels& kernels_ = kernels();
  std::array<const void*, kMaxValues> pointers_;
  const void* in_place_ = nullptr;
  bool ok_ = true;
};

}  // namespace

bool run_stage(const StageProgram& stage, const TileMemory& memory, std::int64_t begin, std::int64_t end) noexcept {
  return Runner(stage, memory).run(begin, end);
}

std::size_t partial_bytes(const StageProgram& stage) noexcept {
  const std::int64_t kept = (stage.row_kept ? stage.row_step : 1) * (stage.col_kept ? stage.col_step : 1);
  return (static_cast<std::size_t>(kept) * vm_size(stage.accumulate) + 63) / 64 * 64;
}
bool run_piece(const StageProgram& stage, const TileMemory& memory, std::int64_t task, std::int64_t piece, std::byte* partial) noexcept {
  return Runner(stage, memory).run_piece(task, piece, partial);
}
void combine_pieces(const StageProgram& stage, const TileMemory& memory, std::int64_t task, const std::byte* partials) noexcept {
  Runner(stage, memory).combine(task, partials);
}

}  // namespace lathe::loops::cpu
