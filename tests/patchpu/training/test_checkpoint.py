"""What a run saves while it is under way, how it goes on from that, and what ends it."""

import dataclasses
import json
import re
import shutil
import signal
import types

import keras
import numpy as np
import pytest
from backend import numpy
from tiny_runs import rows_of, tiny, weights_of

from keras_patchpu.models import ResNetClassifier
from keras_patchpu.models.load_classifier import model_file
from keras_patchpu.utils.validation import FileError
from patchpu.commands.train import main
from patchpu.training import checkpoint as checkpoint_module
from patchpu.training import run as run_module
from patchpu.training.checkpoint import RestOfEpoch
from patchpu.training.progress import Progress
from patchpu.training.run import prepare, run, train

pytestmark = pytest.mark.usefixtures("quick")
# JAX compiles for a minute at each run; the code is the same on every backend.
not_on_jax = pytest.mark.skipif(keras.backend.backend() == "jax", reason="takes minutes on JAX")


def progress_of(folder):
    """Epochs and steps of the checkpoint, or None if there is none."""
    path = folder / "last" / "progress.json"
    if not path.exists():
        return None
    progress = json.loads(path.read_text())
    return progress["epochs"], progress["steps"]


class StopAt(keras.callbacks.Callback):
    """Asks for the end in the middle of a step of the run."""

    def __init__(self, step, stopping):
        super().__init__()
        self.steps, self.step, self.stopping = 0, step, stopping

    def on_train_batch_end(self, batch, logs=None):
        self.steps += 1
        if self.steps == self.step:
            self.stopping.append(signal.SIGTERM)


class Watch(keras.callbacks.Callback):
    """Notes before each step what is saved, and lets a clock go on in it."""

    def __init__(self, folder, seconds=0.0):
        super().__init__()
        self.folder, self.seconds = folder, seconds
        self.now, self.saved, self.losses = 0.0, [], []

    def on_train_batch_begin(self, batch, logs=None):
        self.saved.append(progress_of(self.folder))
        if self.saved[-1] and self.saved[-1][1]:
            path = self.folder / "last" / "progress.json"
            self.losses.append(json.loads(path.read_text())["loss"])

    def on_train_batch_end(self, batch, logs=None):
        self.now += self.seconds


@pytest.fixture
def no_report(monkeypatch):
    """Reports take longer than these runs."""
    monkeypatch.setattr(run_module, "write_report", lambda *arguments: None)


# === Stopping and going on ===


@pytest.mark.parametrize(
    ("step", "saved", "told"),
    [
        (5, (1, 2), "in epoch 2 after step 2"),
        # An epoch's last step: the epoch ends first.
        pytest.param(6, (2, 0), "after epoch 2", marks=not_on_jax),
    ],
)
def test_a_run_that_is_asked_to_stop_saves_and_goes_on_there(
    step, saved, told, finished_run, tmp_path, capsys, no_report
):
    folder, stopping = tmp_path / "run", []
    config = tiny(folder, epochs=3)
    with pytest.raises(SystemExit) as stopped:
        callbacks = [StopAt(step, stopping)]
        run(config, *prepare(config), verbose=0, stopping=stopping, callbacks=callbacks)
    assert stopped.value.code == 128 + 15
    assert f"stopped by SIGTERM {told}, all of it saved" in capsys.readouterr().out
    assert progress_of(folder) == saved
    assert len(rows_of(folder)) == saved[0]
    path = folder / "last" / "progress.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "seconds": 1000.0}))

    train(dataclasses.replace(config, resume=True), verbose=0)
    for found, expected in zip(rows_of(folder), rows_of(finished_run), strict=True):
        assert list(found) == list(expected)
        for name in set(expected) - {"seconds"}:  # the loss is the mean over the whole epoch
            assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-3)
    for found, expected in zip(weights_of(folder), weights_of(finished_run), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)
    # The time before the stop counts too, where an epoch was cut in two.
    seconds = [float(row["seconds"]) > 1000 for row in rows_of(folder)]
    assert seconds == [False, saved[1] > 0, False]


@pytest.mark.parametrize("loss", ["em_apl", "en_scl"])
@not_on_jax
def test_what_a_loss_remembers_is_part_of_the_checkpoint(loss, tmp_path, no_report):
    changes = {"loss": loss, "epochs": 3, "num_validation": 10}
    changes |= {"pseudo_label_warmup": 1 if loss == "em_apl" else None}
    train(tiny(tmp_path / "whole", **changes), verbose=0)
    config = tiny(tmp_path / "stopped", **changes)
    stopping = []
    with pytest.raises(SystemExit):
        callbacks = [StopAt(5, stopping)]  # in epoch 2: what was known after epoch 1 counts
        run(config, *prepare(config), verbose=0, stopping=stopping, callbacks=callbacks)
    assert progress_of(tmp_path / "stopped") == (1, 2)
    train(dataclasses.replace(config, resume=True), verbose=0)
    names = ["pseudo_labels.npy"] if loss == "em_apl" else ["averages.npy", "heat_maps.npy"]
    for folder in (tmp_path / "whole", tmp_path / "stopped"):
        files = {path.name for path in (folder / "last").iterdir()}
        assert files == {"model.keras", "progress.json", *names}
        assert not list(folder.glob(".tmp-*"))
    for name in names:
        found, expected = (np.load(tmp_path / of / "last" / name) for of in ("stopped", "whole"))
        assert len(np.unique(expected)) > 10
        np.testing.assert_allclose(found, expected, rtol=2e-3, atol=1e-4)
    losses = [[float(row["loss"]) for row in rows_of(tmp_path / of)] for of in ("stopped", "whole")]
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-3)
    weights = zip(weights_of(tmp_path / "stopped"), weights_of(tmp_path / "whole"), strict=True)
    for found, expected in weights:
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4)


@not_on_jax
def test_a_run_of_a_resnet_goes_on(tmp_path, monkeypatch):
    models = []
    monkeypatch.setattr(run_module, "write_report", lambda *arguments: models.append(arguments[2]))
    changes = {"model": "resnet", "resnet_width": 0.125, "loss": "an", "epochs": 1}
    config = tiny(tmp_path / "run", **changes, num_train=8, num_validation=8)
    train(config, verbose=0)
    train(dataclasses.replace(config, resume=True), verbose=0)
    whole, loaded = models
    assert isinstance(loaded, ResNetClassifier) and loaded.optimizer.iterations == 1
    for found, expected in zip(loaded.weights, whole.weights, strict=True):
        np.testing.assert_array_equal(numpy(found), numpy(expected))


def test_a_kill_between_two_names_leaves_a_checkpoint(finished_run, tmp_path):
    """As if killed when the former checkpoint was out of the way and the new one not in place."""
    folder = shutil.copytree(finished_run, tmp_path / "run")
    (folder / "last").rename(folder / ".former-last")
    (folder / ".tmp-last").mkdir()
    (folder / ".tmp-last" / "progress.json").write_text("{}")
    # Whoever only reads finds it where it is.
    assert model_file(folder) == folder / ".former-last" / "model.keras"
    opened, _ = prepare(tiny(folder, epochs=3, resume=True))
    assert progress_of(folder) == (3, 0)
    assert model_file(folder) == folder / "last" / "model.keras"
    assert not list(folder.glob(".former-*")) and not list(folder.glob(".tmp-*"))
    opened.release()


def test_a_kill_after_the_names_leaves_the_new_checkpoint(finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    shutil.copytree(folder / "last", folder / ".former-last")
    (folder / ".former-last" / "progress.json").write_text('{"epochs": 2}')
    prepare(tiny(folder, epochs=3, resume=True))[0].release()
    assert progress_of(folder) == (3, 0) and not (folder / ".former-last").exists()


@pytest.mark.parametrize(
    "damage, message",
    [
        (lambda path: path.unlink(), "last has no progress.json"),
        (lambda path: path.write_text("{"), "progress.json is damaged: it does not tell how far"),
        (lambda path: path.write_text('{"epochs": -1}'), "progress.json is damaged"),
        (lambda path: path.write_text('{"days": 1}'), "progress.json is damaged"),
    ],
)
def test_progress_that_is_missing_or_damaged_is_named(damage, message, finished_run, tmp_path):
    folder = shutil.copytree(finished_run, tmp_path / "run")
    damage(folder / "last" / "progress.json")
    with pytest.raises(FileError, match=message):
        train(tiny(folder, epochs=3, resume=True), verbose=0)


def test_two_runs_in_one_folder(tmp_path):
    config = tiny(tmp_path / "run", epochs=1)
    folder, _ = prepare(config)
    (tmp_path / "run" / ".tmp-best.keras").write_bytes(b"half of it")
    again = dataclasses.replace(config, resume=True)
    with pytest.raises(ValueError, match="Another run is writing into .*--output"):
        prepare(again)
    assert (tmp_path / "run" / ".tmp-best.keras").exists()
    folder.release()
    (tmp_path / "run" / ".tmp-best.keras").write_bytes(b"half of it")
    prepare(again)[0].release()
    # What a killed run left of a file is removed by the one that goes on.
    assert not (tmp_path / "run" / ".tmp-best.keras").exists()


# === When it saves ===


@not_on_jax
def test_within_an_epoch_it_saves_after_the_minutes(tmp_path, monkeypatch, no_report):
    folder = tmp_path / "run"
    watch = Watch(folder, seconds=31)
    monkeypatch.setattr(
        checkpoint_module, "time", types.SimpleNamespace(monotonic=lambda: watch.now)
    )
    train(tiny(folder, checkpoint_minutes=1.0), verbose=0, callbacks=[watch])
    # Three steps of 31 seconds an epoch: a minute is over after the second.
    assert watch.saved == [None, None, (0, 2), (1, 0), (1, 0), (1, 2)]
    assert progress_of(folder) == (2, 0)
    # 8 images a step: the second variable is their number, the first the sum of their losses.
    assert [count for _, count in watch.losses] == [16, 16]
    assert [row["seconds"] for row in rows_of(folder)] == ["93.0", "93.0"]


@not_on_jax
def test_with_no_minutes_it_saves_after_each_step(tmp_path, no_report):
    watch = Watch(tmp_path / "run")
    train(tiny(tmp_path / "run", checkpoint_minutes=0.0), verbose=0, callbacks=[watch])
    assert watch.saved == [None, (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]


@not_on_jax
def test_a_loss_that_is_not_finite_ends_the_run(tmp_path, capsys):
    settings, folder = tmp_path / "settings.yaml", tmp_path / "run"
    config = tiny(folder, learning_rate=1e25, schedule="constant")
    settings.write_text(config.to_yaml())
    options = ["--config", str(settings), "--output", config.output, "--xla", config.xla]
    with pytest.raises(SystemExit) as ended:
        main([*options, "--checkpoint-minutes", "0"])
    assert ended.value.code == 1
    error = capsys.readouterr().err
    place = re.search(r"In epoch 1, step (\d) of 3, (the loss|the weight) ", error)
    assert place, error
    if progress_of(folder) is None:
        assert "No weights were saved yet" in error
    else:
        steps = int(place[1]) - 1
        assert progress_of(folder) == (0, steps)
        assert f"last keeps the weights in epoch 1 after step {steps}." in error
        model = keras.saving.load_model(folder / "last" / "model.keras")
        for variable in model.weights:
            assert np.isfinite(keras.ops.convert_to_numpy(variable)).all()
    assert not (folder / "report.json").exists()


# === Parts ===


def test_progress_says_where_it_is(tmp_path):
    assert str(Progress()) == "before the first step"
    assert str(Progress(epochs=2)) == "after epoch 2"
    assert str(Progress(epochs=2, steps=7)) == "in epoch 3 after step 7"
    assert Progress.load(tmp_path) is None
    kept = Progress(2, 7, 1.5, (3.25, 8.0), ([1, 2],))
    kept.save(tmp_path)
    assert Progress.load(tmp_path) == dataclasses.replace(kept, loss=[3.25, 8.0], random=[[1, 2]])


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
