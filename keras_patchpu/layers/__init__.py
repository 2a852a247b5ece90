"""The blocks of the paper's Fig. 1 as Keras layers."""

from keras_patchpu.layers.batch_norm import BatchNorm
from keras_patchpu.layers.codebook_attention_pool import CodebookAttentionPool
from keras_patchpu.layers.depthwise_conv import DepthwiseConv
from keras_patchpu.layers.mobile_inverted_bottleneck import MobileInvertedBottleneck
from keras_patchpu.layers.patch_embedder import PatchEmbedder
from keras_patchpu.layers.patch_extractor import PatchExtractor
from keras_patchpu.layers.shared_softmax_head import SharedSoftmaxHead

__all__ = [
    "BatchNorm",
    "CodebookAttentionPool",
    "DepthwiseConv",
    "MobileInvertedBottleneck",
    "PatchEmbedder",
    "PatchExtractor",
    "SharedSoftmaxHead",
]
