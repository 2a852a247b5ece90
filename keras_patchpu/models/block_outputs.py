"""What the blocks of a `PatchClassifier`, ours or others in their place, give by name."""

import inspect

import keras
from keras import ops


class PatchLogits(keras.Operation):
    """Log-odds `(B, L, P)` of all labels if all attention were on one patch."""

    def __init__(self, pool, head):
        super().__init__(name="patch_logits")
        self.pool, self.head = pool, head

    def call(self, patch_embeddings):
        logits = self.head.log_odds_of_all(self.pool.embed(patch_embeddings))
        return ops.transpose(logits, (0, 2, 1))

    def compute_output_spec(self, patch_embeddings):
        batch, num_patches, _ = patch_embeddings.shape
        return keras.KerasTensor((batch, self.head.num_labels, num_patches), dtype="float32")


def _takes(layer, argument):
    return argument in inspect.signature(layer.call).parameters


def pooled(pool, patch_embeddings):
    """Image embeddings, and attention if the pool tells it."""
    if _takes(pool, "return_attention_scores"):
        return pool(patch_embeddings, return_attention_scores=True)
    return pool(patch_embeddings), None


def classified(head, image_embeddings):
    """Probabilities, and log-odds."""
    if _takes(head, "return_logits"):
        return head(image_embeddings, return_logits=True)
    probabilities = head(image_embeddings)
    inside = ops.clip(ops.cast(probabilities, "float32"), 1e-7, 1.0 - 1e-7)
    return probabilities, ops.log(inside) - ops.log1p(-inside)
