"""Block 5: one softmax classifier shared by the image embeddings of all labels."""

import math
from typing import Any

import keras
from keras import ops

from keras_patchpu.utils.validation import check_positive_integer

# Scores of all labels at once, B L^2 numbers, are a few times the image embeddings, B L F
# numbers, up to this many labels.
_MOST_LABELS_AT_ONCE = 1024
# Scores of one image in a block above it: 1 MiB in float32. TensorFlow may have several in hand.
_SCORES_IN_A_BLOCK = 2**18


@keras.saving.register_keras_serializable(package="keras_patchpu")
class SharedSoftmaxHead(keras.layers.Layer):
    """Probability of each label from its own image embedding (block 5, eq. (3)).

    The embedding of label l is classified among all labels by one matrix W without
    bias, and the softmax share of l itself is its probability:
    `p[b, l] = exp(W_l . e[b, l]) / sum_k exp(W_k . e[b, l])`. Probabilities of an image
    do not sum to 1 over labels.

    Inside, the head computes the log-odds `z[b, l] = W_l . e[b, l] - log sum_{k != l}
    exp(W_k . e[b, l])`, so that `p = sigmoid(z)`, `log p = -softplus(-z)` and
    `log(1 - p) = -softplus(z)` hold without cancellation, however sure the model is.
    All of it is float32 under any dtype policy.

    Time grows with L^2; memory does not: above 1024 labels the scores are computed in
    blocks of embeddings, and once more in the backward pass instead of being kept.

    Args:
        num_labels: Number of labels, L. With one label the softmax is 1 for any input.
        kernel_initializer: Initialiser of the `(F, L)` matrix. Defaults to `None`:
            `VarianceScaling(1.0)`.

    Call arguments:
        image_embeddings: `(B, L, F)`, one embedding per label. B may be unknown.
        return_logits: Whether to return the log-odds too. Defaults to `False`.

    Returns:
        float32 probabilities `(B, L)`; with `return_logits=True` a pair of them and the
        float32 log-odds `(B, L)`.

    Raises:
        ValueError: `num_labels` is not a positive integer, or the input does not hold
            one embedding per label.

    Reference:
        Jouanneau et al., section 3.1, "Classifier", eq. (3).
    """

    def __init__(
        self,
        num_labels: int,
        kernel_initializer: keras.Initializer | str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        check_positive_integer("num_labels", num_labels)
        self.num_labels = num_labels
        self.kernel_initializer = keras.initializers.get(
            kernel_initializer or keras.initializers.VarianceScaling(1.0)
        )

    def build(self, input_shape):
        if len(input_shape) != 3 or input_shape[1] != self.num_labels:
            raise ValueError(
                "SharedSoftmaxHead expects one embedding per label, shape (batch, "
                f"num_labels={self.num_labels}, features). Received: shape {tuple(input_shape)}"
            )
        self.kernel = self.add_weight(
            name="kernel",
            shape=(input_shape[-1], self.num_labels),
            initializer=self.kernel_initializer,
            autocast=False,  # not rounded to half precision on its way to the scores
        )

    def call(self, image_embeddings, return_logits=False):
        # As floats, because TensorFlow warns of integers on the way of a gradient.
        labels = ops.arange(self.num_labels, dtype="float32")
        at_once = self.num_labels <= _MOST_LABELS_AT_ONCE
        log_odds = _log_odds if at_once else _log_odds_in_blocks
        logits = log_odds(image_embeddings, labels, ops.cast(self.kernel, "float32"))
        probabilities = ops.sigmoid(logits)
        if return_logits:
            return probabilities, logits
        return probabilities

    def log_odds_of_all(self, embeddings: Any) -> Any:
        """Log-odds of every label from the same embedding.

        Args:
            embeddings: `(..., F)`.

        Returns:
            float32 `(..., L)`: `W_l . e - log sum_{k != l} exp(W_k . e)`.
        """
        scores = ops.matmul(ops.cast(embeddings, "float32"), ops.cast(self.kernel, "float32"))
        largest = ops.cast(ops.one_hot(ops.argmax(scores, axis=-1), self.num_labels), "float32")
        # A share of more than a half belongs to the largest alone: 1 - p cancels only there.
        others = ops.logsumexp(scores - 1e9 * largest, axis=-1, keepdims=True)
        log_share = scores - ops.logsumexp(scores, axis=-1, keepdims=True)
        safe = ops.where(largest > 0, -1.0, log_share)
        return ops.where(largest > 0, scores - others, safe - ops.log1p(-ops.exp(safe)))

    def compute_output_spec(self, image_embeddings, return_logits=False):
        def spec():
            return keras.KerasTensor((image_embeddings.shape[0], self.num_labels), dtype="float32")

        return (spec(), spec()) if return_logits else spec()

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_labels)

    def get_config(self):
        config = super().get_config()
        config.update(
            {
                "num_labels": self.num_labels,
                "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            }
        )
        return config


def _log_odds(embeddings, labels, kernel):
    """Log-odds (B, R) of embeddings (B, R, F) of the R given labels."""
    # scores[b, r, k] = W_k . e[b, r]
    scores = ops.matmul(ops.cast(embeddings, "float32"), kernel)
    own = ops.cast(labels[:, None] == ops.arange(kernel.shape[1], dtype="float32"), "float32")
    own_score = ops.sum(scores * own, axis=-1)
    # A large finite number in place of minus infinity keeps gradients finite.
    others = ops.logsumexp(scores - 1e9 * own, axis=-1)
    return own_score - others


def _log_odds_in_blocks(embeddings, labels, kernel):
    """The same, holding the scores of no more than a block of labels at a time."""
    features, num_labels = kernel.shape
    num_blocks = math.ceil(num_labels / max(1, _SCORES_IN_A_BLOCK // num_labels))
    size = math.ceil(num_labels / num_blocks)
    # Embeddings of zeros fill the last block; what comes of them is cut off below.
    padding = (0, num_blocks * size - num_labels)
    embeddings = ops.pad(embeddings, ((0, 0), padding, (0, 0)))
    # A block holds its labels of all images, so that devices that share a batch share a block.
    embeddings = ops.reshape(embeddings, (-1, num_blocks, size, features))
    embeddings = ops.transpose(embeddings, (1, 0, 2, 3))
    labels = ops.reshape(ops.pad(labels, padding), (num_blocks, size))
    # Without `remat` the loop would keep the scores of all blocks for its gradient.
    block_log_odds = keras.remat(_log_odds)
    logits = ops.map(lambda block: block_log_odds(*block, kernel), (embeddings, labels))
    logits = ops.reshape(ops.transpose(logits, (1, 0, 2)), (-1, num_blocks * size))
    return logits[:, :num_labels]
