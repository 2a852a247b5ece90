"""Logs of experiments: TensorBoard, and callbacks of the caller.

That TensorBoard does not change a bit of the results is tested in test_faults.py.
"""

import dataclasses
import importlib.util
import json
import os
import shutil

import keras
import numpy as np
import pytest
from tiny_runs import rows_of, tiny

from patchpu.commands.train import main
from patchpu.training import run as run_module
from patchpu.training.run import train

# JAX compiles for a minute at each run; the code is the same on every backend.
pytestmark = [
    pytest.mark.skipif(keras.backend.backend() == "jax", reason="takes minutes on JAX"),
    pytest.mark.usefixtures("quick"),
]


def points(folder):
    """Dict of (folder, name) to a list of pairs of step and value, in the order written."""
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    from tensorboard.util.tensor_util import make_ndarray

    found = {}
    for name in ("train", "validation"):
        events = accumulator.EventAccumulator(
            str(folder / "tensorboard" / name), size_guidance={accumulator.TENSORS: 0}
        ).Reload()
        for tag in events.Tags()["tensors"]:
            values = [(e.step, float(make_ndarray(e.tensor_proto))) for e in events.Tensors(tag)]
            found[name, tag] = values
    return found


class Killed(BaseException):
    """As of a kill: nothing of Keras or of the run tidies up."""


class KillAfter(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self.epoch = epoch

    def on_epoch_begin(self, epoch, logs=None):
        if epoch == self.epoch:
            raise Killed


@pytest.fixture
def no_report(monkeypatch):
    """Reports take longer than these runs."""
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "write_report", lambda *arguments: None)
        yield patch


def test_tensorboard_goes_on_with_the_run(tmp_path, no_report):
    pytest.importorskip("tensorboard")
    logged = tiny(tmp_path / "logged", epochs=3, tensorboard=True)
    with pytest.raises(Killed):
        train(logged, verbose=0, callbacks=[KillAfter(2)])
    # On the disk already, though no writer was closed.
    assert [step for step, _ in points(tmp_path / "logged")["train", "epoch_loss"]] == [0, 1]
    train(dataclasses.replace(logged, resume=True), verbose=0)

    rows = rows_of(tmp_path / "logged")
    found = points(tmp_path / "logged")
    for place, tag, column in [
        ("train", "epoch_loss", "loss"),
        ("train", "epoch_wn_precision", "wn_precision"),
        ("train", "epoch_learning_rate", "learning_rate"),
        ("validation", "epoch_mAP", "val_mAP"),
    ]:
        steps, values = zip(*found[place, tag])
        assert steps == (0, 1, 2)
        np.testing.assert_allclose(values, [float(row[column]) for row in rows], rtol=1e-6)


def test_it_is_no_setting_of_the_result(tmp_path):
    config = tiny(tmp_path, tensorboard=True)
    assert config.settings() == tiny(tmp_path).settings()
    assert "tensorboard" not in config.to_yaml()


def test_without_the_package_nothing_is_begun(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(SystemExit) as ended:
        main(["--tensorboard", "--output", str(tmp_path / "run")])
    assert ended.value.code == 2
    assert 'pip install "keras_patchpu[tensorboard]"' in capsys.readouterr().err
    assert not (tmp_path / "run").exists()


def test_further_callbacks_see_the_evaluation_and_come_before_the_saving(
    tmp_path, monkeypatch, no_report
):
    order = []

    class Logger(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            order.append((epoch, sorted(set(logs) & {"loss", "val_mAP", "wn_auc"})))
            logs["mine"] = 10.0 * epoch

    replace = os.replace

    def noted(source, target):
        order.append(os.path.basename(target))
        replace(source, target)

    monkeypatch.setattr(os, "replace", noted)
    train(tiny(tmp_path / "run", epochs=1), verbose=0, callbacks=[Logger()])
    assert order == [
        *["environment.json", "config.yaml"],
        (0, ["loss", "val_mAP", "wn_auc"]),
        *["metrics.csv", "best.keras", "last"],
    ]
    assert [row["mine"] for row in rows_of(tmp_path / "run")] == ["0.0"]


def test_a_damaged_metrics_file_is_named_and_mended_by_hand(finished_run, tmp_path, capsys):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    config = tiny(folder)
    path = folder / "metrics.csv"
    head, first, second, third = path.read_text().splitlines()
    path.write_text(f"{head}\n{first}\n{second[:9]}")
    again = ["--resume", "--output", config.output, "--xla", config.xla]
    before = (folder / "last" / "model.keras").read_bytes()
    with pytest.raises(SystemExit) as ended:
        main(again)
    assert ended.value.code == 2
    assert f"error: {path}, line 3, is damaged: it is cut off" in capsys.readouterr().err
    assert (folder / "last" / "model.keras").read_bytes() == before

    empty = "," * head.count(",")
    path.write_text(f"{head}\n{first}\n2{empty}\n3{empty}\n")
    main(again)
    output = capsys.readouterr().out
    best = dict(zip(head.split(","), first.split(",")))["val_mAP"]
    assert "final val mAP " in output
    page = (folder / "report.md").read_text()
    assert f"on these same images: 1 with val_mAP {float(best):.4f}" in page
    assert "## Weak negatives of the first training images, after epoch 1\n" in page
    assert json.loads((folder / "report.json").read_text())["weak_negatives"]["epoch"] == 1
