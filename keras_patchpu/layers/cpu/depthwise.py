"""Depthwise 'same' convolution with the patches last, its gradients written out.

Small maps are multiplied by one dense matrix a channel; of larger ones shifted maps are added up.
Maps are `(C, h, w, N)`, outputs and their gradients (`upstream`) `(C, h', w', N)` with
`h' = ceil(h / strides)`, kernels `(rows, columns, C)`; `sides` are `(h, w)`.
"""

import numpy as np
from keras import ops

from keras_patchpu.layers.cpu.patches_last import per_channel
from keras_patchpu.layers.cpu.taps import (
    padding,
    taps_of_axis,
    taps_of_class,
    taps_of_map,
    windows,
)

# Sides of maps up to which one dense matrix a channel is faster than shifted sums: for the
# convolution and the gradient of its input, and for the gradient of its kernel. The matrix
# grows with the fourth power of the side.
_DENSE_SIDE = 4
_DENSE_KERNEL_SIDE = 8


def depthwise(maps, kernel, strides):
    """Depthwise 'same' convolution of maps `(C, h, w, N)` with `kernel`: `(C, h', w', N)`."""
    sides = maps.shape[1:3]
    dense = max(sides) <= _DENSE_SIDE
    convolve = _dense_convolve if dense else _shifted_convolve
    input_gradient = _dense_input_gradient if dense else _shifted_input_gradient
    kernel_gradient = (
        _dense_kernel_gradient if max(sides) <= _DENSE_KERNEL_SIDE else _row_kernel_gradient
    )

    @ops.custom_gradient
    def convolution(maps, kernel):
        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            return (
                input_gradient(upstream, kernel, strides, sides),
                kernel_gradient(maps, upstream, kernel, strides),
            )

        return convolve(maps, kernel, strides), gradient

    return convolution(maps, kernel)


# === Depthwise convolution as shifted sums ===


def _shifted_convolve(maps, kernel, strides):
    """`(C, h', w', N)` of maps `(C, h, w, N)`."""
    terms = (
        window * per_channel(kernel[row, column])
        for row, column, window in windows(maps, kernel.shape[:2], strides)
    )
    return _sum(terms)


def _shifted_input_gradient(upstream, kernel, strides, sides):
    """`(C, h, w, N)` of `upstream` `(C, h', w', N)`.

    Each class of pixels modulo the strides is a sum of shifted gradients of its own.
    """
    channels = upstream.shape[0]
    taps = [taps_of_class(s, k, strides) for s, k in zip(sides, kernel.shape[:2])]
    sizes = [-(-side // strides) for side in sides]
    margins = []
    for size, axis_taps, out in zip(sizes, taps, upstream.shape[1:3]):
        offsets = [offset for class_taps in axis_taps for _, offset in class_taps]
        margins.append((max(0, -min(offsets)), max(0, max(offsets) + size - out)))
    padded = ops.pad(upstream, ((0, 0), *margins, (0, 0)))

    def one_class(row_taps, column_taps):
        """`(C, ceil(h / strides), ceil(w / strides), N)`."""
        terms = []
        for row, row_offset in row_taps:
            for column, column_offset in column_taps:
                top, left = row_offset + margins[0][0], column_offset + margins[1][0]
                window = padded[:, top : top + sizes[0], left : left + sizes[1]]
                terms.append(window * per_channel(kernel[row, column]))
        # A stride beyond the kernel leaves pixels that no tap reads.
        return _sum(terms) if terms else 0.0 * padded[:, : sizes[0], : sizes[1]]

    classes = [[one_class(rows, columns) for columns in taps[1]] for rows in taps[0]]
    if strides == 1:
        return classes[0][0]
    together = ops.stack([ops.stack(row, axis=3) for row in classes], axis=2)
    together = ops.reshape(together, (channels, sizes[0] * strides, sizes[1] * strides, -1))
    return together[:, : sides[0], : sides[1]]


def _row_kernel_gradient(maps, upstream, kernel, strides):
    """`(rows, columns, C)` of maps `(C, h, w, N)` and `upstream` `(C, h', w', N)`.

    A matrix product over the patches for each output row: all columns against all columns.
    """
    channels, (height, width) = maps.shape[0], maps.shape[1:3]
    rows, columns = kernel.shape[:2]
    out, before, after = padding(height, rows, strides)
    padded = ops.pad(maps, ((0, 0), (before, after), (0, 0), (0, 0)))
    span = (out - 1) * strides + 1
    inputs = ops.concatenate([padded[:, r : r + span : strides] for r in range(rows)], axis=2)
    products = ops.sum(ops.matmul(inputs, ops.transpose(upstream, (0, 1, 3, 2))), axis=1)
    products = ops.reshape(products, (channels, rows, -1))
    taps = taps_of_axis(width, columns, strides).reshape(columns, -1)
    return ops.transpose(ops.matmul(products, _constant(taps.T, maps)), (1, 2, 0))


def _sum(terms):
    """Sum of tensors of one shape, which it keeps."""
    terms = iter(terms)
    total = next(terms)
    for term in terms:
        total = total + term
    return total


# === Depthwise convolution as one dense matrix a channel ===


def _dense_convolve(maps, kernel, strides):
    """`(C, h', w', N)` of maps `(C, h, w, N)`."""
    matrices, out = _matrices(kernel, maps.shape[1:3], strides)
    outputs = ops.matmul(matrices, _pixels(maps))
    return ops.reshape(outputs, (maps.shape[0], *out, -1))


def _dense_input_gradient(upstream, kernel, strides, sides):
    """`(C, h, w, N)` of `upstream` `(C, h', w', N)`."""
    matrices, _ = _matrices(kernel, sides, strides)
    outputs = ops.matmul(ops.transpose(matrices, (0, 2, 1)), _pixels(upstream))
    return ops.reshape(outputs, (upstream.shape[0], *sides, -1))


def _dense_kernel_gradient(maps, upstream, kernel, strides):
    """`(rows, columns, C)` of maps `(C, h, w, N)` and `upstream` `(C, h', w', N)`."""
    products = ops.matmul(_pixels(upstream), ops.transpose(_pixels(maps), (0, 2, 1)))
    taps = taps_of_map(maps.shape[1:3], kernel.shape[:2], (strides, strides))
    gradient = ops.matmul(ops.reshape(products, (maps.shape[0], -1)), _constant(taps.T, maps))
    return ops.reshape(ops.transpose(gradient), kernel.shape)


def _matrices(kernel, sides, strides):
    """A matrix a channel, `(C, h' w', h w)`, and `[h', w']`."""
    rows, columns, channels = kernel.shape
    out = [-(-side // strides) for side in sides]
    taps = taps_of_map(sides, (rows, columns), (strides, strides))
    matrices = ops.matmul(
        ops.transpose(ops.reshape(kernel, (rows * columns, channels))), _constant(taps, kernel)
    )
    return ops.reshape(matrices, (channels, out[0] * out[1], sides[0] * sides[1])), out


def _pixels(maps):
    """`(C, h w, N)` of maps `(C, h, w, N)`."""
    return ops.reshape(maps, (maps.shape[0], maps.shape[1] * maps.shape[2], -1))


def _constant(array, like):
    """A tensor of the array's shape, and of the dtype of `like`."""
    return ops.convert_to_tensor(np.ascontiguousarray(array), dtype=like.dtype)
