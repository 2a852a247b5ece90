"""How long runs take and what they leave, without running them."""

import dataclasses
import math

import keras
import numpy as np
import pytest
from backend import functions_not_compiled

from keras_patchpu.callbacks import PredictionAverages, PseudoLabels
from keras_patchpu.datasets import coco, voc
from patchpu.grids import estimate
from patchpu.training.build import make_model
from patchpu.training.config import TrainConfig
from patchpu.training.losses import LOSSES

pytestmark = pytest.mark.usefixtures("few_blocks")

TINY = {
    "image_size": 32,
    "patch_size": 16,
    "num_downsamples": 1,
    "features": 8,
    "hidden_units": 8,
    "resnet_width": 0.125,
    "batch_size": 4,
    # JAX cannot do without; elsewhere compiling takes longer than these steps.
    "xla": "auto" if keras.backend.backend() == "jax" else "never",
}


def test_sizes_of_the_published_sets_are_the_readers():
    for dataset, reader, labels in [("voc", voc, 20), ("coco", coco, 80)]:
        counts = reader._COUNTS
        expected = (counts["train"], counts["validation"], labels)
        assert estimate.num_images(TrainConfig(dataset=dataset)) == expected
    assert estimate.num_images(TrainConfig(num_train=40, num_validation=9)) == (40, 9, 10)


def test_hours_and_bytes_by_hand():
    sizes = {"num_train": 260, "num_validation": 129, "batch_size": 16, "epochs": 3}
    measured = {"step_seconds": 2.0, "prediction_seconds": 0.5, "model_bytes": 1000}
    measured["map_size"] = (2, 3)
    # 17 steps of 2 s; digits are predicted by 128: 2 batches of 0.5 s to validate, 3 of training.
    config = TrainConfig(loss="an", **sizes)
    assert estimate.hours(config, measured) == pytest.approx(3 * 35 / 3600)
    assert estimate.disk_bytes(config, measured) == 2000
    config = TrainConfig(loss="en_cl", **sizes)
    assert estimate.hours(config, measured) == pytest.approx(3 * 36.5 / 3600)
    averages = 128 + 260 * 10 * 4
    assert estimate.disk_bytes(config, measured) == 2000 + 2 * averages
    config = TrainConfig(loss="en_scl", **sizes)
    maps = 128 + 260 * 2 * 3 * 10 * 2
    assert estimate.disk_bytes(config, measured) == 2000 + 2 * (averages + maps)
    config = TrainConfig(loss="em_apl", **sizes)
    # Pseudo-labels after epochs 1 and 2 of 3.
    assert estimate.hours(config, measured) == pytest.approx((3 * 35 + 2 * 1.5) / 3600)
    assert estimate.disk_bytes(config, measured) == 2000 + 2 * averages
    late = dataclasses.replace(config, pseudo_label_warmup=5)
    assert estimate.hours(late, measured) == pytest.approx(3 * 35 / 3600)
    config = TrainConfig(loss="en_scl", **{**sizes, "epochs": 1})  # no epoch before the last
    assert estimate.disk_bytes(config, measured) == 2000 + averages + maps


def test_files_are_predicted_by_the_batch_of_the_run():
    config = TrainConfig(dataset="voc", epochs=1)
    measured = {"step_seconds": 0.0, "prediction_seconds": 3600.0}
    assert estimate.hours(config, measured) == math.ceil(5823 / 16)


def bytes_of(memory, folder):
    """Bytes of the files that a memory saves."""
    folder.mkdir()
    memory.save(folder)
    return sum(path.stat().st_size for path in folder.iterdir())


def test_bytes_are_those_of_their_files(tmp_path):
    config = TrainConfig(model="resnet", loss="en_scl", **{**TINY, "image_size": 64}, num_train=6)
    model = make_model(config, num_labels=10)
    images = np.zeros((6, 64, 64, 3), "uint8")
    labels = np.eye(6, 10, dtype="int8")
    averages = PredictionAverages(images, labels, 1.5, spatial=True)
    averages.set_model(model)
    averages.on_epoch_end(0)
    assert bytes_of(averages, tmp_path / "averages") == estimate.memory_bytes(config, (2, 2))
    assert estimate.memory_bytes(config, (2, 2)) > 2 * 6 * 2 * 2 * 10

    config = TrainConfig(loss="em_apl", num_train=6)
    pseudo_labels = PseudoLabels(images, labels, 2)
    assert bytes_of(pseudo_labels, tmp_path / "labels") == estimate.memory_bytes(config)


@pytest.mark.parametrize("loss", ["role", "en_scl"])
def test_a_step_is_timed_and_the_model_sized(loss):
    config = TrainConfig(loss=loss, num_train=50, **TINY)
    with functions_not_compiled():
        measured = estimate.measure(config, steps=1)
    assert measured["step_seconds"] > 0 and measured["prediction_seconds"] > 0
    network = make_model(config, num_labels=10)
    assert measured["parameters"] == network.count_params()
    # Weights, and two moments of those that are trained, in float32; a loss's weights too.
    trained = sum(math.prod(weight.shape) for weight in network.trainable_weights)
    labels = 3 * 50 * 10 if loss == "role" else 0
    expected = 4 * (network.count_params() + 2 * trained + labels)
    assert measured["model_bytes"] == pytest.approx(expected, abs=200)  # counters
    assert measured["map_size"] == ((2, 2) if loss == "en_scl" else None)


def test_of_slow_calls_one_is_timed(monkeypatch):
    seconds = iter([100, 200, 300, 309, 400, 500])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(seconds))
    calls = []
    assert estimate._median_seconds(lambda: calls.append(1), repeats=5) == 9
    assert len(calls) == 2


def test_of_fast_calls_the_first_two_do_not_count(monkeypatch):
    durations = [50, 4, 1, 2, 3]
    ends = np.cumsum(durations)
    times = iter([time for end, took in zip(ends, durations) for time in (end - took, end)])
    monkeypatch.setattr(estimate.time, "perf_counter", lambda: next(times))
    assert estimate._median_seconds(lambda: None, repeats=3) == 2


def test_runs_of_one_speed_are_timed_once():
    config = TrainConfig()
    same = dataclasses.replace(config, seed=3, theta=0.5, epochs=2)
    assert estimate.speed_key(config) == estimate.speed_key(same)
    for changes in ({"loss": "an"}, {"batch_size": 4}, {"dataset": "voc"}):
        other = dataclasses.replace(config, **changes)
        assert estimate.speed_key(config) != estimate.speed_key(other)
    keys = {estimate.speed_key(dataclasses.replace(config, loss=loss)) for loss in LOSSES}
    assert len(keys) == 1 + 4


def test_hours_over_a_frozen_backbone():
    config = TrainConfig(dataset="voc", model="backbone", epochs=10, batch_size=32)
    measured = {"step_seconds": 0.01, "prediction_seconds": 0.3}
    # 179 steps and 182 batches of validation images an epoch; 361 batches of all images, once.
    assert estimate.hours(config, measured) == pytest.approx((3610 * 0.01 + 361 * 0.3) / 3600)
    augmented = dataclasses.replace(config, augment=True, augmented_copies=2)
    # Twice 5,717 training images and 5,823.
    assert estimate.hours(augmented, measured) == pytest.approx((3610 * 0.01 + 540 * 0.3) / 3600)


def test_a_step_over_a_frozen_backbone_is_one_on_features():
    settings = {"backbone_weights": "none", "num_downsamples": 0}
    config = TrainConfig(**{**TINY, "model": "backbone", "image_size": 64, **settings})
    measured = estimate.measure(config, steps=1)
    assert measured["step_seconds"] > 0 and measured["prediction_seconds"] > 0
    assert measured["parameters"] > 3_000_000
