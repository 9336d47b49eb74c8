# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""What train.py minimises: complete IoU of the boxes, objectness that aims at that IoU, and one binary decision per class.

A true box trains every prior whose sides differ by less than a factor of four, in its own cell and the two cells nearest its centre.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

from model import ANCHORS, STRIDES

_LARGEST_RATIO = 4.0
_LEVEL_WEIGHT = (4.0, 1.0, 0.4)  # fine grids hold many more empty cells
_BOX_GAIN, _OBJECT_GAIN, _CLASS_GAIN = 0.05, 1.0, 0.1


def complete_iou(a: Tensor, b: Tensor) -> Tensor:
    """IoU less the centres' distance and the aspects' difference; boxes are centre, width, height."""
    a_low, a_high = a[:, :2] - a[:, 2:] / 2, a[:, :2] + a[:, 2:] / 2
    b_low, b_high = b[:, :2] - b[:, 2:] / 2, b[:, :2] + b[:, 2:] / 2
    common = (torch.minimum(a_high, b_high) - torch.maximum(a_low, b_low)).clamp(min=0).prod(1)
    iou = common / (a[:, 2:].prod(1) + b[:, 2:].prod(1) - common + 1e-7)
    hull = (torch.maximum(a_high, b_high) - torch.minimum(a_low, b_low)).square().sum(1) + 1e-7
    distance = (a[:, :2] - b[:, :2]).square().sum(1) / hull
    angle = 4 / math.pi**2 * (torch.atan(b[:, 2] / (b[:, 3] + 1e-7)) - torch.atan(a[:, 2] / (a[:, 3] + 1e-7))).square()
    with torch.no_grad():
        weight = angle / (angle - iou + 1 + 1e-7)
    return iou - distance - angle * weight


def assign(targets: Tensor, stride: int, anchors: Tensor, height: int, width: int):
    """Targets [n, 6] (picture, class, centre x, y, width, height in pixels) to the (target, prior, column, row) that they train."""
    centre, size = targets[:, 2:4] / stride, targets[:, 4:6]
    ratio = size[None] / anchors[:, None]
    fits = torch.maximum(ratio, 1 / ratio).amax(2) < _LARGEST_RATIO  # [3, n]
    inside, limit = centre % 1, torch.tensor([width, height], device=targets.device)
    near_low = (inside < 0.5) & (centre > 1)
    near_high = (inside > 0.5) & (centre < limit - 1)
    use = torch.stack([torch.ones_like(near_low[:, 0]), near_low[:, 0], near_low[:, 1], near_high[:, 0], near_high[:, 1]])
    step = torch.tensor([[0, 0], [-1, 0], [0, -1], [1, 0], [0, 1]], device=targets.device)
    offset, prior, index = (use[:, None] & fits[None]).nonzero(as_tuple=True)
    cell = centre[index].long() + step[offset]
    return index, prior, cell[:, 0].clamp(0, width - 1), cell[:, 1].clamp(0, height - 1)


def detection_loss(outputs: list[Tensor], targets: Tensor) -> tuple[Tensor, Tensor]:
    """(loss, its three parts detached) of the raw outputs, per picture on average."""
    device = targets.device
    box_loss, object_loss, class_loss = (torch.zeros((), device=device) for _ in range(3))
    for raw, stride, priors, weight in zip(outputs, STRIDES, ANCHORS, _LEVEL_WEIGHT):
        raw = raw.float()
        batch, _, height, width, _ = raw.shape
        anchors = torch.tensor(priors, dtype=torch.float32, device=device)
        index, prior, x, y = assign(targets, stride, anchors, height, width)
        goal = torch.zeros((batch, 3, height, width), device=device)
        if len(index):
            image = targets[index, 0].long()
            values = raw[image, prior, y, x]
            p = values[:, :4].sigmoid()
            centre = p[:, :2] * 2 - 0.5
            size = (p[:, 2:4] * 2).square() * anchors[prior] / stride
            true_centre = targets[index, 2:4] / stride - torch.stack([x, y], 1)
            iou = complete_iou(torch.cat([centre, size], 1), torch.cat([true_centre, targets[index, 4:6] / stride], 1))
            box_loss = box_loss + (1 - iou).mean()
            flat = ((image * 3 + prior) * height + y) * width + x
            goal.view(-1).scatter_reduce_(0, flat, iou.detach().clamp(min=0), "amax")
            kinds = functional.one_hot(targets[index, 1].long(), values.shape[1] - 5).float()
            class_loss = class_loss + functional.binary_cross_entropy_with_logits(values[:, 5:], kinds)
        object_loss = object_loss + weight * functional.binary_cross_entropy_with_logits(raw[..., 4], goal)
    parts = torch.stack([_BOX_GAIN * box_loss, _OBJECT_GAIN * object_loss, _CLASS_GAIN * class_loss])
    return parts.sum(), parts.detach()
