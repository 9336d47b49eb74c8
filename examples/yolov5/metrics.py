# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Mean average precision at an overlap of 0.5: each detection, best first, takes the unclaimed true box that it overlaps most."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from postprocess import detections, iou_matrix, to_input

Found = tuple[np.ndarray, np.ndarray, np.ndarray]  # boxes, scores, classes


def average_precision(hits: np.ndarray, scores: np.ndarray, truths: int) -> float:
    """Area under precision over recall, precision made non-increasing from the right."""
    if truths == 0:
        return float("nan")
    hits = hits[np.argsort(-scores, kind="stable")]
    true, false = np.cumsum(hits), np.cumsum(~hits)
    recall = np.concatenate([[0.0], true / truths, [1.0]])
    precision = np.concatenate([[1.0], true / np.maximum(true + false, 1), [0.0]])
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    return float(np.sum(np.diff(recall) * envelope[1:]))


def mean_average_precision(
    found: Sequence[Found], boxes: Sequence[np.ndarray], labels: Sequence[np.ndarray], classes: int, iou: float = 0.5
) -> tuple[float, list[float]]:
    """(mAP, AP per class) over pictures; classes that no picture shows are left out of the mean."""
    hits: list[list[bool]] = [[] for _ in range(classes)]
    scores: list[list[float]] = [[] for _ in range(classes)]
    for (got, sure, kinds), true_boxes, true_labels in zip(found, boxes, labels):
        overlap = iou_matrix(got, true_boxes)
        overlap[kinds[:, None] != true_labels[None, :]] = 0
        claimed = np.zeros(len(true_boxes), bool)
        for k in np.argsort(-sure, kind="stable"):
            row = np.where(claimed, 0, overlap[k])
            best = int(row.argmax()) if len(row) else -1
            hit = best >= 0 and row[best] >= iou
            if hit:
                claimed[best] = True
            hits[kinds[k]].append(hit)
            scores[kinds[k]].append(float(sure[k]))
    truths = np.bincount(np.concatenate([*labels, np.zeros(0, np.int64)]), minlength=classes)
    each = [average_precision(np.array(hits[c], bool), np.array(scores[c]), int(truths[c])) for c in range(classes)]
    present = [value for value in each if not np.isnan(value)]
    return (float(np.mean(present)) if present else float("nan")), each


def evaluate(
    run: Callable[[np.ndarray], np.ndarray],
    images: Sequence[np.ndarray],
    boxes: Sequence[np.ndarray],
    labels: Sequence[np.ndarray],
    classes: int,
    batch: int = 1,
) -> tuple[float, list[float]]:
    """mAP@0.5 of `run` (float pictures [n, 3, h, w] to network outputs) on scenes of the network's own size."""
    found: list[Found] = []
    for begin in range(0, len(images), batch):
        raw = run(np.concatenate([to_input(image) for image in images[begin : begin + batch]]))
        found += [detections(one, conf=0.01, iou=0.6) for one in raw]
    return mean_average_precision(found, boxes, labels, classes)
