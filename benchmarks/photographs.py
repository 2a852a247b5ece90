"""Synthetic JPEG files that cost as much to decode as photographs, for `input.py`."""

import io
import pathlib

import numpy as np
from PIL import Image

SIZES = [(500, 375), (375, 500), (640, 480), (480, 640), (640, 640)]  # width, height


def photograph(random, width, height):
    """JPEG bytes of coloured fields of many scales with edges and noise."""
    brightness = _field(random, width, height) + 25 * np.sign(_field(random, width, height))
    # So much noise that a file is as large as a photograph's: what it costs to decode it.
    brightness += random.normal(0, 14, (height, width))
    channels = []
    for _ in range(3):  # colours go mostly together, as in photographs
        own = 0.3 * _field(random, width, height) + random.normal(0, 8, (height, width))
        channels.append(128 + 0.8 * brightness + own)
    pixels = np.clip(np.stack(channels, -1), 0, 255).astype("uint8")
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", quality=92)
    return buffer.getvalue()


def _field(random, width, height):
    """Noise that is the stronger the larger its scale, as natural images."""
    total = np.zeros((height, width), "float32")
    for cells in (2, 4, 8, 16, 32, 64, 128, 256):
        coarse = random.normal(0, 70 / cells**0.6, (cells, cells)).astype("float32")
        coarse = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
        total += np.asarray(coarse)
    return total


def write_files(folder, count):
    """Writes JPEG files of the sizes in turn.

    Args:
        folder: Path of an existing folder.
        count: Number of files.

    Returns:
        List of paths, number of bytes and number of pixels of all files.
    """
    random = np.random.default_rng(0)
    paths, all_bytes, all_pixels = [], 0, 0
    for index in range(count):
        width, height = SIZES[index % len(SIZES)]
        path = pathlib.Path(folder, f"{index:05d}.jpg")
        all_bytes += path.write_bytes(photograph(random, width, height))
        all_pixels += width * height
        paths.append(str(path))
    return paths, all_bytes, all_pixels
