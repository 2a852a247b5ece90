"""One training run, from settings to report."""

import math

import keras

from keras_patchpu import losses
from keras_patchpu.experiments.data import load_data
from keras_patchpu.experiments.report import write_report
from keras_patchpu.experiments.run_folder import RunFolder, SaveEpoch
from keras_patchpu.metrics import Evaluation, ObservedEvaluation
from keras_patchpu.models import PatchClassifier
from keras_patchpu.optimizers import Lamb


def prepare(config):
    """Checks the settings, loads the data, and makes or opens the run folder.

    Args:
        config: `TrainConfig`.

    Returns:
        Pair of `RunFolder` and `RunData`.

    Raises:
        ValueError: Something about the settings, the data or the folder does not fit. Nothing
            was written then.
    """
    folder = RunFolder(config.output)
    folder.check(config)
    # Made from the settings, so that a wrong one is reported before anything is written.
    make_loss(config, expected_positives=1.0)
    make_model(config, num_labels=10)
    data = load_data(config)
    if config.dataset == "table":  # published sets are known to be whole
        data.check_images(config)
    folder.start(config)
    return folder, data


def train(config, verbose="auto"):
    """Trains, evaluates and reports; goes on with a stopped run if `config.resume`.

    Args:
        config: `TrainConfig`.
        verbose: As of `keras.Model.fit`. Defaults to `"auto"`.

    Returns:
        The report as a dict, see `write_report`.
    """
    return run(config, *prepare(config), verbose=verbose)


def run(config, folder, data, verbose="auto"):
    """What `train` does once `prepare` has been called."""
    keras.utils.set_random_seed(config.seed)
    steps_per_epoch = math.ceil(len(data.observed) / config.batch_size)

    # What goes on: the last whole checkpoint, and the number of epochs that it says.
    epochs_done = 0
    if config.resume and (folder / "last.keras").exists():
        model = keras.saving.load_model(folder / "last.keras")
        model.jit_compile = model.jit_compile if config.xla == "auto" else config.xla == "on"
        model.patch_embedder.rematerialize = config.rematerialize
        iterations = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        epochs_done = iterations // steps_per_epoch
    else:
        model = make_model(config, data.observed.shape[1], data.validation.label_names)
        optimizer = Lamb(
            make_schedule(config, steps_per_epoch),
            weight_decay=config.weight_decay,
            learning_rate_multipliers={"codebook$": config.codebook_rate},
        )
        jit_compile = {"auto": "auto", "on": True, "off": False}[config.xla]
        loss = make_loss(config, config.expected_positives or data.expected_positives)
        model.compile(optimizer, loss, jit_compile=jit_compile)

    validation = data.validation
    kind = Evaluation if data.fully_annotated else ObservedEvaluation
    evaluation = kind(data.validation_images(config), validation.labels, batch_size=128)
    save_epoch = SaveEpoch(folder, epochs_done, monitor=evaluation.name)
    if epochs_done < config.epochs:
        model.fit(
            data.training_batches(config, epochs_done),
            initial_epoch=epochs_done,
            epochs=config.epochs,
            shuffle=False,
            callbacks=[evaluation, keras.callbacks.TerminateOnNaN(), save_epoch],
            verbose=verbose,
        )
    return write_report(folder, config, model, data, save_epoch.rows)


def make_model(config, num_labels, label_names=None):
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
        label_names=label_names,
        image_fit=config.image_fit,
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
