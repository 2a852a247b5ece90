"""Losses over the label domain {+1, 0, -1}."""

from keras_patchpu.losses.binary_crossentropy import (
    AssumeNegative,
    BinaryCrossentropy,
    ExpectedPositiveRegularization,
)
from keras_patchpu.losses.expected_negative import (
    ExpectedNegative,
    ExpectedNegativeConsistency,
    ExpectedNegativeSpatialConsistency,
)
from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.regularized_online_label_estimation import (
    RegularizedOnlineLabelEstimation,
)
from keras_patchpu.losses.weak_negative import WeakNegative, weak_negatives

__all__ = [
    "AssumeNegative",
    "BinaryCrossentropy",
    "ExpectedNegative",
    "ExpectedNegativeConsistency",
    "ExpectedNegativeSpatialConsistency",
    "ExpectedPositiveRegularization",
    "RegularizedOnlineLabelEstimation",
    "WeakNegative",
    "split_labels",
    "weak_negatives",
]
