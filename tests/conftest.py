"""Fixtures that all tests share."""

import functools
import os
import pathlib
import signal

import keras
import numpy as np
import pytest

# A choice of the user's: the command must not replace the process of the tests.
os.environ.setdefault("GLIBC_TUNABLES", "")
# What a shell starts in the background ignores Ctrl-C, and then no test of it could pass.
signal.signal(signal.SIGINT, signal.default_int_handler)

DATA = pathlib.Path(__file__).parent / "data"


@functools.cache
def _load(name):
    with np.load(DATA / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def golden():
    """A function from the name of a file of reference values to its arrays, see data/README.md."""
    return _load


@pytest.fixture(autouse=True)
def seeded():
    """Makes initial weights the same in every run, and undoes a changed dtype policy."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
