"""Batch norms with the patches last, and what they follow or precede, gradients written out.

Maps are `(C, h, w, N)`; what belongs to channels is a vector `(C,)`.
"""

from keras import ops

from keras_patchpu.layers.cpu.patches_last import flat, per_channel, pointwise


def normalize(maps, convolution, layer, training, swish):
    """What follows `convolution`: batch norm `layer`, or its bias; then swish if asked for.

    Maps `(C, h, w, N)` give `(C, h, w, N)`.
    """
    if layer is None or not training:
        scale, shift = folded(convolution, layer)
        outputs = maps * per_channel(scale) + per_channel(shift)
        return ops.silu(outputs) if swish else outputs
    gamma, beta = _tensor(layer.gamma), _tensor(layer.beta)
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

    Maps `(C, h, w, N)` and a kernel `(1, 1, C, C')` give `(C', h, w, N)`.
    Mean and variance of the wide outputs follow from mean and covariance of the narrow
    inputs: the variance of `w . x` is `w . cov(x) . w`. So the norm is folded into the
    kernel in training too.
    """
    kernel = ops.convert_to_tensor(convolution.kernel)[0, 0]
    if layer is None or not training:
        scale, shift = folded(convolution, layer)
        return ops.silu(pointwise(maps, kernel * scale) + per_channel(shift))
    gamma, beta = _tensor(layer.gamma), _tensor(layer.beta)
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
    """Scale and shift, `(C,)` each, in inference of a batch norm, or of a bias without one."""
    if layer is None:
        bias = ops.convert_to_tensor(convolution.bias)
        return ops.ones_like(bias), bias
    scale = layer.gamma * ops.rsqrt(layer.moving_variance + layer.epsilon)
    return scale, layer.beta - layer.moving_mean * scale


def _tensor(variable):
    """A tensor of the variable's shape: TensorFlow's gradients of one's own take no variables."""
    return ops.convert_to_tensor(variable) + 0.0


def _count(maps):
    """`h w N` of maps `(C, h, w, N)`, as a scalar of their dtype."""
    patches = maps.shape[3] if maps.shape[3] is not None else ops.shape(maps)[3]
    return ops.cast(maps.shape[1] * maps.shape[2] * patches, maps.dtype)


def _channel_sum(maps):
    """Sums `(C,)` of maps `(C, h, w, N)`: over pixels first, along contiguous rows of patches."""
    sums = ops.sum(maps, axis=(1, 2))
    return ops.matmul(sums, ops.ones_like(sums[:1, :, None])[0])[:, 0]


def _moments(maps):
    """Mean and variance, `(C,)` each, of the channels of maps `(C, h, w, N)`."""
    mean = _channel_sum(maps) / _count(maps)
    return mean, _channel_sum(ops.square(maps - per_channel(mean))) / _count(maps)


def _mean_and_covariance(maps):
    """Mean `(C,)` and covariance `(C, C)` of the channels of maps `(C, h, w, N)`."""
    mean = _channel_sum(maps) / _count(maps)
    centred = flat(maps - per_channel(mean))
    return mean, ops.matmul(centred, ops.transpose(centred)) / _count(maps)


def _moments_of_product(mean, covariance, kernel):
    """Mean and variance, `(C',)` each, of a 1x1 convolution with `kernel` `(C, C')`.

    Of maps whose channels have this `mean` `(C,)` and `covariance` `(C, C)`.
    """
    variance = ops.sum(kernel * ops.matmul(covariance, kernel), axis=0)
    return ops.matmul(mean[None], kernel)[0], variance


def _swish_gradient(inputs):
    """Derivative of `x sigmoid(x)`, of the shape of `inputs`."""
    sigmoid = ops.sigmoid(inputs)
    return sigmoid * (1.0 + inputs * (1.0 - sigmoid))


def _update_moving(layer, mean, variance):
    """Moves the running statistics of a batch norm towards `mean` and `variance`, `(C,)` each."""
    for moving, value in [(layer.moving_mean, mean), (layer.moving_variance, variance)]:
        moving.assign(moving * layer.momentum + value * (1.0 - layer.momentum))
