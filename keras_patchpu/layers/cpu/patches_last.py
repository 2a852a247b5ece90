"""The embedder's arithmetic on maps `(C, h, w, N)`, patches last, for XLA on a CPU.

XLA turns elementwise work into tight loops over the last axis and matrix products into
library calls, but is slow at convolutions, at sums over the last axis, and at the gradients
that it derives of both. With the patches last, every step is one of the first two kinds:
pointwise convolutions are one matrix product, depthwise convolutions sums of shifted maps,
and the gradients are written out (`depthwise`, `norms`). Same numbers as Keras's layers up to
rounding; rules and measurements in benchmarks/README.md.
"""

from keras import ops

from keras_patchpu.layers.cpu.taps import windows


def per_channel(vector):
    """A vector `(C,)` as `(C, 1, 1, 1)`, to go with maps."""
    return vector[:, None, None, None]


def flat(maps):
    """Maps `(C, h, w, N)` as a matrix `(C, h w N)`."""
    return ops.reshape(maps, (maps.shape[0], -1))


def pointwise(maps, kernel):
    """1x1 convolution of maps `(C, h, w, N)` with `kernel` `(C, C')`: `(C', h, w, N)`."""
    outputs = ops.matmul(ops.transpose(kernel), flat(maps))
    return ops.reshape(outputs, (kernel.shape[1], *maps.shape[1:3], -1))


def im2col(maps, kernel_size, strides):
    """The maps under each tap of a 'same' convolution, stacked along the channels.

    Maps `(C, h, w, N)` give `(kernel_size kernel_size C, h', w', N)`, `h' = ceil(h / strides)`.
    """
    return ops.concatenate(
        [window for _, _, window in windows(maps, (kernel_size, kernel_size), strides)], axis=0
    )


def dense(matrix, layer):
    """The 1x1 convolution `layer`, before its activation, of `matrix` `(C, N)`: `(C', N)`."""
    kernel = ops.convert_to_tensor(layer.kernel)[0, 0]
    return ops.matmul(ops.transpose(kernel), matrix) + layer.bias[:, None]
