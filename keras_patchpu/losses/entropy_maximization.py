"""EM and EM+APL: unknown labels are acknowledged as unknown."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import CrossentropyLoss
from keras_patchpu.utils.validation import check_boolean, check_number


@keras.saving.register_keras_serializable(package="keras_patchpu")
class EntropyMaximization(CrossentropyLoss):
    """Observed positives, plus a reward for uncertainty about unknown labels (EM).

    `-log(p)` of a label observed present, `-alpha * H(p)` of an unknown one, where
    `H(p) = -p log(p) - (1 - p) log(1 - p)`; an observed negative, which the paper does not
    have, costs `-log(1 - p)`. The loss may be negative.

    With asymmetric pseudo-labels (EM+APL) some unknown labels have a soft target q in [0, 1], and
    cost `beta * (-q log(p) - (1 - q) log(1 - p))` instead. `callbacks.PseudoLabels` makes them as
    the authors do, after each epoch from the third to fifth on: of every label in the images in
    which it is unknown and least probable, with the predicted probability as target.

    Args:
        alpha: Weight of the entropy: 0.2 for VOC, 0.1 for COCO and NUS-WIDE, 0.01 for CUB
            in the authors' code. Defaults to `0.1`.
        beta: Weight of the soft pseudo-labels: 0.02 for VOC, 0.9 for COCO, 0.2 for
            NUS-WIDE, 0.4 for CUB. Without them it has no effect. Defaults to `0.9`.
        pseudo_labels: Whether there are soft pseudo-labels, which the loss then needs beside the
            labels. Defaults to `False`.
        label_reduction: `"mean"` over labels as in the authors' code, or `"sum"`. Defaults
            to `"mean"`.
        epsilon: Added inside each logarithm. Defaults to `1e-5`, as in the authors' code.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: `(B, L)` probabilities. With `pseudo_labels` a dict of `"probabilities"` and
            `"pseudo_labels"` (B, L): q, or -1 where there is none; those of observed labels do
            not count. With a `MultiLabelClassifier` `y` is a dict of `"labels"` and
            `"pseudo_labels"`.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Zhou et al., "Acknowledging the unknown for multi-label learning with single
        positive labels", ECCV 2022.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 0.9,
        pseudo_labels: bool = False,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        name: str = "entropy_maximization",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, epsilon, name, **kwargs)
        check_number("alpha", alpha, minimum=0)
        check_number("beta", beta, minimum=0)
        check_boolean("pseudo_labels", pseudo_labels)
        self.alpha = alpha
        self.beta = beta
        self.pseudo_labels = pseudo_labels
        if pseudo_labels:
            self.needs = ("probabilities", "pseudo_labels")

    def call(self, y_true, y_pred):
        p = y_pred["probabilities"] if self.pseudo_labels else y_pred
        present, absent = split_labels(y_true, p.dtype)
        unknown = 1.0 - present - absent
        # The entropy is a cross entropy, too, whose targets are the predictions.
        target, weight = p, -self.alpha * unknown
        if self.pseudo_labels:
            has_target = y_pred["pseudo_labels"] >= 0
            target = ops.where(has_target, y_pred["pseudo_labels"], p)
            weight = ops.where(has_target, self.beta * unknown, weight)
        weight_present = present + weight * target
        weight_absent = absent + weight * (1.0 - target)
        return self.reduce_labels(self.crossentropy(weight_present, weight_absent, p))

    def get_config(self):
        return {
            **super().get_config(),
            "alpha": self.alpha,
            "beta": self.beta,
            "pseudo_labels": self.pseudo_labels,
        }
