"""What the networks of `keras.applications` want instead of values from 0 to 255."""

import keras

from keras_patchpu.backbones.caffe_pixels import CaffePixels

# By the file of `keras.applications`, as its `preprocess_input`; any other scales by itself.
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
_MEAN, _DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def pixel_layer(family):
    """The layer that brings pixels to what a file's networks want.

    Args:
        family: Name of a file of `keras.applications`, such as `"resnet_v2"`.

    Returns:
        A layer from values from 0 to 255.
    """
    if family in _MINUS_ONE_TO_ONE:
        return keras.layers.Rescaling(1 / 127.5, offset=-1, name="scaled")
    if family in _STANDARDIZED:
        scale = [1 / (255 * deviation) for deviation in _DEVIATION]
        offset = [-mean / deviation for mean, deviation in zip(_MEAN, _DEVIATION)]
        return keras.layers.Rescaling(scale, offset=offset, name="scaled")
    if family in _CAFFE:
        return CaffePixels(name="scaled")
    return keras.layers.Rescaling(1.0, name="scaled")
