"""Runs of a few steps, and what they left."""

import csv

import keras
import pytest

from patchpu.training.config import TrainConfig
from patchpu.training.run import train

SMALL = {
    "batch_size": 8,
    "image_size": 32,
    "patch_size": 16,
    "num_downsamples": 1,
    "features": 8,
    "hidden_units": 8,
    # JAX cannot do without; elsewhere compiling takes longer than these runs.
    "xla": "auto" if keras.backend.backend() == "jax" else "never",
}


def tiny(output, **changes):
    """Settings of a run on few digit scenes."""
    settings = {"epochs": 2, "num_train": 20, "num_validation": 60, "schedule": "cosine"}
    return TrainConfig(output=str(output), **{**SMALL, **settings, **changes})


def rows_of(folder):
    with (folder / "metrics.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def weights_of(folder):
    model = keras.saving.load_model(folder / "last" / "model.keras")
    return [keras.ops.convert_to_numpy(v) for v in model.weights + model.optimizer.variables]


class Ended(Exception):
    pass


class End(keras.callbacks.Callback):
    """Ends a run when all its epochs are done and saved, before the report."""

    def on_train_end(self, logs=None):
        raise Ended


def trained_without_report(config):
    """The model of a run that ends before its report."""
    end = End()
    with pytest.raises(Ended):
        train(config, verbose=0, callbacks=[end])
    return end.model
