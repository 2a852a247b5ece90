"""Blocks 3 to 5, ours or others in their place, over the embeddings of patches: outputs by name."""

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


def classified_patches(pool, head, patch_embeddings, grid=None):
    """Outputs by name of blocks 3 to 5.

    Args:
        pool, head: Blocks 3 and 4, and block 5.
        patch_embeddings: `(B, P, F)`.
        grid: `(rows, columns)` of the first level, whose patches come first and lie row by row.
            Defaults to `None`: they lie on no grid.

    Returns:
        Dict of `"attention"` (B, L, P) if the pool tells it, `"image_embeddings"` (B, L, F),
        `"logits"` and `"probabilities"` (B, L); and if both blocks can say them, `"patch_logits"`
        (B, L, P) and, with a grid, `"score_maps"` (B, rows, columns, L).
    """
    image_embeddings, attention = _pooled(pool, patch_embeddings)
    probabilities, logits = _classified(head, image_embeddings)
    outputs = {} if attention is None else {"attention": attention}
    outputs |= {
        "image_embeddings": image_embeddings,
        "logits": logits,
        "probabilities": probabilities,
    }
    if hasattr(pool, "embed") and hasattr(head, "log_odds_of_all"):
        outputs["patch_logits"] = PatchLogits(pool, head)(patch_embeddings)
        if grid is not None:
            rows, columns = grid
            maps = ops.transpose(outputs["patch_logits"][:, :, : rows * columns], (0, 2, 1))
            outputs["score_maps"] = ops.reshape(maps, (-1, rows, columns, maps.shape[-1]))
    return outputs


def _takes(layer, argument):
    return argument in inspect.signature(layer.call).parameters


def _pooled(pool, patch_embeddings):
    """Image embeddings, and attention if the pool tells it."""
    if _takes(pool, "return_attention_scores"):
        return pool(patch_embeddings, return_attention_scores=True)
    return pool(patch_embeddings), None


def _classified(head, image_embeddings):
    """Probabilities, and log-odds."""
    if _takes(head, "return_logits"):
        return head(image_embeddings, return_logits=True)
    probabilities = head(image_embeddings)
    inside = ops.clip(ops.cast(probabilities, "float32"), 1e-7, 1.0 - 1e-7)
    return probabilities, ops.log(inside) - ops.log1p(-inside)
