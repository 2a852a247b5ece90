"""Images that the page of `patchpu demo` offers."""

import pathlib
import sys

import numpy as np
from PIL import Image

from keras_patchpu.datasets import Digits, list_images, load_digit_scenes
from keras_patchpu.datasets.read_image import ImageError, read_image
from patchpu.training.run_files import read_settings

_MOST = 24
_SMALL_SIDE = 128


def image_examples(images, max_pixels):
    """Image files for `make_page`. What cannot be read is left out and named on stderr.

    Args:
        images: As of `list_images`; the first 24 count.
        max_pixels: As of `read_image`.

    Returns:
        List of triples of a path, the path, and a small uint8 array.

    Raises:
        ValueError: None can be read.
    """
    examples = []
    for path in list_images(images)[:_MOST]:
        try:
            examples.append((path, path, _small(read_image(path, max_pixels=max_pixels))))
        except ImageError as error:
            print(f"left out of the examples: {error}", file=sys.stderr)
    if not examples:
        raise ValueError("None of the --examples can be read")
    return examples


def digit_examples(model, folder, count=12):
    """Validation scenes of the built-in digits, if that is what a model was trained on.

    Args:
        model: The model.
        folder: Path of its run folder, whose settings tell the data.
        count: Number of scenes. Defaults to `12`.

    Returns:
        List of triples of a name, a uint8 array and a small one; empty for a model of other data.
    """
    settings = read_settings(pathlib.Path(folder, "config.yaml")) or {}
    if settings.get("dataset", "digits") != "digits":
        return []
    height, width = model.image_size
    if model.label_names != Digits.label_names or height != width:
        return []
    known = {name: settings[name] for name in ("max_digits", "difficulty") if name in settings}
    scenes = load_digit_scenes(count, "validation", image_size=height, **known)
    return [
        (f"scene {number}", image, _small(image))
        for number, image in enumerate(scenes.images, start=1)
    ]


def _small(pixels):
    image = Image.fromarray(pixels)
    image.thumbnail((_SMALL_SIDE, _SMALL_SIDE))
    return np.asarray(image)
