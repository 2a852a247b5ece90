"""GR: soft pseudo-labels from the model's own confidence, in a robust loss."""

from collections.abc import Sequence
from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import PerLabelLoss
from keras_patchpu.utils.validation import check_number, check_numbers, check_positive_integer


def _between(ends, share):
    first, last = ends
    return first + (last - first) * ops.clip(share, 0.0, 1.0)


@keras.saving.register_keras_serializable(package="keras_patchpu")
class GeneralizedRobust(PerLabelLoss):
    """Unknown labels as mixtures of a positive and a negative (GR loss).

    `-log(p)` of a label observed present, and of an unknown one
    `v * (k * (1 - p^q2) / q2 + (1 - k) * (1 - (1 - p)^q3) / q3)`. The soft pseudo-label
    `k = sigmoid(w p + b)` estimates whether the label is present, the weight
    `v = exp(-(p - mu)^2 / (2 sigma^2))` moves the attention from all to the confident ones;
    both are constants for the gradient. An exponent near 0 makes a logarithm, 1 the mean
    absolute error. Computed from log-odds.

    w, b, mu and sigma change linearly over the epochs. As in the authors' code epoch t,
    counted from 0, of T takes a share t / T of the way for w and b, and (t + 1) / T for mu
    and sigma; later epochs take all of it. The code adds 1e-7 inside `log(p)`, which is not
    needed here, and optionally trains the last layer alone for some epochs first, which is
    not part of the loss. An observed negative, which the setting of the paper does not
    have, costs `-log(1 - p)`. The formulas are those of the code, the names of the
    parameters those of its description, and the defaults its only ones, for VOC; the code
    does not tell the values for the other sets.

    Args:
        num_epochs: Epochs of training, T.
        slope: w, first and last. Defaults to `(0.0, 2.0)`.
        bias: b, first and last. Defaults to `(-2.0, -2.0)`.
        mean: mu, first and last. Defaults to `(0.5, 0.8)`.
        deviation: sigma, first and last, positive. Defaults to `(2.0, 0.5)`.
        exponent_present: q2, in (0, 1]. Defaults to `0.01`.
        exponent_absent: q3, in (0, 1]. Defaults to `1.0`.
        label_reduction: `"mean"` over labels as in the authors' code, or `"sum"`. Defaults
            to `"mean"`.
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
        Chen et al., "Boosting single positive multi-label classification with generalized
        robust loss", IJCAI 2024, arXiv 2405.03501.
    """

    needs = ("logits", "epoch")

    def __init__(
        self,
        num_epochs: int,
        slope: Sequence[float] = (0.0, 2.0),
        bias: Sequence[float] = (-2.0, -2.0),
        mean: Sequence[float] = (0.5, 0.8),
        deviation: Sequence[float] = (2.0, 0.5),
        exponent_present: float = 0.01,
        exponent_absent: float = 1.0,
        label_reduction: str = "mean",
        name: str = "generalized_robust",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, name, **kwargs)
        check_positive_integer("num_epochs", num_epochs)
        check_numbers("slope", slope, 2)
        check_numbers("bias", bias, 2)
        check_numbers("mean", mean, 2)
        check_numbers("deviation", deviation, 2, above=0)
        check_number("exponent_present", exponent_present, above=0, maximum=1)
        check_number("exponent_absent", exponent_absent, above=0, maximum=1)
        self.num_epochs = num_epochs
        self.slope = tuple(slope)
        self.bias = tuple(bias)
        self.mean = tuple(mean)
        self.deviation = tuple(deviation)
        self.exponent_present = exponent_present
        self.exponent_absent = exponent_absent

    def pseudo_labels(self, probabilities: Any, epoch: Any) -> Any:
        """k: how far an unknown label of each probability is taken for present."""
        share = epoch / self.num_epochs
        return ops.sigmoid(_between(self.slope, share) * probabilities + _between(self.bias, share))

    def weights(self, probabilities: Any, epoch: Any) -> Any:
        """v: how much an unknown label of each probability counts."""
        share = (epoch + 1.0) / self.num_epochs
        distance = probabilities - _between(self.mean, share)
        return ops.exp(-0.5 * ops.square(distance / _between(self.deviation, share)))

    def call(self, y_true, y_pred):
        logits, epoch = y_pred["logits"], y_pred["epoch"]
        present, absent = split_labels(y_true, logits.dtype)
        negative_log, negative_log_complement = ops.softplus(-logits), ops.softplus(logits)
        if_present = -ops.expm1(-self.exponent_present * negative_log) / self.exponent_present
        if_absent = (
            -ops.expm1(-self.exponent_absent * negative_log_complement) / self.exponent_absent
        )
        probabilities = ops.stop_gradient(ops.sigmoid(logits))
        target = self.pseudo_labels(probabilities, epoch)
        unknown = self.weights(probabilities, epoch) * (
            target * if_present + (1.0 - target) * if_absent
        )
        observed = ops.where(absent > 0, negative_log_complement, unknown)
        return self.reduce_labels(ops.where(present > 0, negative_log, observed))

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "num_epochs": self.num_epochs,
                "slope": self.slope,
                "bias": self.bias,
                "mean": self.mean,
                "deviation": self.deviation,
                "exponent_present": self.exponent_present,
                "exponent_absent": self.exponent_absent,
            }
        )
        return config
