"""Keras without a network, and without files that it downloaded before."""

import sys
import urllib.error

import keras

_MODULE = sys.modules[keras.utils.get_file.__module__]


def no_downloads(monkeypatch, folder):
    """Lets each download of Keras fail.

    Args:
        monkeypatch: pytest's.
        folder: Where Keras keeps its downloads meanwhile.

    Returns:
        List to which the addresses are added that Keras asked for.
    """
    asked = []

    def fail(address, *args, **kwargs):
        asked.append(address)
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(_MODULE, "urlretrieve", fail)
    monkeypatch.setattr(_MODULE.config, "keras_home", lambda: str(folder))
    return asked
