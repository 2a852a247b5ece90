"""Datasets and the single-positive draw."""

from keras_patchpu.datasets.digits import Digits, load_digit_scenes
from keras_patchpu.datasets.image_batches import ImageBatches
from keras_patchpu.datasets.observed import observe_uniform

__all__ = ["Digits", "ImageBatches", "load_digit_scenes", "observe_uniform"]
