"""The command `patchpu demo`: how it starts, fails and ends."""

import os
import signal
import socket
import sys
import urllib.request

import pytest

from patchpu.commands import demo
from patchpu.demo import serve


@pytest.fixture(autouse=True)
def undone(monkeypatch):
    """What the command sets for its own process is undone after each test."""
    for name in ("GRADIO_ANALYTICS_ENABLED", "GRADIO_TEMP_DIR", "HF_HUB_DISABLE_TELEMETRY"):
        monkeypatch.setenv(name, "")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["none.keras"], "There is no model none.keras"),
        (["last.keras", "--examples", "none*.png"], "Received: none*.png"),
        (["last.keras", "--examples", "notes.txt"], "None of the --examples can be read"),
        (["last.keras", "--port", "70000"], "Expected --port from 0 to 65535. Received: 70000"),
        (["last.keras", "--max-pixels", "0"], "Expected `max_pixels` to be a positive integer"),
        (["last.keras", "--host", "999.1.1.1"], "cannot listen on 999.1.1.1"),
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


class _Joined:
    """Stands in for the server's thread: waiting for its end brings a signal."""

    def __init__(self, thread, on_join):
        self._thread, self._on_join = thread, on_join

    def join(self, timeout=None):
        if timeout is None:
            self._on_join()
        self._thread.join(timeout)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_serves_the_model_until_a_signal(gradio, folder, monkeypatch, capsys, number):
    launch, addresses = serve.launch, []

    def launch_and_visit(page, host, port, look):
        launch(page, host, port, look)
        addresses.append((host, port))
        page.server.thread = _Joined(page.server.thread, visit_and_end)

    def visit_and_end():
        host, port = addresses[0]
        with urllib.request.urlopen(f"http://{host}:{port}", timeout=60) as answer:
            assert answer.status == 200
        assert os.listdir(os.environ["GRADIO_TEMP_DIR"])
        os.kill(os.getpid(), number)

    before = [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)]
    monkeypatch.setattr(serve, "launch", launch_and_visit)
    monkeypatch.chdir(folder)
    with pytest.raises(SystemExit) as ended:
        demo.main(["last.keras", "--port", "0", "--examples", "0.png", "notes.txt"])
    assert ended.value.code == 128 + number
    assert [signal.getsignal(one) for one in (signal.SIGINT, signal.SIGTERM)] == before
    ((host, port),) = addresses
    assert host == "127.0.0.1" and port > 0
    with pytest.raises(OSError):
        socket.create_connection((host, port))
    output, errors = capsys.readouterr()
    assert output.endswith(f"The page is at http://127.0.0.1:{port} until Ctrl-C\n")
    assert "left out of the examples: notes.txt: not an image" in errors
    assert not os.path.exists(os.environ["GRADIO_TEMP_DIR"])
    assert os.environ["GRADIO_ANALYTICS_ENABLED"] == "False"
