# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Seeded scenes to train and judge the detector: shaded objects of eight classes over textured backgrounds, among look-alikes and
occluders. `make_scene(seed)` always draws the same picture; training uses small seeds, everything held out starts at HELD_OUT.

    python scenes.py --seed 3 --out scene.png       one picture with its boxes
"""

from __future__ import annotations

import argparse
import mmap
import multiprocessing
import os
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from shapes import CLUTTER, OBJECTS, Shape

CLASSES = tuple(OBJECTS)
HELD_OUT = 1_000_000_000
_SUPERSAMPLE = 3
_LEAST_VISIBLE = 0.45  # of an object's own pixels, after everything in front of it is drawn


@dataclass
class Scene:
    """RGB bytes [height, width, 3], boxes [n, 4] as x0, y0, x1, y1 of the visible pixels, and class indices [n]."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray


@dataclass
class _Sprite:
    colour: np.ndarray  # [h, w, 3] float
    alpha: np.ndarray  # [h, w] float in [0, 1]


def _random_colour(rng: np.random.Generator) -> np.ndarray:
    colour = rng.uniform(20, 235, 3)
    if rng.random() < 0.5:  # half of them vivid
        colour[rng.integers(3)] *= 0.2
    return colour


def _smooth_field(rng: np.random.Generator, width: int, height: int, cells: int) -> np.ndarray:
    """Random values of a coarse grid, interpolated: in [-1, 1]."""
    grid = Image.fromarray(rng.uniform(-1, 1, (cells, cells)).astype(np.float32))
    return np.asarray(grid.resize((width, height), Image.Resampling.BICUBIC))


def _background(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    first, second = _random_colour(rng), _random_colour(rng)
    x = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
    kind, angle = rng.integers(5), rng.uniform(0, 2 * np.pi)
    along = np.cos(angle) * x + np.sin(angle) * y
    if kind == 0:
        mix = along * 0.5 + 0.5
    elif kind == 1:
        mix = _smooth_field(rng, width, height, int(rng.integers(3, 24))) * 0.5 + 0.5
    elif kind == 2:  # stripes
        mix = (np.sin(along * rng.uniform(8, 70)) > rng.uniform(-0.5, 0.5)) * rng.uniform(0.15, 0.9) + 0 * y
    elif kind == 3:  # tiles
        size = rng.uniform(3, 14)
        across = -np.sin(angle) * x + np.cos(angle) * y
        mix = ((np.floor(along * size) + np.floor(across * size)) % 2) * rng.uniform(0.15, 0.8)
    else:
        mix = np.hypot(x - rng.uniform(-1, 1), y - rng.uniform(-1, 1)) / 2
    mix = np.clip(mix, 0, 1).astype(np.float32)[..., None]
    picture = first.astype(np.float32) * (1 - mix) + second.astype(np.float32) * mix
    if rng.random() < 0.6:
        picture += _smooth_field(rng, width, height, int(rng.integers(20, 90)))[..., None] * np.float32(rng.uniform(4, 30))
    return picture


def _scribble(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Lines, arcs and flat patches behind the objects."""
    image = Image.fromarray(np.clip(picture, 0, 255).astype(np.uint8))
    draw = ImageDraw.Draw(image)
    width, height = image.size
    for _ in range(int(rng.integers(0, 26))):
        colour = tuple(int(v) for v in _random_colour(rng))
        x, y = rng.uniform(0, width), rng.uniform(0, height)
        dx, dy = rng.normal(0, 0.18, 2) * (width, height)
        kind = rng.integers(4)
        box = [min(x, x + dx), min(y, y + dy), max(x, x + dx), max(y, y + dy)]
        if kind <= 1:
            draw.line([x, y, x + dx, y + dy], fill=colour, width=int(rng.integers(1, 9)))
        elif kind == 2:
            draw.arc(box, rng.uniform(0, 180), rng.uniform(200, 360), fill=colour, width=int(rng.integers(1, 7)))
        else:
            draw.rectangle(box, fill=colour)
    return np.asarray(image, dtype=np.float32)


def _sprite(rng: np.random.Generator, shape: Shape, size: float, colour: np.ndarray) -> _Sprite:
    """Rotates, squeezes and rasterises a shape so that its longer side is about `size` pixels, then shades it."""
    angle, squeeze, shear = rng.uniform(0, 2 * np.pi), rng.uniform(0.72, 1.0), rng.uniform(-0.15, 0.15)
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    bend = np.array([[1, shear], [0, squeeze]])
    parts = [(kind, points @ bend.T @ turn.T, tone) for kind, points, tone in shape]
    body = np.concatenate([points for kind, points, _ in parts if kind == "body"])
    low, extent = body.min(0), np.ptp(body, 0)
    scale = size / extent.max()
    w, h = (int(np.ceil(v * scale)) + 3 for v in extent)
    alpha = Image.new("L", (w * _SUPERSAMPLE, h * _SUPERSAMPLE), 0)
    tones = Image.new("L", alpha.size, 100)
    draw_alpha, draw_tone = ImageDraw.Draw(alpha), ImageDraw.Draw(tones)
    for kind, points, tone in parts:
        outline = [(float(x), float(y)) for x, y in ((points - low) * scale + 1.5) * _SUPERSAMPLE]
        if kind == "mark":
            draw_tone.polygon(outline, fill=int(tone * 100))
        else:
            draw_alpha.polygon(outline, fill=255 if kind == "body" else 0)
            draw_tone.polygon(outline, fill=100)
    coverage = np.asarray(alpha.reduce(_SUPERSAMPLE), dtype=np.float32) / 255
    light = np.asarray(tones.reduce(_SUPERSAMPLE), dtype=np.float32) / 100
    x = np.linspace(-1, 1, w, dtype=np.float32)[None, :]
    y = np.linspace(-1, 1, h, dtype=np.float32)[:, None]
    sun = rng.uniform(0, 2 * np.pi)
    light = light * (1 + np.float32(rng.uniform(0, 0.35)) * (np.cos(sun) * x + np.sin(sun) * y).astype(np.float32))
    if rng.random() < 0.6:  # a highlight
        spot = np.exp(-((x - rng.uniform(-0.6, 0.6)) ** 2 + (y - rng.uniform(-0.6, 0.6)) ** 2) * rng.uniform(3, 10))
        light = light + spot.astype(np.float32) * np.float32(rng.uniform(0.1, 0.5))
    if rng.random() < 0.4 and min(w, h) > 12:  # a grain
        light = light * (1 + 0.15 * _smooth_field(rng, w, h, int(rng.integers(4, 20))))
    return _Sprite(colour.astype(np.float32) * light[..., None], coverage)


def _contrasting(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """A colour that can be told from what lies behind; the seventh try is taken as it comes."""
    for _ in range(7):
        colour = _random_colour(rng)
        if np.abs(colour - behind).sum() > 110:
            break
    return colour


def _paste(picture: np.ndarray, sprite: _Sprite, x: int, y: int, shadow: tuple[int, int, float]) -> None:
    height, width = picture.shape[:2]
    h, w = sprite.alpha.shape
    for dx, dy, strength in ((shadow[0], shadow[1], shadow[2]), (0, 0, -1.0)):
        x0, y0 = max(x + dx, 0), max(y + dy, 0)
        x1, y1 = min(x + dx + w, width), min(y + dy + h, height)
        if x0 >= x1 or y0 >= y1:
            continue
        cut = (slice(y0 - y - dy, y1 - y - dy), slice(x0 - x - dx, x1 - x - dx))
        alpha = sprite.alpha[cut][..., None]
        target = picture[y0:y1, x0:x1]
        target[:] = target * (1 - alpha * strength) if strength >= 0 else target * (1 - alpha) + sprite.colour[cut] * alpha


def make_scene(seed: int, width: int = 640, height: int = 640) -> Scene:
    """The scene of this seed: up to fourteen objects, none hidden by more than about half."""
    rng = np.random.default_rng(seed)
    picture = _scribble(rng, _background(rng, width, height))
    base = min(width, height)
    owner = np.full((height, width), -1, np.int32)
    labels: list[int] = []
    areas: list[int] = []
    visible: list[int] = []
    count = int(rng.integers(2, 15))
    lean = rng.uniform(-0.2, 0.5)  # scenes of mostly small and of mostly large objects
    shadow = (int(rng.integers(-6, 7)), int(rng.integers(-6, 7)), float(rng.uniform(0, 0.5)))
    for _ in range(count + int(rng.integers(0, 9))):
        is_object = rng.random() < count / (count + 4)
        label = int(rng.integers(len(CLASSES)))
        shape = OBJECTS[CLASSES[label]](rng) if is_object else CLUTTER[int(rng.integers(len(CLUTTER)))](rng)
        size = base * float(np.exp(rng.uniform(np.log(0.045), np.log(0.48)))) ** (1 + lean * rng.random())
        size = max(size, 22.0)
        x, y = int(rng.uniform(-0.12, 1.0) * width), int(rng.uniform(-0.12, 1.0) * height)
        patch = picture[max(y, 0) : y + int(size), max(x, 0) : x + int(size)]
        if patch.size == 0:
            continue
        sprite = _sprite(rng, shape, size, _contrasting(rng, patch.mean((0, 1))))
        h, w = sprite.alpha.shape
        x0, y0, x1, y1 = max(x, 0), max(y, 0), min(x + w, width), min(y + h, height)
        if x0 >= x1 or y0 >= y1:
            continue
        solid = sprite.alpha > 0.5
        inside = solid[y0 - y : y1 - y, x0 - x : x1 - x]
        area, seen = int(solid.sum()), int(inside.sum())
        if area == 0 or (is_object and seen < 0.6 * area):
            continue
        under = np.bincount(owner[y0:y1, x0:x1][inside] + 1, minlength=len(labels) + 1)[1:]
        if any(visible[k] - lost < _LEAST_VISIBLE * areas[k] for k, lost in enumerate(under) if lost):
            continue
        for k, lost in enumerate(under):
            visible[k] -= int(lost)
        owner[y0:y1, x0:x1][inside] = len(labels) if is_object else -1
        if is_object:
            labels.append(label)
            areas.append(area)
            visible.append(seen)
        _paste(picture, sprite, x, y, shadow)
    boxes = np.zeros((len(labels), 4), np.float32)
    for k in range(len(labels)):
        rows, columns = np.nonzero((owner == k).any(1))[0], np.nonzero((owner == k).any(0))[0]
        boxes[k] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return Scene(_camera(rng, picture), boxes, np.array(labels, np.int64))


def _camera(rng: np.random.Generator, picture: np.ndarray) -> np.ndarray:
    """Exposure, a vignette, a slight blur and sensor noise."""
    height, width = picture.shape[:2]
    picture = (picture - 128) * np.float32(rng.uniform(0.7, 1.15)) + np.float32(128 + rng.uniform(-28, 28))
    if rng.random() < 0.5:
        x, y = np.linspace(-1, 1, width, dtype=np.float32)[None, :], np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        picture *= (1 - np.float32(rng.uniform(0, 0.3)) * (x * x + y * y) / 2)[..., None]
    if rng.random() < 0.7:
        noise = rng.standard_normal((height, width, 1), dtype=np.float32)
        picture = picture + noise * np.float32(rng.uniform(1, 12))
    image = np.clip(picture, 0, 255).astype(np.uint8)
    if rng.random() < 0.35:
        image = np.asarray(Image.fromarray(image).filter(ImageFilter.GaussianBlur(rng.uniform(0.4, 1.3))))
    return image


_shared: np.ndarray | None = None  # inherited by the forked workers, which write their pictures into it


def _draw_into(job: tuple[int, int]) -> tuple[int, np.ndarray, np.ndarray]:
    slot, seed = job
    scene = make_scene(seed, _shared.shape[2], _shared.shape[1])
    _shared[slot] = scene.image
    return slot, scene.boxes, scene.labels


def make_many(seeds: Sequence[int], width: int = 640, height: int = 640, workers: int | None = None) -> tuple[np.ndarray, list[np.ndarray], list[np.ndarray]]:
    """All pictures [n, height, width, 3] with their boxes and labels, drawn by forked processes into one shared array."""
    global _shared
    memory = mmap.mmap(-1, max(len(seeds) * height * width * 3, 1))
    _shared = np.frombuffer(memory, np.uint8, len(seeds) * height * width * 3).reshape(len(seeds), height, width, 3)
    boxes: list[np.ndarray] = [np.zeros((0, 4), np.float32)] * len(seeds)
    labels: list[np.ndarray] = [np.zeros(0, np.int64)] * len(seeds)
    workers = workers or len(os.sched_getaffinity(0))
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        for slot, found, kinds in pool.imap_unordered(_draw_into, enumerate(seeds), chunksize=8):
            boxes[slot], labels[slot] = found, kinds
    images, _shared = _shared, None
    return images, boxes, labels


def main() -> None:
    from draw import draw_boxes

    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=HELD_OUT)
    parser.add_argument("--size", default="640x640", help="HEIGHTxWIDTH")
    parser.add_argument("--out", default="scene.png")
    parser.add_argument("--plain", action="store_true", help="without the boxes")
    options = parser.parse_args()
    height, width = (int(v) for v in options.size.split("x"))
    scene = make_scene(options.seed, width, height)
    image = Image.fromarray(scene.image)
    if not options.plain:
        image = draw_boxes(image, scene.boxes, None, scene.labels, CLASSES)
    image.save(options.out)
    print(f"{options.out}: {len(scene.labels)} objects")


if __name__ == "__main__":
    main()
