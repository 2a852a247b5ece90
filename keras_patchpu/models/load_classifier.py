"""Classifiers from files that may be damaged, or made by somebody who means harm."""

import concurrent.futures
import hashlib
import math
import os
import pathlib
import random
import re
from collections.abc import Sequence

import keras

from keras_patchpu.models.backbone_classifier import BackboneClassifier
from keras_patchpu.models.hub import PARTS, download, is_hub_address
from keras_patchpu.models.model_archive import ARCHIVE_PARTS, read_config
from keras_patchpu.models.multi_label_classifier import MultiLabelClassifier
from keras_patchpu.models.patch_classifier import PatchClassifier
from keras_patchpu.models.resnet_classifier import ResNetClassifier
from keras_patchpu.utils.validation import MAX_PIXELS, FileError
from keras_patchpu.utils.whole_files import latest_folder

MAX_BYTES = 2**31

# Layers of Keras that do arithmetic alone, of which backbones are made. Others run code (Lambda),
# load other models (TFSMLayer) or read files (StringLookup). Keras's safe mode refuses them today,
# but a `keras.config.enable_unsafe_deserialization()` anywhere in the process wins over
# `safe_mode=True`, and Keras 3.12 loads a TFSMLayer in safe mode, too.
_LAYERS = (
    "InputLayer|Functional|Conv2D|DepthwiseConv2D|SeparableConv2D|Dense|EinsumDense"
    "|BatchNormalization|LayerNormalization|GroupNormalization|UnitNormalization|Normalization"
    "|Rescaling|Resizing|Activation|ReLU|LeakyReLU|PReLU|ELU|Softmax|Dropout|SpatialDropout[12]D"
    "|Add|Average|Multiply|Subtract|Concatenate|Flatten|Reshape|Permute|ZeroPadding2D|Cropping2D"
    "|UpSampling2D|(Global)?(Average|Max)Pooling2D|MultiHeadAttention"
)
# What of Keras a classifier and what it was compiled with are made of.
_ALLOWED = re.compile(
    r"keras\.(DTypePolicy|(constraints|dtype_policies|initializers|losses|metrics|optimizers"
    r"|optimizers\.schedules|quantizers|regularizers)\.\w+"
    rf"|(layers|models|src\.models\.functional)\.({_LAYERS})"
    # As Keras names its optimizers on PyTorch.
    r"|src\.backend\.torch\.optimizers\.torch_\w+\.\w+)"
)
_VALUES = ("__numpy__", "__tensor__", "__keras_tensor__")
_SHOWN = 300
_KINDS = (PatchClassifier, BackboneClassifier, ResNetClassifier)


def load_classifier(
    path: str | os.PathLike,
    compile: bool = True,
    label_names: Sequence[str] | None = None,
    kinds: type | tuple[type, ...] | None = None,
    max_bytes: int = MAX_BYTES,
) -> MultiLabelClassifier:
    """Loads a classifier of this package in Keras's safe mode.

    Nothing in the file is run: before Keras reads it, it must be a whole archive (or a folder of
    the same parts, as on the Hub) of a classifier whose configuration names nothing but Keras's
    initializers, losses, metrics, optimizers, layers that do arithmetic alone and the like, and
    what was registered by
    `keras.saving.register_keras_serializable`.

    Args:
        path: A .keras file, or a run folder, which stands for its last/model.keras; or
            `"hf://user/name"` for a model on the Hugging Face Hub (extra `hub`), which is
            downloaded into the cache of `huggingface_hub`; or such a folder.
        compile: Whether to load loss and optimizer too. Defaults to `True`.
        label_names: The labels that it must have, in their order, as a classifier without
            names has their number. Defaults to `None`: any.
        kinds: Class of the classifier, or tuple of classes. Defaults to `None`:
            `PatchClassifier`, `BackboneClassifier` or `ResNetClassifier`.
        max_bytes: Largest size of the archive unpacked, and of the weights that its
            configuration declares. Defaults to 2 GiB. What is downloaded is looked at afterwards.

    Returns:
        The classifier.

    Raises:
        FileError: The file is missing or cannot be downloaded, is no .keras archive, is cut off
            or damaged, contains code, holds another model, declares weights or images of huge
            sizes, has weights that do not fit its configuration, or is of other labels. A
            `ValueError`.
    """
    path = model_file(path)
    config = read_config(path, max_bytes)
    _check_kind(path, config, kinds or _KINDS)
    _check_declared(path, config, max_bytes)
    try:
        model = keras.saving.load_model(path, compile=compile, safe_mode=True)
    except Exception as error:  # of a damaged file Keras raises anything
        raise FileError(f"{path} cannot be loaded: {_reason(config, error)}") from error
    if label_names is not None:
        _check_labels(path, model, tuple(label_names))
    return model


def model_file(path):
    """The .keras file of a path that may be a run folder, or a FileError if there is none.

    Of an address on the Hub, the folder that it was downloaded into.
    """
    path = download(path) if is_hub_address(path) else pathlib.Path(path)
    if path.is_dir():
        if all((path / part).is_file() for part in ARCHIVE_PARTS):
            return path
        model = latest_folder(path / "last") / "model.keras"
        if not model.is_file():
            raise FileError(
                f"The folder {path} holds no last/model.keras: it is not a run folder. Nor does it "
                f"hold {' and '.join(ARCHIVE_PARTS)}, as a model on the Hub"
            )
        return model
    if not path.is_file():
        raise FileError(f"There is no model {path}. Give a .keras file or a run folder")
    return path


def model_digest(path):
    """SHA-256 of what decides a model: the bytes of a .keras file, or those of a folder's parts."""
    digest = hashlib.sha256()
    for file in [path / part for part in PARTS] if path.is_dir() else [path]:
        if file.is_file():
            digest.update(file.read_bytes())
    return digest.hexdigest()


def _check_kind(path, config, kinds):
    """Raises a FileError unless a configuration is a classifier's, and names nothing else."""
    try:
        named = list(_named(config))
    except RecursionError as error:
        raise FileError(f"{path} has a configuration that is nested too deep") from error
    code = [name for name, _ in named if name.rsplit(".", 1)[-1] in ("Lambda", "__lambda__")]
    if code:
        raise FileError(
            f"{path} contains code (a Lambda layer, or a lambda) and is not loaded: a classifier "
            "of this package has none. Do not use the file unless you know where it is from"
        )
    found = config if isinstance(config, dict) else {}
    kind = _registered(found.get("registered_name"))
    if not isinstance(kind, type) or not issubclass(kind, kinds):
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        raise FileError(
            f"Expected {path} to hold a {' or '.join(kind.__name__ for kind in kinds)}. Received: "
            f"{found.get('class_name')}"
        )
    wrong = [name for name, allowed in named if not allowed]
    if wrong:
        raise FileError(
            f"{path} contains {wrong[0]}, which is no part of a classifier, and is not loaded. If "
            "it is yours, register it by keras.saving.register_keras_serializable before"
        )


def _check_declared(path, config, max_bytes):
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
    allowed = _registered(key) is not None or (is_function and module == "builtins")
    # The whole name: Keras takes "keras" and "layers.Lambda", too.
    name = f"{module}.{name}"
    return name, allowed or bool(_ALLOWED.fullmatch(name))


def _registered(name):
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


def _check_labels(path, model, label_names):
    names = model.label_names
    if names is None and model.num_labels == len(label_names):
        return
    if names != label_names:
        received = f"{model.num_labels} without names" if names is None else _few(names)
        raise FileError(
            f"{path} is of other labels. Expected: {_few(label_names)}. Received: {received}"
        )


def _few(names):
    more = f" and {len(names) - 10} more" if len(names) > 10 else ""
    return f"{len(names)}, {', '.join(names[:10])}{more}"
