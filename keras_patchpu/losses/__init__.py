"""Losses over the label domain {+1, 0, -1}."""

from keras_patchpu.losses.asymmetric_loss import AsymmetricLoss
from keras_patchpu.losses.binary_crossentropy import (
    AssumeNegative,
    BinaryCrossentropy,
    ExpectedPositiveRegularization,
)
from keras_patchpu.losses.entropy_maximization import EntropyMaximization
from keras_patchpu.losses.expected_negative import ExpectedNegative
from keras_patchpu.losses.generalized_robust import GeneralizedRobust
from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.large_loss import LargeLoss
from keras_patchpu.losses.missing_labels import Hill, SelfPacedLossCorrection
from keras_patchpu.losses.multi_label_loss import MultiLabelLoss
from keras_patchpu.losses.pairwise_ranking import PairwiseRanking
from keras_patchpu.losses.regularized_online_label_estimation import (
    RegularizedOnlineLabelEstimation,
)
from keras_patchpu.losses.weak_negative import (
    WeakNegative,
    weak_negative_loss,
    weak_negatives,
)

__all__ = [
    "AssumeNegative",
    "AsymmetricLoss",
    "BinaryCrossentropy",
    "EntropyMaximization",
    "ExpectedNegative",
    "ExpectedPositiveRegularization",
    "GeneralizedRobust",
    "Hill",
    "LargeLoss",
    "MultiLabelLoss",
    "PairwiseRanking",
    "RegularizedOnlineLabelEstimation",
    "SelfPacedLossCorrection",
    "WeakNegative",
    "split_labels",
    "weak_negative_loss",
    "weak_negatives",
]
