"""Optimizers."""

from keras_patchpu.optimizers.lamb import Lamb

__all__ = ["Lamb"]
