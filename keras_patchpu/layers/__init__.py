"""The blocks of the paper's Fig. 1 as Keras layers."""

from keras_patchpu.layers.codebook_attention_pool import CodebookAttentionPool
from keras_patchpu.layers.mobile_inverted_bottleneck import MobileInvertedBottleneck
from keras_patchpu.layers.patch_embedder import PatchEmbedder
from keras_patchpu.layers.patch_extractor import PatchExtractor
from keras_patchpu.layers.patch_grid import PatchGrid
from keras_patchpu.layers.shared_softmax_head import SharedSoftmaxHead

__all__ = [
    "CodebookAttentionPool",
    "MobileInvertedBottleneck",
    "PatchEmbedder",
    "PatchExtractor",
    "PatchGrid",
    "SharedSoftmaxHead",
]
