import csv
import dataclasses
import json

import keras
import numpy as np
import pytest
from keras_patchpu.experiments import run as run_module
from tiny_runs import rows_of, tiny, weights_of

from patchpu.training.build import make_schedule
from patchpu.training.config import TrainConfig
from patchpu.training.run import train

FILES = {
    ".lock",
    "config.yaml",
    "environment.json",
    "metrics.csv",
    "last.keras",
    "best.keras",
    "report.md",
    "report.json",
    "curves.png",
    "attention.png",
    "located.png",
    "sharpened.png",
}
OF_WEAK_NEGATIVES = {"negatives.csv", "negatives.png"}


def negatives_of(folder):
    with (folder / "negatives.csv").open(newline="") as file:
        return [{n: float(v) for n, v in row.items()} for row in csv.DictReader(file)]


@pytest.mark.parametrize("loss", ["wn", "bce", "an", "epr"])
def test_a_run_leaves_a_whole_folder(loss, tmp_path):
    folder = tmp_path / "run"
    report = train(tiny(folder, loss=loss, epochs=1), verbose=0)
    expected = FILES | (OF_WEAK_NEGATIVES if loss == "wn" else set())
    assert {path.name for path in folder.iterdir()} == expected
    assert json.loads((folder / "report.json").read_text()) == report
    (row,) = rows_of(folder)
    assert row["epoch"] == "1"
    # The value of the last epoch and the report's come from two passes over the same images.
    assert float(row["val_mAP"]) == pytest.approx(report["val_mAP"], abs=0.02)
    assert f"{report['val_mAP']:.4f}" in (folder / "report.md").read_text()
    environment = json.loads((folder / "environment.json").read_text())
    assert environment["versions"]["keras"] == keras.__version__


def test_a_stopped_and_resumed_run_ends_as_one_never_stopped(tmp_path, monkeypatch):
    train(tiny(tmp_path / "whole", epochs=3), verbose=0)

    class Killed(run_module.SaveProgress):
        """Dies in epoch 2 after its line was written, before its model is."""

        def on_epoch_end(self, epoch, logs=None):
            if epoch == 1:
                monkeypatch.setattr(self.folder, "save_model", self.die)
            super().on_epoch_end(epoch, logs)

        def die(self, *_):
            raise KeyboardInterrupt

    config = tiny(tmp_path / "stopped", epochs=3)
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "SaveProgress", Killed)
        with pytest.raises(KeyboardInterrupt):
            train(config, verbose=0)
    assert len(rows_of(tmp_path / "stopped")) == 2
    monkeypatch.undo()
    train(dataclasses.replace(config, resume=True), verbose=0)

    for whole, stopped in zip(rows_of(tmp_path / "whole"), rows_of(tmp_path / "stopped")):
        assert list(stopped) == list(whole)
        for name in set(whole) - {"seconds"}:
            assert float(stopped[name]) == pytest.approx(float(whole[name]), rel=1e-3)
    assert len(rows_of(tmp_path / "stopped")) == 3
    for whole, stopped in zip(*(negatives_of(tmp_path / name) for name in ("whole", "stopped"))):
        assert stopped == pytest.approx(whole, rel=1e-3)
    assert [row["epoch"] for row in negatives_of(tmp_path / "stopped")] == [1, 2, 3]
    for whole, stopped in zip(weights_of(tmp_path / "whole"), weights_of(tmp_path / "stopped")):
        np.testing.assert_allclose(stopped, whole, rtol=1e-3, atol=1e-4)


def test_a_folder_with_a_run_is_not_overwritten(tmp_path):
    config = tiny(tmp_path / "run", epochs=1)
    train(config, verbose=0)
    before = (tmp_path / "run" / "report.json").read_text()
    with pytest.raises(ValueError, match="already holds a run.*--resume"):
        train(config, verbose=0)
    other = dataclasses.replace(config, resume=True, batch_size=4)
    with pytest.raises(ValueError, match="batch_size: 8 in the folder, 4 now"):
        train(other, verbose=0)
    assert (tmp_path / "run" / "report.json").read_text() == before


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
    assert run_module.make_model(tiny(tmp_path), 3).patch_extractor.strides is None
    model = run_module.make_model(tiny(tmp_path, strides=8), 3)
    assert len(model.patch_boxes) == 9 + 1


def test_the_seed_fixes_the_initial_weights(tmp_path):
    def initial_weights(seed):
        config = tiny(tmp_path, seed=seed)
        keras.utils.set_random_seed(config.seed)
        model = run_module.make_model(config, 3)
        return [keras.ops.convert_to_numpy(weight) for weight in model.trainable_weights]

    first, again, other = (initial_weights(seed) for seed in (3, 3, 4))
    for one, two in zip(first, again, strict=True):
        np.testing.assert_array_equal(one, two)
    assert any((one != two).any() for one, two in zip(first, other, strict=True))
