"""Models on the Hugging Face Hub, by Keras's own addresses: `hf://user/name`."""

import pathlib

from keras_patchpu.utils.validation import FileError

_PREFIX = "hf://"
# Of a repository nothing else is downloaded.
PARTS = ("config.json", "metadata.json", "model.weights.h5")
_SHOWN = 200


def is_hub_address(path):
    """Whether a path is an address on the Hub."""
    return str(path).startswith(_PREFIX)


def download(address):
    """Downloads a model into the cache of `huggingface_hub`.

    Args:
        address: `"hf://user/name"`, to which `model.save` has saved.

    Returns:
        `pathlib.Path` of a folder with the files of the model. None of them was opened.

    Raises:
        FileError: The address is no such, the package is missing, or the download failed.
    """
    address = str(address)
    name = address.removeprefix(_PREFIX)
    if name.count("/") != 1 or not all(name.split("/")):
        raise FileError(f"Expected an address hf://user/name. Received: {address}")
    try:
        import huggingface_hub
    except ImportError as error:
        raise FileError(
            f"{address} cannot be loaded without the package huggingface_hub: "
            'pip install "keras_patchpu[hub]"'
        ) from error
    try:
        folder = huggingface_hub.snapshot_download(
            repo_id=name, library_name="keras", allow_patterns=list(PARTS)
        )
    except Exception as error:  # of a network, or of a name that is not allowed: many kinds
        reason = " ".join(str(error).split())[:_SHOWN]
        raise FileError(
            f"{address} cannot be downloaded: {type(error).__name__}: {reason}"
        ) from error
    return pathlib.Path(folder)
