"""Fixtures of the tests of the tool."""

import pytest
from tiny_runs import tiny

from patchpu.training.run import train


@pytest.fixture(scope="session")
def finished_run(tmp_path_factory):
    """Folder of a run of three epochs of three steps. To be read: who writes takes a copy."""
    folder = tmp_path_factory.mktemp("finished") / "run"
    train(tiny(folder, epochs=3), verbose=0)
    return folder
