"""The paper's contribution: negatives guessed from the similarity of image embeddings."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.losses.label_domain import split_labels
from keras_patchpu.losses.label_loss import take_inputs
from keras_patchpu.utils.validation import check_number

# Observed labels compared at a time. Few images have more observed labels: one pass, as a rule.
_OBSERVED_AT_ONCE = 16
# Embeddings without a larger entry count as zeros: the gradient of their direction, the inverse
# of their length, would overflow.
_SMALLEST_EMBEDDING = 1e-30


def weak_negatives(
    labels: Any, image_embeddings: Any, theta: float = 0.0, stop_gradient: bool = False
) -> Any:
    """How much each unobserved label of an image counts as absent, eq. (7)-(8).

    The weight of label l is its largest thresholded cosine similarity with a label
    observed present: `max_{k: z+_k = 1} phi(sim(e_l, e_k))`, where `phi(x)` is x above
    theta and 0 elsewhere. If l looks at the same patches as a label known to be there,
    and a patch shows at most one label, l is not there.

    Only similarities with observed labels are computed: time grows with L times the
    largest number of observed labels of an image, memory with L alone.

    Args:
        labels: `(B, L)` in {+1, 0, -1}.
        image_embeddings: `(B, L, F)`, one embedding per label.
        theta: Similarity at or below which two embeddings count as different, in
            [-1, 1]. Weights are in [0, 1] for `theta >= 0`. Defaults to `0.0`.
        stop_gradient: Whether the weights are constants for the gradient, which saves
            time and memory. Defaults to `False`.

    Returns:
        float32 weights `(B, L)`: 0 for a label observed present, 1 for one observed
        absent, and 0 for the rest of an image without any label observed present. An
        embedding of zeros is similar to nothing, and so is one without an entry above 1e-30.

    Reference:
        Jouanneau et al., section 3.3, eq. (7)-(8), Fig. 2.
    """
    present, absent = split_labels(labels)
    embeddings = ops.cast(image_embeddings, "float32")
    if stop_gradient:
        embeddings = ops.stop_gradient(embeddings)
    # To a largest entry of 1 first, so that no square under- or overflows; zeros stay zeros.
    scale = ops.stop_gradient(ops.max(ops.abs(embeddings), axis=-1, keepdims=True))
    embeddings = embeddings / ops.where(scale > _SMALLEST_EMBEDDING, scale, 1.0)
    squared_norm = ops.sum(ops.square(embeddings), axis=-1, keepdims=True)
    unit = embeddings * ops.rsqrt(ops.maximum(squared_norm, 0.5))
    # The search is a loop of unknown length, which XLA cannot differentiate. The gradient only
    # needs the similarity that was found. (Of equal ones a single one gets all of it.)
    weights, most_similar = _most_similar_observed(present, ops.stop_gradient(unit), theta)
    weights = ops.stop_gradient(weights)  # or TensorFlow makes the loop's gradient, unused
    if not stop_gradient:
        similarity = ops.sum(unit * _take_labels(unit, most_similar), axis=-1)
        weights = ops.where(weights < -1.0, weights, _phi(similarity, theta))
    weights = ops.where(weights < -1.0, 0.0, weights)
    return ops.where(present > 0, 0.0, ops.where(absent > 0, 1.0, weights))


def _phi(similarity, theta):
    similarity = ops.clip(similarity, -1.0, 1.0)
    return ops.where(similarity > theta, similarity, 0.0)


def _take_labels(x, indices):
    """Rows `(B, K, F)` of `x` `(B, L, F)`, each image by its own indices `(B, K)`."""
    batch, num_labels, features = ops.shape(x)
    first = num_labels * ops.arange(batch, dtype="int32")
    return ops.take(ops.reshape(x, (-1, features)), indices + first[:, None], axis=0)


def _most_similar_observed(present, unit, theta):
    """Largest phi(similarity) with an observed label, and that label, both `(B, L)`.

    -2 and any label in an image without an observed label.
    """
    num_labels = unit.shape[1]
    size = min(_OBSERVED_AT_ONCE, num_labels)
    observed_first = ops.argsort(-present, axis=-1)
    count = ops.cast(ops.sum(present, axis=-1, keepdims=True), "int32")
    largest_count = ops.max(count)

    def compare(start, best, most_similar):
        # The last block begins early rather than end behind the labels: some are seen twice.
        places = ops.minimum(start, num_labels - size) + ops.arange(size, dtype="int32")
        observed = ops.take(observed_first, places, axis=1)
        similarity = ops.matmul(unit, ops.transpose(_take_labels(unit, observed), (0, 2, 1)))
        beta = _phi(similarity, theta)
        # Smaller than any beta, so that it wins only where nothing is observed present.
        beta = ops.where((places < count)[:, None, :], beta, -2.0)
        found = ops.take_along_axis(observed, ops.argmax(beta, axis=-1), axis=1)
        beta = ops.max(beta, axis=-1)
        most_similar = ops.where(beta > best, found, most_similar)
        return start + size, ops.maximum(best, beta), most_similar

    best = ops.full_like(unit[:, :, 0], -2.0)
    _, best, most_similar = ops.while_loop(
        lambda start, *_: start < largest_count,
        compare,
        (0, best, ops.zeros_like(best, dtype="int32")),
    )
    return best, most_similar


@keras.saving.register_keras_serializable(package="keras_patchpu")
class WeakNegative(keras.losses.Loss):
    """Weak negative loss, eq. (6) and (9).

    `-sum_l z+_l log(p_l) - sum_l w_l log(1 - p_l)`, averaged over images, with w from
    `weak_negatives`. Computed from log-odds, so it is exact for probabilities of 0 and 1.

    Args:
        theta: Threshold of the similarity, eq. (7), in [-1, 1]. Defaults to `0.0`.
        stop_gradient: Whether the weak negatives are constants for the gradient, as
            labels are. Defaults to `True`.
        name, reduction, dtype: As of `keras.losses.Loss`.

    Call arguments:
        y_true: `(B, L)` labels in {+1, 0, -1}.
        y_pred: Dict of `"logits"`, the log-odds `(B, L)` of the labels (`p =
            sigmoid(logits)`), and `"image_embeddings"` `(B, L, F)`. `PatchClassifier`
            gives them to any loss that names them in `inputs`.

    Returns:
        The loss, a scalar unless `reduction=None`: then one value per image.

    Raises:
        ValueError: An argument is out of range, or `y_pred` is no such dict.

    Reference:
        Jouanneau et al., sections 3.2-3.3, eq. (6)-(9).
    """

    # What the loss needs of the model, by the names of `PatchClassifier.explain`.
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
        if not isinstance(stop_gradient, bool):
            raise ValueError(
                "Expected `stop_gradient` to be True or False. Received: "
                f"stop_gradient={stop_gradient!r}"
            )
        self.theta = theta
        self.stop_gradient = stop_gradient

    def call(self, y_true, y_pred):
        logits, embeddings = take_inputs(self, y_pred)
        weights = weak_negatives(y_true, embeddings, self.theta, self.stop_gradient)
        present, _ = split_labels(y_true, logits.dtype)
        weights = ops.cast(weights, logits.dtype)
        losses = present * ops.softplus(-logits) + weights * ops.softplus(logits)
        return ops.sum(losses, axis=-1)

    def get_config(self):
        config = super().get_config()
        config.update({"theta": self.theta, "stop_gradient": self.stop_gradient})
        return config
