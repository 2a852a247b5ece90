"""The command `patchpu demo`: how it starts, fails and ends."""

import os
import pathlib
import re
import signal
import socket
import subprocess
import sys
import tempfile
import urllib.request

import pytest
from small import calibrated_classifier

from patchpu.commands import demo
from patchpu.demo import serve

ROOT = pathlib.Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def undone(monkeypatch):
    """What the command sets for its own process is undone after each test."""
    names = ["GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY", "no_proxy"]
    for name in names:
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none.keras"], "There is no model none.keras"),
        (["pets.keras", "--examples", "none*.png"], "Received: none*.png"),
        (["pets.keras", "--examples", "notes.txt"], "None of the --examples can be read"),
        (["pets.keras", "--port", "70000"], "Expected --port from 0 to 65535. Received: 70000"),
        (["pets.keras", "--max-pixels", "0"], "Expected `max_pixels` to be a positive integer"),
        (["pets.keras", "--host", "999.1.1.1"], "cannot listen on 999.1.1.1"),
    ],
)
def test_errors_of_the_command(gradio, folder, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        demo.main([*arguments, *(() if "--port" in arguments else ("--port", "0"))])
    assert ended.value.code == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("patchpu demo: error: ") and message in error


def test_a_port_that_is_taken(gradio, folder, capsys):
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit) as ended:
        port = str(taken.getsockname()[1])
        demo.main([str(folder), "--port", port])
    assert ended.value.code == 2
    assert f"cannot listen on 127.0.0.1, port {port}" in capsys.readouterr().err


def test_without_the_extra(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "gradio", None)
    monkeypatch.delitem(sys.modules, "patchpu.demo.page", raising=False)
    with pytest.raises(SystemExit) as ended:
        demo.main([str(folder)])
    assert ended.value.code == 2
    assert "pip install 'keras_patchpu[demo]'" in capsys.readouterr().err


@pytest.fixture
def arguments(quick, folder, tmp_path):
    """Options of the command, with a model that is made in a moment."""
    calibrated_classifier(label_names=["cat", "dog", "owl"]).save(tmp_path / "pets.keras")
    return [str(tmp_path / "pets.keras"), "--port", "0", "--examples", str(folder / "0.png")]


def test_the_command_serves_the_model_until_a_signal(gradio, folder, tmp_path, arguments):
    command = [sys.executable, str(ROOT / "tests" / "programs" / "quickly.py"), "demo"]
    paths = [str(ROOT), str(ROOT / "tests" / "helpers"), os.environ.get("PYTHONPATH", "")]
    with subprocess.Popen(
        [*command, *arguments, "notes.txt"],
        cwd=folder,
        env={
            **os.environ,
            "PYTHONPATH": os.pathsep.join(paths),
            "TMPDIR": str(tmp_path),
            "http_proxy": "http://127.0.0.1:9",  # where nothing listens: it must not be needed
        },
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            line = process.stdout.readline()
            address = re.fullmatch(r"The page is at (http://127.0.0.1:\d+) until Ctrl-C\n", line)
            with urllib.request.urlopen(address[1], timeout=60) as answer:
                assert answer.status == 200
            (of_the_process,) = tmp_path.glob("patchpu-demo-*")
            assert any(of_the_process.iterdir())  # the examples
            process.send_signal(signal.SIGTERM)
            output, errors = process.communicate(timeout=120)
        finally:
            process.kill()
    assert process.returncode == 128 + signal.SIGTERM
    assert output == "" and "left out of the examples: notes.txt: not an image" in errors
    assert "Traceback" not in errors
    assert not of_the_process.exists()


@pytest.mark.parametrize("name", ["SIGINT", "SIGHUP"])
def test_other_signals_end_it_too(gradio, arguments, tmp_path, monkeypatch, name):
    number, folders = getattr(signal, name), []

    def launched(*_):
        folders.extend(tmp_path.glob("patchpu-demo-*"))
        signal.raise_signal(number)

    monkeypatch.setattr(serve, "launch", launched)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    handler = signal.getsignal(number)
    with pytest.raises(SystemExit) as ended:
        demo.main(arguments)
    assert ended.value.code == 128 + number
    assert len(folders) == 1 and not folders[0].exists()
    assert signal.getsignal(number) == handler
