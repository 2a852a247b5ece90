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
        model: `PatchClassifier`, whose batch norms are folded into the convolutions, or
            `ResNetClassifier`.
        attention: Whether it also gives the attention, which needs a `PatchClassifier`.
            Defaults to `False`.

    Returns:
        `keras.Model` from uint8 `(B, H, W, 3)` to a dict of `"scores"` `(B, L)` and, if wanted,
        `"attention"` `(B, L, P)`, float32. It has been called.
    """
    if model.dtype_policy.name != "float32":
        single = type(model).from_config({**model.get_config(), "dtype": "float32"})
        for new, own in zip(single.layers, model.layers):
            new.set_weights(own.get_weights())
        model = single
    if isinstance(model, PatchClassifier):
        graph = _Patches(_without_our_kernels(model.fused()), attention)
    else:
        graph = _Scores(model)
    graph(ops.zeros((1, *model.image_size, 3), "uint8"))
    return graph


class _Scores(keras.Model):
    def __init__(self, classifier):
        super().__init__(name="classifier")
        self.classifier = classifier

    def call(self, images):
        names = ("probabilities",)
        outputs = self.classifier.intermediates(images, training=False, names=names)
        return {"scores": outputs["probabilities"]}


class _Patches(keras.Model):
    def __init__(self, classifier, attention):
        super().__init__(name="classifier")
        self.classifier = classifier
        self.attention = attention

    def call(self, images):
        classifier, pool = self.classifier, self.classifier.codebook_attention_pool
        patches = classifier.patch_extractor(images, training=False)
        patches = classifier.patch_embedder(patches, training=False)
        # As `CodebookAttentionPool`; of its einsum the converter to LiteRT makes a file that
        # cannot be loaded.
        scores = ops.matmul(patches, ops.transpose(pool.codebook))
        attention = ops.softmax(ops.transpose(scores, (0, 2, 1)), axis=-1)
        embeddings = pool.embed(ops.matmul(attention, patches))
        outputs = {"scores": classifier.shared_softmax_head(embeddings)}
        return {**outputs, "attention": attention} if self.attention else outputs


def _without_our_kernels(model):
    """The model, changed: with convolutions and a GELU that converters and quantisers know."""
    for block in model.patch_embedder.blocks:
        # One dense matrix a channel, as `DepthwiseConv` has on small maps, is large in a file.
        call = keras.layers.DepthwiseConv2D.call
        block.dwconv.call = types.MethodType(call, block.dwconv)
    pool = model.codebook_attention_pool
    if pool.hidden_units is not None:
        pool.mlp_hidden.activation = _gelu
    return model


def _gelu(x):
    # TensorFlow computes it by erfc, which ONNX does not have.
    return 0.5 * x * (1.0 + ops.erf(x * 0.5**0.5))
