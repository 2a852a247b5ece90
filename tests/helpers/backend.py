"""What the tests need of the three backends and Keras does not offer."""

import contextlib

import keras
import numpy as np
from keras import ops

# Arguments of `compile` for a few steps: compiling costs more than it saves, except in jax.
FEW_STEPS = {"run_eagerly": keras.backend.backend() != "jax"}
# By default jax has no float64, and on torch Keras takes means in float32 all the same.
HAS_FLOAT64 = keras.backend.backend() == "tensorflow"


def gradient(function, x):
    """Gradient of a scalar function of one tensor at `x`, as a NumPy array of x's shape.

    Zeros where the function does not depend on `x`.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        x = tf.convert_to_tensor(x)
        with tf.GradientTape() as tape:
            tape.watch(x)
            value = function(x)
        result = tape.gradient(value, x, unconnected_gradients="zero")
    elif backend == "jax":
        import jax

        def stateless(x):
            # Statistics that a layer learns must not leave the traced function.
            with keras.StatelessScope():
                return function(x)

        result = jax.grad(stateless)(jax.numpy.asarray(x))
    else:
        x = ops.convert_to_tensor(x).detach().clone().requires_grad_(True)
        value = function(x)
        if value.requires_grad:
            value.backward()
        result = ops.zeros_like(x) if x.grad is None else x.grad
    return np.asarray(ops.convert_to_numpy(result))


def numpy(x):
    """A tensor as a NumPy array; half precision becomes float32."""
    if keras.backend.standardize_dtype(x.dtype) in ("float16", "bfloat16"):
        x = ops.cast(x, "float32")
    return ops.convert_to_numpy(x)


def weight_gradients(layer, function):
    """Gradients of the scalar `function()` by the layer's trainable weights, NumPy arrays."""
    variables = layer.trainable_variables
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            value = function()
        values = [variable.value for variable in variables]
        results = tape.gradient(value, values, unconnected_gradients="zero")
    elif backend == "jax":
        import jax

        def stateless(values):
            with keras.StatelessScope(state_mapping=list(zip(variables, values))):
                return function()

        results = jax.grad(stateless)([variable.value for variable in variables])
    else:
        import torch

        values = [variable.value for variable in variables]
        results = torch.autograd.grad(function(), values, allow_unused=True)
        results = [ops.zeros_like(v) if r is None else r for v, r in zip(values, results)]
    return [np.asarray(ops.convert_to_numpy(result)) for result in results]


@contextlib.contextmanager
def functions_not_compiled():
    """On TensorFlow functions run as they are written: compiling takes longer than a few steps."""
    if keras.backend.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    try:
        yield
    finally:
        tf.config.run_functions_eagerly(False)
