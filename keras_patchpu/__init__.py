"""Patch-based multi-label classification from single label annotations, in Keras 3."""

from keras_patchpu import layers, losses, metrics, models, optimizers
from keras_patchpu._version import __version__
from keras_patchpu.models import PatchClassifier

__all__ = [
    "PatchClassifier",
    "__version__",
    "layers",
    "losses",
    "metrics",
    "models",
    "optimizers",
]
