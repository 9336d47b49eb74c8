# SPDX-FileCopyrightText: Lathe contributors
# SPDX-License-Identifier: Apache-2.0
"""ImageDecoder beside Pillow, which the format's reference decodes with; broken files."""

import io
import subprocess

import numpy as np
import onnx
import pytest

import zoo
from one_node import model_of, ours

Image = pytest.importorskip("PIL.Image", reason="Pillow writes the pictures of these tests")

SIZE = (19, 23)  # height, width


def picture(mode):
    random = np.random.default_rng(0)
    small = random.integers(0, 256, (5, 6, 3), dtype=np.uint8)
    blocks = np.kron(small, np.ones((4, 4, 1), np.uint8))[: SIZE[0], : SIZE[1]]
    image = Image.fromarray(blocks)
    return image.quantize(64) if mode == "P" else image.convert(mode)


def encoded(image, form, **options):
    file = io.BytesIO()
    image.save(file, format=form, **options)
    return np.frombuffer(file.getvalue(), np.uint8)


def decoded(folder, data, pixel_format="RGB"):
    model = model_of("ImageDecoder", [data], pixel_format=pixel_format)
    return ours(folder, model, [data])


def pillows(data, pixel_format):
    image = Image.open(io.BytesIO(data.tobytes()))
    if pixel_format == "Grayscale":
        # By way of RGB, so that a palette's colours count.
        return np.asarray(image if image.mode == "L" else image.convert("RGB").convert("L"))[:, :, None]
    pixels = np.asarray(image.convert("RGB"))
    return pixels[:, :, ::-1] if pixel_format == "BGR" else pixels


FILES = {
    "png": [(mode, {}) for mode in ("RGB", "RGBA", "L", "LA", "P", "1")],
    "jpeg": [("RGB", {}), ("L", {}), ("RGB", {"progressive": True}), ("RGB", {"subsampling": 0}), ("RGB", {"subsampling": 1, "quality": 30})],
    "webp": [("RGB", {}), ("RGB", {"lossless": True}), ("RGBA", {"lossless": True})],
    "jpeg2000": [("RGB", {}), ("L", {}), ("RGBA", {}), ("RGB", {"no_jp2": True}), ("RGB", {"tile_size": (16, 16)})],
    "bmp": [(mode, {}) for mode in ("RGB", "L", "P", "1")],
    "tiff": [(mode, {"compression": c} if c else {}) for mode in ("RGB", "RGBA", "L", "P", "1") for c in (None, "tiff_lzw", "tiff_adobe_deflate", "packbits")],
    "ppm": [(mode, {}) for mode in ("RGB", "L", "1")],
}


@pytest.mark.parametrize("pixel_format", ["RGB", "BGR", "Grayscale"])
@pytest.mark.parametrize("form", FILES)
def test_pixels(tmp_path, form, pixel_format):
    for mode, options in FILES[form]:
        data = encoded(picture(mode), form, **options)
        (actual,) = decoded(tmp_path, data, pixel_format)
        np.testing.assert_array_equal(actual, pillows(data, pixel_format), err_msg=f"{mode} {options}")


@pytest.mark.parametrize("form", ["jpeg", "tiff"])
def test_inks(tmp_path, form):
    data = encoded(picture("CMYK"), form)
    difference = decoded(tmp_path, data)[0].astype(int) - pillows(data, "RGB")
    assert np.abs(difference).max() <= 1


def test_lossy_jpeg2000(tmp_path):
    data = encoded(picture("RGB"), "jpeg2000", irreversible=True, quality_layers=[8])
    np.testing.assert_array_equal(decoded(tmp_path, data)[0], pillows(data, "RGB"))


def test_wide_samples_keep_the_upper_bits(tmp_path):
    samples = np.random.default_rng(0).integers(0, 65536, SIZE).astype(np.uint16)
    for form in ("png", "tiff"):
        data = encoded(Image.fromarray(samples), form)
        np.testing.assert_array_equal(decoded(tmp_path, data, "Grayscale")[0][:, :, 0], samples >> 8)


@pytest.mark.parametrize("form", FILES)
def test_what_is_cut_gives_an_empty_image(tmp_path, form):
    """As the format says of all that cannot be decoded."""
    data = encoded(picture("RGB"), form)
    for length in (0, 1, 12, len(data) // 2):
        for pixel_format, channels in (("RGB", 3), ("Grayscale", 1)):
            (image,) = decoded(tmp_path, data[:length], pixel_format)
            assert image.shape == (0, 0, channels), (length, image.shape)


def test_bytes_that_are_no_picture(tmp_path):
    data = np.random.default_rng(0).integers(0, 256, 1000, dtype=np.uint8)
    assert decoded(tmp_path, data)[0].shape == (0, 0, 3)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"P6 100000 100000 255\n", "100000 x 100000 pixels; at most 67108864"),
        (b"P5 67108865 1 255\n", "67108865 x 1 pixels"),
    ],
)
def test_pictures_that_are_too_large_are_refused(tmp_path, data, why):
    message = decoded(tmp_path, np.frombuffer(data, np.uint8))
    assert isinstance(message, str) and "ImageDecoder" in message and why in message


@pytest.mark.parametrize("length", [None, 900])
@pytest.mark.parametrize("extents", [(16, 16), (20, None), (64, 64)])
def test_engines_are_verified_on_pictures(tmp_path, extents, length):
    """Bytes drawn at random would be none, and would not have the extents that the model tells."""
    model = model_of("ImageDecoder", [np.zeros(1, np.uint8)], shapes=[[length]])
    model.graph.output[0].CopyFrom(onnx.helper.make_tensor_value_info("y0", onnx.TensorProto.UINT8, [*extents, 3]))
    onnx.save(model, tmp_path / "model.onnx")
    command = [zoo.program("lathe"), "build", tmp_path / "model.onnx", "-o", tmp_path / "a.engine"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and "empty image" not in done.stderr, done.stderr


def test_other_errors(tmp_path):
    data = encoded(picture("RGB"), "png")
    assert "pixel_format is 'rgb'" in decoded(tmp_path, data, "rgb")
    assert "takes bytes in a row" in decoded(tmp_path, data[None])
