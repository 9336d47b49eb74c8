# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""Finds objects on a picture, on every picture of a folder, or on the frames of a video, and draws their boxes.

    python detect.py --source scene.png                                  PyTorch, the example's weights
    python detect.py --engine out/yolov5n.engine --source pictures/      a built engine
    python detect.py --onnx out/yolov5n.onnx --precision bf16 --source clip.gif

Animated GIF, PNG and WebP files are read by Pillow; other videos (mp4, avi, mkv, mov, webm) need OpenCV.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageSequence, UnidentifiedImageError

from draw import draw_boxes
from postprocess import detections, letterbox, scale_back, to_input
from scenes import CLASSES

PICTURES = {".png", ".jpg", ".jpeg", ".bmp", ".ppm", ".gif", ".webp", ".tif", ".tiff"}
VIDEOS = {".mp4", ".avi", ".mkv", ".mov", ".webm", ".m4v"}
WEIGHTS = Path(__file__).resolve().parent / "weights" / "yolov5n_scenes.pt"

Runner = Callable[[np.ndarray], np.ndarray]  # float pictures [1, 3, h, w] to boxes [1, n, 5 + classes]


class DetectError(Exception):
    """What is wrong with the request and what to do; ends the command with exit code 1."""


def torch_runner(path: str | Path = WEIGHTS) -> tuple[Runner, tuple[str, ...]]:
    import torch

    from model import load_weights

    network, names = load_weights(path)

    def run(pictures: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(pictures)).numpy()

    return run, names


def engine_runner(engine: object, input_name: str = "images") -> Runner:
    """One Context of a Lathe engine; the network has one output, whatever its name."""
    context = engine.create_context()
    return lambda pictures: next(iter(context.run({input_name: pictures}).values()))


class Detector:
    """Letterbox, network, NMS, boxes back on the picture."""

    def __init__(self, run: Runner, names: Sequence[str], height: int = 640, width: int = 640, conf: float = 0.25, iou: float = 0.45):
        self.run, self.names, self.height, self.width, self.conf, self.iou = run, tuple(names), height, width, conf, iou

    def __call__(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Corner boxes in the picture's pixels, scores and class indices, best first."""
        fitted, fit = letterbox(image, self.height, self.width)
        raw = self.run(to_input(fitted))[0]
        if raw.shape[1] != 5 + len(self.names):
            raise DetectError(f"The network tells {raw.shape[1] - 5} classes apart and {len(self.names)} names are known: give --names.")
        boxes, scores, labels = detections(raw, self.conf, self.iou)
        return scale_back(boxes, fit, *image.shape[:2]), scores, labels

    def draw(self, image: np.ndarray, found: tuple[np.ndarray, np.ndarray, np.ndarray]) -> Image.Image:
        boxes, scores, labels = found
        return draw_boxes(Image.fromarray(image), boxes, scores, labels, self.names)


def _opencv_frames(path: Path) -> Iterator[np.ndarray]:
    try:
        import cv2
    except ImportError:
        raise DetectError(
            f"'{path}' needs OpenCV to be read: pip install opencv-python-headless, or turn it into an animated GIF or a folder of pictures."
        ) from None
    video = cv2.VideoCapture(str(path))
    if not video.isOpened():
        raise DetectError(f"OpenCV cannot open '{path}'.")
    while True:
        good, frame = video.read()
        if not good:
            break
        yield frame[:, :, ::-1].copy()
    video.release()


def frames(source: Path) -> Iterator[tuple[str, np.ndarray]]:
    """(name, RGB bytes) of each picture or frame."""
    if source.is_dir():
        files = sorted(file for file in source.iterdir() if file.suffix.lower() in PICTURES | VIDEOS)
        if not files:
            raise DetectError(f"There is no picture in the folder '{source}'.")
        for file in files:
            yield from frames(file)
        return
    if not source.is_file():
        raise DetectError(f"There is no file or folder '{source}'.")
    if source.suffix.lower() in VIDEOS:
        for index, frame in enumerate(_opencv_frames(source)):
            yield f"{source.name}[{index}]", frame
        return
    try:
        with Image.open(source) as opened:
            moving = getattr(opened, "n_frames", 1) > 1
            for index, frame in enumerate(ImageSequence.Iterator(opened)):
                yield f"{source.name}[{index}]" if moving else source.name, np.asarray(frame.convert("RGB"))
    except UnidentifiedImageError:
        raise DetectError(f"'{source}' is no picture that Pillow reads.") from None


class Writer:
    """Saves what was drawn: pictures under their names as PNG, the frames of one video as one animated GIF."""

    def __init__(self, folder: Path):
        self.folder, self.moving = folder, {}
        folder.mkdir(parents=True, exist_ok=True)

    def add(self, name: str, image: Image.Image) -> None:
        stem, bracket, _ = name.partition("[")
        if bracket:
            self.moving.setdefault(stem, []).append(image)
        else:
            image.save(self._target(stem, ".png"))

    def close(self) -> None:
        for stem, images in self.moving.items():
            images[0].save(self._target(stem, ".gif"), save_all=True, append_images=images[1:], duration=100, loop=0)

    def _target(self, stem: str, suffix: str) -> Path:
        """The whole old name stays in the new one, so that a.png and a.jpg do not meet."""
        path = self.folder / stem
        return path if path.suffix.lower() == suffix else path.with_name(path.name + suffix)


def parse_size(text: str) -> tuple[int, int]:
    try:
        height, width = (int(value) for value in (text.lower().split("x") if "x" in text.lower() else (text, text)))
    except ValueError:
        raise DetectError(f"'{text}' is no size: write 640 or HEIGHTxWIDTH, for example 352x416.") from None
    if height % 32 or width % 32 or height <= 0 or width <= 0:
        raise DetectError(f"--size {text}: height and width must be multiples of 32.")
    return height, width


def make_detector(options: argparse.Namespace) -> Detector:
    height, width = parse_size(options.size)
    names: Sequence[str] = options.names.split(",") if options.names else CLASSES
    if options.engine or options.onnx:
        import lathe

        if options.engine:
            engine = lathe.load(options.engine)
        else:
            engine = lathe.build(options.onnx, precision=options.precision, shapes={"images": [1, 3, height, width]})
        run = engine_runner(engine)
    else:
        run, stored = torch_runner(options.weights)
        names = options.names.split(",") if options.names else stored
    return Detector(run, names, height, width, options.conf, options.iou)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", required=True, help="picture, folder or video")
    what = parser.add_mutually_exclusive_group()
    what.add_argument("--engine", help="engine file made by `lathe build`")
    what.add_argument("--onnx", help="ONNX file; an engine is built in memory")
    what.add_argument("--weights", default=str(WEIGHTS), help="PyTorch weights of this example (default: its own)")
    parser.add_argument("--precision", default="fp32", help="of an engine built from --onnx")
    parser.add_argument("--size", default="640", help="the network's input: 640 or HEIGHTxWIDTH")
    parser.add_argument("--names", help="class names, separated by commas")
    parser.add_argument("--conf", type=float, default=0.25, help="least score")
    parser.add_argument("--iou", type=float, default=0.45, help="overlap from which the weaker box of a class goes")
    parser.add_argument("--save", default="out/detect", help="folder for the drawn pictures; '' saves none")
    options = parser.parse_args(arguments)
    try:
        detector = make_detector(options)
        writer = Writer(Path(options.save)) if options.save else None
        total, begin, count = 0.0, time.perf_counter(), 0
        for name, image in frames(Path(options.source)):
            start = time.perf_counter()
            found = detector(image)
            total, count = total + time.perf_counter() - start, count + 1
            print(f"{name}: {len(found[1])} objects")
            for box, score, label in zip(*found):
                print(f"  {detector.names[label]:12} {score:.3f}  " + " ".join(f"{value:7.1f}" for value in box))
            if writer:
                writer.add(name, detector.draw(image, found))
        if writer:
            writer.close()
            print(f"drawn pictures are in {writer.folder}")
        print(f"{count} pictures, {1e3 * total / max(count, 1):.1f} ms each ({time.perf_counter() - begin:.1f} s with reading and drawing)")
    except (DetectError, OSError, RuntimeError) as error:
        print(f"detect: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
