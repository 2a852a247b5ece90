"""Imports run downwards only: the contracts of `pyproject.toml` hold, and a breach is seen."""

import os
import pathlib
import shutil
import subprocess
import sys

import pytest

pytest.importorskip("importlinter")
pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[2]


@pytest.fixture
def copy(tmp_path):
    """A folder with both packages and their contracts, in which a test may add a file."""
    for package in ("keras_patchpu", "patchpu"):
        shutil.copytree(ROOT / package, tmp_path / package)
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return tmp_path


def lint_imports(folder):
    """Exit code and output of the command in a folder."""
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    process = subprocess.run(
        [sys.executable, "-c", program, "--no-cache"],
        capture_output=True,
        check=False,
        text=True,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder)},
    )
    return process.returncode, process.stdout + process.stderr


def test_contracts_hold(copy):
    code, output = lint_imports(copy)
    assert (code, "0 broken" in output) == (0, True), output


@pytest.mark.parametrize(
    ("files", "contract"),
    [
        (
            {"keras_patchpu/utils/x.py": "import patchpu"},
            "The tool imports the library, never the other way",
        ),
        (
            {"keras_patchpu/models/x.py": "def f():\n    from patchpu.training import config"},
            "The tool imports the library, never the other way",
        ),
        (
            {"keras_patchpu/losses/x.py": "from keras_patchpu.models import PatchClassifier"},
            "Rooms of the library",
        ),
        ({"patchpu/training/x.py": "import patchpu.commands.train"}, "Rooms of the tool"),
        (
            {
                "patchpu/demo/x.py": "import patchpu.demo.y",
                "patchpu/demo/y.py": "import patchpu.demo.x",
            },
            "No circles between files",
        ),
    ],
)
def test_a_forbidden_import_is_seen(copy, files, contract):
    for name, text in files.items():
        assert not (copy / name).exists()
        (copy / name).write_text(f"{text}\n")
    code, output = lint_imports(copy)
    assert (code, f"{contract} BROKEN" in output) == (1, True), output
