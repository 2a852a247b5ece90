"""Classifiers from files that may be damaged, or made by somebody who means harm."""

import hashlib
import os
import pathlib
from collections.abc import Sequence

from keras_patchpu.models.backbone_classifier import BackboneClassifier
from keras_patchpu.models.hub import PARTS, download, is_hub_address
from keras_patchpu.models.multi_label_classifier import MultiLabelClassifier
from keras_patchpu.models.patch_classifier import PatchClassifier
from keras_patchpu.models.resnet_classifier import ResNetClassifier
from keras_patchpu.utils.model_archive import ARCHIVE_PARTS, read_config
from keras_patchpu.utils.safe_models import (
    MAX_BYTES,
    check_no_code,
    check_parts,
    check_sizes,
    load_checked,
    registered,
)
from keras_patchpu.utils.validation import FileError
from keras_patchpu.utils.whole_files import latest_folder

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
    initializers, losses, metrics, optimizers, layers that do arithmetic alone and the like,
    backbones of KerasHub (which is imported then, extra `keras-hub`), and what was registered by
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
    check_no_code(path, config, "a classifier of this package")
    _check_kind(path, config, kinds or _KINDS)
    check_parts(path, config, "a classifier")
    check_sizes(path, config, max_bytes)
    model = load_checked(path, config, compile)
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
    """Raises a FileError unless a configuration is a classifier's."""
    found = config if isinstance(config, dict) else {}
    kind = registered(found.get("registered_name"))
    if not isinstance(kind, type) or not issubclass(kind, kinds):
        kinds = kinds if isinstance(kinds, tuple) else (kinds,)
        raise FileError(
            f"Expected {path} to hold a {' or '.join(kind.__name__ for kind in kinds)}. Received: "
            f"{found.get('class_name')}"
        )


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
