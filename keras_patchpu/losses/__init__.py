"""Losses over the label domain {+1, 0, -1}."""

from keras_patchpu.losses.binary_crossentropy import (
    AssumeNegative,
    BinaryCrossentropy,
    ExpectedPositiveRegularization,
)
from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.weak_negative import WeakNegative, weak_negatives

__all__ = [
    "AssumeNegative",
    "BinaryCrossentropy",
    "ExpectedPositiveRegularization",
    "WeakNegative",
    "split_labels",
    "weak_negatives",
]
