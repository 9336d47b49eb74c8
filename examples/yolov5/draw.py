# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Boxes with class and score on a picture (Pillow)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

_PALETTE = (
    (230, 60, 60),
    (40, 150, 240),
    (50, 180, 80),
    (240, 150, 20),
    (160, 80, 220),
    (20, 180, 180),
    (235, 80, 170),
    (130, 130, 20),
)


def draw_boxes(image: Image.Image, boxes: np.ndarray, scores: Sequence[float] | None, labels: Sequence[int], names: Sequence[str]) -> Image.Image:
    """A copy of `image` with a rectangle and a caption per box x0 y0 x1 y1, the first ones on top. A class has one colour; drawn truths
    have no `scores`."""
    image = image.convert("RGB")
    draw = ImageDraw.Draw(image)
    thick = max(2, round(min(image.size) / 300))
    font = ImageFont.load_default(size=max(11, round(min(image.size) / 42)))
    for k in reversed(range(len(boxes))):
        colour = _PALETTE[int(labels[k]) % len(_PALETTE)]
        x0, y0, x1, y1 = (float(v) for v in boxes[k])
        draw.rectangle([x0, y0, max(x1, x0), max(y1, y0)], outline=colour, width=thick)
        text = names[int(labels[k])] + ("" if scores is None else f" {scores[k]:.2f}")
        left, top, right, bottom = draw.textbbox((0, 0), text, font=font)
        w, h = right - left + 6, bottom - top + 6
        # Above the box where there is room; never beyond the right edge.
        at = (max(0.0, min(x0, image.width - w - 1)), y0 - h if y0 >= h else y0)
        draw.rectangle([at[0], at[1], at[0] + w, at[1] + h], fill=colour)
        draw.text((at[0] + 3 - left, at[1] + 3 - top), text, fill=(255, 255, 255), font=font)
    return image
