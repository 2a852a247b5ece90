"""What a run saves while it is under way, and what ends it."""

import dataclasses
import re
import signal
import zipfile

import keras
import numpy as np
import pytest
from keras_patchpu.experiments import run as run_module
from keras_patchpu.experiments import save_progress
from tiny_runs import rows_of, tiny, weights_of

from keras_patchpu import cli
from patchpu.training.run import prepare, run, train
from patchpu.training.run_folder import RunFolder
from patchpu.training.save_progress import Progress, RestOfEpoch, SaveProgress

# JAX compiles for a minute at each run; the code is the same on every backend.
not_on_jax = pytest.mark.skipif(keras.backend.backend() == "jax", reason="takes minutes on JAX")


def stop_at(step, stopping):
    """A class that asks for the end after so many steps of the run."""

    class Asked(SaveProgress):
        steps = 0

        def on_train_batch_end(self, batch, logs=None):
            Asked.steps += 1
            if Asked.steps == step:
                stopping.append(signal.SIGTERM)
            super().on_train_batch_end(batch, logs)

    return Asked


@pytest.mark.parametrize(
    ("step", "saved", "told"),
    [
        (5, Progress(1, 2), True),
        # An epoch's last step: the epoch ends first.
        pytest.param(6, Progress(2, 0), False, marks=not_on_jax),
    ],
)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_there(
    step, saved, told, whole_run, tmp_path, monkeypatch, capsys
):
    config = tiny(tmp_path / "run", epochs=3)
    stopping = []
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "SaveProgress", stop_at(step, stopping))
        with pytest.raises(SystemExit) as stopped:
            run(config, *prepare(config), verbose=0, stopping=stopping)
    assert stopped.value.code == 128 + 15
    assert f"stopped by SIGTERM {saved}, all of it saved" in capsys.readouterr().out
    progress = RunFolder(tmp_path / "run").progress()
    assert (progress.epochs, progress.steps) == (saved.epochs, saved.steps)
    assert len(rows_of(tmp_path / "run")) == saved.epochs

    if not told:  # as files of the first versions, which only count the optimizer's steps
        with zipfile.ZipFile(tmp_path / "run" / "last.keras", "a") as archive:
            archive.comment = b""
        assert RunFolder(tmp_path / "run").progress() is None
    train(dataclasses.replace(config, resume=True), verbose=0)
    for found, expected in zip(rows_of(tmp_path / "run"), rows_of(whole_run), strict=True):
        for name in set(expected) - {"seconds"}:  # the loss is the mean over the whole epoch
            assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-3)
    for found, expected in zip(weights_of(tmp_path / "run"), weights_of(whole_run), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    train(tiny(folder, epochs=3), verbose=0)
    return folder


def test_the_time_before_a_stop_counts_too(tmp_path, monkeypatch):
    clock = iter([50.0, 70.0])
    monkeypatch.setattr(save_progress.time, "monotonic", lambda: next(clock))
    (tmp_path / "metrics.csv").write_text("epoch,loss,val_mAP,seconds\n1,2,0.5,9\n2,1,0.6,9\n")
    save = SaveProgress(RunFolder(tmp_path), 4, Progress(1, 0, seconds=1000.0))
    save.on_epoch_begin(1)
    assert save._seconds() == 1020
    assert [row["epoch"] for row in save.rows] == [1]  # the line of an epoch that is not done


def test_progress_says_where_it_is():
    assert str(Progress()) == "before the first step"
    assert str(Progress(epochs=2)) == "after epoch 2"
    assert str(Progress(epochs=2, steps=7)) == "in epoch 3 after step 7"
    kept = Progress(2, 7, 1.5, (3.25, 8.0))
    assert Progress.from_bytes(kept.to_bytes()) == dataclasses.replace(kept, loss=[3.25, 8.0])


def test_the_rest_of_an_epoch():
    class Batches(keras.utils.PyDataset):
        ended = 0

        def __len__(self):
            return 5

        def __getitem__(self, index):
            return 10 * index

        def on_epoch_end(self):
            self.ended += 1

    batches = Batches()
    rest = RestOfEpoch(batches, 2)
    assert [rest[index] for index in range(len(rest))] == [20, 30, 40]
    rest.on_epoch_end()
    assert batches.ended == 1


@not_on_jax
def test_within_an_epoch_it_saves_after_the_minutes(tmp_path, monkeypatch):
    saved = []

    def note(folder, model, name, comment=b""):
        saved.append((name, comment))

    monkeypatch.setattr(RunFolder, "save_model", note)
    train(tiny(tmp_path / "run", checkpoint_minutes=0.0), verbose=0)
    places = [Progress.from_bytes(comment) for name, comment in saved if name == "last.keras"]
    expected = [(0, 1), (0, 2), (1, 0), (1, 1), (1, 2), (2, 0)]
    assert [(place.epochs, place.steps) for place in places] == expected
    # 8 images a step: the second variable is their number, the first the sum of their losses.
    assert [place.loss[1] for place in places if place.steps] == [8, 16, 8, 16]


def test_before_the_minutes_are_over_nothing_is_saved(tmp_path, monkeypatch):
    save = SaveProgress(RunFolder(tmp_path), steps_per_epoch=4, minutes=1.0)
    saved = []
    monkeypatch.setattr(save, "_save", lambda progress, step, stopping: saved.append(step))
    monkeypatch.setattr(save, "_loss_variables", list)
    monkeypatch.setattr(save, "_check_weights", lambda step: None)
    clock = iter([0.0, 59.0, 60.0, 60.0])  # begun, two looks, and how long it took
    monkeypatch.setattr(save_progress.time, "monotonic", lambda: next(clock))
    save.on_epoch_begin(0)
    for batch in (0, 1, 3):  # after the last batch the end of the epoch saves
        save.on_train_batch_end(batch, {"loss": 0.5})
    assert saved == [2]


@not_on_jax
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, capsys):
    settings = tmp_path / "settings.yaml"
    config = tiny(tmp_path / "run", learning_rate=1e25, schedule="constant")
    settings.write_text(config.to_yaml())
    options = ["--config", str(settings), "--output", config.output, "--xla", config.xla]
    with pytest.raises(SystemExit) as ended:
        cli.train([*options, "--checkpoint-minutes", "0"])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    place = re.search(r"In epoch 1, step (\d) of 3, (the loss|the weight) ", error)
    assert place, error
    kept = RunFolder(tmp_path / "run").progress()
    if kept is None:
        assert "No weights were saved yet" in error
    else:
        assert f"last.keras keeps the weights {kept}." in error
        assert kept.steps == int(place[1]) - 1
        model = keras.saving.load_model(tmp_path / "run" / "last.keras")
        for variable in model.weights:
            assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()
    assert not (tmp_path / "run" / "report.json").exists()


def test_two_runs_in_one_folder(tmp_path):
    config = tiny(tmp_path / "run", epochs=1)
    folder, _ = prepare(config)
    (tmp_path / "run" / ".tmp-last.keras").write_bytes(b"half of it")
    again = dataclasses.replace(config, resume=True)
    with pytest.raises(ValueError, match="Another run is writing into .*--output"):
        prepare(again)
    assert (tmp_path / "run" / ".tmp-last.keras").exists()
    folder.release()
    prepare(again)[0].release()
    # What a killed run left of a file is removed by the one that goes on.
    assert not (tmp_path / "run" / ".tmp-last.keras").exists()
