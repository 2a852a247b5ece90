"""Keras model files that may be damaged, or made by somebody who means harm."""

import concurrent.futures
import importlib.util
import math
import random
import re

import keras

from keras_patchpu.utils.validation import MAX_PIXELS, FileError

MAX_BYTES = 2**31

# Layers of Keras that do arithmetic alone, of which backbones are made. Others run code (Lambda),
# load other models (TFSMLayer) or read files (StringLookup). Keras's safe mode refuses them today,
# but a `keras.config.enable_unsafe_deserialization()` anywhere in the process wins over
# `safe_mode=True`, and Keras 3.12 loads a TFSMLayer in safe mode, too.
_LAYERS = (
    "InputLayer|Functional|Conv2D|DepthwiseConv2D|SeparableConv2D|Dense|EinsumDense"
    "|BatchNormalization|LayerNormalization|GroupNormalization|UnitNormalization|Normalization"
    "|Rescaling|Resizing|Activation|ReLU|LeakyReLU|PReLU|ELU|Softmax|Dropout|SpatialDropout[12]D"
    "|Add|Average|Multiply|Subtract|Concatenate|Flatten|Reshape|Permute|ZeroPadding2D"
    "|Cropping[12]D|UpSampling2D|(Global)?(Average|Max)Pooling2D|MultiHeadAttention"
)
# What of Keras a classifier and what it was compiled with are made of.
_ALLOWED = re.compile(
    r"keras\.(DTypePolicy|Sequential|(constraints|dtype_policies|initializers|losses|metrics"
    r"|optimizers|optimizers\.schedules|quantizers|regularizers)\.\w+"
    rf"|(layers|models|src\.models\.functional)\.({_LAYERS})"
    # Of networks of `keras.applications`.
    r"|src\.ops\.numpy\.(Add|Multiply)|src\.applications\.convnext\.(LayerScale|StochasticDepth)"
    # As Keras names its optimizers on PyTorch.
    r"|src\.backend\.torch\.optimizers\.torch_\w+\.\w+)"
)
_PRESETS = re.compile(r"keras_hub>\w+Backbone")
_VALUES = ("__numpy__", "__tensor__", "__keras_tensor__")
_SHOWN = 300


def check_no_code(path, config, of):
    """Raises a FileError if a configuration holds code.

    Args:
        path: `pathlib.Path` of the file, for the message.
        config: What `read_config` gave.
        of: What the file should hold, such as `"a classifier"`, for the message.
    """
    code = [
        name
        for name, _ in _all_named(path, config)
        if name.rsplit(".", 1)[-1] in ("Lambda", "__lambda__")
    ]
    if code:
        raise FileError(
            f"{path} contains code (a Lambda layer, or a lambda) and is not loaded: {of} has none. "
            "Do not use the file unless you know where it is from"
        )


def check_parts(path, config, of):
    """Raises a FileError if a configuration names what is neither Keras's nor registered.

    Args: As of `check_no_code`.
    """
    named = [name for name, _ in _all_named(path, config)]
    if any(name.startswith("keras_hub.") for name in named):
        import_keras_hub(path)  # which registers its classes
    wrong = foreign_parts(config)
    if wrong:
        raise FileError(
            f"{path} contains {wrong[0]}, which is no part of {of}, and is not loaded. If "
            "it is yours, register it by keras.saving.register_keras_serializable before"
        )


def foreign_parts(config):
    """Names of what a configuration tells Keras to make and a file may not."""
    return [name for name, allowed in _named(config) if not allowed]


def import_keras_hub(wanted_by):
    """KerasHub, a package that need not be there.

    Args:
        wanted_by: What cannot be loaded without it, for the message.

    Raises:
        FileError: It is not installed.
    """
    if importlib.util.find_spec("keras_hub") is None:
        raise FileError(
            f"{wanted_by} cannot be loaded without KerasHub: pip install 'keras_patchpu[keras-hub]'"
        )
    return importlib.import_module("keras_hub")


def check_sizes(path, config, max_bytes):
    """Raises a FileError if a configuration declares sizes for which there is no memory."""
    declared = _declared_sizes(config)
    if declared is None:
        return
    num_bytes, (height, width) = declared
    if num_bytes > max_bytes:
        raise FileError(
            f"{path} declares weights of {num_bytes:,} bytes, more than the limit of {max_bytes:,}"
        )
    if height * width > MAX_PIXELS:
        raise FileError(
            f"{path} declares images of {height} x {width} pixels, more than the limit of "
            f"{MAX_PIXELS:,}"
        )


def load_checked(path, config, compile):
    """The model of a file that passed the checks above, loaded in Keras's safe mode.

    Raises:
        FileError: Its weights do not fit its configuration, or that is not of this version.
    """
    try:
        return keras.saving.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # of a damaged file Keras raises anything
        raise FileError(f"{path} cannot be loaded: {_reason(config, error)}") from error


def _declared_sizes(config):
    """Bytes of the weights and the size of the images, or `None` if there is no such model.

    The model is made without values. Keras remembers, for each thread, the variables that have
    yet to get theirs, and would give them some here; so they are those of a thread of its own.
    """

    def sizes():
        config_alone = {**config, "build_config": None, "compile_config": None}
        try:
            with keras.StatelessScope(initialize_variables=False):
                model = keras.saving.deserialize_keras_object(config_alone, safe_mode=True)
                num_bytes = sum(4 * math.prod(variable.shape) for variable in model.variables)
                # A functional model of others may have no size of its images.
                return num_bytes, getattr(model, "image_size", (0, 0))
        except Exception:  # loading fails by it, too, and says why
            return None

    state = random.getstate()  # from which Keras draws seeds that nobody gave
    with concurrent.futures.ThreadPoolExecutor(1) as thread:
        declared = thread.submit(sizes).result()
    random.setstate(state)
    return declared


def _all_named(path, config):
    try:
        return list(_named(config))
    except RecursionError as error:
        raise FileError(f"{path} has a configuration that is nested too deep") from error


def _named(value):
    """Pairs of what a configuration tells Keras to make, and whether that is allowed."""
    if isinstance(value, list):
        for item in value:
            yield from _named(item)
    elif isinstance(value, dict):
        if "class_name" in value:
            yield _named_here(value)
        for item in value.values():
            yield from _named(item)


def _named_here(value):
    name, module = value["class_name"], value.get("module")
    if name in _VALUES:
        return name, True
    if not isinstance(name, str) or name.startswith("__"):
        return str(name), False
    # Where Keras looks first, before module and name.
    is_function = name == "function"
    key = value.get("config") if is_function else value.get("registered_name", name)
    if is_function:
        name = str(key)
    # "builtins" is what Keras writes for its own losses and metrics that are functions.
    allowed = registered(key) is not None or (is_function and module == "builtins")
    # The whole name: Keras takes "keras" and "layers.Lambda", too.
    name = f"{module}.{name}"
    if isinstance(key, str) and key.startswith("keras_hub>"):
        # Registered as soon as it is imported, as are its tokenizers, which read files.
        return name, bool(_PRESETS.fullmatch(key)) and allowed
    return name, allowed or bool(_ALLOWED.fullmatch(name))


def registered(name):
    """What was registered under a name of Keras's, or `None`."""
    return keras.saving.get_registered_object(name) if isinstance(name, str) else None


def _reason(config, error):
    """Which part of a model made Keras fail, and with what."""
    text = " ".join(str(error).split())
    text = text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
    try:
        keras.saving.deserialize_keras_object({**config, "compile_config": None})
    except Exception:
        return f"its configuration is not one that this version knows. {text}"
    return f"its weights, or its loss or optimizer, do not fit its own configuration. {text}"
