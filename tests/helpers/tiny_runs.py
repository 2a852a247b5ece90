"""Runs of a few steps, and what they left."""

import contextlib
import csv

import keras
import pytest
from backend import functions_not_compiled

from keras_patchpu import backbones
from keras_patchpu.layers import patch_embedder
from patchpu.training import report
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


def one_block(replace=setattr):
    """Patches are embedded by one block of the five: tracing the others takes most of the time.

    Args:
        replace: As `setattr`, or pytest's `monkeypatch.setattr`, which undoes it.
    """
    replace(patch_embedder, "BLOCKS", patch_embedder.BLOCKS[:1])


def small_backbone_of_any_name(replace=setattr):
    """`backbones.load` gives a frozen network of one convolution, whatever it is asked for.

    Args:
        replace: As of `one_block`.
    """

    def load(name, image_size, stride, weights):
        images = keras.Input((*(image_size or (None, None)), 3))
        initializer = keras.initializers.RandomNormal(stddev=0.1, seed=3)
        x = keras.layers.Rescaling(1 / 255)(images)
        x = keras.layers.Conv2D(6, 8, 8, kernel_initializer=initializer, name="cut")(x)
        backbone = keras.Model(images, x, name="small")
        backbone.trainable = False
        return backbone

    replace(backbones, "load", load)


def of_backbone(output, **changes):
    """Settings of a run over a frozen backbone."""
    return tiny(output, **{"model": "backbone", "num_downsamples": 0, "least_steps": 1, **changes})


@contextlib.contextmanager
def quick_steps():
    """While it lasts, models have `one_block`, a step is as it is written, not compiled, and a
    report shows two images, not twelve.
    """
    with pytest.MonkeyPatch.context() as patch, functions_not_compiled():
        one_block(patch.setattr)
        patch.setattr(report, "_NUM_PICTURES", 2)
        yield


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


def trained_without_report(config, callbacks=()):
    """The model of a run that ends before its report."""
    end = End()
    with pytest.raises(Ended):
        train(config, verbose=0, callbacks=[*callbacks, end])
    return end.model
