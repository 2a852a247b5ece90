"""Networks that were trained on other images, whose maps of features stand for patches."""

from keras_patchpu.backbones.efficientnet_lite0 import efficientnet_lite0
from keras_patchpu.backbones.licence import licence
from keras_patchpu.backbones.load import load, names

__all__ = ["efficientnet_lite0", "licence", "load", "names"]
