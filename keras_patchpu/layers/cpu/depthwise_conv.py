"""Depthwise convolution that is a matrix product on small maps."""

import keras
from keras import ops

from keras_patchpu.layers.cpu.taps import taps_of_map

# Largest side of a map for which one dense matrix a channel beats the kernels of the
# backends; its cost grows with the fourth power of the side (benchmarks/README.md).
_LARGEST_DENSE_SIDE = 4


@keras.saving.register_keras_serializable(package="keras_patchpu")
class DepthwiseConv(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`, 'same' padding, faster on maps up to 4x4.

    Same arguments, weights and results up to rounding. On TensorFlow and JAX the
    convolution of a channel of a small map is one dense matrix from its pixels in to its
    pixels out; PyTorch's own kernel is faster than that.

    Args:
        kernel_size: Side of the kernel.
        **kwargs: As of `keras.layers.DepthwiseConv2D`; `padding` is "same" and maps are
            channels-last.

    Call arguments:
        inputs: `(N, h, w, channels)`.

    Returns:
        `(N, ceil(h / strides), ceil(w / strides), channels)`.
    """

    def __init__(self, kernel_size, **kwargs):
        kwargs.update(padding="same", data_format="channels_last")
        super().__init__(kernel_size, **kwargs)

    def call(self, inputs):
        _, height, width, channels = inputs.shape
        plain = self.depth_multiplier == 1 and self.dilation_rate == (1, 1)
        small = None not in (height, width) and max(height, width) <= _LARGEST_DENSE_SIDE
        if not (plain and small) or keras.backend.backend() == "torch":
            return super().call(inputs)
        taps = taps_of_map((height, width), self.kernel_size, self.strides)
        out_height, out_width = -(-height // self.strides[0]), -(-width // self.strides[1])
        kernel = ops.cast(self.kernel, self.compute_dtype)
        matrices = ops.matmul(
            ops.transpose(ops.reshape(kernel, (-1, channels))),
            ops.convert_to_tensor(taps, dtype=self.compute_dtype),
        )
        matrices = ops.reshape(matrices, (channels, out_height * out_width, height * width))
        pixels = ops.transpose(ops.reshape(inputs, (-1, height * width, channels)), (2, 0, 1))
        outputs = ops.matmul(pixels, ops.transpose(matrices, (0, 2, 1)))
        outputs = ops.transpose(outputs, (1, 2, 0))
        outputs = ops.reshape(outputs, (-1, out_height, out_width, channels))
        return outputs + self.bias if self.use_bias else outputs
