"""Depthwise convolution that is a matrix product on small maps."""

import keras
from keras import ops

from keras_patchpu.layers.cpu.conv import convolve, convolves
from keras_patchpu.layers.cpu.taps import taps_of_map

# Largest side of a map for which one dense matrix a channel beats the kernels of the
# backends; its cost grows with the fourth power of the side (benchmarks/README.md).
_LARGEST_DENSE_SIDE = 4


@keras.saving.register_keras_serializable(package="keras_patchpu")
class DepthwiseConv(keras.layers.DepthwiseConv2D):
    """`keras.layers.DepthwiseConv2D`, 'same' padding by default, faster on maps up to 4x4.

    Same arguments, weights and results up to rounding. On TensorFlow and JAX the 'same'
    convolution of a channel of a small map is one dense matrix from its pixels in to its
    pixels out; on PyTorch nothing is copied, as in `Conv`. All else is Keras's own: larger maps,
    other paddings, `dilation_rate`, `depth_multiplier`, channels first.

    Args:
        kernel_size: Side of the kernel.
        strides: Strides. Defaults to `1`.
        padding: `"same"` or `"valid"`. Defaults to `"same"`.
        data_format: `"channels_last"` or `"channels_first"`. Defaults to `"channels_last"`.
        **kwargs: As of `keras.layers.DepthwiseConv2D`.

    Call arguments:
        inputs: `(N, h, w, C)`.

    Returns:
        `(N, ceil(h / strides), ceil(w / strides), C)`, or what Keras's layer gives.
    """

    def __init__(
        self, kernel_size, strides=1, padding="same", data_format="channels_last", **kwargs
    ):
        super().__init__(
            kernel_size, strides=strides, padding=padding, data_format=data_format, **kwargs
        )

    def call(self, inputs):
        if convolves(self):
            kernel = ops.transpose(self.kernel, (2, 3, 0, 1))
            return convolve(self, inputs, ops.reshape(kernel, (-1, 1, *self.kernel_size)))
        sides = inputs.shape[1:3]
        dense = (
            (self.padding, self.data_format) == ("same", "channels_last")
            and (self.depth_multiplier, self.dilation_rate) == (1, (1, 1))
            and None not in sides
            and max(sides) <= _LARGEST_DENSE_SIDE
        )
        if not dense:
            return super().call(inputs)
        outputs = self._dense_convolve(inputs)
        outputs = outputs + self.bias if self.use_bias else outputs
        return outputs if self.activation is None else self.activation(outputs)

    def _dense_convolve(self, inputs):
        """`(N, h', w', C)` of inputs `(N, h, w, C)`: pixels times a matrix `(C, h' w', h w)`."""
        _, height, width, channels = inputs.shape
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
        return ops.reshape(outputs, (-1, out_height, out_width, channels))
