"""Depthwise convolution that is a matrix product on small maps."""

import keras
import numpy as np
from keras import ops

# Largest side of a map for which one dense matrix a channel beats the kernels of the
# backends; its cost grows with the fourth power of the side (benchmarks/README.md).
_LARGEST_DENSE_SIDE = 4


@keras.saving.register_keras_serializable(package="keras_patchpu")
class DepthwiseConv(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`, 'same' padding, faster on maps up to 4x4.

    Same arguments, weights and results up to rounding. On a small map the convolution
    of a channel is one dense matrix from its pixels in to its pixels out.

    Args:
        kernel_size: Side of the kernel.
        **kwargs: As of `keras.layers.DepthwiseConv2D`; `padding` is "same", maps are
            channels-last, and there is no bias.

    Call arguments:
        inputs: `(N, h, w, channels)`.

    Returns:
        `(N, ceil(h / strides), ceil(w / strides), channels)`.
    """

    def __init__(self, kernel_size, **kwargs):
        kwargs.update(padding="same", use_bias=False, data_format="channels_last")
        super().__init__(kernel_size, **kwargs)

    def call(self, inputs):
        _, height, width, channels = inputs.shape
        plain = self.depth_multiplier == 1 and self.dilation_rate == (1, 1)
        if None in (height, width) or max(height, width) > _LARGEST_DENSE_SIDE or not plain:
            return super().call(inputs)
        taps = _taps(height, width, self.kernel_size, self.strides)
        out_height, out_width = -(-height // self.strides[0]), -(-width // self.strides[1])
        kernel = ops.cast(self.kernel, self.compute_dtype)
        matrices = ops.matmul(
            ops.transpose(ops.reshape(kernel, (-1, channels))),
            ops.convert_to_tensor(taps, dtype=self.compute_dtype),
        )
        matrices = ops.reshape(matrices, (channels, height * width, out_height * out_width))
        pixels = ops.transpose(ops.reshape(inputs, (-1, height * width, channels)), (2, 0, 1))
        outputs = ops.transpose(ops.matmul(pixels, matrices), (1, 2, 0))
        return ops.reshape(outputs, (-1, out_height, out_width, channels))


def _taps(height, width, kernel_size, strides):
    """0/1 array `(taps, pixels in * pixels out)`: which tap joins which two pixels."""
    rows, columns = (
        _taps_of_axis(size, kernel, step)
        for size, kernel, step in zip((height, width), kernel_size, strides)
    )
    taps = np.einsum("aio,bjp->abijop", rows, columns)
    return taps.reshape(taps.shape[0] * taps.shape[1], -1)


def _taps_of_axis(size, kernel, step):
    """0/1 array `(kernel, size in, size out)` of one axis, with TensorFlow's 'same' padding."""
    out = -(-size // step)
    before = max((out - 1) * step + kernel - size, 0) // 2
    tap, inside, outside = np.ogrid[:kernel, :size, :out]
    return (inside == outside * step + tap - before).astype("float32")
