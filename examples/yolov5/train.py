# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Trains YOLOv5n on drawn scenes, from random weights, and judges it on held-out ones.

    python train.py --scenes 18000 --minutes 7 --out weights/yolov5n_scenes.pt --report training.json

All scenes are drawn first, by every core; then they stay in the accelerator's memory (about 1.2 MB each), where they are scaled,
moved, mirrored and recoloured anew for each step. Learning ends after --steps or --minutes, whichever is first; the learning rate
follows a cosine over that span. Without CUDA the same runs on the CPU, slowly.
"""

from __future__ import annotations

import argparse
import copy
import datetime
import json
import math
import platform
import sys
import time

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from loss import detection_loss
from metrics import evaluate
from model import SIZES, YoloV5, load_weights, save_weights
from postprocess import letterbox
from scenes import CLASSES, HELD_OUT, make_many

# Heights and widths of the steps' pictures: the detector meets several scales and both orientations.
SHAPES = ((640, 640), (640, 640), (512, 512), (416, 416), (352, 416), (416, 352), (480, 640), (640, 480), (384, 640))


class Average:
    """The network that is kept: an exponential average of the trained one, quick at first."""

    def __init__(self, network: YoloV5):
        self.network = copy.deepcopy(network).eval().requires_grad_(False)
        self.steps = 0

    def update(self, network: YoloV5) -> None:
        self.steps += 1
        keep = 0.9995 * (1 - math.exp(-self.steps / 600))
        with torch.no_grad():
            for mine, new in zip(self.network.state_dict().values(), network.state_dict().values()):
                if mine.is_floating_point():
                    mine.lerp_(new, 1 - keep)
                else:
                    mine.copy_(new)


class Scenes:
    """Drawn pictures on the device, and batches of them changed at random."""

    def __init__(self, count: int, device: torch.device, seed: int):
        images, boxes, labels = make_many(range(count))
        self.side, self.device = images.shape[1], device
        self.images = torch.from_numpy(images).to(device)
        self.boxes, self.labels = boxes, labels
        self.rng = np.random.default_rng(seed)
        self.order = np.zeros(0, np.int64)

    def batch(self, size: int, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Pictures [size, 3, height, width] in [0, 1] and targets [n, 6] in pixels."""
        if len(self.order) < size:
            self.order = np.concatenate([self.order, self.rng.permutation(len(self.boxes))])
        chosen, self.order = self.order[:size], self.order[size:]
        rng, side = self.rng, self.side
        scale = np.exp(rng.uniform(math.log(0.5), math.log(1.2), size)) * (1 if min(height, width) > 400 else 0.85)
        room = np.array([width, height])[None] - scale[:, None] * side
        move = room * rng.random((size, 2))
        mirror = rng.random((size, 2)) < 0.5
        theta = np.zeros((size, 2, 3), np.float32)
        for axis, extent in enumerate((width, height)):
            sign = np.where(mirror[:, axis], -1, 1)
            theta[:, axis, axis] = sign * extent / (scale * side)
            theta[:, axis, 2] = (extent - 2 * move[:, axis]) / (scale * side) - 1
        targets = [self._targets(slot, index, scale[slot], move[slot], mirror[slot], height, width) for slot, index in enumerate(chosen)]
        pictures = self.images[torch.from_numpy(chosen).to(self.device)].permute(0, 3, 1, 2).float() / 255 - 114 / 255
        grid = functional.affine_grid(torch.from_numpy(theta).to(self.device), [size, 3, height, width], align_corners=False)
        pictures = functional.grid_sample(pictures, grid, "bilinear", "zeros", align_corners=False) + 114 / 255
        gain = torch.from_numpy(rng.uniform(0.75, 1.25, (size, 3, 1, 1)).astype(np.float32)).to(self.device)
        shift = torch.from_numpy(rng.uniform(-0.08, 0.08, (size, 3, 1, 1)).astype(np.float32)).to(self.device)
        return (pictures * gain + shift).clamp(0, 1), torch.from_numpy(np.concatenate(targets)).to(self.device)

    def _targets(self, slot: int, index: int, scale: float, move: np.ndarray, mirror: np.ndarray, height: int, width: int) -> np.ndarray:
        boxes = self.boxes[index].reshape(-1, 2, 2).astype(np.float64) * scale + move
        extent = np.array([width, height])
        for axis in range(2):
            if mirror[axis]:
                boxes[:, :, axis] = extent[axis] - boxes[:, ::-1, axis]
        whole = (boxes[:, 1] - boxes[:, 0]).prod(1)
        boxes = np.clip(boxes, 0, extent)
        sides = boxes[:, 1] - boxes[:, 0]
        keep = (sides.prod(1) > 0.4 * whole) & (sides.min(1) > 3)
        rows = np.zeros((int(keep.sum()), 6), np.float32)
        rows[:, 0], rows[:, 1] = slot, self.labels[index][keep]
        rows[:, 2:4], rows[:, 4:6] = boxes[keep].mean(1), sides[keep]
        return rows


def train(options: argparse.Namespace, device: torch.device) -> tuple[YoloV5, int]:
    """The averaged network and the number of steps taken."""
    torch.manual_seed(options.seed)
    network = load_weights(options.start)[0] if options.start else YoloV5(options.size, len(CLASSES))
    network = network.train().to(device, memory_format=torch.channels_last)
    average = Average(network)
    decayed = [p for p in network.parameters() if p.ndim > 1]
    others = [p for p in network.parameters() if p.ndim <= 1]
    optimiser = torch.optim.AdamW([{"params": decayed, "weight_decay": 0.02}, {"params": others, "weight_decay": 0.0}], lr=options.rate)
    begin = time.monotonic()
    scenes = Scenes(options.scenes, device, options.seed)
    print(f"{options.scenes} scenes of {sum(map(len, scenes.labels))} objects drawn in {time.monotonic() - begin:.0f} s", flush=True)
    begin, step, shown = time.monotonic(), 0, torch.zeros(3, device=device)
    while True:
        progress = max(step / options.steps, (time.monotonic() - begin) / (60 * options.minutes))
        if progress >= 1:
            return average.network, step
        rate = options.rate * (0.02 + 0.98 * (1 + math.cos(math.pi * progress)) / 2) * min(1, (step + 1) / options.warmup)
        for group in optimiser.param_groups:
            group["lr"] = rate
        height, width = SHAPES[scenes.rng.integers(len(SHAPES))] if not options.side else (options.side, options.side)
        pictures, targets = scenes.batch(options.batch, height, width)
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            outputs = network(pictures.contiguous(memory_format=torch.channels_last))
        loss, parts = detection_loss(outputs, targets)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 10.0)
        optimiser.step()
        average.update(network)
        step, shown = step + 1, shown + parts
        if step % options.log == 0:
            box, obj, kind = (shown / options.log).tolist()
            if not math.isfinite(box + obj + kind):
                raise SystemExit(f"step {step}: the loss is no longer finite; lower --rate")
            seconds = time.monotonic() - begin
            print(
                f"step {step}  {100 * progress:.0f} %  box {box:.4f}  object {obj:.4f}  class {kind:.4f}  {seconds:.0f} s",
                flush=True,
            )
            shown.zero_()


def judge(network: YoloV5, count: int, device: torch.device) -> dict:
    """mAP@0.5 on `count` held-out scenes, as drawn and letterboxed into 352x416."""
    images, boxes, labels = make_many(range(HELD_OUT, HELD_OUT + count))
    network = network.eval().to(device)

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pictures).to(device)).float().cpu().numpy()

    mean, each = evaluate(run, images, boxes, labels, len(CLASSES), 16)
    fitted = [letterbox(image, 352, 416) for image in images]
    moved = [box * fit.scale + np.array([fit.left, fit.top] * 2, np.float32) for box, (_, fit) in zip(boxes, fitted)]
    small, _ = evaluate(run, [image for image, _ in fitted], moved, labels, len(CLASSES), 16)
    return {
        "held_out_scenes": count,
        "first_seed": HELD_OUT,
        "map50_640x640": round(mean, 4),
        "map50_352x416": round(small, 4),
        "ap50_by_class": {name: round(value, 4) for name, value in zip(CLASSES, each)},
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=list(SIZES), default="n")
    parser.add_argument("--scenes", type=int, default=18000, help="training scenes, seeds 0 ...")
    parser.add_argument("--held-out", type=int, default=500)
    parser.add_argument("--steps", type=int, default=20000)
    parser.add_argument("--minutes", type=float, default=7.0)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=200, help="steps")
    parser.add_argument("--side", type=int, default=0, help="one square size instead of several shapes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--log", type=int, default=100)
    parser.add_argument("--start", help="weights to go on from")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--out", default="yolov5n_scenes.pt")
    parser.add_argument("--report", help="JSON file to write")
    options = parser.parse_args()
    device, begin = torch.device(options.device), time.monotonic()
    network, steps = train(options, device)
    save_weights(network, CLASSES, options.out)
    network, _ = load_weights(options.out)  # what is judged is what was stored
    result = judge(network, options.held_out, device)
    print(json.dumps(result, indent=2))
    if options.report:
        machine = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
        facts = {
            "what": f"YOLOv5{options.size} on {options.scenes} drawn scenes, from {'given' if options.start else 'random'} weights",
            "command": "python train.py " + " ".join(sys.argv[1:]),
            "machine": f"{machine}, PyTorch {torch.__version__.split('+')[0]}",
            "date": datetime.date.today().isoformat(),
            "steps": steps,
            "batch": options.batch,
            "seconds": round(time.monotonic() - begin, 1),
            **result,
        }
        with open(options.report, "w") as file:
            file.write(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
