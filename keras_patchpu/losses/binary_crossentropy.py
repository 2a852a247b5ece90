"""Losses that need only labels and probabilities: eq. (5), its AN form, and EPR."""

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.validation import check_number, check_one_of


class LabelLoss(keras.losses.Loss):
    """What the losses over labels and probabilities share: -log(p + epsilon), per image.

    Subclasses give the weight of each label's presence and absence.
    """

    def __init__(self, label_reduction, epsilon, name, **kwargs):
        super().__init__(name=name, **kwargs)
        check_one_of("label_reduction", label_reduction, ("sum", "mean"))
        check_number("epsilon", epsilon, above=0, below=1)
        self.label_reduction = label_reduction
        self.epsilon = epsilon

    def weighted_crossentropy(self, present, absent, probabilities):
        """Cross entropy of each image, `(B,)`, for weights `(B, L)` of presence and absence."""
        losses = -present * ops.log(probabilities + self.epsilon)
        if absent is not None:
            losses = losses - absent * ops.log(1.0 - probabilities + self.epsilon)
        reduce = ops.sum if self.label_reduction == "sum" else ops.mean
        return reduce(losses, axis=-1)

    def get_config(self):
        config = super().get_config()
        config.update({"label_reduction": self.label_reduction, "epsilon": self.epsilon})
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class BinaryCrossentropy(LabelLoss):
    """Cross entropy of the observed labels, eq. (5): full supervision where all are known.

    `-sum_l z+_l log(p_l) + z-_l log(1 - p_l)`, averaged over images. Unknown labels
    (0) count for nothing: a set annotated in full has none.

    Args:
        label_reduction: `"sum"` over labels as in the paper, or `"mean"` as in Cole et
            al.'s code. Defaults to `"sum"`.
        epsilon: Added inside each logarithm, so that probabilities of 0 and 1 are
            finite. Defaults to `1e-5`, as in Cole et al.'s code.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: `(B, L)` probabilities.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Jouanneau et al., section 3.2, eq. (4)-(5).
    """

    def __init__(self, label_reduction="sum", epsilon=1e-5, name="binary_crossentropy", **kwargs):
        super().__init__(label_reduction, epsilon, name, **kwargs)

    def call(self, y_true, y_pred):
        present, absent = split_labels(y_true, y_pred.dtype)
        return self.weighted_crossentropy(present, absent, y_pred)


@keras.saving.register_keras_serializable(package="keras_patchpu")
class AssumeNegative(LabelLoss):
    """Every label not observed present counts as absent (AN).

    `CE(z+, p) + weight * CE(1 - z+, 1 - p)`, averaged over images.

    Args:
        weight: Lambda of section 3.2, the weight of the assumed negatives. Defaults to
            `1.0`.
        label_reduction: `"mean"` over labels as in Cole et al.'s code, or `"sum"`.
            Defaults to `"mean"`.
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
        Jouanneau et al., section 3.2; Cole et al., "Multi-label learning from single
        positive labels", CVPR 2021, whose code it equals with `weight=1`.
    """

    def __init__(
        self,
        weight=1.0,
        label_reduction="mean",
        epsilon=1e-5,
        name="assume_negative",
        **kwargs,
    ):
        super().__init__(label_reduction, epsilon, name, **kwargs)
        check_number("weight", weight, minimum=0)
        self.weight = weight

    def call(self, y_true, y_pred):
        present, _ = split_labels(y_true, y_pred.dtype)
        return self.weighted_crossentropy(present, self.weight * (1.0 - present), y_pred)

    def get_config(self):
        config = super().get_config()
        config.update({"weight": self.weight})
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class ExpectedPositiveRegularization(LabelLoss):
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
        expected_positives,
        label_reduction="mean",
        epsilon=1e-5,
        name="expected_positive_regularization",
        **kwargs,
    ):
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
        return self.weighted_crossentropy(present, absent, y_pred) + penalty

    def get_config(self):
        config = super().get_config()
        config.update({"expected_positives": self.expected_positives})
        return config
