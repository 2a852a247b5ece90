"""Runs that would begin with weights that cannot be downloaded."""

import pytest
from without_network import no_downloads

from patchpu.__main__ import main

pytestmark = pytest.mark.usefixtures("quick")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--model", "resnet", "--resnet-weights", "imagenet"],
        ["--model", "backbone", "--backbone", "resnet50", "--num-downsamples", "0"],
    ],
)
def test_one_message_and_nothing_is_written(arguments, tmp_path, monkeypatch, capsys):
    no_downloads(monkeypatch, tmp_path / "keras")
    output = tmp_path / "run"
    with pytest.raises(SystemExit) as ended:
        main(["train", *arguments, "--image-size", "32", "--output", str(output)])
    assert ended.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("patchpu train: error: The weights of ResNet50 cannot be downloaded: ")
    assert not output.exists()
