"""Runs of a few steps, and what they left."""

import csv

import keras

from patchpu.training.config import TrainConfig

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
