"""Heat of labels from a model: its attention, or of a ResNet its Grad-CAM."""

import keras
import numpy as np

from keras_patchpu.metrics.grad_cam import score_map_heat
from keras_patchpu.metrics.heat_maps import AttentionHeat, ScoreMapHeat


def heat_of(model, outputs, image_size, index=None):
    """Heat maps of labels: of attention, or of a `ResNetClassifier` its Grad-CAM.

    Args:
        model: The model that was explained.
        outputs: What `model.explain` gave, or `Explained.why` with its `index`.
        image_size: `(height, width)` that score maps are resized to.
        index: As of `AttentionHeat`. Defaults to `None`.
    """
    if reason_of(model) == "attention":
        return AttentionHeat(outputs["attention"], model.patch_boxes, model.image_size, index)
    maps, bias = outputs["score_maps"], keras.ops.convert_to_numpy(model.scores.bias)
    if index is not None:
        # One map a row: each with the bias of its label.
        bias = np.broadcast_to(bias, index.shape)[index >= 0][:, None, None]
    return ScoreMapHeat(score_map_heat(maps, bias), image_size, index)


def sharpened_heat_of(model, images):
    """The same of a few images, of all labels."""
    finer = finer_model(model)
    weights = sharpened_attention(finer, images)
    return AttentionHeat(weights, finer.patch_boxes, model.image_size, combine="product")


def finer_model(model):
    """The model with steps of half a patch, or of what they are if that is less."""
    extractor = model.patch_extractor
    half = max(1, extractor.patch_size // 2)
    return model.with_strides(min(half, extractor.strides or half))


def sharpened_attention(finer, images):
    """Attention times probabilities of patches, `(B, L, P)`."""
    outputs = finer.explain(images, ("attention", "patch_logits"))
    return outputs["attention"] / (1.0 + np.exp(-np.maximum(outputs["patch_logits"], -80.0)))


def reason_of(model):
    """Name of what tells where the labels of a model are."""
    return "attention" if hasattr(model, "patch_boxes") else "score_maps"
