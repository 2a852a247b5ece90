"""EN, EN+CL and EN+SCL: negatives by running averages, and consistency with them."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import CrossentropyLoss
from keras_patchpu.utils.validation import check_number, check_one_of, check_positive_integer

_NEEDS = ("probabilities", "epoch", "expected_negatives")
_CONSISTENCY_NEEDS = {
    None: (),
    "predictions": ("average",),
    "score_maps": ("score_maps", "average_maps"),
}


@keras.saving.register_keras_serializable(package="keras_patchpu")
class ExpectedNegative(CrossentropyLoss):
    """EN: of the unobserved labels only those not expected to be present are negatives.

    `CE(z+, p) + CE(n, 1 - p)` over labels, with n the *expected negatives*: k N labels are
    expected to be present in N training images; besides the observed ones these are the
    unobserved labels of the highest running-average predictions. All others are negatives.
    Observed negatives always are. `callbacks.PredictionAverages` keeps the averages and gives n.

    With `consistency` the loss adds `consistency_weight * D(x, a)`: the distance over all labels
    of what the model says of the image as augmented now from the running average over epochs, by
    squares, `(x - a)^2`, or by cross entropy, `-a log x - (1 - a) log(1 - x)`. EN+CL compares
    `"predictions"`. EN+SCL compares `"score_maps"`: their sigmoid with the averages of it,
    cropped, flipped and resized as the image was; averaged over places.

    The paper was open to us in its abstract and by short descriptions only. Ours: the ranking is
    one over all images and labels; in the first `warmup_epochs` all unobserved labels are
    negatives and there is no distance; the mean over labels is taken, as in `AssumeNegative`;
    averages are of whole, unchanged images after each epoch; the distance is squared by
    default, and its weight 1.

    Args:
        consistency: `None` (EN), `"predictions"` (EN+CL) or `"score_maps"` (EN+SCL). Defaults to
            `None`.
        consistency_weight: Factor of the distance. Defaults to `1.0`.
        distance: `"squared"` or `"crossentropy"`. Defaults to `"squared"`.
        warmup_epochs: Epochs without an average to rely on. At least 1. Defaults to `1`.
        label_reduction: `"mean"` over labels or `"sum"`. Defaults to `"mean"`.
        epsilon: Added inside each logarithm. Defaults to `1e-5`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of `"probabilities"` (B, L), `"epoch"` and `"expected_negatives"` (B, L) in
            {0, 1}. For `"predictions"` also `"average"` (B, L); for `"score_maps"` also
            `"score_maps"` (B, h, w, L), log-odds, and `"average_maps"` (B, h, w, L),
            probabilities.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Verelst et al., "Spatial consistency loss for training multi-label classifiers from
        single-label annotations", WACV 2023, arXiv 2203.06127; used in Jouanneau et al.,
        section 4.1 and Table 1.
    """

    def __init__(
        self,
        consistency: str | None = None,
        consistency_weight: float = 1.0,
        distance: str = "squared",
        warmup_epochs: int = 1,
        label_reduction: str = "mean",
        epsilon: float = 1e-5,
        name: str = "expected_negative",
        **kwargs: Any,
    ) -> None:
        super().__init__(label_reduction, epsilon, name, **kwargs)
        check_one_of("consistency", consistency, tuple(_CONSISTENCY_NEEDS))
        check_number("consistency_weight", consistency_weight, minimum=0)
        check_one_of("distance", distance, ("squared", "crossentropy"))
        check_positive_integer("warmup_epochs", warmup_epochs)
        self.consistency = consistency
        self.consistency_weight = consistency_weight
        self.distance = distance
        self.warmup_epochs = warmup_epochs
        self.needs = (*_NEEDS, *_CONSISTENCY_NEEDS[consistency])

    def call(self, y_true, y_pred):
        p, is_warm = y_pred["probabilities"], y_pred["epoch"] >= self.warmup_epochs
        present, absent = split_labels(y_true, p.dtype)
        negatives = ops.where(is_warm, y_pred["expected_negatives"], 1.0) * (1.0 - present)
        losses = self.crossentropy(present, ops.maximum(negatives, absent), p)
        losses = self.reduce_labels(losses)
        if self.consistency is None:
            return losses
        weight = ops.where(is_warm, self.consistency_weight, 0.0)
        return losses + ops.cast(weight, losses.dtype) * self._inconsistency(y_pred)

    def _inconsistency(self, y_pred):
        """D of each image, `(B,)`."""
        if self.consistency == "predictions":
            distances = self._distances(y_pred["probabilities"], y_pred["average"])
            return self.reduce_labels(distances)
        maps = ops.sigmoid(y_pred["score_maps"])
        distances = self._distances(maps, y_pred["average_maps"])
        return ops.mean(self.reduce_labels(distances), axis=(1, 2))

    def _distances(self, found, average):
        """D of each label, of the shape of both."""
        if self.distance == "squared":
            return ops.square(found - average)
        return self.crossentropy(average, 1.0 - average, found)

    def get_config(self):
        return {
            **super().get_config(),
            "consistency": self.consistency,
            "consistency_weight": self.consistency_weight,
            "distance": self.distance,
            "warmup_epochs": self.warmup_epochs,
        }
