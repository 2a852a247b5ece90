"""The paper's contribution: negatives guessed from the similarity of image embeddings."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.multi_label_loss import MultiLabelLoss
from keras_patchpu.utils.validation import check_boolean, check_number

# The gradient of scaling to length 1 is 1 / length. Of shorter ones it would overflow, so they
# count as zeros.
_SMALLEST_EMBEDDING = 1e-30


def weak_negatives(
    labels: Any, image_embeddings: Any, theta: float = 0.0, stop_gradient: bool = True
) -> Any:
    """How much each unobserved label of an image counts as absent, eq. (7)-(8).

    The weight of label l is its largest thresholded cosine similarity with a label observed
    present: `max_{k: z+_k = 1} phi(sim(e_l, e_k))`, where `phi(x)` is x above theta and 0
    elsewhere. If l looks at the same patches as a label known to be there, and a patch shows
    at most one label, l is not there.

    Memory: the similarities of all pairs, `4 B L^2` bytes, are 256 MB for 2,000 labels and a batch
    of 16. With all that is made of them it is up to 0.8 GB, and 1.3 GB with the gradient.

    Args:
        labels: `(B, L)` in {+1, 0, -1}.
        image_embeddings: `(B, L, F)`, one embedding per label.
        theta: Similarity in [-1, 1] up to which two embeddings count as different. Weights are in
            [0, 1] for `theta >= 0`, and may be negative below. Defaults to `0.0`.
        stop_gradient: Whether weights are constants for the gradient. Defaults to `True`.

    Returns:
        float32 weights `(B, L)`: 0 for a label observed present, 1 for one observed absent, and 0
        for the rest of an image without any label observed present. An embedding whose
        entries are all within 1e-30 of 0 is similar to nothing.

    Reference:
        Jouanneau et al., section 3.3, eq. (7)-(8), Fig. 2.
    """
    present, absent = split_labels(labels)
    unit = _unit(ops.cast(image_embeddings, "float32"))
    if stop_gradient:
        unit = ops.stop_gradient(unit)
    similarity = ops.clip(ops.matmul(unit, ops.transpose(unit, (0, 2, 1))), -1.0, 1.0)
    beta = ops.where(similarity > theta, similarity, 0.0)  # phi, (B, L, L)
    # -1 is the least that beta can be: a label that is not observed present does not win by it.
    weights = ops.max(ops.where(present[:, None, :] > 0, beta, -1.0), axis=-1)
    weights = ops.where(ops.any(present > 0, axis=-1, keepdims=True), weights, 0.0)
    return ops.where(present > 0, 0.0, ops.where(absent > 0, 1.0, weights))


def _unit(embeddings):
    """Embeddings of length 1; those of zeros, and nearly so, are zeros."""
    # Divided by their largest entry first, no square under- or overflows; by infinity: zeros. (It
    # is a constant for the gradient, because it does not change the result.)
    largest = ops.stop_gradient(ops.max(ops.abs(embeddings), axis=-1, keepdims=True))
    embeddings = embeddings / ops.where(largest > _SMALLEST_EMBEDDING, largest, float("inf"))
    squared_length = ops.sum(ops.square(embeddings), axis=-1, keepdims=True)  # 0, or at least 1
    return embeddings * ops.rsqrt(ops.maximum(squared_length, 0.5))


def weak_negative_loss(
    labels: Any, logits: Any, image_embeddings: Any, theta: float = 0.0, stop_gradient: bool = True
) -> Any:
    """Weak negative loss of each image, eq. (6) and (9), for a training loop of one's own.

    `-sum_l z+_l log(p_l) - sum_l w_l log(1 - p_l)` with `p = sigmoid(logits)` and w from
    `weak_negatives`. Computed from log-odds, so it is exact for probabilities of 0 and 1.

    Args:
        labels: `(B, L)` in {+1, 0, -1}.
        logits: `(B, L)`, the log-odds of the labels.
        image_embeddings, theta, stop_gradient: As of `weak_negatives`.

    Returns:
        `(B,)`, of the dtype of `logits`. Eq. (9) sums them; `WeakNegative` averages.

    Reference:
        Jouanneau et al., sections 3.2-3.3, eq. (6)-(9).
    """
    logits = ops.convert_to_tensor(logits)
    present, _ = split_labels(labels, logits.dtype)
    weights = weak_negatives(labels, image_embeddings, theta, stop_gradient)
    weights = ops.cast(weights, logits.dtype)
    return ops.sum(present * ops.softplus(-logits) + weights * ops.softplus(logits), axis=-1)


@keras.saving.register_keras_serializable(package="keras_patchpu")
class WeakNegative(MultiLabelLoss):
    """`weak_negative_loss` as a Keras loss: the mean over images.

    Args:
        theta, stop_gradient: As of `weak_negatives`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of `"logits"` `(B, L)` and `"image_embeddings"` `(B, L, F)`.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Jouanneau et al., sections 3.2-3.3.
    """

    needs = ("logits", "image_embeddings")

    def __init__(
        self,
        theta: float = 0.0,
        stop_gradient: bool = True,
        name: str = "weak_negative",
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        check_number("theta", theta, minimum=-1, maximum=1)
        check_boolean("stop_gradient", stop_gradient)
        self.theta = theta
        self.stop_gradient = stop_gradient

    def call(self, y_true, y_pred):
        logits, embeddings = y_pred["logits"], y_pred["image_embeddings"]
        return weak_negative_loss(y_true, logits, embeddings, self.theta, self.stop_gradient)

    def get_config(self):
        own = {"theta": self.theta, "stop_gradient": self.stop_gradient}
        return {**super().get_config(), **own}
