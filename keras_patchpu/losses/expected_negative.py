"""EN, EN+CL and EN+SCL: negatives by running averages, and consistency with them."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.label_loss import LabelLoss, in_full_precision, take_inputs
from keras_patchpu.utils.validation import check_number, check_one_of, check_positive_integer


@keras.saving.register_keras_serializable(package="keras_patchpu")
class ExpectedNegative(LabelLoss):
    """EN: of the unobserved labels only those not expected to be present are negatives.

    `CE(z+, p) + CE(n, 1 - p)` over labels, with n the *expected negatives*: k N labels are
    expected to be present in N training images; besides the observed ones these are the
    unobserved labels of the highest running-average predictions. All others are negatives.
    Observed negatives always are. `PredictionAverages` keeps the averages and gives n.

    The paper was open to us in its abstract and by short descriptions only. Ours: the ranking is
    one over all images and labels; in the first `warmup_epochs` all unobserved labels are
    negatives; the mean over labels is taken, as in `AssumeNegative`.

    Args:
        warmup_epochs: Epochs without an average to rely on. At least 1. Defaults to `1`.
        label_reduction: `"mean"` over labels or `"sum"`. Defaults to `"mean"`.
        epsilon: Added inside each logarithm. Defaults to `1e-5`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of the class's `inputs`: `"probabilities"` (B, L), `"epoch"` and
            `"expected_negatives"` (B, L) in {0, 1}.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Verelst et al., "Spatial consistency loss for training multi-label classifiers from
        single-label annotations", WACV 2023, arXiv 2203.06127; used in Jouanneau et al.,
        section 4.1 and Table 1.
    """

    needs: tuple[str, ...] = ("probabilities", "epoch", "expected_negatives")

    def __init__(
        self,
        warmup_epochs: int = 1,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        name: str = "expected_negative",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, epsilon, name, **kwargs)
        check_positive_integer("warmup_epochs", warmup_epochs)
        self.warmup_epochs = warmup_epochs

    def call(self, y_true, y_pred):
        predicted, epoch, expected = take_inputs(self, y_pred)[:3]
        present, absent = split_labels(y_true, predicted.dtype)
        negatives = ops.where(self.is_warm(epoch), expected, 1.0)
        negatives = ops.cast(negatives, predicted.dtype) * (1.0 - present)
        return self.weighted_crossentropy(present, ops.maximum(negatives, absent), predicted)

    def is_warm(self, epoch: Any) -> Any:
        """Whether there are averages to rely on in an epoch, counted from 0."""
        return ops.convert_to_tensor(epoch) >= self.warmup_epochs

    def get_config(self):
        config = super().get_config()
        config.update({"warmup_epochs": self.warmup_epochs})
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class ExpectedNegativeConsistency(ExpectedNegative):
    """EN+CL: EN, and predictions that stay close to their running average.

    `EN + consistency_weight * D(p, a)`, with a the running average over epochs of the image's
    predictions, p those on the image as augmented now, and D the squared distance or the cross
    entropy `-a log p - (1 - a) log(1 - p)`, over all labels.

    Our source leaves open, and ours is: the average is of predictions on whole, unchanged
    images after each epoch; the distance is squared by default; its weight is 1.

    Args:
        consistency_weight: Factor of the distance. Defaults to `1.0`.
        distance: `"squared"` or `"crossentropy"`. Defaults to `"squared"`.
        warmup_epochs, label_reduction, epsilon, name, reduction, dtype: As of
            `ExpectedNegative`. There is no distance in the warm-up.

    Call arguments:
        y_true: As of `ExpectedNegative`.
        y_pred: The same and `"average"` (B, L).

    Returns, raises, reference:
        As of `ExpectedNegative`.
    """

    needs = (*ExpectedNegative.needs, "average")

    def __init__(
        self,
        consistency_weight: float = 1.0,
        distance: str = "squared",
        warmup_epochs: int = 1,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        name: str = "expected_negative_consistency",
        **kwargs: Any,
    ) -> None:
        super().__init__(warmup_epochs, label_reduction, epsilon, name, **kwargs)
        check_number("consistency_weight", consistency_weight, minimum=0)
        check_one_of("distance", distance, ("squared", "crossentropy"))
        self.consistency_weight = consistency_weight
        self.distance = distance

    def call(self, y_true, y_pred):
        losses = super().call(y_true, y_pred)
        distances = self.consistency(y_pred)
        weight = ops.where(self.is_warm(y_pred["epoch"]), self.consistency_weight, 0.0)
        return losses + ops.cast(weight, losses.dtype) * distances

    def consistency(self, y_pred: dict[str, Any]) -> Any:
        """Distance of each image, `(B,)`."""
        return self.reduce_labels(self.distances(y_pred["probabilities"], y_pred["average"]))

    def distances(self, predicted: Any, average: Any) -> Any:
        """Distance of each prediction from its average."""
        predicted, average = in_full_precision(predicted), in_full_precision(average)
        if self.distance == "squared":
            return ops.square(predicted - average)
        present = average * ops.log(predicted + self.epsilon)
        return -present - (1.0 - average) * ops.log(1.0 - predicted + self.epsilon)

    def get_config(self):
        config = super().get_config()
        config.update({"consistency_weight": self.consistency_weight, "distance": self.distance})
        return config


@keras.saving.register_keras_serializable(package="keras_patchpu")
class ExpectedNegativeSpatialConsistency(ExpectedNegativeConsistency):
    """EN+SCL: EN, and score maps that stay close to their running average.

    As `ExpectedNegativeConsistency`, with D between the sigmoid of the score maps of the image as
    augmented now and the running-average heat maps of the image, cropped, flipped and resized
    as the image was; averaged over places.

    Args:
        consistency_weight, distance: As of `ExpectedNegativeConsistency`.
        warmup_epochs, label_reduction, epsilon, name, reduction, dtype: As of
            `ExpectedNegative`.

    Call arguments:
        y_true: As of `ExpectedNegative`.
        y_pred: As of `ExpectedNegative`, and `"score_maps"` (B, h, w, L), log-odds, and
            `"average_maps"` (B, h, w, L), probabilities.

    Returns, raises, reference:
        As of `ExpectedNegative`.
    """

    needs = (*ExpectedNegative.needs, "score_maps", "average_maps")

    def __init__(
        self,
        consistency_weight: float = 1.0,
        distance: str = "squared",
        warmup_epochs: int = 1,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        name: str = "expected_negative_spatial_consistency",
        **kwargs: Any,
    ) -> None:
        super().__init__(
            consistency_weight, distance, warmup_epochs, label_reduction, epsilon, name, **kwargs
        )

    def consistency(self, y_pred: dict[str, Any]) -> Any:
        predicted = ops.sigmoid(in_full_precision(y_pred["score_maps"]))
        distances = self.distances(predicted, y_pred["average_maps"])
        return ops.mean(self.reduce_labels(distances), axis=(1, 2))
