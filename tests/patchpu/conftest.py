"""Fixtures of the tests of the tool."""

import pytest
from tiny_runs import quick_steps, tiny

from patchpu.training.run import train


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Folder of a run of three epochs of three steps. To be read: who writes takes a copy.

    Its model can only be loaded with `quick`.
    """
    folder = tmp_path_factory.mktemp("finished") / "run"
    with quick_steps():
        train(tiny(folder, epochs=3), verbose=0)
    return folder


@pytest.fixture
def quick():
    """Runs of a few steps, see `quick_steps`."""
    with quick_steps():
        yield
