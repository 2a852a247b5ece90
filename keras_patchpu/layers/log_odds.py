"""Log-odds of eq. (3) without cancellation, in little memory however many labels there are."""

import math

import keras
from keras import ops

# Scores of all labels at once, B L^2 numbers, are a few times the image embeddings, B L F
# numbers, up to this many labels.
_MOST_LABELS_AT_ONCE = 1024
# Scores of one image in a block above it: 1 MiB in float32. TensorFlow may have several in hand.
_SCORES_IN_A_BLOCK = 2**18


def log_odds(scores, own):
    """`z = s_l - log sum_{k != l} exp(s_k)` of the scores `(..., L)`, l being where `own` is 1.

    `p = exp(s_l) / sum_k exp(s_k)` is then `sigmoid(z)`.

    Args:
        scores: float32 `(..., L)`.
        own: 0/1 float32 that goes with them, with a single 1 along the last axis.

    Returns:
        float32 `(...)`.
    """
    # A large finite number in place of minus infinity keeps gradients finite.
    return ops.sum(scores * own, axis=-1) - ops.logsumexp(scores - 1e9 * own, axis=-1)


def log_odds_of_own(embeddings, kernel):
    """Log-odds `(B, L)` of each label from its own embedding.

    Args:
        embeddings: `(B, L, F)`.
        kernel: float32 `(F, L)`; the scores of an embedding are its product with it.
    """
    labels = ops.arange(kernel.shape[1], dtype="float32")
    in_blocks = kernel.shape[1] > _MOST_LABELS_AT_ONCE
    return (_in_blocks if in_blocks else _of_labels)(embeddings, labels, kernel)


def _of_labels(embeddings, labels, kernel):
    """Log-odds `(B, R)` of embeddings `(B, R, F)` of the R given labels."""
    scores = ops.matmul(ops.cast(embeddings, "float32"), kernel)
    # Labels are floats, because TensorFlow warns of integers on the way of a gradient.
    own = ops.cast(labels[:, None] == ops.arange(kernel.shape[1], dtype="float32"), "float32")
    return log_odds(scores, own)


def _in_blocks(embeddings, labels, kernel):
    """As `_of_labels`, holding the scores of no more than a block of labels at a time."""
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
    of_labels = keras.remat(_of_labels)
    logits = ops.map(lambda block: of_labels(*block, kernel), (embeddings, labels))
    logits = ops.reshape(ops.transpose(logits, (1, 0, 2)), (-1, num_blocks * size))
    return logits[:, :num_labels]
