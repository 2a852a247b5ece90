"""Block 5: one softmax classifier shared by the image embeddings of all labels."""

from typing import Any

import keras
from keras import ops

from keras_patchpu.layers.log_odds import log_odds, log_odds_of_own
from keras_patchpu.utils.validation import check_positive_integer


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
        logits = log_odds_of_own(image_embeddings, ops.cast(self.kernel, "float32"))
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
        log_share = scores - ops.logsumexp(scores, axis=-1, keepdims=True)
        # log p - log(1 - p) loses digits for p near 1 alone. Only the largest can be: it takes
        # `log_odds`, and any negative number here keeps log(0) out of value and gradient.
        log_share = ops.where(largest > 0, -1.0, log_share)
        of_others = log_share - ops.log1p(-ops.exp(log_share))
        return ops.where(largest > 0, log_odds(scores, largest)[..., None], of_others)

    def compute_output_spec(self, image_embeddings, return_logits=False):
        def spec():
            return keras.KerasTensor((image_embeddings.shape[0], self.num_labels), dtype="float32")

        return (spec(), spec()) if return_logits else spec()

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.num_labels)

    def get_config(self):
        return {
            **super().get_config(),
            "num_labels": self.num_labels,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }
