"""Runs that are killed, stopped, repeated and cut off from the disk, as whole processes."""

import json
import os
import pathlib
import shutil
import signal
import subprocess
import sys

import keras
import pytest
from tiny_runs import rows_of, tiny

ROOT = pathlib.Path(__file__).parents[3]
PROGRAMS = ROOT / "tests" / "programs"
WAYS = ["wn", "role", "en_scl"]
on_tensorflow = pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="the same files on every backend"
)
slow_on_jax = [pytest.mark.slow] if keras.backend.backend() == "jax" else []
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks and mounts as Linux does")


def start(name, *arguments, before=()):
    """A process of a program, whose output is read as text."""
    command = [*before, sys.executable, str(PROGRAMS / f"{name}.py"), *map(str, arguments)]
    paths = [str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")]
    environment = {"KERAS_BACKEND": keras.backend.backend(), "PYTHONPATH": os.pathsep.join(paths)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, env={**os.environ, **environment}, **pipes)


def program(name, *arguments, before=()):
    """The JSON object that a program prints."""
    process = start(name, *arguments, before=before)
    output, errors = process.communicate()
    assert process.returncode == 0, errors[-3000:]
    return json.loads(output.splitlines()[-1])


def check_kills(folder, loss, number, *options):
    found = program("kill_runs", folder, loss, number, 0, *options)["kills"]
    assert len(found) == number
    for kill in found:
        assert (kill["code"], kill["wrong"]) == (0, []), kill
    return found


@on_tensorflow
@linux
def test_killed_runs_end_as_one_never_killed(tmp_path):
    check_kills(tmp_path, "wn", 1, "--short")


@on_tensorflow
@linux
@pytest.mark.slow
@pytest.mark.parametrize("loss", [*WAYS, "backbone"])
def test_runs_killed_at_30_moments_end_as_one_never_killed(loss, tmp_path):
    found = check_kills(tmp_path, loss, 30)
    met = {
        "before it had begun": any(not kill["begun"] for kill in found),
        "before it had saved": any(kill["begun"] and not kill["saved"] for kill in found),
        "while it saved": any(".tmp-last" in kill["unfinished"] for kill in found),
        "between": any(kill["saved"] and not kill["unfinished"] for kill in found),
    }
    assert all(met.values()), met


@linux
@pytest.mark.parametrize(
    "loss, options, done",
    [
        pytest.param("wn", ["--short"], 1, marks=slow_on_jax),
        pytest.param("wn", [], 2, marks=pytest.mark.slow),
        pytest.param("en_scl", [], 2, marks=pytest.mark.slow),
    ],
)
def test_two_deterministic_runs_are_equal_to_the_bit(loss, options, done, tmp_path):
    found = program("repeat_runs", tmp_path, loss, *options)
    assert found == {"done": done, "second": [], "third": []}


@linux
@pytest.mark.slow
def test_two_deterministic_runs_that_xla_compiles_are_equal_to_the_bit(tmp_path):
    found = program("repeat_runs", tmp_path, "wn", "--xla")
    assert found == {"done": 2, "second": [], "third": []}


def may_mount():
    """Whether a small disk can be had: a tmpfs in a namespace of its own."""
    if shutil.which("unshare") is None:
        return False
    command = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "none", "/mnt"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@on_tensorflow
@linux
@pytest.mark.parametrize("loss", ["wn", pytest.param("en_scl", marks=pytest.mark.slow)])
def test_a_full_disk_ends_with_a_message_and_the_last_checkpoint(loss, tmp_path):
    if not may_mount():
        pytest.skip("a tmpfs cannot be mounted here")
    mount = f"mount -t tmpfs -o size=32m none {tmp_path} && exec "
    shell = ["unshare", "--map-root-user", "--mount", "sh", "-c", mount + '"$@"', "sh"]
    found = program("full_disk", tmp_path, loss, before=shell)
    assert found["code"] == 1
    assert "patchpu train: error: " in found["message"]
    assert "No space left on device" in found["message"]
    assert "the run is saved after epoch 1; go on with --resume --output" in found["message"]
    assert found["saved"] == "after epoch 1"
    assert {"last", "best.keras", "metrics.csv", "config.yaml"} <= set(found["files"])
    assert not [name for name in found["files"] if name.startswith(".tmp-")]
    assert found["lines"] in (1, 2)
    assert (found["code after the resume"], found["epochs in the end"]) == (0, 3), found


@on_tensorflow
def test_sigterm_saves_and_ends_with_143(tmp_path):
    config = tiny(tmp_path / "run", epochs=500, num_validation=10)
    settings = tmp_path / "settings.yaml"
    settings.write_text(config.to_yaml())
    options = ["--config", settings, "--output", config.output, "--xla", "never"]
    process = start("quickly", "train", *options)
    for line in process.stdout:
        if line.startswith("Epoch 2/"):
            process.send_signal(signal.SIGTERM)
            break
    output, errors = process.communicate()
    assert process.returncode == 128 + signal.SIGTERM, errors[-3000:]
    assert "stopping after this step" in errors
    assert "stopped by SIGTERM " in output and f"--resume --output {config.output}" in output
    assert 1 <= len(rows_of(tmp_path / "run")) < 500
    assert not (tmp_path / "run" / "report.json").exists()
