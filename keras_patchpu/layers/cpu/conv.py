"""Convolution that copies nothing on PyTorch."""

import keras
from keras import ops

from keras_patchpu.layers.cpu.taps import padding


@keras.saving.register_keras_serializable(package="keras_patchpu")
class Conv(keras.layers.Conv2D):
    """`keras.layers.Conv2D`, faster on PyTorch.

    Same arguments, weights and results. Keras copies the maps twice before each convolution of
    channels-last maps; PyTorch's kernel takes them as they are.

    Args:
        *args, **kwargs: As of `keras.layers.Conv2D`.

    Call arguments:
        inputs: `(N, h, w, C)`.

    Returns:
        `(N, h', w', filters)`.
    """

    def call(self, inputs):
        if not convolves(self):
            return super().call(inputs)
        return convolve(self, inputs, ops.transpose(self.kernel, (3, 2, 0, 1)))


def convolves(layer):
    """Whether `convolve` does what a convolution of Keras does: on PyTorch, channels last."""
    return keras.backend.backend() == "torch" and (
        layer.data_format == "channels_last" and set(layer.dilation_rate) == {1}
    )


def convolve(layer, inputs, kernel):
    """Outputs `(N, h', w', C')` of a layer for inputs `(N, h, w, C)`.

    Args:
        layer: Layer whose strides, bias and activation are taken, see `convolves`.
        inputs: `(N, h, w, C)`.
        kernel: `(C', C / groups, k, k)`, as PyTorch has it.
    """
    from torch.nn import functional

    # Channels second in shape, last in memory: what PyTorch's convolution wants.
    maps = ops.cast(inputs, layer.compute_dtype).permute(0, 3, 1, 2)
    before, after = (0, 0), (0, 0)
    if layer.padding == "same":
        _, before, after = zip(*map(padding, maps.shape[2:], layer.kernel_size, layer.strides))
    if before != after:
        maps = functional.pad(maps, (before[1], after[1], before[0], after[0]))
        before = (0, 0)
    bias = ops.cast(layer.bias, maps.dtype) if layer.use_bias else None
    outputs = functional.conv2d(
        maps,
        ops.cast(kernel, maps.dtype),
        bias,
        stride=layer.strides,
        padding=before,
        groups=maps.shape[1] // kernel.shape[1],
    ).permute(0, 2, 3, 1)
    return outputs if layer.activation is None else layer.activation(outputs)
