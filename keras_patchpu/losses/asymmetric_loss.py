"""ASL: positives and negatives are focused differently, and easy negatives cost nothing."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import PerLabelLoss
from keras_patchpu.utils.validation import check_boolean, check_number


def _power(base, exponent):
    """`base ** exponent` for a base >= 0, whose gradient is finite at 0; 0 ** 0 is 1."""
    if exponent == 0:
        return ops.ones_like(base)
    return ops.where(base > 0, ops.power(ops.where(base > 0, base, 1.0), exponent), 0.0)


@keras.saving.register_keras_serializable(package="keras_patchpu")
class AsymmetricLoss(PerLabelLoss):
    """Focal loss with other exponents for positives than for negatives (ASL).

    `-(1 - p)^gamma_positive log(p)` of a label observed present, and
    `-p_m^gamma_negative log(1 - p_m)` of any other, where
    `p_m = max(p - probability_margin, 0)`. Equal exponents without a margin make the focal
    loss, exponents of 0 cross entropy.

    Args:
        gamma_positive: Focusing exponent of positives, at least 0. Defaults to `0.0`.
        gamma_negative: Focusing exponent of the others, at least 0. Defaults to `4.0`.
        probability_margin: The paper's m, in [0, 1): negatives of a smaller probability
            cost nothing. Defaults to `0.05`.
        stop_gradient: Whether the focusing weight is a constant for the gradient, as by
            default in the authors' code. Defaults to `True`.
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
        Ridnik et al., "Asymmetric loss for multi-label classification", ICCV 2021.
    """

    needs = ("logits",)

    def __init__(
        self,
        gamma_positive: float = 0.0,
        gamma_negative: float = 4.0,
        probability_margin: float = 0.05,
        stop_gradient: bool = True,
        label_reduction: str = "sum",
        name: str = "asymmetric_loss",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, name, **kwargs)
        check_number("gamma_positive", gamma_positive, minimum=0)
        check_number("gamma_negative", gamma_negative, minimum=0)
        check_number("probability_margin", probability_margin, minimum=0, below=1)
        check_boolean("stop_gradient", stop_gradient)
        self.gamma_positive = gamma_positive
        self.gamma_negative = gamma_negative
        self.probability_margin = probability_margin
        self.stop_gradient = stop_gradient

    def call(self, y_true, y_pred):
        logits = y_pred["logits"]
        present, _ = split_labels(y_true, logits.dtype)
        # 1 - p without cancellation.
        probabilities, complements = ops.sigmoid(logits), ops.sigmoid(-logits)
        positive = ops.softplus(-logits)
        if self.probability_margin > 0:
            shifted = ops.maximum(probabilities - self.probability_margin, 0.0)
            negative = -ops.log(ops.minimum(complements + self.probability_margin, 1.0))
        else:
            shifted, negative = probabilities, ops.softplus(logits)
        weight = ops.where(
            present > 0,
            _power(complements, self.gamma_positive),
            _power(shifted, self.gamma_negative),
        )
        if self.stop_gradient:
            weight = ops.stop_gradient(weight)
        return self.reduce_labels(weight * ops.where(present > 0, positive, negative))

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "gamma_positive": self.gamma_positive,
                "gamma_negative": self.gamma_negative,
                "probability_margin": self.probability_margin,
                "stop_gradient": self.stop_gradient,
            }
        )
        return config
