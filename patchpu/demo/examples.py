"""Images that the page of `patchpu demo` begins with."""

import pathlib

from keras_patchpu.datasets import Digits, load_digit_scenes
from patchpu.training.config import read_settings


def digit_scenes(model, folder, count=12):
    """Validation scenes of the built-in digits, if that is what a model was trained on.

    Args:
        model: The model.
        folder: Path of its run folder, whose settings tell the data.
        count: Number of scenes. Defaults to `12`.

    Returns:
        List of pairs of a name and a uint8 array; empty for a model of other data.
    """
    settings = read_settings(pathlib.Path(folder, "config.yaml")) or {}
    if settings.get("dataset", "digits") != "digits":
        return []
    height, width = model.image_size
    if model.label_names != Digits.label_names or height != width:
        return []
    known = {name: settings[name] for name in ("max_digits", "difficulty") if name in settings}
    scenes = load_digit_scenes(count, "validation", image_size=height, **known)
    return [(f"digit scene {n}", image) for n, image in enumerate(scenes.images, start=1)]
