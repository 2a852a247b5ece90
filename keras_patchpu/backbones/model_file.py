"""Backbones from `.keras` files."""

import pathlib

import keras

from keras_patchpu.utils.model_archive import read_config
from keras_patchpu.utils.safe_models import (
    MAX_BYTES,
    check_no_code,
    check_parts,
    check_sizes,
    load_checked,
)
from keras_patchpu.utils.validation import FileError


def model_file_backbone(path, image_size, weights):
    """The model of a `.keras` file, from images to a map of features or to tokens.

    Args:
        path: Path of the file.
        image_size, weights: As of `load`, checked.

    Returns:
        `keras.Model`, not compiled.

    Raises:
        ValueError: `weights` is `None`, or the model takes no images of that size.
        FileError: The file is missing, damaged, contains code, or holds another kind of model.
    """
    path = pathlib.Path(path)
    if weights is None:
        raise ValueError(
            f"Expected `weights='imagenet'` with {path}, whose weights are those of the file. "
            "Received: weights=None"
        )
    if not path.is_file():
        raise FileError(f"There is no backbone {path}: expected a .keras file")
    config = read_config(path, MAX_BYTES)
    check_no_code(path, config, "a backbone")
    check_parts(path, config, "a backbone")
    check_sizes(path, config, MAX_BYTES)
    model = load_checked(path, config, compile=False)
    _check_shapes(path, model)
    own = model.inputs[0].shape[1:3]
    if own == (image_size or (None, None)):
        return model
    if None not in own or image_size is None:
        raise ValueError(
            f"Expected an `image_size` that {path} takes: {own}. Received: image_size={image_size}"
        )
    images = keras.Input((*image_size, 3), name="images")
    return keras.Model(images, model(images), name=f"{model.name}_backbone")


def _check_shapes(path, model):
    """Raises a FileError unless a model is one from images to a map or to tokens."""
    inputs, outputs = (getattr(model, name, None) or [] for name in ("inputs", "outputs"))
    shapes = [[tuple(tensor.shape) for tensor in tensors] for tensors in (inputs, outputs)]
    images = [len(shape) == 4 and shape[-1] == 3 for shape in shapes[0]]
    places = [len(shape) in (3, 4) and shape[-1] is not None for shape in shapes[1]]
    if images != [True] or places != [True]:
        raise FileError(
            f"Expected {path} to hold a model from images (B, H, W, 3) to a map of features "
            f"(B, h, w, C) or to tokens (B, T, C). Received: from {shapes[0]} to {shapes[1]}"
        )
