# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Outlines of the eight object classes and of the look-alikes that clutter a scene.

A shape is a list of parts drawn in order: (kind, points, tone). Points lie in about [-1, 1] with y downwards. "body" adds to the
silhouette, "hole" cuts it out, "mark" only changes the brightness (tone 1 is neutral) where the silhouette is. scenes.py rasterises.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

Part = tuple[str, np.ndarray, float]
Shape = list[Part]
Rng = np.random.Generator


def _ellipse(x: float, y: float, rx: float, ry: float, count: int = 36, begin: float = 0.0, end: float = 2 * np.pi) -> np.ndarray:
    angle = np.linspace(begin, end, count, endpoint=end - begin < 6.28)
    return np.stack([x + rx * np.cos(angle), y + ry * np.sin(angle)], 1)


def _bar(x0: float, y0: float, x1: float, y1: float) -> np.ndarray:
    return np.array([(x0, y0), (x1, y0), (x1, y1), (x0, y1)])


def _radial(radii: np.ndarray, angles: np.ndarray) -> np.ndarray:
    return np.stack([radii * np.cos(angles), radii * np.sin(angles)], 1)


def mug(rng: Rng) -> Shape:
    """A tapered cup with a ring handle on its right and a dark opening."""
    half, low = rng.uniform(0.5, 0.62), rng.uniform(0.38, 0.5)
    reach = rng.uniform(0.36, 0.46)
    cup = np.array([(-half - 0.2, -0.75), (half - 0.2, -0.75), (low - 0.2, 0.85), (-low - 0.2, 0.85)])
    parts: Shape = [
        ("body", _ellipse(half - 0.22, 0.0, reach, 0.46), 1.0),
        ("hole", _ellipse(half - 0.22, 0.0, reach * 0.58, 0.28), 1.0),
        ("body", cup, 1.0),
        ("body", _ellipse(-0.2, -0.75, half, 0.16), 1.0),
        ("body", _ellipse(-0.2, 0.85, low, 0.12), 1.0),
        ("mark", _ellipse(-0.2, -0.75, half * 0.88, 0.12), rng.uniform(0.35, 0.6)),
    ]
    if rng.random() < 0.5:  # a painted band
        top = rng.uniform(-0.4, 0.2)
        parts.append(("mark", _bar(-half - 0.2, top, half - 0.24, top + rng.uniform(0.15, 0.35)), rng.uniform(0.6, 1.5)))
    return parts


def key(rng: Rng) -> Shape:
    """A bow with a hole, a thin shaft and two to four teeth."""
    bow, shaft = rng.uniform(0.34, 0.44), rng.uniform(0.07, 0.11)
    parts: Shape = [("body", _ellipse(-0.62, 0, bow, bow * rng.uniform(0.85, 1.1), count=int(rng.choice([6, 8, 36]))), 1.0)]
    parts.append(("body", _bar(-0.4, -shaft, 1.0, shaft), 1.0))
    parts.append(("hole", _ellipse(-0.66, 0, bow * 0.5, bow * 0.45), 1.0))
    at = 0.98
    for _ in range(int(rng.integers(2, 5))):
        wide = rng.uniform(0.08, 0.13)
        parts.append(("body", _bar(at - wide, 0, at, shaft + rng.uniform(0.14, 0.3)), 1.0))
        at -= wide + rng.uniform(0.06, 0.1)
    return parts


def gear(rng: Rng) -> Shape:
    """A toothed wheel with a round bore and a pale or dark ring."""
    teeth, root = int(rng.integers(7, 13)), rng.uniform(0.7, 0.8)
    step = 2 * np.pi / teeth
    angles = (np.arange(teeth)[:, None] * step + step * np.array([0.0, 0.14, 0.44, 0.58])).ravel()
    radii = np.tile([root, 1.0, 1.0, root], teeth)
    return [
        ("body", _radial(radii, angles), 1.0),
        ("mark", _ellipse(0, 0, root * 0.8, root * 0.8), rng.uniform(0.65, 1.35)),
        ("mark", _ellipse(0, 0, root * 0.62, root * 0.62), 1.0),
        ("hole", _ellipse(0, 0, *[rng.uniform(0.2, 0.36)] * 2), 1.0),
    ]


def bolt(rng: Rng) -> Shape:
    """A hexagon head from the side above a threaded shank."""
    head, shank = rng.uniform(0.42, 0.52), rng.uniform(0.2, 0.27)
    neck = rng.uniform(-0.62, -0.5)
    parts: Shape = [
        (
            "body",
            np.array([(-head * 0.85, -1), (head * 0.85, -1), (head, -0.9), (head, neck), (-head, neck), (-head, -0.9)]),
            1.0,
        ),
        (
            "body",
            np.array([(-shank, neck), (shank, neck), (shank, 0.88), (shank * 0.6, 1), (-shank * 0.6, 1), (-shank, 0.88)]),
            1.0,
        ),
        ("mark", _bar(-head * 0.45, -1, head * 0.45, neck), rng.uniform(1.15, 1.35)),
    ]
    pitch = rng.uniform(0.13, 0.19)
    for y in np.arange(neck + 0.25, 0.85, pitch):
        turn = np.array([(-shank, y + 0.05), (shank, y - 0.05), (shank, y + 0.01), (-shank, y + 0.11)])
        parts.append(("mark", turn, 0.5))
    return parts


def leaf(rng: Rng) -> Shape:
    """A pointed oval with a stalk, a midrib and side veins."""
    wide, t = rng.uniform(0.36, 0.52), np.linspace(0, np.pi, 24)
    skew = rng.uniform(0.75, 1.15)
    edge = wide * np.sin(t) ** skew * (1 + 0.35 * np.cos(t))
    x = -0.75 * np.cos(t) + 0.2
    outline = np.concatenate([np.stack([x, edge], 1), np.stack([x, -edge], 1)[::-1]])
    dark = rng.uniform(0.45, 0.65)
    parts: Shape = [
        ("body", outline, 1.0),
        ("body", _bar(-1.0, -0.045, -0.4, 0.045), 1.0),
        ("mark", _bar(-0.6, -0.03, 0.85, 0.03), dark),
    ]
    for at in np.linspace(-0.3, 0.5, int(rng.integers(3, 6))):
        for side in (-1, 1):
            tip = np.array([at + 0.25, side * wide * 0.8])
            parts.append(("mark", np.array([(at - 0.025, 0), (at + 0.025, 0), tip]), dark))
    return parts


def star(rng: Rng) -> Shape:
    """Five points, with a paler core in half of them."""
    angles = -np.pi / 2 + np.arange(10) * np.pi / 5
    inner = rng.uniform(0.38, 0.5)
    points = _radial(np.tile([1.0, inner], 5), angles)
    parts: Shape = [("body", points, 1.0)]
    if rng.random() < 0.5:
        parts.append(("mark", points * 0.55, rng.uniform(0.6, 1.4)))
    return parts


def arrow(rng: Rng) -> Shape:
    """A shaft with a triangular head, straight or notched at the tail."""
    shaft, head, neck = rng.uniform(0.14, 0.26), rng.uniform(0.45, 0.65), rng.uniform(0.05, 0.35)
    barb = rng.uniform(0.0, 0.12)
    tail = rng.choice([0.0, 0.14])
    outline = [
        (-1, -shaft),
        (neck, -shaft),
        (neck - barb, -head),
        (1, 0),
        (neck - barb, head),
        (neck, shaft),
        (-1, shaft),
        (-1 + tail, 0),
    ]
    return [("body", np.array(outline), 1.0)]


def fish(rng: Rng) -> Shape:
    """An oval body with a forked tail, a fin, a gill line and an eye."""
    high = rng.uniform(0.36, 0.5)
    fork = rng.uniform(0.3, 0.48)
    return [
        ("body", np.array([(-0.45, 0), (-1, -fork), (-0.82, 0), (-1, fork)]), 1.0),
        ("body", np.array([(-0.1, -high * 0.8), (0.25, -high - 0.22), (0.4, -high * 0.7)]), 1.0),
        ("body", _ellipse(0.22, 0, 0.76, high), 1.0),
        (
            "mark",
            np.array([(0.42, -high * 0.8), (0.48, -high * 0.8), (0.4, 0), (0.48, high * 0.8), (0.42, high * 0.8), (0.33, 0)]),
            0.55,
        ),
        ("mark", _ellipse(0.68, -high * 0.25, 0.1, 0.1), 1.6),
        ("mark", _ellipse(0.69, -high * 0.25, 0.055, 0.055), 0.1),
    ]


def _disc(rng: Rng) -> Shape:
    return [("body", _ellipse(0, 0, 1.0, rng.uniform(0.5, 1.0)), 1.0)]


def _ring(rng: Rng) -> Shape:
    return [*_disc(rng), ("hole", _ellipse(0, 0, 0.5, 0.4), 1.0)]


def _polygon(rng: Rng) -> Shape:
    count = int(rng.integers(3, 7))
    return [("body", _radial(rng.uniform(0.7, 1.0, count), np.sort(rng.uniform(0, 2 * np.pi, count))), 1.0)]


def _plank(rng: Rng) -> Shape:
    return [("body", _bar(-1, -(w := rng.uniform(0.06, 0.4)), 1, w), 1.0)]


def _cross(rng: Rng) -> Shape:
    w = rng.uniform(0.15, 0.35)
    return [("body", _bar(-1, -w, 1, w), 1.0), ("body", _bar(-w, -1, w, 1), 1.0)]


def _burst(rng: Rng) -> Shape:
    """Many points, or three or four: neither star nor gear."""
    count = int(rng.choice([3, 4, 16, 20]))
    return [("body", _radial(np.tile([1.0, rng.uniform(0.3, 0.6)], count), np.arange(2 * count) * np.pi / count), 1.0)]


OBJECTS: dict[str, Callable[[Rng], Shape]] = {f.__name__: f for f in (mug, key, gear, bolt, leaf, star, arrow, fish)}
CLUTTER: tuple[Callable[[Rng], Shape], ...] = (_disc, _ring, _polygon, _plank, _plank, _cross, _burst)
