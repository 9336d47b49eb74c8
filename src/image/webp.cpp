// SPDX-FileCopyrightText: Lathe contributors
// SPDX-License-Identifier: Apache-2.0
// WebP by libwebp; of an animation nothing.
#include <webp/decode.h>

#include "image/formats.h"

namespace lathe::image {

Picture decode_webp(Bytes file) {
  WebPBitstreamFeatures features;
  if (WebPGetFeatures(file.data(), file.size(), &features) != VP8_STATUS_OK) broken("the WebP is broken: its header cannot be read");
  if (features.has_animation) unsupported("the WebP is an animation");
  Picture picture = make_picture("WebP", features.width, features.height, 3);
  const auto* end = WebPDecodeRGBInto(file.data(), file.size(), picture.pixels.data(), picture.pixels.size(), features.width * 3);
  if (!end) broken("the WebP is broken or ends too early");
  return picture;
}

}  // namespace lathe::image
