# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""The YOLOv5 detector, sizes n, s, m, l and x, as published for release 6 and written anew for this example.

In evaluation it returns decoded boxes [batch, boxes, 5 + classes]: centre, width and height in pixels, objectness, class scores. Both
of PyTorch's ONNX exporters take it, with fixed or free batch, height and width (multiples of 32). The functions at the end are what
`lathe export examples/yolov5/model.py:NAME` calls.
"""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch import Tensor, nn

# Depth and width multiples: how often blocks repeat, and how many channels they have, beside size l.
SIZES = {"n": (0.33, 0.25), "s": (0.33, 0.50), "m": (0.67, 0.75), "l": (1.0, 1.0), "x": (1.33, 1.25)}
STRIDES = (8, 16, 32)
# Width and height in pixels at 640 of the three prior boxes of each stride.
ANCHORS = (((10, 13), (16, 30), (33, 23)), ((30, 61), (62, 45), (59, 119)), ((116, 90), (156, 198), (373, 326)))
WEIGHTS = Path(__file__).resolve().parent / "weights" / "yolov5n_scenes.pt"


class ConvBlock(nn.Module):
    """Convolution without bias, BatchNorm, SiLU."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, padding: int | None = None):
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2 if padding is None else padding, bias=False)
        self.norm = nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.03)
        self.act = nn.SiLU(inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.norm(self.conv(x)))


class Bottleneck(nn.Module):
    """1x1, then 3x3; added to the input on the way down, not on the way up."""

    def __init__(self, channels: int, residual: bool):
        super().__init__()
        self.reduce = ConvBlock(channels, channels, 1)
        self.mix = ConvBlock(channels, channels, 3)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        y = self.mix(self.reduce(x))
        return x + y if self.residual else y


class C3(nn.Module):
    """Two half-width branches, one through a chain of bottlenecks, joined by a 1x1 convolution."""

    def __init__(self, inputs: int, outputs: int, repeats: int, residual: bool = True):
        super().__init__()
        half = outputs // 2
        self.deep = ConvBlock(inputs, half)
        self.flat = ConvBlock(inputs, half)
        self.chain = nn.Sequential(*(Bottleneck(half, residual) for _ in range(repeats)))
        self.join = ConvBlock(2 * half, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.join(torch.cat((self.chain(self.deep(x)), self.flat(x)), 1))


class SPPF(nn.Module):
    """Three 5x5 poolings in a row, all stages kept: windows of 5, 9 and 13 at the price of three small ones."""

    def __init__(self, channels: int):
        super().__init__()
        self.enter = ConvBlock(channels, channels // 2)
        self.leave = ConvBlock(channels * 2, channels)
        self.pool = nn.MaxPool2d(5, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        stages = [self.enter(x)]
        for _ in range(3):
            stages.append(self.pool(stages[-1]))
        return self.leave(torch.cat(stages, 1))


class Detect(nn.Module):
    """One 1x1 convolution per stride; in evaluation the raw values become boxes in pixels."""

    def __init__(self, classes: int, channels: tuple[int, ...]):
        super().__init__()
        self.classes, self.values = classes, classes + 5
        self.heads = nn.ModuleList(nn.Conv2d(c, 3 * self.values, 1) for c in channels)
        self.register_buffer("anchors", torch.tensor(ANCHORS, dtype=torch.float32), persistent=False)
        for head, stride in zip(self.heads, STRIDES):  # begin with few objects and no preferred class
            bias = head.bias.data.view(3, -1)
            bias[:, 4] += math.log(8 / (640 / stride) ** 2)
            bias[:, 5:] += math.log(0.6 / (classes - 0.99))

    def raw(self, features: list[Tensor]) -> list[Tensor]:
        """Per stride [batch, 3, height, width, 5 + classes], before any sigmoid."""
        return [head(x).view(x.shape[0], 3, self.values, x.shape[2], x.shape[3]).permute(0, 1, 3, 4, 2) for head, x in zip(self.heads, features)]

    def forward(self, features: list[Tensor]) -> Tensor:
        found = []
        for level, (stride, raw) in enumerate(zip(STRIDES, self.raw(features))):
            batch, _, height, width, _ = raw.shape
            xs = torch.arange(width, device=raw.device).to(raw.dtype).view(1, 1, 1, width, 1)
            ys = torch.arange(height, device=raw.device).to(raw.dtype).view(1, 1, height, 1, 1)
            p = raw.sigmoid()
            x = (p[..., 0:1] * 2 - 0.5 + xs) * stride
            y = (p[..., 1:2] * 2 - 0.5 + ys) * stride
            size = (p[..., 2:4] * 2) ** 2 * self.anchors[level].to(raw.dtype).view(1, 3, 1, 1, 2)
            found.append(torch.cat((x, y, size, p[..., 4:]), -1).reshape(batch, -1, self.values))
        return torch.cat(found, 1)


class YoloV5(nn.Module):
    """Backbone, a neck that goes up and down again (PANet), and the detection head. `images` are RGB in [0, 1]."""

    def __init__(self, size: str = "n", classes: int = 80):
        super().__init__()
        depth, width = SIZES[size]

        def ch(channels: int) -> int:
            return math.ceil(channels * width / 8) * 8

        def times(repeats: int) -> int:
            return max(round(repeats * depth), 1)

        self.size, self.classes = size, classes
        self.stem = nn.Sequential(ConvBlock(3, ch(64), 6, 2, 2), ConvBlock(ch(64), ch(128), 3, 2), C3(ch(128), ch(128), times(3)))
        self.down8 = nn.Sequential(ConvBlock(ch(128), ch(256), 3, 2), C3(ch(256), ch(256), times(6)))
        self.down16 = nn.Sequential(ConvBlock(ch(256), ch(512), 3, 2), C3(ch(512), ch(512), times(9)))
        self.down32 = nn.Sequential(ConvBlock(ch(512), ch(1024), 3, 2), C3(ch(1024), ch(1024), times(3)), SPPF(ch(1024)))
        self.up = nn.Upsample(scale_factor=2, mode="nearest")
        self.lateral32 = ConvBlock(ch(1024), ch(512))
        self.merge16 = C3(ch(1024), ch(512), times(3), residual=False)
        self.lateral16 = ConvBlock(ch(512), ch(256))
        self.merge8 = C3(ch(512), ch(256), times(3), residual=False)
        self.back16 = ConvBlock(ch(256), ch(256), 3, 2)
        self.out16 = C3(ch(512), ch(512), times(3), residual=False)
        self.back32 = ConvBlock(ch(512), ch(512), 3, 2)
        self.out32 = C3(ch(1024), ch(1024), times(3), residual=False)
        self.detect = Detect(classes, (ch(256), ch(512), ch(1024)))

    def features(self, images: Tensor) -> list[Tensor]:
        p8 = self.down8(self.stem(images))
        p16 = self.down16(p8)
        top = self.lateral32(self.down32(p16))
        middle = self.lateral16(self.merge16(torch.cat((self.up(top), p16), 1)))
        fine = self.merge8(torch.cat((self.up(middle), p8), 1))
        medium = self.out16(torch.cat((self.back16(fine), middle), 1))
        coarse = self.out32(torch.cat((self.back32(medium), top), 1))
        return [fine, medium, coarse]

    def forward(self, images: Tensor):
        features = self.features(images)
        return self.detect.raw(features) if self.training else self.detect(features)


def load_weights(path: str | Path = WEIGHTS) -> tuple[YoloV5, tuple[str, ...]]:
    """The trained network (fp32, evaluation mode) and its class names."""
    stored = torch.load(path, map_location="cpu", weights_only=True)
    network = YoloV5(stored["size"], len(stored["classes"]))
    network.load_state_dict({name: value.float() if value.is_floating_point() else value for name, value in stored["state"].items()})
    return network.eval(), tuple(stored["classes"])


def save_weights(network: YoloV5, classes: tuple[str, ...], path: str | Path) -> None:
    """Halves on disk: the file stays small, and BatchNorm stays apart from the convolutions."""
    state = {name: value.detach().cpu() for name, value in network.state_dict().items()}
    state = {name: value.half() if value.is_floating_point() else value for name, value in state.items()}
    torch.save({"size": network.size, "classes": list(classes), "state": state}, path)


def seeded(size: str, classes: int = 80, seed: int = 0) -> YoloV5:
    """Random weights for speed measurements. BatchNorm's statistics come from noise pictures: with the initial ones activations
    would fade layer by layer until they are denormal numbers, which no trained network shows. Two kinds of noise at a size at which the deepest
    layer still has some hundred values a channel: statistics of a few values let other pictures' activations grow layer by layer past float16's range.
    Scale and shift keep SiLU where it is nearly straight, as training does: with 1 and 0 every layer magnifies rounding, a hundredfold in the end."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = YoloV5(size, classes)
        noise = torch.cat([torch.rand(1, 3, 320, 320), 0.25 + 0.5 * torch.randn(1, 3, 320, 320)])
    norms = [module for module in network.modules() if isinstance(module, nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        nn.init.constant_(norm.weight, 0.5)
        nn.init.constant_(norm.bias, 0.5)
    with torch.no_grad():
        network.train()(noise)
    for norm in norms:
        norm.momentum = 0.03
    return network.eval()


def yolov5n_scenes() -> YoloV5:
    """YOLOv5n with this example's trained weights."""
    return load_weights()[0]


def yolov5n() -> YoloV5:
    return seeded("n")


def yolov5s() -> YoloV5:
    return seeded("s")


def yolov5m() -> YoloV5:
    return seeded("m")


def yolov5l() -> YoloV5:
    return seeded("l")


def yolov5x() -> YoloV5:
    return seeded("x")
