"""Networks that were trained on other images, whose maps of features stand for patches."""

from keras_patchpu.backbones.efficientnet_lite0 import efficientnet_lite0

__all__ = ["efficientnet_lite0"]
