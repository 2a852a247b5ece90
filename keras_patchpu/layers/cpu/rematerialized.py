"""Computing things a second time for their gradient instead of keeping what is in between."""

import keras
from keras import ops


def rematerialized(layer, function, inputs):
    """`function(inputs)`, of which only the inputs are kept for the gradient.

    `keras.remat` around a layer would update running statistics twice on TensorFlow, and
    not at all on JAX. So the layer's variables go in, and their new values come out.

    Args:
        layer: The layer whose variables `function` reads and updates.
        function: From a tensor to a tensor.
        inputs: The tensor.

    Returns:
        `function(inputs)`.
    """
    variables, updated = layer.variables, layer.non_trainable_variables

    def stateless(inputs, *values):
        with keras.StatelessScope(state_mapping=list(zip(variables, values))) as scope:
            outputs = function(inputs)
        return outputs, *(scope.get_current_value(variable) for variable in updated)

    # Copies, as PyTorch updates variables in place.
    values = [ops.copy(variable) for variable in variables]
    outputs, *values = keras.remat(stateless)(inputs, *values)
    for variable, value in zip(updated, values):
        variable.assign(value)
    return outputs


def in_chunks(function, maps, weights, shape, chunk):
    """`function(maps, *weights)` of maps `(..., N)`, `chunk` patches at a time.

    Nothing but `maps` and `weights` is kept for the gradient, which calls `function` again:
    what is in between never exists for more than `chunk` patches. The gradient is exact where
    each patch's result depends on that patch and the weights only.

    Args:
        function: From maps `(..., chunk)` and the weights to a tensor `(..., chunk)`.
        maps: `(..., N)`.
        weights: List of tensors.
        shape: Of a result, without the patches.
        chunk: Number of patches, a plain integer.

    Returns:
        The results, `(..., N)`.
    """
    size = maps.shape[-1] if maps.shape[-1] is not None else ops.shape(maps)[-1]
    count = (size + chunk - 1) // chunk
    padding = count * chunk - size

    def padded(tensor):
        # Zeros at the end: with a gradient of zero they add nothing to the weights'.
        return ops.pad(tensor, [(0, 0)] * (len(tensor.shape) - 1) + [(0, padding)])

    def part(tensor, index):
        start = [0] * (len(tensor.shape) - 1) + [index * chunk]
        return ops.slice(tensor, start, (*tensor.shape[:-1], chunk))

    def put(whole, index, tensor):
        return ops.slice_update(whole, [0] * (len(tensor.shape) - 1) + [index * chunk], tensor)

    @ops.custom_gradient
    def chunked(maps, *weights):
        source = padded(maps)
        outputs = ops.broadcast_to(_nothing(source), (*shape, count * chunk))

        def step(index, outputs):
            return put(outputs, index, function(part(source, index), *weights))

        outputs = ops.fori_loop(0, count, step, outputs)

        def gradient(*arguments, upstream=None):
            upstream = padded(arguments[0] if upstream is None else upstream)

            def step(index, state):
                maps_gradient, *weight_gradients = state
                now, *more = _vjp(function, (part(source, index), *weights), part(upstream, index))
                return (
                    put(maps_gradient, index, now),
                    *(total + one for total, one in zip(weight_gradients, more)),
                )

            state = (
                ops.broadcast_to(_nothing(upstream), ops.shape(source)),
                *(ops.zeros_like(weight) for weight in weights),
            )
            maps_gradient, *weight_gradients = ops.fori_loop(0, count, step, state)
            return maps_gradient[..., :size], *weight_gradients

        return outputs[..., :size], gradient

    return chunked(maps, *weights)


def _nothing(tensor):
    """A zero that is known only once `tensor` is: XLA makes constant arrays all at once, at
    the beginning, and keeps them."""
    return 0.0 * tensor[(0,) * len(tensor.shape)]


def _vjp(function, inputs, upstream):
    """Gradients of `sum(upstream * function(*inputs))` for the inputs."""
    if keras.backend.backend() == "jax":
        import jax

        return jax.vjp(function, *inputs)[1](upstream)
    import tensorflow as tf

    with tf.GradientTape() as tape:
        tape.watch(inputs)
        outputs = function(*inputs)
    return tape.gradient(outputs, inputs, upstream)
