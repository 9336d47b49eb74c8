// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// See draw.h. Captions use a 5 x 7 dot font of capitals, digits and a few signs.

#include "draw.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <cmath>
#include <cstdio>
#include <string_view>

namespace yolov5 {
namespace {

using Colour = std::array<std::uint8_t, 3>;
constexpr Colour kPalette[] = {{230, 60, 60}, {40, 150, 240}, {50, 180, 80}, {240, 150, 20}, {160, 80, 220}, {20, 180, 180}, {235, 80, 170}, {130, 130, 20}};
constexpr Colour kWhite{255, 255, 255};

struct Glyph {
  char sign;
  std::array<std::string_view, 7> rows;
};
constexpr Glyph kFont[] = {
    {'A', {" ### ", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"}}, {'B', {"#### ", "#   #", "#   #", "#### ", "#   #", "#   #", "#### "}},
    {'C', {" ####", "#    ", "#    ", "#    ", "#    ", "#    ", " ####"}}, {'D', {"#### ", "#   #", "#   #", "#   #", "#   #", "#   #", "#### "}},
    {'E', {"#####", "#    ", "#    ", "#### ", "#    ", "#    ", "#####"}}, {'F', {"#####", "#    ", "#    ", "#### ", "#    ", "#    ", "#    "}},
    {'G', {" ####", "#    ", "#    ", "#  ##", "#   #", "#   #", " ### "}}, {'H', {"#   #", "#   #", "#   #", "#####", "#   #", "#   #", "#   #"}},
    {'I', {" ### ", "  #  ", "  #  ", "  #  ", "  #  ", "  #  ", " ### "}}, {'J', {"  ###", "   # ", "   # ", "   # ", "   # ", "#  # ", " ##  "}},
    {'K', {"#   #", "#  # ", "# #  ", "##   ", "# #  ", "#  # ", "#   #"}}, {'L', {"#    ", "#    ", "#    ", "#    ", "#    ", "#    ", "#####"}},
    {'M', {"#   #", "## ##", "# # #", "# # #", "#   #", "#   #", "#   #"}}, {'N', {"#   #", "##  #", "# # #", "# # #", "#  ##", "#   #", "#   #"}},
    {'O', {" ### ", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "}}, {'P', {"#### ", "#   #", "#   #", "#### ", "#    ", "#    ", "#    "}},
    {'Q', {" ### ", "#   #", "#   #", "#   #", "# # #", "#  # ", " ## #"}}, {'R', {"#### ", "#   #", "#   #", "#### ", "# #  ", "#  # ", "#   #"}},
    {'S', {" ####", "#    ", "#    ", " ### ", "    #", "    #", "#### "}}, {'T', {"#####", "  #  ", "  #  ", "  #  ", "  #  ", "  #  ", "  #  "}},
    {'U', {"#   #", "#   #", "#   #", "#   #", "#   #", "#   #", " ### "}}, {'V', {"#   #", "#   #", "#   #", "#   #", "#   #", " # # ", "  #  "}},
    {'W', {"#   #", "#   #", "#   #", "# # #", "# # #", "## ##", "#   #"}}, {'X', {"#   #", "#   #", " # # ", "  #  ", " # # ", "#   #", "#   #"}},
    {'Y', {"#   #", "#   #", " # # ", "  #  ", "  #  ", "  #  ", "  #  "}}, {'Z', {"#####", "    #", "   # ", "  #  ", " #   ", "#    ", "#####"}},
    {'0', {" ### ", "#   #", "#  ##", "# # #", "##  #", "#   #", " ### "}}, {'1', {"  #  ", " ##  ", "  #  ", "  #  ", "  #  ", "  #  ", " ### "}},
    {'2', {" ### ", "#   #", "    #", "   # ", "  #  ", " #   ", "#####"}}, {'3', {"#### ", "    #", "    #", " ### ", "    #", "    #", "#### "}},
    {'4', {"   # ", "  ## ", " # # ", "#  # ", "#####", "   # ", "   # "}}, {'5', {"#####", "#    ", "#### ", "    #", "    #", "#   #", " ### "}},
    {'6', {" ### ", "#    ", "#    ", "#### ", "#   #", "#   #", " ### "}}, {'7', {"#####", "    #", "   # ", "  #  ", "  #  ", " #   ", " #   "}},
    {'8', {" ### ", "#   #", "#   #", " ### ", "#   #", "#   #", " ### "}}, {'9', {" ### ", "#   #", "#   #", " ####", "    #", "    #", " ### "}},
    {'.', {"     ", "     ", "     ", "     ", "     ", " ##  ", " ##  "}}, {'-', {"     ", "     ", "     ", " ### ", "     ", "     ", "     "}},
};
constexpr int kAdvance = 6, kGlyphHeight = 7;

void fill(Picture& picture, int x0, int y0, int x1, int y1, const Colour& colour) {
  for (int y = std::max(y0, 0); y < std::min(y1, picture.height); ++y)
    for (int x = std::max(x0, 0); x < std::min(x1, picture.width); ++x) std::copy(colour.begin(), colour.end(), picture.pixel(x, y));
}

void write(Picture& picture, int x, int y, int dot, std::string_view text, const Colour& colour) {
  for (const char c : text) {
    const char sign = static_cast<char>(std::toupper(static_cast<unsigned char>(c)));
    const auto glyph = std::find_if(std::begin(kFont), std::end(kFont), [&](const Glyph& g) { return g.sign == sign; });
    if (glyph != std::end(kFont))
      for (int row = 0; row < kGlyphHeight; ++row)
        for (int column = 0; column < 5; ++column)
          if (glyph->rows[static_cast<std::size_t>(row)][static_cast<std::size_t>(column)] == '#')
            fill(picture, x + column * dot, y + row * dot, x + (column + 1) * dot, y + (row + 1) * dot, colour);
    x += kAdvance * dot;
  }
}

}  // namespace

void draw_boxes(Picture& picture, std::span<const Detection> found, std::span<const std::string> names) {
  const int shorter = std::min(picture.width, picture.height);
  const int thick = std::max(2, shorter / 300), dot = std::max(1, shorter / 400);
  for (auto one = found.rbegin(); one != found.rend(); ++one) {
    const Colour& colour = kPalette[static_cast<std::size_t>(one->label) % std::size(kPalette)];
    const int x0 = static_cast<int>(std::lround(one->x0)), y0 = static_cast<int>(std::lround(one->y0));
    const int x1 = static_cast<int>(std::lround(one->x1)), y1 = static_cast<int>(std::lround(one->y1));
    fill(picture, x0, y0, x1, y0 + thick, colour);
    fill(picture, x0, y1 - thick, x1, y1, colour);
    fill(picture, x0, y0, x0 + thick, y1, colour);
    fill(picture, x1 - thick, y0, x1, y1, colour);
    char score[16];
    std::snprintf(score, sizeof score, " %.2f", static_cast<double>(one->score));
    const std::string caption = names[static_cast<std::size_t>(one->label)] + score;
    const int w = static_cast<int>(caption.size()) * kAdvance * dot + dot, h = (kGlyphHeight + 2) * dot;
    const int top = y0 >= h ? y0 - h : y0;
    fill(picture, x0, top, x0 + w, top + h, colour);
    write(picture, x0 + dot, top + dot, dot, caption, kWhite);
  }
}

}  // namespace yolov5
