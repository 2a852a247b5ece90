"""The command `patchpu`: what it answers without a framework, and what it hands over."""

import importlib.metadata
import json
import pathlib
import re
import subprocess
import sys

import pytest

import patchpu.commands.train
from patchpu.__main__ import COMMANDS, main

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[3]
PROGRAM = """
import json, runpy, sys
target, *sys.argv[1:] = json.loads(sys.argv[1])
run = runpy.run_path if target.endswith(".py") else runpy.run_module
try:
    run(target, run_name="__main__")
finally:
    sys.stderr.write("RESULT" + json.dumps([name.split(".")[0] for name in sys.modules]))
"""
HEAVY = {"keras", "tensorflow", "jax", "torch", "numpy"}


def run(*arguments):
    """Exit code, stdout, stderr and top-level modules of a process of its own."""
    process = subprocess.run(
        [sys.executable, "-c", PROGRAM, json.dumps(arguments)],
        capture_output=True,
        check=False,
        text=True,
        cwd=ROOT,
    )
    errors, modules = process.stderr.split("RESULT")
    return process.returncode, process.stdout, errors, set(json.loads(modules))


@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help(option):
    code, output, errors, modules = run("patchpu", option)
    assert (code, errors) == (0, "")
    assert not HEAVY & modules
    assert "keras_patchpu" not in modules
    assert output.startswith("usage: patchpu COMMAND [options]\n")
    assert "\n  train       train on images of which one label each is known\n" in output
    commands = re.findall(r"^  (\w+) ", output, flags=re.MULTILINE)
    wanted = ["train", "inspect", "thresholds", "predict", "demo", "export", "card", "table1"]
    assert commands == wanted


def test_version():
    source = (ROOT / "keras_patchpu" / "_version.py").read_text()
    (version,) = re.findall(r'^__version__ = "(.*)"$', source, flags=re.MULTILINE)
    code, output, errors, modules = run("patchpu", "--version")
    assert (code, output, errors) == (0, f"patchpu {version}\n", "")
    assert not HEAVY & modules


@pytest.mark.parametrize(
    ("arguments", "received"),
    [([], "no command"), (["fly"], "fly"), (["fly", "--help"], "fly"), (["--fly"], "--fly")],
)
def test_what_is_no_command(arguments, received):
    code, output, errors, modules = run("patchpu", *arguments)
    assert (code, output) == (2, "")
    assert not HEAVY & modules
    assert errors.startswith("usage: patchpu COMMAND [options]\n")
    assert errors.endswith(f"\npatchpu: error: expected a command. Received: {received}\n")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_of_a_command_is_quick_too(command):
    code, output, _, modules = run("patchpu", command, "--help")
    assert code == 0
    assert output.startswith(f"usage: patchpu {command} ")
    assert not {"keras", "tensorflow", "jax", "torch"} & modules


def test_train_py_is_the_command_train():
    code, output, _, modules = run("train.py", "--help")
    assert code == 0
    assert output.startswith("usage: patchpu train ")
    assert not HEAVY & modules


def test_the_command_gets_the_arguments_after_its_name(monkeypatch):
    received = []
    monkeypatch.setattr(patchpu.commands.train, "main", received.append)
    main(["train", "--epochs", "1"])
    monkeypatch.setattr(sys, "argv", ["patchpu", "train", "--resume"])
    main()
    assert received == [["--epochs", "1"], ["--resume"]]


def test_installed_command():
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="patchpu")
    assert script.value == "patchpu.__main__:main"
