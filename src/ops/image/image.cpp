// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// ImageDecoder: the pixels of an encoded picture. What is no picture gives an empty one, as the format says, and a warning in the log.
#include <cstring>

#include "base/log.h"
#include "image/decode.h"
#include "ops/ref_util.h"
#include "ops/registry_internal.h"
#include "ops/shape_util.h"
#include "ops/validate.h"

namespace lathe::ops {
namespace {

enum class Pixels : std::uint8_t { kRgb, kBgr, kGrey };

template <class Context>
Pixels pixels_of(Context& ctx) {
  const std::string form = ctx.attrs().get_string("pixel_format", "RGB");
  if (form != "RGB" && form != "BGR" && form != "Grayscale") ctx.fail("pixel_format is '" + form + "'; it is RGB, BGR or Grayscale");
  return form == "RGB" ? Pixels::kRgb : form == "BGR" ? Pixels::kBgr : Pixels::kGrey;
}

void decoder_infer(InferContext& ctx) {
  if (const auto& x = ctx.shape(0); x && x->size() != 1) ctx.fail("takes bytes in a row, got " + ir::to_string(*x));
  const Dim height = ctx.fresh_symbol(), width = ctx.fresh_symbol();
  ctx.set(0, DType::kUint8, {height, width, Dim(pixels_of(ctx) == Pixels::kGrey ? 1 : 3)});
}

void decoder_reference(RefContext& ctx) {
  const Tensor& x = ctx.input(0);
  if (x.rank() != 1) ctx.fail("takes bytes in a row, got " + lathe::to_string(x.dims()));
  const Pixels form = pixels_of(ctx);
  image::Picture picture;
  picture.channels = form == Pixels::kGrey ? 1 : 3;
  try {
    picture = image::decode(x.data<std::uint8_t>());
    picture = form == Pixels::kGrey ? image::to_grey(std::move(picture)) : image::to_rgb(std::move(picture));
  } catch (const Error& error) {
    if (error.code() != Code::kCorruptFile) ctx.fail(error.message());
    log(LogLevel::kWarning, "node '{}' (ImageDecoder) gives an empty image: {}", node_name(ctx.node()), error.message());
  }
  if (form == Pixels::kBgr)
    for (std::size_t i = 0; i + 2 < picture.pixels.size(); i += 3) std::swap(picture.pixels[i], picture.pixels[i + 2]);
  Tensor out(DType::kUint8, {picture.height, picture.width, picture.channels});
  if (!picture.pixels.empty()) std::memcpy(out.mutable_raw(), picture.pixels.data(), picture.pixels.size());
  ctx.set_output(0, std::move(out));
}

}  // namespace

std::span<const OpDef> ops_image() {
  static const std::vector<OpDef> ops{
      {.name = "ImageDecoder",
       .versions = {{20, "encoded_stream:T1 -> image:T2", "pixel_format:string=RGB", "T1: uint8; T2: uint8"}},
       .infer = decoder_infer,
       .reference = decoder_reference,
       .doc = "the pixels of a PNG, JPEG, WebP, JPEG 2000, TIFF, BMP or PNM; of anything else none"},
  };
  return ops;
}

}  // namespace lathe::ops
