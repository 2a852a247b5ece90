"""A classifier for prediction, made of operations that other runtimes know."""

import types

import keras
from keras import ops

from keras_patchpu.models import PatchClassifier


def portable(model, attention=False):
    """A model of images to scores for `keras.Model.export`.

    The same numbers as those of `model` in float32, by other operations where a converter
    cannot do with ours.

    Args:
        model: `PatchClassifier` or `BackboneClassifier`, whose batch norms are folded into the
            convolutions, or `ResNetClassifier`.
        attention: Whether it also gives the attention, which a `ResNetClassifier` does not have.
            Defaults to `False`.

    Returns:
        `keras.Model` from uint8 `(B, H, W, 3)` to a dict of `"scores"` `(B, L)` and, if wanted,
        `"attention"` `(B, L, P)`, float32.
    """
    if model.dtype_policy.name != "float32":
        single = type(model).from_config({**model.get_config(), "dtype": "float32"})
        for new, own in zip(single.layers, model.layers):
            new.set_weights(own.get_weights())
        model = single
    model = model.fused()  # a copy, but of a `ResNetClassifier`, of which nothing is changed
    if isinstance(model, PatchClassifier):
        for block in model.patch_embedder.blocks:
            # One dense matrix a channel, as `DepthwiseConv` has on small maps, is large in a file.
            call = keras.layers.DepthwiseConv2D.call
            block.dwconv.call = types.MethodType(call, block.dwconv)
    pool = getattr(model, "codebook_attention_pool", None)
    if getattr(pool, "hidden_units", None) is not None:
        pool.mlp_hidden.activation = _gelu
    images = keras.Input((*model.image_size, 3), dtype="uint8", name="images")
    outputs = model.part("probabilities", *(["attention"] if attention else []))(images)
    outputs["scores"] = outputs.pop("probabilities")
    return keras.Model(images, outputs, name="classifier")


def _gelu(x):
    # TensorFlow computes it by erfc, which ONNX does not have.
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))
