"""PR: every observed positive is to rank above the labels not observed present."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import PerLabelLoss


@keras.saving.register_keras_serializable(package="keras_patchpu")
class PairwiseRanking(PerLabelLoss):
    """Hinge on each pair of an observed positive and another label (PR).

    `sum_{i: z+_i = 1} sum_{j: z+_j = 0} max(0, 1 - p_i + p_j)`, averaged over images.
    Probabilities differ by at most 1, so the hinge never cuts anything off, and the sum
    over pairs is computed from two sums over labels.

    Args:
        label_reduction: `"mean"` divides by the number of labels (not of pairs) as in Cole
            et al.'s code, `"sum"` does not. Defaults to `"mean"`.
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
        supplement, whose code it equals.
    """

    def __init__(
        self, label_reduction: str = "mean", name: str = "pairwise_ranking", **kwargs: Any
    ) -> None:
        super().__init__(label_reduction, name, **kwargs)

    def call(self, y_true, y_pred):
        present, _ = split_labels(y_true, y_pred.dtype)
        others = 1.0 - present
        number_of_others = ops.sum(others, axis=-1, keepdims=True)
        sum_of_others = ops.sum(others * y_pred, axis=-1, keepdims=True)
        return self.reduce_labels(present * (number_of_others * (1.0 - y_pred) + sum_of_others))
