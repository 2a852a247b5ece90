"""What importing the package brings with it: nothing beyond Keras."""

import json
import os
import subprocess
import sys

import keras
import pytest

PROGRAM = """
import json, sys
import keras
before = {name.split(".")[0] for name in sys.modules}
import keras_patchpu
after = {name.split(".")[0] for name in sys.modules}
sys.stderr.write("RESULT" + json.dumps([sorted(after), sorted(after - before)]))
"""


@pytest.fixture(scope="module", params=[None, "jax"], ids=["this backend", "jax"])
def imported(request):
    """Backend, top-level modules after the import, and those it added to Keras's, and stdout."""
    backend = request.param or keras.backend.backend()
    if request.param:
        pytest.importorskip(request.param)
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        check=False,
        text=True,
        env=os.environ | {"KERAS_BACKEND": backend},
    )
    assert process.returncode == 0, process.stderr
    modules, added = json.loads(process.stderr.split("RESULT")[-1])
    return backend, modules, added, process.stdout


def test_no_optional_package_is_imported(imported):
    _, _, added, _ = imported
    assert "keras_patchpu" in added
    unwanted = {"tensorflow_datasets", "sklearn", "matplotlib", "PIL", "tensorflow", "jax", "torch"}
    assert not unwanted & set(added)


def test_jax_needs_no_tensorflow(imported):
    backend, modules, _, _ = imported
    if backend != "jax":
        pytest.skip("about the jax backend")
    assert "jax" in modules
    assert "tensorflow" not in modules
    assert "torch" not in modules


def test_nothing_is_printed(imported):
    assert imported[3] == ""
