"""LL-R, LL-Ct, LL-Cp: an assumed negative of large loss is probably no negative."""

from collections.abc import Collection
from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import PerLabelLoss
from keras_patchpu.utils.validation import check_number, check_one_of, check_positive_integer

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

    LL-Cp keeps its corrections: in every later step they count as observed present. It needs
    `num_images` and `num_labels` to remember them in `loss.estimator`, one row of weights for
    each training image, which a `LabelClassifier` saves with its own: 26 MB for 82,081 images
    and 80 labels. Each call of the loss remembers, a call of `evaluate` too. Without these
    arguments a correction lasts for its step.

    Args:
        scheme: `"reject"` (LL-R), `"correct_temporarily"` (LL-Ct) or
            `"correct_permanently"` (LL-Cp). Defaults to `"reject"`.
        relative_increase: Delta_rel, by how much the share grows with each epoch, a
            fraction: the paper's 0.2 % is 0.002. Defaults to `0.002`.
        num_images: Number of training images, N, for LL-Cp alone. Defaults to `None`: it
            forgets its corrections.
        num_labels: Number of labels, L, with `num_images`. Defaults to `None`.
        label_reduction: `"mean"` over labels as in the paper, rejected ones included, or
            `"sum"`. Defaults to `"mean"`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of `"logits"`, the log-odds `(B, L)` of the labels, and `"epoch"`, the
            epoch counted from 0, a scalar. In epoch 0 nothing is modified. With `num_images`
            also `"image_index"` (B,), the images' different numbers from 0 to N - 1.

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

    needs: Collection[str] = ("logits", "epoch")

    def __init__(
        self,
        scheme: str = "reject",
        relative_increase: float = 0.002,
        num_images: int | None = None,
        num_labels: int | None = None,
        label_reduction: str = "mean",
        name: str = "large_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, name, **kwargs)
        check_one_of("scheme", scheme, ("reject", "correct_temporarily", "correct_permanently"))
        check_number("relative_increase", relative_increase, minimum=0, maximum=1)
        if (num_images is None) != (num_labels is None):
            raise ValueError(
                "Expected `num_images` and `num_labels` together. Received: "
                f"num_images={num_images}, num_labels={num_labels}"
            )
        self.scheme = scheme
        self.relative_increase = relative_increase
        self.num_images = num_images
        self.num_labels = num_labels
        if num_images is not None:
            check_positive_integer("num_images", num_images)
            check_positive_integer("num_labels", num_labels)
            if scheme != "correct_permanently":
                raise ValueError(
                    "Expected `num_images` with scheme='correct_permanently' alone. Received: "
                    f"scheme={scheme!r}, num_images={num_images}"
                )
            self.needs = ("logits", "epoch", "image_index")
            self.estimator = _Corrections(num_images, num_labels, name="corrections")

    def corrections(self, labels: Any, logits: Any, epoch: Any) -> Any:
        """Unknown labels of a batch whose loss is among the largest.

        Args:
            labels: `(B, L)` in {+1, 0, -1}.
            logits: `(B, L)`, the log-odds of the labels.
            epoch: The epoch counted from 0, a scalar.

        Returns:
            Boolean `(B, L)`: the labels that `scheme` rejects or counts as present.
        """
        losses = ops.stop_gradient(ops.softplus(ops.convert_to_tensor(logits)))
        present, absent = split_labels(labels, losses.dtype)
        unknown = present + absent == 0
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
        logits = y_pred["logits"]
        if self.estimator is not None:
            y_true = self.estimator.corrected(y_true, y_pred["image_index"])
        corrections = self.corrections(y_true, logits, y_pred["epoch"])
        if self.estimator is not None:
            self.estimator.add(corrections, y_pred["image_index"])
        present, _ = split_labels(y_true, logits.dtype)
        if_present = ops.softplus(-logits)
        losses = ops.where(present > 0, if_present, ops.softplus(logits))
        instead = ops.zeros_like(logits) if self.scheme == "reject" else if_present
        return self.reduce_labels(ops.where(corrections, instead, losses))

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "scheme": self.scheme,
                "relative_increase": self.relative_increase,
                "num_images": self.num_images,
                "num_labels": self.num_labels,
            }
        )
        return config


class _Corrections(keras.layers.Layer):
    """Which labels of each training image were corrected: 1, and 0 for the others."""

    def __init__(self, num_images, num_labels, **kwargs):
        super().__init__(**kwargs)
        self.found = self.add_weight(
            shape=(num_images, num_labels),
            initializer="zeros",
            dtype="float32",
            trainable=False,
            autocast=False,
            name="found",
        )
        self.built = True

    def corrected(self, labels, image_index):
        """`labels` of the images, where corrected before present."""
        before = ops.take(self.found, ops.cast(image_index, "int32"), axis=0)
        return ops.where(before > 0, ops.ones_like(labels), labels)

    def add(self, corrections, image_index):
        """Adds boolean `corrections` `(B, L)` to those of the images."""
        index = ops.cast(image_index, "int32")
        before = ops.take(self.found, index, axis=0)
        rows = ops.maximum(before, ops.cast(corrections, "float32"))
        self.found.assign(ops.scatter_update(self.found, index[:, None], rows))
