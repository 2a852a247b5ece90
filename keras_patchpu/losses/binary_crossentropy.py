"""Losses that need only labels and probabilities: eq. (5), its AN form, and EPR."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import CrossentropyLoss
from keras_patchpu.utils.validation import check_number


def _smoothed(present, absent, label_smoothing):
    """Weights of presence and absence with a share `label_smoothing` of each in the other."""
    kept = 1.0 - label_smoothing
    return kept * present + label_smoothing * absent, kept * absent + label_smoothing * present


@keras.saving.register_keras_serializable(package="keras_patchpu")
class BinaryCrossentropy(CrossentropyLoss):
    """Cross entropy of the observed labels, eq. (5): full supervision where all are known.

    `-sum_l z+_l log(p_l) + z-_l log(1 - p_l)`, averaged over images. Unknown labels
    (0) count for nothing: a set annotated in full has none.

    Cole et al.'s losses on other labels are this one with `label_reduction="mean"`: BCE on
    the true labels, BCE-LS with `label_smoothing` besides, IU ("ignore unobserved") on
    observed positives and negatives, IUN on observed positives and all true negatives.

    Args:
        label_reduction: `"sum"` over labels as in the paper, or `"mean"` as in Cole et
            al.'s code. Defaults to `"sum"`.
        epsilon: Added inside each logarithm, so that probabilities of 0 and 1 are
            finite. Defaults to `1e-5`, as in Cole et al.'s code.
        label_smoothing: Share of a label that counts for the opposite, in [0, 0.5]: 0.1
            makes targets of 0.9 and 0.1 (`keras.losses.BinaryCrossentropy` would make 0.95
            and 0.05). Defaults to `0.0`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: `(B, L)` probabilities.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Jouanneau et al., section 3.2, eq. (4)-(5); BCE-LS, IU and IUN: Cole et al.,
        "Multi-label learning from single positive labels", CVPR 2021.
    """

    def __init__(
        self,
        label_reduction: str = "sum",
        epsilon: float = 1e-5,
        label_smoothing: float = 0.0,
        name: str = "binary_crossentropy",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, epsilon, name, **kwargs)
        check_number("label_smoothing", label_smoothing, minimum=0, maximum=0.5)
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        present, absent = split_labels(y_true, y_pred.dtype)
        if self.label_smoothing:
            present, absent = _smoothed(present, absent, self.label_smoothing)
        return self.reduce_labels(self.crossentropy(present, absent, y_pred))

    def get_config(self):
        config = super().get_config()
        config.update({"label_smoothing": self.label_smoothing})
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class AssumeNegative(CrossentropyLoss):
    """Every label not observed present counts as absent (AN).

    `CE(z+, p) + weight * CE(1 - z+, 1 - p)`, averaged over images.

    Args:
        weight: Lambda of section 3.2, the weight of the assumed negatives, or `"balanced"`
            for `1 / (L - 1)`, with which a single positive counts as much as all of them:
            the WAN of Cole et al. Defaults to `1.0`.
        label_reduction: `"mean"` over labels as in Cole et al.'s code, or `"sum"`.
            Defaults to `"mean"`.
        epsilon: Added inside each logarithm. Defaults to `1e-5`.
        label_smoothing: Share of a label that counts for the opposite, in [0, 0.5]: 0.1
            makes targets of 0.9 and 0.1, the AN-LS of Cole et al. Defaults to `0.0`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: `(B, L)` probabilities.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Jouanneau et al., section 3.2; AN, AN-LS and WAN: Cole et al., "Multi-label
        learning from single positive labels", CVPR 2021, whose code it equals.
    """

    def __init__(
        self,
        weight: float | str = 1.0,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        label_smoothing: float = 0.0,
        name: str = "assume_negative",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, epsilon, name, **kwargs)
        if weight != "balanced":
            check_number("weight", weight, minimum=0)
        check_number("label_smoothing", label_smoothing, minimum=0, maximum=0.5)
        self.weight = weight
        self.label_smoothing = label_smoothing

    def call(self, y_true, y_pred):
        # One label has no negatives beside its positive: then any weight would do.
        balanced = 1.0 / max(y_pred.shape[-1] - 1, 1)
        weight = balanced if self.weight == "balanced" else self.weight
        present, _ = split_labels(y_true, y_pred.dtype)
        absent = weight * (1.0 - present)
        if self.label_smoothing:
            present, absent = _smoothed(present, absent, self.label_smoothing)
        return self.reduce_labels(self.crossentropy(present, absent, y_pred))

    def get_config(self):
        config = super().get_config()
        config.update({"weight": self.weight, "label_smoothing": self.label_smoothing})
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class ExpectedPositiveRegularization(CrossentropyLoss):
    """Observed positives, plus a penalty on the mean number of predicted ones (EPR).

    `CE(z+, p)` averaged over images, plus `((mean_b sum_l p - expected_positives) / L)^2`.
    Observed negatives, which the setting of the paper does not have, add `CE(z-, 1 - p)`.
    The penalty is one number for the batch: with `reduction=None` each image carries it.

    Args:
        expected_positives: Mean number of present labels an image, k: 1.38 for VOC 2012
            and 2.92 for COCO 2014.
        label_reduction: `"mean"` over labels as in Cole et al.'s code, or `"sum"`, which
            multiplies the penalty by L too. Defaults to `"mean"`.
        epsilon: Added inside each logarithm. Defaults to `1e-5`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: `(B, L)` probabilities.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Cole et al., "Multi-label learning from single positive labels", CVPR 2021,
        section 4; used in Jouanneau et al., section 4.1.
    """

    def __init__(
        self,
        expected_positives: float,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        name: str = "expected_positive_regularization",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, epsilon, name, **kwargs)
        check_number("expected_positives", expected_positives, above=0)
        self.expected_positives = expected_positives

    def call(self, y_true, y_pred):
        present, absent = split_labels(y_true, y_pred.dtype)
        num_labels = ops.cast(ops.shape(y_pred)[-1], y_pred.dtype)
        predicted = ops.mean(ops.sum(y_pred, axis=-1))
        penalty = ops.square((predicted - self.expected_positives) / num_labels)
        if self.label_reduction == "sum":
            penalty = penalty * num_labels
        return self.reduce_labels(self.crossentropy(present, absent, y_pred)) + penalty

    def get_config(self):
        config = super().get_config()
        config.update({"expected_positives": self.expected_positives})
        return config
