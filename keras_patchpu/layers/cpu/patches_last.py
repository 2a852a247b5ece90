"""The embedder's arithmetic on maps `(channels, height, width, patches)`, for XLA on a CPU.

XLA turns elementwise work into tight loops over the last axis and matrix products into
library calls, but is slow at convolutions, at sums over the last axis, and at the gradients
that it derives of both. With the patches last, every step is one of the first two kinds:
pointwise convolutions are one matrix product, depthwise convolutions sums of shifted maps,
and the gradients are written out. Same numbers as Keras's layers up to rounding; rules and
measurements in benchmarks/README.md.
"""

import keras
import numpy as np
from keras import ops

# Sides of maps up to which one dense matrix a channel is faster than shifted sums: for the
# convolution and the gradient of its input, and for the gradient of its kernel. The matrix
# grows with the fourth power of the side.
_DENSE_SIDE = 4
_DENSE_KERNEL_SIDE = 8

# Patches above this side were not measured: they go the way of Keras's own layers.
_LARGEST_PATCH_SIDE = 64


def is_faster(patches):
    """Whether to compute with the patches last: XLA compiles for a CPU, in float32.

    Args:
        patches: `(N, h, w, channels)`, the tensor about to be embedded.
    """
    known = None not in patches.shape[1:3] and max(patches.shape[1:3]) <= _LARGEST_PATCH_SIDE
    if not known or keras.backend.standardize_dtype(patches.dtype) != "float32":
        return False
    if keras.backend.backend() == "jax":
        import jax

        return isinstance(patches, jax.core.Tracer) and jax.default_backend() == "cpu"
    return is_for_tensorflow() and _tensorflow_compiles()


def is_for_tensorflow():
    """Whether this is TensorFlow without a GPU and free to use XLA."""
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    if tf.config.list_logical_devices("GPU"):
        return False
    try:
        from tensorflow.python.framework.config import is_op_determinism_enabled
    except ImportError:  # not public
        return True
    return not is_op_determinism_enabled()


def _tensorflow_compiles():
    """Whether this is traced within `tf.function(jit_compile=True)`."""
    import tensorflow as tf

    if tf.executing_eagerly():
        return False
    try:
        from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext
    except ImportError:  # not public: without it, the slower way
        return False
    return GraphOrParentsInXlaContext(tf.compat.v1.get_default_graph())


# === Layers ===


def pointwise(maps, kernel):
    """1x1 convolution with `kernel` (channels in, channels out)."""
    outputs = ops.matmul(ops.transpose(kernel), flat(maps))
    return ops.reshape(outputs, (kernel.shape[1], *maps.shape[1:3], -1))


def im2col(maps, kernel_size, strides):
    """The maps under each tap of a 'same' convolution, stacked along the channels."""
    return ops.concatenate(
        [window for _, _, window in _windows(maps, (kernel_size, kernel_size), strides)], axis=0
    )


def depthwise(maps, kernel, strides):
    """Depthwise 'same' convolution with `kernel` (rows, columns, channels)."""
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


def dense(matrix, layer):
    """The 1x1 convolution `layer`, before its activation, on a matrix (channels, N)."""
    kernel = ops.convert_to_tensor(layer.kernel)[0, 0]
    return ops.matmul(ops.transpose(kernel), matrix) + layer.bias[:, None]


def normalize(maps, convolution, layer, training, swish):
    """What follows `convolution`: batch norm `layer`, or its bias; then swish if asked for."""
    if layer is None or not training:
        scale, shift = folded(convolution, layer)
        outputs = maps * per_channel(scale) + per_channel(shift)
        return ops.silu(outputs) if swish else outputs
    gamma, beta = tensor(layer.gamma), tensor(layer.beta)
    mean, variance = _moments(ops.stop_gradient(maps))
    _update_moving(layer, mean, variance)

    @ops.custom_gradient
    def norm(maps, gamma, beta, mean, variance):
        inverse = ops.rsqrt(variance + layer.epsilon)
        scale = gamma * inverse
        outputs = maps * per_channel(scale) + per_channel(beta - mean * scale)

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            unit = (maps - per_channel(mean)) * per_channel(inverse)
            if swish:
                upstream = upstream * _swish_gradient(unit * per_channel(gamma) + per_channel(beta))
            beta_gradient = _channel_sum(upstream)
            gamma_gradient = _channel_sum(upstream * unit)
            count = _count(maps)
            maps_gradient = per_channel(scale) * (
                upstream
                - per_channel(beta_gradient / count)
                - unit * per_channel(gamma_gradient / count)
            )
            zeros = ops.zeros_like(mean)  # mean and variance are already accounted for
            return maps_gradient, gamma_gradient, beta_gradient, zeros, zeros

        return (ops.silu(outputs) if swish else outputs), gradient

    return norm(maps, gamma, beta, mean, variance)


def expand(maps, convolution, layer, training):
    """1x1 convolution, its batch norm `layer` or bias, and swish, in one pass.

    Mean and variance of the wide outputs follow from mean and covariance of the narrow
    inputs: the variance of `w . x` is `w . cov(x) . w`. So the norm is folded into the
    kernel in training too.
    """
    kernel = ops.convert_to_tensor(convolution.kernel)[0, 0]
    if layer is None or not training:
        scale, shift = folded(convolution, layer)
        return ops.silu(pointwise(maps, kernel * scale) + per_channel(shift))
    gamma, beta = tensor(layer.gamma), tensor(layer.beta)
    mean, covariance = _mean_and_covariance(ops.stop_gradient(maps))
    wide_mean, variance = _moments_of_product(mean, covariance, ops.stop_gradient(kernel))
    _update_moving(layer, wide_mean, variance)

    @ops.custom_gradient
    def expansion(maps, kernel, gamma, beta, mean, covariance, variance):
        count = _count(maps)
        inverse = ops.rsqrt(variance + layer.epsilon)
        scaled = kernel * (gamma * inverse)
        centred = flat(maps - per_channel(mean))
        # A row of ones beside the inputs: the shift rides on the matrix product, and its
        # gradient comes out of the kernel's.
        inputs = ops.concatenate([centred, ops.ones_like(centred[:1])], axis=0)
        wide = ops.matmul(ops.transpose(ops.concatenate([scaled, beta[None]], axis=0)), inputs)

        def gradient(*arguments, upstream=None):
            upstream = arguments[0] if upstream is None else upstream
            wide_gradient = flat(upstream) * _swish_gradient(wide)
            both = ops.matmul(inputs, ops.transpose(wide_gradient))
            scaled_gradient, beta_gradient = both[:-1], both[-1]
            scale_gradient = ops.sum(scaled_gradient * kernel, axis=0)
            variance_gradient = -0.5 * scale_gradient * gamma * inverse**3
            kernel_gradient = scaled_gradient * (gamma * inverse) + (
                2.0 * variance_gradient * ops.matmul(covariance, kernel)
            )
            covariance_gradient = ops.matmul(kernel * variance_gradient, ops.transpose(kernel))
            through_statistics = ops.concatenate(
                [covariance_gradient * 2.0, -ops.matmul(scaled, beta_gradient[:, None])], axis=1
            )
            maps_gradient = ops.matmul(scaled, wide_gradient) + ops.matmul(
                through_statistics / count, inputs
            )
            return (
                ops.reshape(maps_gradient, ops.shape(maps)),
                kernel_gradient,
                scale_gradient * inverse,
                beta_gradient,
                ops.zeros_like(mean),
                ops.zeros_like(covariance),
                ops.zeros_like(variance),
            )

        return ops.reshape(ops.silu(wide), (kernel.shape[1], *maps.shape[1:3], -1)), gradient

    return expansion(maps, kernel, gamma, beta, mean, covariance, variance)


def folded(convolution, layer):
    """Scale and shift of what follows a convolution in inference: batch norm, or its bias."""
    if layer is None:
        bias = ops.convert_to_tensor(convolution.bias)
        return ops.ones_like(bias), bias
    scale = layer.gamma * ops.rsqrt(layer.moving_variance + layer.epsilon)
    return scale, layer.beta - layer.moving_mean * scale


def scale_and_shift(maps, layer):
    """Scale and shift of batch norm `layer` in training, gradients derived by the backend."""
    return _scale_and_shift(layer, *_moments(maps))


def scale_and_shift_of_product(maps, kernel, layer):
    """`scale_and_shift` of the 1x1 convolution of maps, which is not computed for it."""
    return _scale_and_shift(layer, *_moments_of_product(*_mean_and_covariance(maps), kernel))


def _scale_and_shift(layer, mean, variance):
    _update_moving(layer, ops.stop_gradient(mean), ops.stop_gradient(variance))
    scale = tensor(layer.gamma) * ops.rsqrt(variance + layer.epsilon)
    return scale, tensor(layer.beta) - mean * scale


# === Sums and shapes ===


def tensor(variable):
    """A tensor: TensorFlow's gradients of one's own do not take variables."""
    return ops.convert_to_tensor(variable) + 0.0


def per_channel(vector):
    """A number a channel, to go with maps."""
    return vector[:, None, None, None]


def flat(maps):
    """Maps as a matrix (channels, pixels of all patches)."""
    return ops.reshape(maps, (maps.shape[0], -1))


def _count(maps):
    """Pixels of all patches, as a float: what a channel's mean divides by."""
    patches = maps.shape[3] if maps.shape[3] is not None else ops.shape(maps)[3]
    return ops.cast(maps.shape[1] * maps.shape[2] * patches, maps.dtype)


def _channel_sum(maps):
    """Sum over all but the channels: over pixels first, along contiguous rows of patches."""
    sums = ops.sum(maps, axis=(1, 2))
    return ops.matmul(sums, ops.ones_like(sums[:1, :, None])[0])[:, 0]


@ops.custom_gradient
def _moments(maps):
    """Mean and variance of the channels; nothing but maps and mean is kept."""
    mean = _channel_sum(maps) / _count(maps)
    variance = _channel_sum(ops.square(maps - per_channel(mean))) / _count(maps)

    def gradient(*arguments, upstream=None):
        mean_gradient, variance_gradient = _pair(arguments, upstream)
        # Not slope * (maps - mean): XLA would keep maps - mean from the forward pass.
        slope = 2.0 * variance_gradient / _count(maps)
        return maps * per_channel(slope) + per_channel(mean_gradient / _count(maps) - slope * mean)

    return (mean, variance), gradient


@ops.custom_gradient
def _mean_and_covariance(maps):
    mean = _channel_sum(maps) / _count(maps)
    centred = flat(maps - per_channel(mean))
    covariance = ops.matmul(centred, ops.transpose(centred)) / _count(maps)

    def gradient(*arguments, upstream=None):
        mean_gradient, covariance_gradient = _pair(arguments, upstream)
        both_ways = covariance_gradient + ops.transpose(covariance_gradient)
        slope = both_ways / _count(maps)
        shift = mean_gradient / _count(maps) - ops.matmul(slope, mean[:, None])[:, 0]
        return ops.reshape(ops.matmul(slope, flat(maps)), ops.shape(maps)) + per_channel(shift)

    return (mean, covariance), gradient


def _pair(arguments, upstream):
    """The two gradients that arrive: each backend of Keras hands them over in its own way."""
    arguments = arguments if upstream is None else upstream
    return arguments[0] if len(arguments) == 1 else arguments


def _moments_of_product(mean, covariance, kernel):
    """Mean and variance of the 1x1 convolution with `kernel` of maps with these moments."""
    variance = ops.sum(kernel * ops.matmul(covariance, kernel), axis=0)
    return ops.matmul(mean[None], kernel)[0], variance


def _swish_gradient(inputs):
    sigmoid = ops.sigmoid(inputs)
    return sigmoid * (1.0 + inputs * (1.0 - sigmoid))


def _update_moving(layer, mean, variance):
    for moving, value in [(layer.moving_mean, mean), (layer.moving_variance, variance)]:
        moving.assign(moving * layer.momentum + value * (1.0 - layer.momentum))


def _padding(side, kernel_side, strides):
    """Side of the output, and padding before and after, of TensorFlow's 'same'."""
    out = -(-side // strides)
    total = max((out - 1) * strides + kernel_side - side, 0)
    return out, total // 2, total - total // 2


def _windows(maps, kernel_sides, strides):
    """`(row, column, maps under that tap)` of every tap of a 'same' convolution."""
    out, before, after = zip(
        *(_padding(s, k, strides) for s, k in zip(maps.shape[1:3], kernel_sides))
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


# === Depthwise convolution as shifted sums ===


def _shifted_convolve(maps, kernel, strides):
    terms = (
        window * per_channel(kernel[row, column])
        for row, column, window in _windows(maps, kernel.shape[:2], strides)
    )
    return _sum(terms)


def _shifted_input_gradient(upstream, kernel, strides, sides):
    """Each class of pixels modulo the strides is a sum of shifted gradients of its own."""
    channels = upstream.shape[0]
    taps = [_taps_of_class(s, k, strides) for s, k in zip(sides, kernel.shape[:2])]
    sizes = [-(-side // strides) for side in sides]
    margins = []
    for size, axis_taps, out in zip(sizes, taps, upstream.shape[1:3]):
        offsets = [offset for class_taps in axis_taps for _, offset in class_taps]
        margins.append((max(0, -min(offsets)), max(0, max(offsets) + size - out)))
    padded = ops.pad(upstream, ((0, 0), *margins, (0, 0)))

    def one_class(row_taps, column_taps):
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


def _taps_of_class(side, kernel_side, strides):
    """For pixels r, r + strides, ...: pairs of a tap and the offset of the output it feeds."""
    _, before, _ = _padding(side, kernel_side, strides)
    return [
        [
            (tap, (residue + before - tap) // strides)
            for tap in range(kernel_side)
            if (residue + before - tap) % strides == 0
        ]
        for residue in range(strides)
    ]


def _row_kernel_gradient(maps, upstream, kernel, strides):
    """A matrix product over the patches for each output row: all columns against all columns."""
    channels, (height, width) = maps.shape[0], maps.shape[1:3]
    rows, columns = kernel.shape[:2]
    out, before, after = _padding(height, rows, strides)
    padded = ops.pad(maps, ((0, 0), (before, after), (0, 0), (0, 0)))
    span = (out - 1) * strides + 1
    inputs = ops.concatenate([padded[:, r : r + span : strides] for r in range(rows)], axis=2)
    products = ops.sum(ops.matmul(inputs, ops.transpose(upstream, (0, 1, 3, 2))), axis=1)
    products = ops.reshape(products, (channels, rows, -1))
    taps = _taps_of_axis(width, columns, strides).reshape(columns, -1)
    return ops.transpose(ops.matmul(products, _constant(taps.T, maps)), (1, 2, 0))


def _sum(terms):
    terms = iter(terms)
    total = next(terms)
    for term in terms:
        total = total + term
    return total


# === Depthwise convolution as one dense matrix a channel ===


def _dense_convolve(maps, kernel, strides):
    matrices, out = _matrices(kernel, maps.shape[1:3], strides)
    outputs = ops.matmul(matrices, _pixels(maps))
    return ops.reshape(outputs, (maps.shape[0], *out, -1))


def _dense_input_gradient(upstream, kernel, strides, sides):
    matrices, _ = _matrices(kernel, sides, strides)
    outputs = ops.matmul(ops.transpose(matrices, (0, 2, 1)), _pixels(upstream))
    return ops.reshape(outputs, (upstream.shape[0], *sides, -1))


def _dense_kernel_gradient(maps, upstream, kernel, strides):
    products = ops.matmul(_pixels(upstream), ops.transpose(_pixels(maps), (0, 2, 1)))
    taps = taps_of_map(maps.shape[1:3], kernel.shape[:2], (strides, strides))
    gradient = ops.matmul(ops.reshape(products, (maps.shape[0], -1)), _constant(taps.T, maps))
    return ops.reshape(ops.transpose(gradient), kernel.shape)


def _matrices(kernel, sides, strides):
    rows, columns, channels = kernel.shape
    out = [-(-side // strides) for side in sides]
    taps = taps_of_map(sides, (rows, columns), (strides, strides))
    matrices = ops.matmul(
        ops.transpose(ops.reshape(kernel, (rows * columns, channels))), _constant(taps, kernel)
    )
    return ops.reshape(matrices, (channels, out[0] * out[1], sides[0] * sides[1])), out


def _pixels(maps):
    return ops.reshape(maps, (maps.shape[0], maps.shape[1] * maps.shape[2], -1))


def _constant(array, like):
    return ops.convert_to_tensor(np.ascontiguousarray(array), dtype=like.dtype)


def taps_of_map(sides, kernel_sides, strides):
    """0/1 array `(taps, pixels out * pixels in)`: which tap joins which two pixels."""
    rows, columns = (
        _taps_of_axis(size, kernel, step)
        for size, kernel, step in zip(sides, kernel_sides, strides)
    )
    taps = np.einsum("aio,bjp->abopij", rows, columns)
    return taps.reshape(taps.shape[0] * taps.shape[1], -1)


def _taps_of_axis(size, kernel, step):
    """0/1 array `(kernel, size in, size out)` of one axis, with TensorFlow's 'same' padding."""
    out, before, _ = _padding(size, kernel, step)
    tap, inside, outside = np.ogrid[:kernel, :size, :out]
    return (inside == outside * step + tap - before).astype("float32")
