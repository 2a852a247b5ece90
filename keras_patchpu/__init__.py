"""Patch-based multi-label classification from single label annotations, in Keras 3."""

from keras_patchpu import layers, losses, models, optimizers
from keras_patchpu.models import PatchClassifier

__version__ = "0.1.0"
__all__ = ["PatchClassifier", "layers", "losses", "models", "optimizers"]
