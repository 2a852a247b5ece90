"""Backbones by name."""

import inspect
from typing import Any

import keras

from keras_patchpu.backbones.caffe_pixels import CaffePixels
from keras_patchpu.backbones.efficientnet_lite0 import efficientnet_lite0
from keras_patchpu.utils.validation import check_one_of, checked_image_size

# What the networks of a file of `keras.applications` want instead of values from 0 to 255.
_MINUS_ONE_TO_ONE = (
    "inception_resnet_v2",
    "inception_v3",
    "mobilenet",
    "mobilenet_v2",
    "nasnet",
    "resnet_v2",
    "xception",
)
_CAFFE = ("resnet", "vgg16", "vgg19")
_STANDARDIZED = ("densenet",)
_MEAN, _VARIANCE = (0.485, 0.456, 0.406), (0.229**2, 0.224**2, 0.225**2)


def load(
    name: str = "efficientnet_lite0",
    image_size: tuple[int, int] | None = (224, 224),
    stride: int = 32,
    weights: str | None = "imagenet",
) -> Any:
    """A frozen network from images to a map of features.

    Args:
        name: `"efficientnet_lite0"`, whose weights come with the extra `pretrained`; or a
            classification network of `keras.applications`, such as `"resnet50"` or
            `"efficientnetv2-b0"`, in any case, with or without `-` and `_`. Defaults to
            `"efficientnet_lite0"`.
        image_size: `(height, width)` of the images in pixels, or `None` for any. Defaults to
            `(224, 224)`.
        stride: Pixels of the image to a place of the map: 32, 16 or 8. Defaults to `32`.
        weights: `"imagenet"`, which Keras downloads for its own networks; or `None` for random
            ones. Defaults to `"imagenet"`.

    Call arguments:
        images: `(B, H, W, 3)`, values from 0 to 255; brought to what the network wants inside.

    Returns:
        `keras.Model`. Its weights are frozen; `trainable = True` thaws them.

    Raises:
        ValueError: There is no such network, or it has no map of that stride.
        FileError: The weights cannot be had.
    """
    check_one_of("stride", stride, (32, 16, 8))
    check_one_of("weights", weights, ("imagenet", None))
    if image_size is not None:
        image_size = checked_image_size(image_size, minimum=32)
    if _plain(name) == _plain("efficientnet_lite0"):
        backbone = efficientnet_lite0(image_size, stride, weights)
    else:
        backbone = _of_keras_applications(name, image_size, stride, weights)
    backbone.trainable = False
    return backbone


def names() -> list[str]:
    """The names that `load` knows."""
    return ["efficientnet_lite0", *sorted(map(str.lower, _applications()))]


def _plain(name):
    return name.lower().replace("-", "").replace("_", "")


def _applications():
    """The networks of `keras.applications` by name."""
    found = inspect.getmembers(keras.applications, inspect.isfunction)
    return {name: function for name, function in found if name[0].isupper()}


def _of_keras_applications(name, image_size, stride, weights):
    by_name = {_plain(own): function for own, function in _applications().items()}
    if _plain(name) not in by_name:
        raise ValueError(f"Expected `name` to be one of {names()}. Received: name={name!r}")
    function = by_name[_plain(name)]
    network = function(
        include_top=False, weights=weights, input_shape=(*(image_size or (None, None)), 3)
    )
    network = keras.Model(network.input, _map_of_stride(name, network, stride), name=network.name)
    images = keras.Input((*(image_size or (None, None)), 3), name="images")
    return keras.Model(images, network(_pixels(function)(images)), name=f"{network.name}_backbone")


def _map_of_stride(name, network, stride):
    """The last map with so many pixels of the image to a place."""
    # Of a network of any size too: strides are those of an image of 256 pixels.
    side = 256 // stride
    found = None
    for layer in network.layers:
        shape = keras.Model(network.input, layer.output).compute_output_shape((1, 256, 256, 3))
        if len(shape) == 4 and shape[1] == side:
            found = layer.output
    if found is None:
        raise ValueError(f"{name} has no map of stride {stride}")
    return found


def _pixels(function):
    """The layer that brings pixels to what a network of `keras.applications` wants."""
    file = function.__module__.rsplit(".", 1)[-1]
    if file in _MINUS_ONE_TO_ONE:
        return keras.layers.Rescaling(1 / 127.5, offset=-1, name="scaled")
    if file in _STANDARDIZED:
        scale = [1 / (255 * variance**0.5) for variance in _VARIANCE]
        offset = [-mean / variance**0.5 for mean, variance in zip(_MEAN, _VARIANCE)]
        return keras.layers.Rescaling(scale, offset=offset, name="scaled")
    if file in _CAFFE:
        return CaffePixels(name="scaled")
    return keras.layers.Rescaling(1.0, name="scaled")  # they scale by themselves
