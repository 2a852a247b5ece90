"""Hill and SPLC, the losses of Zhang et al. for missing labels."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import PerLabelLoss
from keras_patchpu.utils.validation import check_number, check_positive_integer


def _focal(logits, gamma):
    """`-(1 - p)^gamma log(p)`, p = sigmoid(logits), exact for any log-odds."""
    return ops.exp(-gamma * ops.softplus(logits)) * ops.softplus(-logits)


@keras.saving.register_keras_serializable(package="keras_patchpu")
class Hill(PerLabelLoss):
    """Negatives that are confidently predicted present count less (Hill loss).

    `-(1 - p_m)^gamma log(p_m)` of a label observed present, with
    `p_m = sigmoid(logit - margin)`, and `(weight_offset - p) p^2` of any other: a squared
    error whose slope falls again towards p = 1, where the negative is probably a missing
    positive.

    Args:
        weight_offset: The paper's lambda, at least 1. With 1.5 the slope is 0 at p = 1.
            Defaults to `1.5`.
        margin: Subtracted from the log-odds of positives, at least 0. Defaults to `1.0`.
        gamma: Exponent of the focusing weight of positives, at least 0. Defaults to `2.0`.
        label_reduction: `"sum"` over labels, or `"mean"`. (The authors sum over images
            too.) Defaults to `"sum"`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of `"logits"`, the log-odds `(B, L)` of the labels.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Zhang et al., "Simple and robust loss design for multi-label learning with missing
        labels", 2021, arXiv 2112.07368.
    """

    needs = ("logits",)

    def __init__(
        self,
        weight_offset: float = 1.5,
        margin: float = 1.0,
        gamma: float = 2.0,
        label_reduction: str = "sum",
        name: str = "hill",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, name, **kwargs)
        check_number("weight_offset", weight_offset, minimum=1)
        check_number("margin", margin, minimum=0)
        check_number("gamma", gamma, minimum=0)
        self.weight_offset = weight_offset
        self.margin = margin
        self.gamma = gamma

    def call(self, y_true, y_pred):
        logits = y_pred["logits"]
        present, _ = split_labels(y_true, logits.dtype)
        probabilities = ops.sigmoid(logits)
        negative = (self.weight_offset - probabilities) * ops.square(probabilities)
        positive = _focal(logits - self.margin, self.gamma)
        return self.reduce_labels(ops.where(present > 0, positive, negative))

    def get_config(self):
        config = super().get_config()
        config.update(
            {"weight_offset": self.weight_offset, "margin": self.margin, "gamma": self.gamma}
        )
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class SelfPacedLossCorrection(PerLabelLoss):
    """Focal loss that takes confidently predicted unknown labels for present (SPLC).

    `-(1 - p_m)^gamma log(p_m)` of a label observed present, with
    `p_m = sigmoid(logit - margin)`, and `-p^gamma log(1 - p)` of any other. From
    `first_epoch` on an unknown label with `p > tau` costs `-(1 - p)^gamma log(p)` instead:
    without a margin, as in the authors' code. Observed negatives are never corrected.

    Args:
        tau: Probability above which an unknown label counts as present. Defaults to `0.6`.
        first_epoch: Epoch, counted from 0, from which labels are corrected. Defaults to
            `1`: all but the first.
        margin: Subtracted from the log-odds of positives, at least 0. Defaults to `1.0`.
        gamma: Exponent of the focusing weight, at least 0. Defaults to `2.0`.
        label_reduction: `"sum"` over labels, or `"mean"`. (The authors sum over images
            too.) Defaults to `"sum"`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of `"logits"`, the log-odds `(B, L)` of the labels, and `"epoch"`, the
            epoch counted from 0, a scalar.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Zhang et al., "Simple and robust loss design for multi-label learning with missing
        labels", 2021, arXiv 2112.07368.
    """

    needs = ("logits", "epoch")

    def __init__(
        self,
        tau: float = 0.6,
        first_epoch: int = 1,
        margin: float = 1.0,
        gamma: float = 2.0,
        label_reduction: str = "sum",
        name: str = "self_paced_loss_correction",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, name, **kwargs)
        check_number("tau", tau, minimum=0, maximum=1)
        check_positive_integer("first_epoch", first_epoch, minimum=0)
        check_number("margin", margin, minimum=0)
        check_number("gamma", gamma, minimum=0)
        self.tau = tau
        self.first_epoch = first_epoch
        self.margin = margin
        self.gamma = gamma

    def call(self, y_true, y_pred):
        logits, epoch = y_pred["logits"], y_pred["epoch"]
        present, absent = split_labels(y_true, logits.dtype)
        missing = ops.logical_and(ops.sigmoid(logits) > self.tau, present + absent == 0)
        missing = ops.logical_and(missing, epoch >= self.first_epoch)
        # The log-odds of what each label is taken for.
        right = ops.where(missing, logits, -logits)
        right = ops.where(present > 0, logits - self.margin, right)
        return self.reduce_labels(_focal(right, self.gamma))

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "tau": self.tau,
                "first_epoch": self.first_epoch,
                "margin": self.margin,
                "gamma": self.gamma,
            }
        )
        return config
