"""Models."""

from keras_patchpu.models.load_efficientnet_weights import load_efficientnet_weights
from keras_patchpu.models.patch_classifier import PatchClassifier

__all__ = ["PatchClassifier", "load_efficientnet_weights"]
