// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// The maps of products' operands, held against what the gather of the other kernels reads; by functions in the driver's place.

#include "backend/cuda/gemm_map.h"

#include <gtest/gtest.h>

#include "backend/cuda/kernels/gemm_plan.h"

namespace lathe::cuda {
namespace {

struct Asked {
  std::uint64_t extents[4] = {}, strides[3] = {};
  int lower[2] = {}, upper[2] = {};
  unsigned box[4] = {}, steps[4] = {}, channels = 0, pixels = 0;
  int calls = 0;
} asked;

void keep(const std::uint64_t* extents, const std::uint64_t* strides, const unsigned* steps) {
  ++asked.calls;
  std::copy_n(extents, 4, asked.extents);
  std::copy_n(strides, 3, asked.strides);
  std::copy_n(steps, 4, asked.steps);
}
Result tiled(void*, int, unsigned, void*, const std::uint64_t* extents, const std::uint64_t* strides, const unsigned* box, const unsigned* steps, int, int, int,
             int) {
  keep(extents, strides, steps);
  std::copy_n(box, 4, asked.box);
  return kSuccess;
}
Result image(void*, int, unsigned, void*, const std::uint64_t* extents, const std::uint64_t* strides, const int* lower, const int* upper, unsigned channels,
             unsigned pixels, const unsigned* steps, int, int, int, int) {
  keep(extents, strides, steps);
  std::copy_n(lower, 2, asked.lower);
  std::copy_n(upper, 2, asked.upper);
  asked.channels = channels, asked.pixels = pixels;
  return kSuccess;
}
Result refuses(void*, int, unsigned, void*, const std::uint64_t*, const std::uint64_t*, const unsigned*, const unsigned*, int, int, int, int) {
  return kErrorInvalidValue;
}

constexpr GemmPlan kPlan{GemmCore::kPipe, 128, 128, 1, 0};

GemmGrid grid_of(const GemmSetup& setup) { return gemm_grid(setup, kPlan, {}); }

Driver driver_of(decltype(Driver::map_tiled) rows, decltype(Driver::map_image) window) {
  asked = {};
  Driver driver;
  driver.map_tiled = rows;
  driver.map_image = window;
  return driver;
}

TEST(GemmMap, RowsOfBatches) {
  const GemmSetup setup = matmul_setup({.rows = 300, .columns = 136, .depth = 72, .outer = 2, .inner = 3},
                                       {.a_row = 80, .a_outer = 3 * 300 * 80, .a_inner = 300 * 80, .b_inner = 1});
  GemmGrid grid = grid_of(setup);
  ASSERT_EQ(grid.params.map_kind, kMapRows);
  encode_map(driver_of(tiled, image), grid.params, grid.map_rows, setup.items);
  EXPECT_EQ(grid.params.map_kind, kMapRows);
  EXPECT_EQ(std::vector<std::uint64_t>(asked.extents, asked.extents + 4), (std::vector<std::uint64_t>{72, 300, 3, 2}));
  EXPECT_EQ(std::vector<std::uint64_t>(asked.strides, asked.strides + 3), (std::vector<std::uint64_t>{160, 48000, 144000}));
  EXPECT_EQ(std::vector<unsigned>(asked.box, asked.box + 4), (std::vector<unsigned>{64, 128, 1, 1}));
  // A slice of 60 channels: no stride of its own for what is there once.
  const GemmSetup slice = conv_setup({.n = 2, .h = 9, .w = 9, .cin = 60, .cout = 64}, {.src_pixel = 64});
  grid = grid_of(slice);
  ASSERT_EQ(grid.params.map_kind, kMapRows);
  encode_map(driver_of(tiled, image), grid.params, grid.map_rows, slice.items);
  EXPECT_EQ(asked.extents[0], 60u);
  EXPECT_EQ(std::vector<std::uint64_t>(asked.strides, asked.strides + 3), (std::vector<std::uint64_t>{128, 16, 16}));
}

TEST(GemmMap, TheBoxOfAnImageHoldsOnePlacePerOutput) {
  for (const ConvShape& s : {ConvShape{2, 21, 34, 64, 136, 3, 5, 1, 2, 0, 3, 2, 0, 1, 1, 1}, ConvShape{1, 9, 10, 128, 64, 3, 3, 2, 2, 1, 1, 1, 1, 1, 1, 1},
                             ConvShape{3, 17, 13, 192, 64, 3, 3, 1, 1, 2, 2, 2, 2, 2, 2, 3}, ConvShape{1, 8, 8, 64, 64, 1, 1, 2, 2, 0, 0, 0, 0, 1, 1, 1}}) {
    const GemmSetup setup = conv_setup(s, {});
    GemmGrid grid = grid_of(setup);
    ASSERT_EQ(grid.params.map_kind, kMapImage);
    encode_map(driver_of(tiled, image), grid.params, grid.map_rows, setup.items);
    ASSERT_EQ(asked.calls, 1);
    EXPECT_EQ(asked.extents[0], static_cast<std::uint64_t>(s.cin));
    EXPECT_EQ(asked.extents[3], static_cast<std::uint64_t>(s.n));
    EXPECT_EQ(asked.channels, 64u);
    EXPECT_EQ(asked.pixels, 128u);
    const std::int64_t extents[2] = {s.w, s.h}, outputs[2] = {s.ow(), s.oh()}, pads[2] = {s.pad_left, s.pad_top};
    for (int d = 0; d < 2; ++d) {
      EXPECT_EQ(asked.lower[d], -pads[d]);
      int places = 0;
      for (std::int64_t at = asked.lower[d]; at < extents[d] + asked.upper[d]; at += asked.steps[d + 1]) ++places;
      EXPECT_EQ(places, outputs[d]);
    }
  }
}

TEST(GemmMap, ThreadsCopyWhereNoMapReaches) {
  EXPECT_EQ(grid_of(conv_setup({.n = 1, .h = 9, .w = 9, .cin = 72, .cout = 64, .kh = 3, .kw = 3}, {})).params.map_kind, kGathered) << "chunks cross taps";
  EXPECT_EQ(grid_of(conv_setup({.n = 1, .h = 9, .w = 400, .cin = 64, .cout = 64, .kh = 3, .kw = 3, .dilation_w = 150}, {})).params.map_kind, kGathered);
  const GemmSetup setup = matmul_setup({.rows = 300, .columns = 136, .depth = 72}, {});
  GemmGrid grid = grid_of(setup);
  encode_map(driver_of(nullptr, nullptr), grid.params, grid.map_rows, setup.items);
  EXPECT_EQ(grid.params.map_kind, kGathered) << "a driver without maps";
  grid = grid_of(setup);
  encode_map(driver_of(refuses, image), grid.params, grid.map_rows, setup.items);
  EXPECT_EQ(grid.params.map_kind, kGathered) << "a driver that refuses";
}

}  // namespace
}  // namespace lathe::cuda
