"""One training run, from settings to report."""

import math

import keras
import numpy as np

from keras_patchpu import losses
from keras_patchpu.datasets import ImageBatches, load_digit_scenes, observe_uniform
from keras_patchpu.experiments.report import write_report
from keras_patchpu.experiments.run_folder import RunFolder, SaveEpoch
from keras_patchpu.metrics import Evaluation
from keras_patchpu.models import PatchClassifier
from keras_patchpu.optimizers import Lamb


def prepare(config):
    """Checks the settings, makes or opens the run folder and loads the data.

    Args:
        config: `TrainConfig`.

    Returns:
        Triple of `RunFolder`, training and validation data.

    Raises:
        ValueError: Something about the settings or the folder does not fit.
    """
    if config.dataset != "digits":
        raise ValueError(
            f"The reader for --dataset {config.dataset} comes next; --dataset digits is built in."
        )
    # Made from the settings, so that a wrong one is reported before anything is written.
    make_loss(config, expected_positives=1.0)
    make_model(config, num_labels=10)
    folder = RunFolder(config.output)
    folder.start(config)
    train = load_digit_scenes(
        config.num_train, "train", config.image_size, difficulty=config.difficulty, seed=config.seed
    )
    # The same validation scenes for every seed of the run.
    validation = load_digit_scenes(
        config.num_validation, "validation", config.image_size, difficulty=config.difficulty
    )
    return folder, train, validation


def train(config, verbose="auto"):
    """Trains, evaluates and reports; goes on with a stopped run if `config.resume`.

    Args:
        config: `TrainConfig`.
        verbose: As of `keras.Model.fit`. Defaults to `"auto"`.

    Returns:
        The report as a dict, see `write_report`.
    """
    return run(config, *prepare(config), verbose=verbose)


def run(config, folder, train, validation, verbose="auto"):
    """What `train` does once `prepare` has been called."""
    keras.utils.set_random_seed(config.seed)
    steps_per_epoch = math.ceil(len(train.images) / config.batch_size)

    # What goes on: the last whole checkpoint, and the number of epochs that it says.
    epochs_done = 0
    if config.resume and (folder / "last.keras").exists():
        model = keras.saving.load_model(folder / "last.keras")
        model.jit_compile = model.jit_compile if config.xla == "auto" else config.xla == "on"
        model.patch_embedder.rematerialize = config.rematerialize
        iterations = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        epochs_done = iterations // steps_per_epoch
    else:
        model = make_model(config, train.labels.shape[1])
        expected_positives = config.expected_positives or float(train.labels.sum(1).mean())
        optimizer = Lamb(
            make_schedule(config, steps_per_epoch),
            weight_decay=config.weight_decay,
            learning_rate_multipliers={"codebook$": config.codebook_rate},
        )
        jit_compile = {"auto": "auto", "on": True, "off": False}[config.xla]
        loss = make_loss(config, expected_positives)
        model.compile(optimizer, loss, jit_compile=jit_compile)

    if config.loss == "bce":
        labels = np.where(train.labels > 0, 1, -1).astype("int8")
    else:
        labels = observe_uniform(train.labels)
    evaluation = Evaluation(validation.images, validation.labels, batch_size=128)
    save_epoch = SaveEpoch(folder, epochs_done)
    if epochs_done < config.epochs:
        model.fit(
            ImageBatches(train.images, labels, config.batch_size, config.seed, epochs_done),
            initial_epoch=epochs_done,
            epochs=config.epochs,
            shuffle=False,
            callbacks=[evaluation, keras.callbacks.TerminateOnNaN(), save_epoch],
            verbose=verbose,
        )
    return write_report(folder, config, model, validation, save_epoch.rows)


def make_model(config, num_labels):
    """The model of the settings, not compiled."""
    initializer = None
    if config.codebook_std is not None:
        initializer = keras.initializers.RandomNormal(stddev=config.codebook_std)
    return PatchClassifier(
        num_labels,
        image_size=(config.image_size, config.image_size),
        patch_size=config.patch_size,
        num_downsamples=config.num_downsamples,
        max_patches_per_level=config.max_patches_per_level,
        features=config.features,
        hidden_units=config.hidden_units,
        codebook_initializer=initializer,
        batch_norm_momentum=config.batch_norm_momentum,
        rematerialize=config.rematerialize,
        dtype=config.precision,
        seed=config.seed,
    )


def make_loss(config, expected_positives):
    """The loss of the settings."""
    if config.loss == "wn":
        return losses.WeakNegative(config.theta, config.stop_gradient)
    if config.loss == "bce":
        return losses.BinaryCrossentropy()
    if config.loss == "an":
        return losses.AssumeNegative(config.negative_weight)
    return losses.ExpectedPositiveRegularization(expected_positives)


def make_schedule(config, steps_per_epoch):
    """The learning rate of the settings: a number or a Keras schedule over steps."""
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "cosine":
        return keras.optimizers.schedules.CosineDecay(
            config.learning_rate, config.epochs * steps_per_epoch, alpha=0.02
        )
    # The schedule keeps a value up to and including its boundary, and counts from 0.
    boundaries = [epoch * steps_per_epoch - 1 for epoch in (5, 10, 15)]
    rates = [config.learning_rate / 2**halvings for halvings in range(4)]
    return keras.optimizers.schedules.PiecewiseConstantDecay(boundaries, rates)
