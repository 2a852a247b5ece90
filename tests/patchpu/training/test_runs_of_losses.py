"""Runs with every loss of the table: what they compute from a run's labels, and resuming.

The runs have two epochs of one step each, and end before their report. On TensorFlow functions are
not compiled, which takes longer than these steps, and the embedder has one block of its five.
"""

import dataclasses

import keras
import numpy as np
import pytest
from backend import numpy
from losses_in_numpy import CHANGE_IN_EPOCH_1, IN_NUMPY, TAU, targets_by_hand
from tiny_runs import rows_of, trained_without_report

from patchpu.training.build import make_model
from patchpu.training.config import TrainConfig
from patchpu.training.data import load_data
from patchpu.training.losses import LOSSES
from patchpu.training.run import train

pytestmark = pytest.mark.usefixtures("quick")
BACKEND = keras.backend.backend()
NUM_TRAIN = 16

ARGUMENTS = {
    "ll_r": {"relative_increase": 0.05},
    "ll_ct": {"relative_increase": 0.05},
    "ll_cp": {"relative_increase": 0.05},
    "splc": {"tau": TAU},
}
TINY = {
    "epochs": 2,
    "batch_size": NUM_TRAIN,
    "image_size": 32,
    "patch_size": 16,
    "num_downsamples": 0,
    "features": 8,
    "hidden_units": 8,
    "num_train": NUM_TRAIN,
    "num_validation": 16,
    "schedule": "constant",
    # Weights and predictions are those of the start in each epoch, in inference too.
    "learning_rate": 1e-12,
    "batch_norm_momentum": 0.0,
    "xla": "auto" if BACKEND == "jax" else "never",
}


def settings(output, **changes):
    return TrainConfig(output=str(output), **{**TINY, **changes})


def losses_of(folder):
    return [float(row["loss"]) for row in rows_of(folder)]


def start_of(config, data):
    """The model that a run starts from, and its log-odds of the training images."""
    keras.utils.set_random_seed(config.seed)
    model = make_model(config, 10)
    logits = numpy(model(data.train.images, training=True)["logits"])
    return model, logits.astype("float64")


def check_observed(observes, observed, true):
    """What a loss may know is part of the truth, as much of it as its row says."""
    assert true[observed == 1].all() and not true[observed == -1].any()
    if observes == "all labels":
        assert (observed != 0).all()
        return
    np.testing.assert_array_equal((observed == 1).sum(axis=1), 1)
    absent = {
        "one positive": 0,
        "one positive and one negative": 1,
        "one positive and all negatives": (~true).sum(axis=1),
    }
    np.testing.assert_array_equal((observed == -1).sum(axis=1), absent[observes])


@pytest.mark.parametrize("loss", LOSSES)
def test_what_a_run_computes(loss, tmp_path):
    config = settings(tmp_path / "run", loss=loss, loss_arguments=ARGUMENTS.get(loss))
    data = load_data(config)
    observed = data.observed
    check_observed(LOSSES[loss].observes, observed, data.train.labels > 0)
    model = trained_without_report(config)
    found = losses_of(tmp_path / "run")
    assert len(found) == 2 and np.isfinite(found).all()
    # The gradient came down to the first convolution.
    kernels = [
        moment
        for moment in model.optimizer.variables
        if "kernel" in moment.path and "momentum" in moment.path
    ]
    assert kernels
    for moment in kernels:
        assert np.abs(numpy(moment)).max() > 0, moment.path
    if loss not in IN_NUMPY:
        return

    function, summed = IN_NUMPY[loss]
    start, logits = start_of(config, data)
    if loss == "em_apl":
        pseudo = targets_by_hand(observed, start.predict(data.train.images, verbose=0))
        assert (pseudo > 0).sum() > 100
        expected = [function(observed, logits, epoch, pseudo).mean() for epoch in (0, 1)]
    else:
        expected = [function(observed, logits, epoch).mean() for epoch in (0, 1)]
    if summed:
        expected = [10 * value for value in expected]
    assert (expected[0] != pytest.approx(expected[1], rel=1e-3)) == (loss in CHANGE_IN_EPOCH_1)
    np.testing.assert_allclose(found, expected, rtol=2e-4)


# === Resuming ===


class Killed(keras.callbacks.Callback):
    """Dies in the third epoch, before it is saved."""

    def on_epoch_end(self, epoch, logs=None):
        if epoch == 2:
            raise KeyboardInterrupt


def test_a_stopped_and_resumed_run_remembers_its_corrections(tmp_path):
    changes = {
        "loss": "ll_cp",
        "loss_arguments": ARGUMENTS["ll_cp"],
        "epochs": 4,
        "batch_size": 8,
        "learning_rate": 0.01,
        "batch_norm_momentum": 0.9,
    }
    whole = trained_without_report(settings(tmp_path / "whole", **changes))
    config = settings(tmp_path / "stopped", **changes)
    with pytest.raises(KeyboardInterrupt):
        train(config, verbose=0, callbacks=[Killed()])
    assert len(losses_of(tmp_path / "stopped")) == 2
    resumed = trained_without_report(dataclasses.replace(config, resume=True))

    found, expected = losses_of(tmp_path / "stopped"), losses_of(tmp_path / "whole")
    assert len(expected) == 4
    np.testing.assert_allclose(found, expected, rtol=1e-3)
    for own, other in zip(resumed.trainable_weights, whole.trainable_weights):
        np.testing.assert_allclose(numpy(own), numpy(other), rtol=1e-3, atol=1e-4)
    own, other = (numpy(model.loss.estimator.found) for model in (resumed, whole))
    np.testing.assert_array_equal(own, other)
    # 0.05 of 80 labels in each of two batches and of the last three epochs.
    assert own.sum() == 4 * 2 * 3
    assert not own[load_data(config).observed == 1].any()
