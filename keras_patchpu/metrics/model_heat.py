"""Heat of labels from a model: its attention, or of a ResNet its Grad-CAM."""

import keras
import numpy as np

from keras_patchpu.metrics.heat_maps import AttentionHeat, ScoreMapHeat


def score_map_heat(score_maps: np.ndarray, bias: float | np.ndarray = 0.0) -> np.ndarray:
    """Heat of every label from the score maps of a head that scores places and takes the mean.

    `relu(score - bias)`. Where the scores are a 1x1 convolution of the features, and a label's
    logit is their mean over the h * w places, this is h * w times Grad-CAM, for all labels
    and without a gradient. With a bias of 0 heat is where the place by itself says present
    (log-odds above 0).

    Args:
        score_maps: `(N, h, w, L)` log-odds of places.
        bias: Of the 1x1 convolution, a number or `(L,)`. Defaults to `0.0`.

    Returns:
        float32 `(N, h, w, L)`, not negative.

    Reference:
        Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via
        Gradient-based Localization", ICCV 2017, eq. (1)-(2).
    """
    score_maps, bias = (np.asarray(values, dtype="float32") for values in (score_maps, bias))
    return np.maximum(score_maps - bias, 0.0)


def reason_of(model):
    """Name of the output that tells where the labels of a model are."""
    return "attention" if hasattr(model, "patch_boxes") else "score_maps"


def heat_of(model, outputs, image_size, index=None):
    """Heat maps of labels: of attention, or of a `ResNetClassifier` its Grad-CAM.

    Args:
        model: `PatchClassifier`, `BackboneClassifier` or `ResNetClassifier`.
        outputs: Dict with its output `reason_of(model)`, as `model.explain` gives it; or,
            with `index`, with the rows that were kept.
        image_size: `(height, width)` that score maps are resized to.
        index: As of `AttentionHeat`. Defaults to `None`: all are kept.

    Returns:
        `AttentionHeat` or `ScoreMapHeat`.
    """
    if reason_of(model) == "attention":
        return AttentionHeat(outputs["attention"], model.patch_boxes, model.image_size, index)
    maps, bias = outputs["score_maps"], keras.ops.convert_to_numpy(model.scores.bias)
    if index is not None:
        # One map a row: each with the bias of its label.
        kept, bias_of_row = index >= 0, np.zeros(len(maps), "float32")
        bias_of_row[index[kept]] = np.broadcast_to(bias, index.shape)[kept]
        bias = bias_of_row[:, None, None]
    return ScoreMapHeat(score_map_heat(maps, bias), image_size, index)


def sharpened_heat_of(model, images):
    """Heat maps that say more exactly than attention alone where labels are.

    Each patch's attention times its own probability of the label, of patches at half the step,
    so with others between those that the model was trained on; of every level the sum, and of
    these the product. (The places of a `BackboneClassifier` are as they are.)

    Args:
        model: `PatchClassifier` or `BackboneClassifier`.
        images: A few images `(N, H, W, 3)`.

    Returns:
        `AttentionHeat` of all labels.
    """
    finer = finer_model(model)
    weights = sharpened_attention(finer, images)
    return AttentionHeat(weights, finer.patch_boxes, model.image_size, combine="product")


def finer_model(model):
    """A `PatchClassifier` with steps of half a patch, or of what they are if that is less.

    Any other model as it is.
    """
    if not hasattr(model, "patch_extractor"):
        return model
    extractor = model.patch_extractor
    half = max(1, extractor.patch_size // 2)
    return model.with_strides(min(half, extractor.strides or half))


def sharpened_attention(model, images):
    """Attention of patches times their own probabilities of the labels, `(N, L, P)`."""
    outputs = model.explain(images, ("attention", "patch_logits"))
    # (Beyond 80 the exponential would leave float32.)
    return outputs["attention"] / (1.0 + np.exp(-np.maximum(outputs["patch_logits"], -80.0)))
