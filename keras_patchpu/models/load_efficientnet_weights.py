"""Weights of a stock EfficientNet-B0 for the patch embedder."""

from typing import TypeVar

import keras
import numpy as np

from keras_patchpu.layers import PatchEmbedder
from keras_patchpu.utils.keras_internals import layers_inside

Model = TypeVar("Model")  # a layer or a model of the same kind comes back


def load_efficientnet_weights(model: Model, efficientnet: keras.Model) -> Model:
    """Copies stem and blocks 1a to 3b of an EfficientNet-B0 into a patch embedder.

    Activations after each block are then those of `efficientnet`, its input
    normalisation included: with ImageNet weights that is one rescaling more than
    without, and it is folded into `pixel_variance`. The linear projection is kept.

    Args:
        model: A built `PatchEmbedder`, or a `PatchClassifier`.
        efficientnet: Any instance of `keras.applications.EfficientNetB0`, with or
            without its top, of any input size.

    Returns:
        `model`.

    Raises:
        ValueError: `model` has no built embedder, or a layer of `efficientnet` is
            missing or of another shape; nothing is copied then.
    """
    embedder = model if isinstance(model, PatchEmbedder) else getattr(model, "patch_embedder", None)
    if embedder is None or not embedder.built:
        raise ValueError(
            "Expected `model` to be a built PatchEmbedder or a PatchClassifier. "
            f"Received: {model!r}"
        )
    copies = []
    for own, name in _embedder_layers(embedder):
        try:
            values = efficientnet.get_layer(name).get_weights()
        except ValueError as error:
            raise ValueError(
                f"Expected `efficientnet` to be a keras.applications.EfficientNetB0. It has no "
                f"layer {name!r}"
            ) from error
        shapes = [value.shape for value in values]
        expected = [tuple(weight.shape) for weight in own.weights]
        if shapes != expected:
            raise ValueError(
                f"Expected `efficientnet` to be an EfficientNet-B0: layer {name!r} should have "
                f"weights of shapes {expected}. Received: {shapes}"
            )
        copies.append((own, values))
    embedder.pixel_mean, embedder.pixel_variance = _input_normalization(efficientnet)
    for own, values in copies:
        own.set_weights(values)
    if isinstance(model, keras.Model):
        # The normalisation is a constant of the functions compiled so far.
        model.train_function = model.test_function = model.predict_function = None
    return model


def _embedder_layers(embedder):
    """Pairs of a sublayer with weights and its name in EfficientNet-B0."""
    yield embedder.stem_conv, "stem_conv"
    yield embedder.stem_bn, "stem_bn"
    for block in embedder.blocks:
        for layer in layers_inside(block):
            yield layer, f"{block.name}_{layer.name}"


def _input_normalization(efficientnet):
    """Mean and variance with which `(x / 255 - mean) / sqrt(variance)` is its input path."""
    # All its input layers together are slope * x + offset, per channel.
    slope, offset = np.ones(3), np.zeros(3)
    for layer in efficientnet.layers:
        if isinstance(layer, keras.layers.Rescaling):
            slope, offset = slope * layer.scale, offset * layer.scale + layer.offset
        elif isinstance(layer, keras.layers.Normalization):
            mean = np.ravel(keras.ops.convert_to_numpy(layer.mean)).astype("float64")
            variance = np.ravel(keras.ops.convert_to_numpy(layer.variance)).astype("float64")
            deviation = np.maximum(np.sqrt(variance), keras.config.epsilon())
            slope, offset = slope / deviation, (offset - mean) / deviation
    deviation = 1.0 / (255.0 * slope)
    return tuple((-offset * deviation).tolist()), tuple((deviation**2).tolist())
