"""The example of the how-to on an engine of others, against the command `predict`."""

import csv
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
from code_blocks import blocks
from PIL import Image
from small import calibrated_classifier

from patchpu.commands.predict import main as predict

pytestmark = pytest.mark.no_backend

ROOT = pathlib.Path(__file__).parents[3]
PAGE = ROOT / "docs" / "howto" / "several_machines.md"


def rows_of(files):
    return [row for file in files for row in csv.DictReader(file.open(newline=""))]


@pytest.mark.slow
def test_ray_gives_the_rows_of_predict(tmp_path, monkeypatch):
    pytest.importorskip("ray", reason='needs `pip install "ray[data]"`')
    monkeypatch.chdir(tmp_path)
    (code,) = blocks(PAGE.read_text(), "py")
    pathlib.Path("tag_with_ray.py").write_text(code)
    calibrated_classifier(label_names=["cat", "dog", "owl"]).save("model.keras")
    os.mkdir("photos")
    random = np.random.default_rng(0)
    for number in range(9):
        pixels = random.integers(0, 256, (40, 40, 3)).astype("uint8")
        Image.fromarray(pixels).save(f"photos/{number}.png")
    pathlib.Path("photos/broken.jpg").write_bytes(b"no image")
    with pytest.raises(SystemExit) as exited:
        predict(["model.keras", "photos", "--no-scores", "--output", "tags.csv"])
    assert exited.value.code == 1  # one cannot be read
    # Ray's own processes would give way to all others of the machine.
    environment = {**os.environ, "RAY_worker_niceness": "0"}
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, "tag_with_ray.py", "model.keras", "photos", "tags"],
        env={**environment, "PYTHONPATH": path},
        check=True,
    )
    rows = rows_of(sorted(pathlib.Path("tags").glob("*.csv")))
    assert len(rows) == 10 and rows[9]["error"]
    assert rows == rows_of([pathlib.Path("tags.csv")])
