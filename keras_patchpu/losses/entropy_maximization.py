"""EM and EM+APL: unknown labels are acknowledged as unknown."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.label_loss import LabelLoss, in_full_precision
from keras_patchpu.utils.validation import check_number


@keras.saving.register_keras_serializable(package="keras_patchpu")
class EntropyMaximization(LabelLoss):
    """Observed positives, plus a reward for uncertainty about unknown labels (EM).

    `-log(p)` of a label observed present, `-alpha * H(p)` of an unknown one, where
    `H(p) = -p log(p) - (1 - p) log(1 - p)`; an observed negative, which the paper does not
    have, costs `-log(1 - p)`. The loss may be negative.

    With asymmetric pseudo-labels (EM+APL) some labels have a soft target q in [0, 1),
    and cost `beta * (-q log(p) - (1 - q) log(1 - p))`. They are written into `y_true` as
    `-q`, between unknown (0) and observed absent (-1); a target of exactly 0 would read as
    unknown. `datasets.PseudoLabels` makes them as the authors do, after each epoch from the third
    to fifth on: of every label in the images in which it is unknown and least probable, with the
    predicted probability as target.

    Args:
        alpha: Weight of the entropy: 0.2 for VOC, 0.1 for COCO and NUS-WIDE, 0.01 for CUB
            in the authors' code. Defaults to `0.1`.
        beta: Weight of the soft pseudo-labels: 0.02 for VOC, 0.9 for COCO, 0.2 for
            NUS-WIDE, 0.4 for CUB. Without them it has no effect. Defaults to `0.9`.
        label_reduction: `"mean"` over labels as in the authors' code, or `"sum"`. Defaults
            to `"mean"`.
        epsilon: Added inside each logarithm. Defaults to `1e-5`, as in the authors' code.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}, or `-q` for a soft pseudo-label q.
        y_pred: `(B, L)` probabilities.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range.

    Reference:
        Zhou et al., "Acknowledging the unknown for multi-label learning with single
        positive labels", ECCV 2022.
    """

    def __init__(
        self,
        alpha: float = 0.1,
        beta: float = 0.9,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        name: str = "entropy_maximization",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, epsilon, name, **kwargs)
        check_number("alpha", alpha, minimum=0)
        check_number("beta", beta, minimum=0)
        self.alpha = alpha
        self.beta = beta

    def call(self, y_true, y_pred):
        y_pred = in_full_precision(y_pred)
        present, negative = split_labels(y_true, y_pred.dtype)
        absent = ops.cast(y_true <= -1.0, y_pred.dtype)
        pseudo = negative - absent
        unknown = 1.0 - present - negative
        target = -ops.cast(y_true, y_pred.dtype)
        # The entropy is a cross entropy too, whose targets are the predictions.
        weight_present = present - self.alpha * unknown * y_pred + self.beta * pseudo * target
        weight_absent = (
            absent - self.alpha * unknown * (1.0 - y_pred) + self.beta * pseudo * (1.0 - target)
        )
        return self.weighted_crossentropy(weight_present, weight_absent, y_pred)

    def get_config(self):
        config = super().get_config()
        config.update({"alpha": self.alpha, "beta": self.beta})
        return config
