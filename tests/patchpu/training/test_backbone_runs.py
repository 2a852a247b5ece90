"""Runs over a frozen network: features computed once, whole models in the end."""

import dataclasses
import json

import keras
import numpy as np
import pytest
from tiny_data import write_table
from tiny_runs import (
    of_backbone,
    rows_of,
    small_backbone_of_any_name,
    trained_without_report,
    weights_of,
)

from keras_patchpu.models import load_classifier
from keras_patchpu.tagging import Tagger
from patchpu.training import features, run
from patchpu.training.data import load_data
from patchpu.training.features import with_features
from patchpu.training.run import train
from patchpu.training.run_folder import RunFolder

pytestmark = pytest.mark.usefixtures("quick", "small_backbone")


@pytest.fixture(scope="module")
def small_backbone():
    with pytest.MonkeyPatch.context() as patch:
        small_backbone_of_any_name(patch.setattr)
        yield


def read_by_epoch(monkeypatch):
    """List that gets whether validation images were read, each time that images are."""
    read, once = [], features.RunData.read_once

    def recorded(data, config, validation=False, copy=0):
        read.append((validation, copy))
        return once(data, config, validation, copy)

    monkeypatch.setattr(features.RunData, "read_once", recorded)
    return read


def test_images_are_read_once_and_the_whole_model_is_saved(tmp_path, monkeypatch):
    read = read_by_epoch(monkeypatch)
    folder = tmp_path / "run"
    report = train(of_backbone(folder, epochs=3), verbose=0)
    assert read == [(False, 0), (True, 0)]
    assert len(rows_of(folder)) == 3
    model = load_classifier(folder)
    assert not model.backbone.trainable
    data = load_data(of_backbone(folder))
    scores = model.predict(data.validation.images, verbose=0)
    expected = np.mean(report["metrics"]["per_label"][0]["average_precision"])
    order = np.argsort(-scores[:, 0], kind="stable")
    hits = (data.validation.labels[order, 0] > 0).cumsum()
    present = data.validation.labels[order, 0] > 0
    found = (hits / np.arange(1, len(hits) + 1))[present].mean()
    assert found == pytest.approx(expected, abs=0.02)
    (tags,) = Tagger(folder)([data.validation.images[0]])
    assert tags.tags


def test_features_are_those_of_each_image(tmp_path):
    config = of_backbone(tmp_path / "run")
    data = load_data(config)
    model = run._new_model(config, data, 1)
    seen = with_features(config, model, data, RunFolder(config.output))
    expected = model.explain(data.train.images, ["patch_features"])["patch_features"]
    np.testing.assert_allclose(seen.training_images(config), expected, rtol=2e-3, atol=1e-3)
    batches = seen.training_batches(config, epoch=1)
    rows, labels = batches[0]
    np.testing.assert_array_equal(rows, seen.training_features[batches.numbers(0), 0])
    np.testing.assert_array_equal(labels, data.observed[batches.numbers(0)])
    expected = model.explain(data.validation.images, ["patch_features"])["patch_features"]
    np.testing.assert_allclose(seen.validation_images(config), expected, rtol=2e-3, atol=1e-3)


def test_an_epoch_goes_through_few_images_several_times(tmp_path):
    config = of_backbone(tmp_path / "run", least_steps=7)  # of 8 images
    data = load_data(config)
    assert data.steps_per_epoch(config) == 8  # 60 images: three times 20
    model = run._new_model(config, data, 1)
    seen = with_features(config, model, data, RunFolder(config.output))
    batches = seen.training_batches(config, epoch=0)
    assert len(batches) == 8
    numbers = np.concatenate([batches.numbers(index) for index in range(8)])
    np.testing.assert_array_equal(np.sort(numbers), np.repeat(np.arange(20), 3))
    for part in range(3):
        assert len(set(numbers[20 * part : 20 * part + 20])) == 20


def test_with_augment_epochs_take_turns_with_random_copies(tmp_path):
    config = of_backbone(tmp_path / "run", augment=True, augmented_copies=3)
    data = load_data(config)
    model = run._new_model(config, data, 1)
    seen = with_features(config, model, data, RunFolder(config.output))
    assert seen.training_features.shape[1] == 3
    plain = model.explain(data.train.images, ["patch_features"])["patch_features"]
    np.testing.assert_allclose(seen.training_images(config), plain, rtol=2e-3, atol=1e-3)
    assert np.abs(seen.training_features[:, 1] - seen.training_features[:, 0]).max() > 0.01
    chosen = []
    for epoch in (0, 0, 1):
        batches = seen.training_batches(config, epoch)
        rows = np.concatenate([batches[index][0] for index in range(len(batches))])
        numbers = np.concatenate([batches.numbers(index) for index in range(len(batches))])
        copies = (rows[:, None] == seen.training_features[numbers]).all(axis=(2, 3))
        chosen.append(copies.argmax(1)[np.argsort(numbers)])
    np.testing.assert_array_equal(chosen[0], chosen[1])
    assert (chosen[0] != chosen[2]).any()
    assert set(chosen[0]) == {0, 1, 2}


def test_a_run_that_goes_on_ends_as_one_never_stopped(tmp_path, monkeypatch):
    monkeypatch.setattr(run, "_SECONDS_BETWEEN", 0.0)
    whole = of_backbone(tmp_path / "whole", epochs=4)
    train(whole, verbose=0)
    parts = of_backbone(tmp_path / "parts", epochs=4)

    def stop(epoch, logs):
        if epoch == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train(parts, verbose=0, callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=stop)])
    progress = json.loads((tmp_path / "parts" / "last" / "progress.json").read_text())
    assert progress["epochs"] == 2
    train(dataclasses.replace(parts, resume=True), verbose=0)
    for one, other in zip(weights_of(tmp_path / "whole"), weights_of(tmp_path / "parts")):
        np.testing.assert_allclose(one, other, rtol=1e-4, atol=1e-5)
    for one, other in zip(rows_of(tmp_path / "whole"), rows_of(tmp_path / "parts"), strict=True):
        assert float(one["val_mAP"]) == pytest.approx(float(other["val_mAP"]), abs=1e-3)


def test_quick_epochs_are_saved_together(tmp_path, monkeypatch):
    """The best epoch too, though later ones changed the weights."""
    monkeypatch.setattr(run, "_SECONDS_BETWEEN", float("inf"))
    folder = tmp_path / "run"
    scores = []

    class Scores(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            # Before the checkpoint looks at it: the second epoch is the best of four.
            logs["val_mAP"] = [0.2, 0.9, 0.5, 0.4][epoch]
            scores.append([keras.ops.convert_to_numpy(w) for w in self.model.trainable_weights])
            assert (folder / "last").exists() is False

    trained_without_report(of_backbone(folder, epochs=4), callbacks=[Scores()])
    best = load_classifier(folder / "best.keras", compile=False)
    last = load_classifier(folder, compile=False)
    for saved, epoch in ((best, 1), (last, 3)):
        for weight, expected in zip(saved.trainable_weights, scores[epoch], strict=True):
            np.testing.assert_array_equal(keras.ops.convert_to_numpy(weight), expected)


def test_large_features_lie_in_a_file_until_the_run_has_ended(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(features, "MEMORY_BYTES", 1000)
    read = read_by_epoch(monkeypatch)
    folder = tmp_path / "run"
    config = of_backbone(folder, epochs=2)
    model = trained_without_report(config)
    assert isinstance(np.load(folder / "features-training.npy", mmap_mode="r"), np.memmap)
    assert len(read) == 2

    resumed = dataclasses.replace(config, resume=True)
    data = load_data(resumed)
    whole = load_classifier(folder)
    seen = with_features(resumed, whole, data, RunFolder(folder))
    assert isinstance(seen.training_features, np.memmap)
    assert len(read) == 2  # what is there is read again

    whole.backbone.get_layer("cut").bias.assign(np.ones(6))
    with_features(resumed, whole, data, RunFolder(folder))
    assert len(read) == 4
    assert "computed anew" in capsys.readouterr().out
    train(resumed, verbose=0)
    assert not list(folder.glob("features*"))
    assert model is not None


@pytest.mark.parametrize("loss", ["role", "en_scl", "em_apl", "splc"])
def test_losses_that_remember_train_on_features(tmp_path, loss):
    report = train(of_backbone(tmp_path / "run", loss=loss), verbose=0)
    assert report["epochs"] == 2


def test_own_images_train_on_it(tmp_path):
    table = write_table(tmp_path)
    report = train(
        of_backbone(tmp_path / "run", dataset="table", table=str(table), epochs=1), verbose=0
    )
    assert report["observed"]["recall_at"]
