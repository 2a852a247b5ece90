"""For notebooks that train one model after another."""

import keras

_PREFIX = "CustomGradient-"


def forget_models() -> int:
    """Frees what Keras and TensorFlow keep of models that are no longer used.

    Call it between models, when no variable refers to the former one. It calls
    `keras.backend.clear_session()`, which collects garbage, too. Before, on TensorFlow, it empties
    the registry of gradients: for each use of a function with a gradient of its own, such as
    swish or the sum over replicas in the train step of any Keras model, TensorFlow registers one
    under a new name. It holds the graph of the whole step, and nothing public takes it out.

    A model that lives on can be trained and used as before. What cannot be done any more is to take
    a gradient through a `tf.function` of one's own that was traced before. Programs that XLA
    compiled stay in memory. Where TensorFlow keeps no such registry (any more), and on other
    backends, nothing but `clear_session` is done.

    Returns:
        How many gradients were registered.
    """
    count = _forget_gradients() if keras.backend.backend() == "tensorflow" else 0
    keras.backend.clear_session()
    return count


def _forget_gradients():
    try:
        from tensorflow.python.framework import ops

        registry = ops.gradient_registry._registry
        names = [name for name in registry if name.startswith(_PREFIX)]
        for name in names:
            del registry[name]
    except (AttributeError, ImportError, TypeError):  # it is private, and may change
        return 0
    return len(names)
