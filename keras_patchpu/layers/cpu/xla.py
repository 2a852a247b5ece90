"""Whether XLA compiles for a CPU, where the patches are computed last (see `patches_last`)."""

import keras

# Patches above this side were not measured: they go the way of Keras's own layers.
_LARGEST_PATCH_SIDE = 64


def is_faster(patches):
    """Whether to compute with the patches last: XLA compiles for a CPU, in float32.

    Args:
        patches: `(N, h, w, C)`, the tensor about to be embedded.
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
