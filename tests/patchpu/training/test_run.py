import dataclasses
import json
import os

import keras
import numpy as np
import pytest
from tiny_runs import rows_of, tiny, weights_of

from patchpu.training.build import make_model, make_schedule
from patchpu.training.config import TrainConfig
from patchpu.training.run import train

pytestmark = pytest.mark.usefixtures("quick")

FILES = {
    ".lock",
    "config.yaml",
    "environment.json",
    "metrics.csv",
    "last",
    "best.keras",
    "report.md",
    "report.json",
    "curves.png",
    "attention.png",
    "located.png",
    "sharpened.png",
}


def check_folder(folder, report, epochs):
    rows = rows_of(folder)
    assert [row["epoch"] for row in rows] == [str(epoch + 1) for epoch in range(epochs)]
    # The value of the last epoch and the report's come from two passes over the same images.
    assert float(rows[-1]["val_mAP"]) == pytest.approx(report["val_mAP"], abs=0.02)
    assert json.loads((folder / "report.json").read_text()) == report
    assert f"{report['val_mAP']:.4f}" in (folder / "report.md").read_text()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["keras"] == keras.__version__
    assert {path.name for path in (folder / "last").iterdir()} == {"model.keras", "progress.json"}


def test_a_run_leaves_a_whole_folder(finished_run):
    assert {path.name for path in finished_run.iterdir()} == FILES | {"negatives.png"}
    report = json.loads((finished_run / "report.json").read_text())
    check_folder(finished_run, report, epochs=3)
    last = rows_of(finished_run)[-1]
    quality = {name: value for name, value in report["weak_negatives"].items() if name != "epoch"}
    assert quality == {name: float(last[f"wn_{name}"]) for name in quality} and len(quality) == 6


def test_a_run_without_weak_negatives_leaves_a_whole_folder(tmp_path):
    folder = tmp_path / "run"
    report = train(tiny(folder, loss="an", epochs=1), verbose=0)
    assert {path.name for path in folder.iterdir()} == FILES
    check_folder(folder, report, epochs=1)
    assert not [name for name in rows_of(folder)[0] if name.startswith("wn_")]


def test_a_stopped_and_resumed_run_ends_as_one_never_stopped(finished_run, tmp_path, monkeypatch):
    """Stopped in epoch 2 after its line was written, before its checkpoint is in place."""
    folder, replace = tmp_path / "run", os.replace

    def fail(source, target):
        if os.path.basename(source) == ".tmp-last" and len(rows_of(folder)) == 2:
            raise KeyboardInterrupt
        replace(source, target)

    config = tiny(folder, epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", fail)
        with pytest.raises(KeyboardInterrupt):
            train(config, verbose=0)
    assert len(rows_of(folder)) == 2
    assert json.loads((folder / "last" / "progress.json").read_text())["epochs"] == 1
    train(dataclasses.replace(config, resume=True), verbose=0)

    for whole, stopped in zip(rows_of(finished_run), rows_of(folder), strict=True):
        assert list(stopped) == list(whole)
        for name in set(whole) - {"seconds"}:
            assert float(stopped[name]) == pytest.approx(float(whole[name]), rel=1e-3)
    for whole, stopped in zip(weights_of(finished_run), weights_of(folder), strict=True):
        np.testing.assert_allclose(stopped, whole, rtol=1e-3, atol=1e-4)


def test_a_folder_with_a_run_is_not_overwritten(finished_run):
    config = tiny(finished_run, epochs=3)
    before = {path: path.stat().st_mtime_ns for path in finished_run.rglob("*")}
    with pytest.raises(ValueError, match="already holds a run.*--resume"):
        train(config, verbose=0)
    other = dataclasses.replace(config, resume=True, batch_size=4)
    with pytest.raises(ValueError, match="batch_size: 8 in the folder, 4 now"):
        train(other, verbose=0)
    del before[finished_run / ".lock"]
    for path, time in before.items():
        assert path.stat().st_mtime_ns == time, path


def test_the_papers_schedule_switches_after_epochs_5_10_15():
    config = TrainConfig()  # 1e-3, 25 epochs, halving
    schedule = make_schedule(config, steps_per_epoch=7)
    rates = [float(schedule(step)) for step in range(25 * 7)]
    expected = np.repeat([1e-3, 5e-4, 2.5e-4, 1.25e-4], [35, 35, 35, 70])
    np.testing.assert_allclose(rates, expected, rtol=1e-6)


def test_the_cosine_schedule_ends_at_two_percent():
    config = tiny("unused", learning_rate=1e-3, epochs=2)
    schedule = make_schedule(config, steps_per_epoch=10)
    assert float(schedule(0)) == pytest.approx(1e-3)
    assert float(schedule(10)) == pytest.approx(1e-3 * (0.02 + 0.98 / 2))
    assert float(schedule(20)) == pytest.approx(2e-5)


def test_steps_between_patches_reach_the_model(tmp_path):
    assert make_model(tiny(tmp_path), 3).patch_extractor.strides is None
    model = make_model(tiny(tmp_path, strides=8), 3)
    assert len(model.patch_boxes) == 9 + 1


def test_the_seed_fixes_the_initial_weights(tmp_path):
    def initial_weights(seed):
        config = tiny(tmp_path, seed=seed)
        keras.utils.set_random_seed(config.seed)
        model = make_model(config, 3)
        return [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]

    first, again, other = (initial_weights(seed) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))
