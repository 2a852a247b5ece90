"""Fixtures that all tests share, and how many threads they run on."""

import functools
import os
import pathlib
import signal

# One process a core (`-n` in pyproject.toml), one thread a process. What XLA compiles in tests runs
# for a moment: without its costly passes they take a third less time.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault(
    "XLA_FLAGS", "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
)
os.environ.setdefault("MPLBACKEND", "agg")

import keras  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
from shallow_resnet import shallow_resnets, whole_resnets  # noqa: E402
from tiny_runs import one_block  # noqa: E402
from without_xla import XLA, leave_xla_off  # noqa: E402

from keras_patchpu.layers import patch_embedder  # noqa: E402
from keras_patchpu.models import patch_classifier  # noqa: E402

BLOCKS = patch_embedder.BLOCKS

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


@pytest.fixture(scope="session", autouse=True)
def _without_xla():
    """No test waits for XLA to compile a model, but those that ask for `with_xla`."""
    with pytest.MonkeyPatch.context() as patch:
        leave_xla_off(patch.setattr)
        yield


@pytest.fixture(scope="module")
def few_blocks():
    """In modules that ask for it, patches are embedded by one block of the five."""
    with pytest.MonkeyPatch.context() as patch:
        one_block(patch.setattr)
        yield


@pytest.fixture
def all_blocks(monkeypatch):
    """For tests of these modules: patches are embedded as for users."""
    monkeypatch.setattr(patch_embedder, "BLOCKS", BLOCKS)


@pytest.fixture(scope="session", autouse=True)
def _shallow_resnets():
    """A `ResNetClassifier` has few blocks, but in tests that ask for `whole_resnet`."""
    with pytest.MonkeyPatch.context() as patch:
        shallow_resnets(patch.setattr)
        yield


@pytest.fixture
def whole_resnet(monkeypatch):
    """A `ResNetClassifier` is made of ResNet-50, as it is for users."""
    whole_resnets(monkeypatch.setattr)


@pytest.fixture
def with_xla(monkeypatch):
    """A `PatchClassifier` chooses XLA as it does for users."""
    monkeypatch.setattr(patch_classifier, "xla", XLA)


@pytest.fixture(autouse=True)
def seeded():
    """Makes initial weights the same in every run, and undoes a changed dtype policy."""
    keras.utils.set_random_seed(0)
    policy = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(policy)
