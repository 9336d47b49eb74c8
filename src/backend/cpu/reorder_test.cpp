// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// Transpositions and row copies against element loops; conversions are compared bit by bit, NaN included.
#include "backend/cpu/reorder.h"

#include "backend/cpu/test_util.h"

namespace lathe::cpu {
namespace {

using namespace testing;

// What storing the element of `src` in `type` gives.
float stored(float v, DType type) { return type == kBF16 ? bfloat16_to_float(float_to_bfloat16(v)) : v; }

bool same(float a, float b) { return std::isnan(a) ? std::isnan(b) : a == b && std::signbit(a) == std::signbit(b); }

void put_specials(Buffer& buffer, std::int64_t rows, std::int64_t cols) {
  const float values[] = {std::numeric_limits<float>::quiet_NaN(), INFINITY, -INFINITY, -0.0f, 1e-40f, 3.4e38f};
  for (std::int64_t i = 0; i < 6; ++i) buffer.set(i * 3 % rows, i * 5 % cols, values[i]);
}

TEST(Reorder, TransposesBatchesWithStrides) {
  for (const DType from : {kF32, kBF16}) {
    for (const DType to : {kF32, kBF16}) {
      for (const auto& extents :
           std::vector<std::array<std::int64_t, 4>>{{1, 1, 0, 0}, {3, 100, 0, 0}, {64, 33, 5, 0}, {17, 16, 0, 3}, {300, 70, 1, 2}, {16, 16, 0, 0}}) {
        const std::int64_t rows = extents[0], cols = extents[1], src_extra = extents[2], dst_extra = extents[3];
        Buffer src(2 * rows, cols, cols + src_extra, from);
        Random random(static_cast<std::uint64_t>(rows));
        src.fill(random);
        put_specials(src, 2 * rows, cols);
        for_each_isa([&](Isa isa) {
          Buffer dst(2 * cols, rows, rows + dst_extra, to);
          ThreadPool pool(2);
          Transpose t;
          t.batch = 2;
          t.rows = rows;
          t.cols = cols;
          t.src_row_stride = src.stride();
          t.dst_row_stride = dst.stride();
          t.src = from;
          t.dst = to;
          run_transpose(t, src.data(), dst.data(), pool);
          ASSERT_TRUE(dst.intact());
          for (std::int64_t b = 0; b < 2; ++b) {
            for (std::int64_t r = 0; r < rows; ++r) {
              for (std::int64_t c = 0; c < cols; ++c) {
                ASSERT_TRUE(same(dst.at(b * cols + c, r), stored(src.at(b * rows + r, c), to)))
                    << isa_name(isa) << " " << b << "," << r << "," << c << ": " << dst.at(b * cols + c, r) << " instead of " << src.at(b * rows + r, c);
              }
            }
          }
        });
      }
    }
  }
}

TEST(Reorder, ChannelsLastAndBackIsTheIdentity) {
  for (const std::int64_t c : {1, 3, 17, 64}) {
    for (const std::int64_t pixels : {1, 20, 121}) {
      Buffer src(3 * c, pixels, pixels, kF32), last(3 * pixels, c, c + 2, kF32), back(3 * c, pixels, pixels, kF32);
      Random random(static_cast<std::uint64_t>(c * pixels));
      src.fill(random);
      ThreadPool pool(2);
      nchw_to_nhwc(3, c, pixels, kF32, src.data(), kF32, last.data(), last.stride(), pool);
      nhwc_to_nchw(3, c, pixels, kF32, last.data(), last.stride(), kF32, back.data(), pool);
      ASSERT_TRUE(last.intact() && back.intact());
      for (std::int64_t i = 0; i < 3 * c; ++i) {
        for (std::int64_t x = 0; x < pixels; ++x) {
          ASSERT_EQ(back.at(i, x), src.at(i, x));
          ASSERT_EQ(last.at(i / c * pixels + x, i % c), src.at(i, x));
        }
      }
    }
  }
}

TEST(Reorder, CopiesRowsAndConverts) {
  for (const DType from : {kF32, kBF16}) {
    for (const DType to : {kF32, kBF16}) {
      for (const auto& extents : std::vector<std::array<std::int64_t, 3>>{{1, 1, 0}, {7, 5, 3}, {100, 48, 0}, {2, 40000, 1}, {1, 65537, 0}}) {
        const std::int64_t rows = extents[0], cols = extents[1], extra = extents[2];
        Buffer src(rows, cols, cols + extra, from);
        Random random(static_cast<std::uint64_t>(cols));
        src.fill(random);
        put_specials(src, rows, cols);
        for_each_isa([&](Isa isa) {
          Buffer dst(rows, cols, cols + 2 * extra, to);
          ThreadPool pool(2);
          copy_rows(rows, cols, from, src.data(), src.stride(), to, dst.data(), dst.stride(), pool);
          ASSERT_TRUE(dst.intact());
          for (std::int64_t r = 0; r < rows; ++r) {
            for (std::int64_t c = 0; c < cols; ++c) ASSERT_TRUE(same(dst.at(r, c), stored(src.at(r, c), to))) << isa_name(isa);
          }
        });
      }
    }
  }
}

}  // namespace
}  // namespace lathe::cpu
