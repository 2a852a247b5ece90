"""Which pixels of a map each tap of a 'same' convolution joins, with TensorFlow's padding."""

import numpy as np
from keras import ops


def padding(side, kernel_side, strides):
    """Side of the output, and padding before and after, of TensorFlow's 'same': three integers."""
    out = -(-side // strides)
    total = max((out - 1) * strides + kernel_side - side, 0)
    return out, total // 2, total - total // 2


def windows(maps, kernel_sides, strides):
    """`(row, column, window)` of every tap of a 'same' convolution of maps `(C, h, w, N)`.

    A window, `(C, h', w', N)` with `h' = ceil(h / strides)`, is the maps under that tap.
    """
    out, before, after = zip(
        *(padding(s, k, strides) for s, k in zip(maps.shape[1:3], kernel_sides))
    )
    padded = ops.pad(maps, ((0, 0), *zip(before, after), (0, 0)))
    spans = [(size - 1) * strides + 1 for size in out]
    for row in range(kernel_sides[0]):
        for column in range(kernel_sides[1]):
            yield (
                row,
                column,
                padded[:, row : row + spans[0] : strides, column : column + spans[1] : strides],
            )


def taps_of_class(side, kernel_side, strides):
    """For pixels r, r + strides, ...: pairs of a tap and the offset of the output it feeds.

    A list of length `strides` (one entry for each r) of lists of pairs.
    """
    _, before, _ = padding(side, kernel_side, strides)
    return [
        [
            (tap, (residue + before - tap) // strides)
            for tap in range(kernel_side)
            if (residue + before - tap) % strides == 0
        ]
        for residue in range(strides)
    ]


def taps_of_map(sides, kernel_sides, strides):
    """0/1 array `(rows columns, h' w' h w)`: which tap joins which two pixels."""
    rows, columns = (
        taps_of_axis(size, kernel, step) for size, kernel, step in zip(sides, kernel_sides, strides)
    )
    taps = np.einsum("aio,bjp->abopij", rows, columns)
    return taps.reshape(taps.shape[0] * taps.shape[1], -1)


def taps_of_axis(size, kernel, step):
    """0/1 array `(kernel, size, ceil(size / step))` of one axis, TensorFlow's 'same' padding."""
    out, before, _ = padding(size, kernel, step)
    tap, inside, outside = np.ogrid[:kernel, :size, :out]
    return (inside == outside * step + tap - before).astype("float32")
