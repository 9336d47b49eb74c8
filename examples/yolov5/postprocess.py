# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Around the network, in NumPy alone: a picture made to fit (letterbox), boxes that overlap thinned out (NMS), and boxes put back onto
the picture. cpp/postprocess.cpp does the same, to the bit, in C++."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_GREY = 114
_FIXED_BITS = 22  # weights of the resize as fixed-point numbers, so that sums are exact


@dataclass(frozen=True)
class Fit:
    """How a picture lies in the network's input: scaled by `scale`, then moved by `left`, `top` pixels."""

    scale: float
    left: int
    top: int


def _resized_rows(image: np.ndarray, count: int) -> np.ndarray:
    """Bytes [h, w, 3] to [count, w, 3]: a triangle filter, widened when shrinking, so that nothing aliases."""
    height = image.shape[0]
    scale = height / count
    wide = max(scale, 1.0)
    centre = (np.arange(count) + 0.5) * scale
    first = np.maximum((centre - wide + 0.5).astype(np.int64), 0)
    places = first[:, None] + np.arange(int(np.ceil(2 * wide)) + 1)
    inside = places < np.minimum((centre + wide + 0.5).astype(np.int64), height)[:, None]
    weights = np.where(inside, np.maximum(1 - np.abs((places - centre[:, None] + 0.5) / wide), 0), 0)
    fixed = np.floor(weights / weights.sum(1, keepdims=True) * (1 << _FIXED_BITS) + 0.5).astype(np.int32) * inside
    result = np.empty((count, *image.shape[1:]), np.uint8)
    for row in range(count):  # a row at a time stays in cache
        taps = np.flatnonzero(fixed[row])
        total = (image[places[row, taps]] * fixed[row, taps, None, None]).sum(0, dtype=np.int32) + (1 << (_FIXED_BITS - 1))
        result[row] = np.clip(total >> _FIXED_BITS, 0, 255)
    return result


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Antialiased bilinear: columns first, then rows, each rounded to bytes."""
    if width != image.shape[1]:
        image = _resized_rows(np.ascontiguousarray(image.transpose(1, 0, 2)), width).transpose(1, 0, 2)
    return _resized_rows(image, height) if height != image.shape[0] else image


def letterbox(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, Fit]:
    """RGB bytes [h, w, 3] scaled to fit with their aspect kept, grey bars at the sides."""
    h, w = image.shape[:2]
    scale = min(height / h, width / w)
    new_h, new_w = max(round(h * scale), 1), max(round(w * scale), 1)
    image = resize(image, new_h, new_w)
    top, left = (height - new_h) // 2, (width - new_w) // 2
    canvas = np.full((height, width, 3), _GREY, np.uint8)
    canvas[top : top + new_h, left : left + new_w] = image
    return canvas, Fit(scale, left, top)


def to_input(image: np.ndarray) -> np.ndarray:
    """Bytes [h, w, 3] to the network's float input [1, 3, h, w] in [0, 1]."""
    return np.ascontiguousarray(image.transpose(2, 0, 1)[None], np.float32) / np.float32(255)


def to_corners(boxes: np.ndarray) -> np.ndarray:
    """Centre, width, height to x0, y0, x1, y1."""
    half = boxes[:, 2:4] / 2
    return np.concatenate([boxes[:, :2] - half, boxes[:, :2] + half], 1)


def iou_matrix(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Overlap over union of every corner box in `a` with every one in `b`."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:4], b[None, :, 2:4])
    common = np.clip(high - low, 0, None).prod(2)
    areas = [(box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) for box in (a, b)]
    return common / np.maximum(areas[0][:, None] + areas[1][None, :] - common, 1e-9)


def nms(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, iou: float) -> np.ndarray:
    """Indices kept, best first: a box goes when a better one of its class overlaps it by more than `iou`. Ties keep their order."""
    order = np.argsort(-scores, kind="stable")
    kept = []
    while order.size:
        best, rest = order[0], order[1:]
        kept.append(best)
        clash = (iou_matrix(boxes[best : best + 1], boxes[rest])[0] > iou) & (labels[rest] == labels[best])
        order = rest[~clash]
    return np.array(kept, np.int64)


def detections(raw: np.ndarray, conf: float = 0.25, iou: float = 0.45, limit: int = 300) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """One picture's network output [boxes, 5 + classes] to (corner boxes, scores, classes), best first."""
    raw = raw[raw[:, 4] > conf]  # the product below cannot be larger
    labels = raw[:, 5:].argmax(1)
    scores = raw[:, 4] * raw[np.arange(len(raw)), 5 + labels]
    good = scores > conf
    boxes, scores, labels = to_corners(raw[good]), scores[good], labels[good]
    if len(scores) > 3000:  # only a very low `conf` lets so many through
        best = np.argsort(-scores, kind="stable")[:3000]
        boxes, scores, labels = boxes[best], scores[best], labels[best]
    kept = nms(boxes, scores, labels, iou)[:limit]
    return boxes[kept], scores[kept], labels[kept]


def scale_back(boxes: np.ndarray, fit: Fit, height: int, width: int) -> np.ndarray:
    """Boxes of the network's input as boxes of the original picture of this height and width."""
    boxes = (boxes - np.array([fit.left, fit.top] * 2)) / fit.scale
    return np.clip(boxes, 0, np.array([width, height] * 2))
