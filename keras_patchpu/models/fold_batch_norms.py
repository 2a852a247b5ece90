"""Batch norms folded into the convolutions before them, for prediction."""

import keras
from keras import ops

from keras_patchpu.layers import PatchEmbedder

# Convolutions of a block, each with the batch norm that follows.
_PAIRS = (("expand_conv", "expand_bn"), ("dwconv", "bn"), ("project_conv", "project_bn"))


def with_folded_batch_norms(model):
    """A copy of a `PatchClassifier` whose embedder, if it is a `PatchEmbedder`, has none."""
    config = model.get_config()
    ours = isinstance(model.patch_embedder, PatchEmbedder)
    if ours:
        config["batch_norm"] = False
    if ours and config["patch_embedder"] is not None:
        config["patch_embedder"]["config"]["batch_norm"] = False
    copy = type(model).from_config(config)
    if ours:
        _fold_batch_norms(model.patch_embedder, copy.patch_embedder)
    else:
        copy.patch_embedder.set_weights(model.patch_embedder.get_weights())
    for name in ("codebook_attention_pool", "shared_softmax_head"):
        getattr(copy, name).set_weights(getattr(model, name).get_weights())
    return copy


def _fold_batch_norms(source, target):
    """Copies the weights of an embedder with batch norms into one without.

    `y = gamma (w * x - mean) / sqrt(variance + epsilon) + beta` is a convolution with the
    kernel `w s` and the bias `beta - mean s`, `s = gamma / sqrt(variance + epsilon)`.

    Args:
        source: Built `PatchEmbedder` with batch norms; or without, then weights are copied.
        target: Built `PatchEmbedder` with `batch_norm=False` of the same sizes. Changed.
    """
    if not source.batch_norm:
        target.set_weights(source.get_weights())
        return
    fold(source.stem_conv, source.stem_bn, target.stem_conv)
    for block, plain in zip(source.blocks, target.blocks):
        for convolution, batch_norm in _PAIRS:
            if hasattr(block, convolution):
                fold(
                    getattr(block, convolution),
                    getattr(block, batch_norm),
                    getattr(plain, convolution),
                )
        for name in ("se_reduce", "se_expand"):
            getattr(plain, name).set_weights(getattr(block, name).get_weights())
    target.projection.set_weights(source.projection.get_weights())


def fold(convolution, batch_norm, target):
    """Gives a convolution the weights of another and of the batch norm behind it.

    Args:
        convolution: Convolution or depthwise convolution, with or without a bias.
        batch_norm: Batch norm of its channels.
        target: Convolution of the same sizes with a bias. Changed.
    """
    mean, variance = _numbers(batch_norm.moving_mean), _numbers(batch_norm.moving_variance)
    scale = 1.0 / (variance + batch_norm.epsilon) ** 0.5
    if batch_norm.scale:
        scale = scale * _numbers(batch_norm.gamma)
    beta = _numbers(batch_norm.beta) if batch_norm.center else 0.0
    bias = _numbers(convolution.bias) if convolution.use_bias else 0.0
    kernel = _numbers(convolution.kernel)
    # A depthwise kernel has its channels, and how many maps come of each, last.
    depthwise = isinstance(convolution, keras.layers.DepthwiseConv2D)
    along_channels = scale.reshape(kernel.shape[2:]) if depthwise else scale
    target.set_weights([kernel * along_channels, beta + (bias - mean) * scale])


def _numbers(weight):
    return ops.convert_to_numpy(weight).astype("float64")
