"""`PatchEmbedder` computed with the patches last, and whether that is faster (see `patches_last`).

Letters of the shapes in this folder: N patches, h and w the sides of a map, C its channels.
"""

from keras import ops

from keras_patchpu.layers.cpu import norms, patches_last, xla
from keras_patchpu.layers.cpu.batch_norm import BatchNorm
from keras_patchpu.layers.cpu.depthwise import depthwise
from keras_patchpu.layers.inner_state import inner_layers


def applies(embedder, patches, training):
    """Whether `embed` gives what the embedder's own layers give, sooner.

    Args:
        embedder: Built `PatchEmbedder`.
        patches: `(N, h, w, 3)` in the compute dtype.
        training: Python boolean.
    """
    if not xla.is_faster(patches):
        return False
    layers = [layer for _, _, layer in inner_layers(embedder)]
    # Here all is float32, and in training every batch norm uses the statistics of the batch.
    return all(layer.compute_dtype == "float32" for layer in layers) and not (
        training and any(isinstance(layer, BatchNorm) and not layer.trainable for layer in layers)
    )


def embed(embedder, patches, training):
    """Embeddings `(N, F)` of patches `(N, h, w, 3)`."""
    return embedder.projection(pooled(embedder, patches, training))


def pooled(embedder, patches, training):
    """Means `(N, C)` over the last maps of patches `(N, h, w, 3)`."""
    x = ops.transpose(embedder.scaled(patches), (3, 1, 2, 0))
    x = _stem(embedder, x, training)
    for block in embedder.blocks:
        x = bottleneck(block, x, training)
    return ops.transpose(ops.mean(x, axis=(1, 2)))


def _stem(embedder, images, training):
    """Maps `(C, h / 2, w / 2, N)` of images `(3, h, w, N)`, sides rounded up."""
    kernel = ops.convert_to_tensor(embedder.stem_conv.kernel)
    x = patches_last.im2col(images, kernel.shape[0], strides=2)
    x = patches_last.pointwise(x, ops.reshape(kernel, (-1, kernel.shape[-1])))
    return norms.normalize(x, embedder.stem_conv, embedder.stem_bn, training, swish=True)


def bottleneck(block, inputs, training):
    """`MobileInvertedBottleneck` of maps `(C, h, w, N)`: `(C', h', w', N)`."""
    x = inputs
    if block.expansion > 1:
        x = norms.expand(x, block.expand_conv, block.expand_bn, training)
    x = depthwise(x, block.dwconv.kernel[..., 0], block.strides)
    x = norms.normalize(x, block.dwconv, block.bn, training, swish=True)
    # The squeeze sees one pixel a patch: a matrix (C, N).
    gate = ops.silu(patches_last.dense(ops.mean(x, axis=(1, 2)), block.se_reduce))
    gate = ops.sigmoid(patches_last.dense(gate, block.se_expand))
    x = patches_last.pointwise(x * gate[:, None, None], block.project_conv.kernel[0, 0])
    x = norms.normalize(x, block.project_conv, block.project_bn, training, swish=False)
    return x + inputs if block.has_shortcut else x
