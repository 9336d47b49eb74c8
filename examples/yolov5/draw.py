# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Boxes with class and score on a picture (Pillow)."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
from PIL import Image, ImageDraw

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


def draw_boxes(image: Image.Image, detections: Iterable[tuple[str, float, np.ndarray]]) -> Image.Image:
    """A copy of `image` with one rectangle and caption per (class name, score, x0 y0 x1 y1)."""
    image = image.convert("RGB")
    draw = ImageDraw.Draw(image)
    thick = max(2, round(min(image.size) / 300))
    for name, score, box in detections:
        # A colour per class name: stable between pictures, whatever was found first.
        colour = _PALETTE[sum(name.encode()) % len(_PALETTE)]
        x0, y0, x1, y1 = (float(v) for v in box)
        draw.rectangle([x0, y0, max(x1, x0), max(y1, y0)], outline=colour, width=thick)
        text = f"{name} {score:.2f}"
        left, top, right, bottom = draw.textbbox((0, 0), text)
        w, h = right - left + 4, bottom - top + 4
        at = (x0, y0 - h if y0 >= h else y0)
        draw.rectangle([at[0], at[1], at[0] + w, at[1] + h], fill=colour)
        draw.text((at[0] + 2 - left, at[1] + 2 - top), text, fill=(255, 255, 255))
    return image
