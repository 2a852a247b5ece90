"""LL-R, LL-Ct, LL-Cp: an assumed negative of large loss is probably no negative."""

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.label_loss import PerLabelLoss, take_inputs
from keras_patchpu.validation import check_number, check_one_of

# Rounding of a product of two decimal fractions must not lift it over an integer.
_BELOW_ONE = 1.0 - 1e-6


@keras.saving.register_keras_serializable(package="keras_patchpu")
class LargeLoss(PerLabelLoss):
    """Assume negative, but the unknown labels of largest loss are rejected or corrected.

    Every label not observed present costs `-log(1 - p)`, one observed present `-log(p)`.
    A network learns clean labels first, so among the labels of a batch the unknown ones of
    largest loss are likely to be present: they cost nothing (LL-R), or `-log(p)` (LL-Ct,
    LL-Cp). Computed from log-odds, so it is exact for probabilities of 0 and 1.

    How many: the share of the batch's B * L labels is `epoch * relative_increase` for LL-R
    and LL-Ct, and from epoch 1 on always `relative_increase` for LL-Cp, whose corrections
    add up; rounded up, ties with the last one included. Observed labels are never among them.

    LL-Cp keeps its corrections for all later epochs. A loss has no memory of images:
    whoever holds the observed labels adds those of `corrections` to them after each step
    or epoch; the loss itself only counts them as present in the step that finds them.

    Args:
        scheme: `"reject"` (LL-R), `"correct_temporarily"` (LL-Ct) or
            `"correct_permanently"` (LL-Cp). Defaults to `"reject"`.
        relative_increase: Delta_rel, by how much the share grows with each epoch, a
            fraction: the paper's 0.2 % is 0.002. Defaults to `0.002`.
        label_reduction: `"mean"` over labels as in the paper, rejected ones included, or
            `"sum"`. Defaults to `"mean"`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of `"logits"`, the log-odds `(B, L)` of the labels, and `"epoch"`, the
            epoch counted from 0, a scalar. In epoch 0 nothing is modified.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Kim et al., "Large loss matters in weakly supervised multi-label classification",
        CVPR 2022. Their code runs LL-Cp as LL-Ct, because it compares strings by identity,
        and lets LL-Cp keep only what lies strictly above the last label corrected in the
        step, hence nothing from a batch with one correction.
    """

    inputs = ("logits", "epoch")

    def __init__(
        self,
        scheme="reject",
        relative_increase=0.002,
        label_reduction="mean",
        name="large_loss",
        **kwargs,
    ):
        super().__init__(label_reduction, name, **kwargs)
        check_one_of("scheme", scheme, ("reject", "correct_temporarily", "correct_permanently"))
        check_number("relative_increase", relative_increase, minimum=0, maximum=1)
        self.scheme = scheme
        self.relative_increase = relative_increase

    def corrections(self, labels, logits, epoch):
        """Unknown labels of a batch whose loss is among the largest.

        Args:
            labels: `(B, L)` in {+1, 0, -1}.
            logits: `(B, L)`, the log-odds of the labels.
            epoch: The epoch counted from 0, a scalar.

        Returns:
            Boolean `(B, L)`: the labels that `scheme` rejects or counts as present.
        """
        losses = ops.stop_gradient(ops.softplus(ops.convert_to_tensor(logits)))
        unknown = ops.equal(ops.convert_to_tensor(labels), 0)
        # Losses are positive: with -1 the observed labels come last.
        ranked = ops.sort(ops.reshape(ops.where(unknown, losses, -1.0), (-1,)))
        number = ops.shape(ranked)[0]
        epoch = ops.cast(epoch, losses.dtype)
        if self.scheme == "correct_permanently":
            epoch = ops.minimum(epoch, 1.0)
        share = ops.minimum(epoch * self.relative_increase, 1.0)
        count = ops.ceil(share * ops.cast(number, losses.dtype) * _BELOW_ONE)
        count = ops.cast(count, "int32")
        threshold = ops.take(ranked, ops.clip(number - count, 0, number - 1))
        return ops.logical_and(unknown, ops.logical_and(count > 0, losses >= threshold))

    def call(self, y_true, y_pred):
        logits, epoch = take_inputs(self, y_pred)
        present, _ = split_labels(y_true, logits.dtype)
        if_present = ops.softplus(-logits)
        losses = ops.where(present > 0, if_present, ops.softplus(logits))
        instead = ops.zeros_like(logits) if self.scheme == "reject" else if_present
        return self.reduce_labels(
            ops.where(self.corrections(y_true, logits, epoch), instead, losses)
        )

    def get_config(self):
        config = super().get_config()
        config.update({"scheme": self.scheme, "relative_increase": self.relative_increase})
        return config
