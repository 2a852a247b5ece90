"""One training run, from settings to report."""

import math

import keras

from keras_patchpu.callbacks import (
    Evaluation,
    ObservedEvaluation,
    PredictionAverages,
    PseudoLabels,
    WeakNegativeQuality,
)
from keras_patchpu.models import PatchClassifier, ResNetClassifier, load_classifier
from keras_patchpu.utils import distribution
from keras_patchpu.utils.validation import FileError
from patchpu.training.build import (
    make_deterministic,
    make_loss,
    make_model,
    make_optimizer,
)
from patchpu.training.data import load_data
from patchpu.training.losses import LOSSES
from patchpu.training.report import write_report
from patchpu.training.run_folder import RunFolder
from patchpu.training.save_progress import Progress, RestOfEpoch, SaveProgress
from patchpu.training.tensorboard import check_tensorboard, tensorboard

# Training images whose weak negatives are judged after each epoch.
_NUM_JUDGED = 500


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
    folder = RunFolder(config.output, writes=distribution.rank() == 0)
    folder.check(config)
    _check_distributed(config)
    if config.deterministic:
        make_deterministic()
    # Made from the settings, so that a wrong one is reported before anything is written.
    with distribution.alone():
        make_loss(config, expected_positives=1.0, num_images=1, num_labels=10)
        make_model(config, num_labels=10)
    if config.tensorboard:
        check_tensorboard()
    data = load_data(config)
    if config.dataset == "table":  # published sets are known to be whole
        data.check_images(config)
    folder.start(config)
    return folder, data


def train(config, verbose="auto", callbacks=()):
    """Trains, evaluates and reports; goes on with a stopped run if `config.resume`.

    Args:
        config: `TrainConfig`.
        verbose: As of `keras.Model.fit`. Defaults to `"auto"`.
        callbacks: Further Keras callbacks, see `run`. Defaults to `()`.

    Returns:
        The report as a dict, see `write_report`.

    Raises:
        ValueError: As of `prepare`.
        FileError: A file of the run to go on with, or an image, cannot be used.
    """
    return run(config, *prepare(config), verbose=verbose, callbacks=callbacks)


def run(config, folder, data, verbose="auto", stopping=(), callbacks=()):
    """What `train` does once `prepare` has been called.

    Args:
        config, folder, data: As given to and by `prepare`.
        verbose: As of `keras.Model.fit`. Defaults to `"auto"`.
        stopping: See `SaveProgress`. Defaults to `()`.
        callbacks: Further Keras callbacks, such as a logger of experiments. At the end of an
            epoch they come behind the evaluation, so that `logs` has `val_mAP` too, and before
            the run is saved: an epoch that is saved is logged. What they add to `logs` stands
            in `metrics.csv`. Within a run that goes on in the middle of an epoch Keras begins
            and ends training with them twice. Defaults to `()`.

    Returns:
        The report as a dict, see `write_report`; `None` in a process that does not write.

    Raises:
        FloatingPointError: The loss or a weight is not finite; says where, and what is kept.
        SystemExit: Asked to by `stopping`, once all is saved.
    """
    try:
        return _run(config, folder, data, verbose, stopping, callbacks)
    finally:
        folder.release()


def _run(config, folder, data, verbose, stopping, further):
    keras.utils.set_random_seed(config.seed)
    steps_per_epoch = math.ceil(len(data.observed) / config.batch_size)
    validation = data.validation

    # What goes on: the last whole checkpoint, and what it says it has done.
    progress = Progress()
    if config.resume:
        for name in ("last.keras", "metrics.csv", "negatives.csv"):
            distribution.copy_from_first(folder / name)
    if config.resume and (folder / "last.keras").exists():
        model = _load_model(config, folder, validation.label_names)
        iterations = 0
        if model.compiled:
            iterations = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        # Keras only warns of a state that does not fit, and leaves it out. In half precision the
        # first steps may count as none.
        if not model.compiled or not (iterations or config.precision == "mixed_float16"):
            raise FileError(f"{folder / 'last.keras'} holds no state of a training to go on with")
        progress = folder.progress() or Progress(iterations // steps_per_epoch)
    else:
        num_images, num_labels = data.observed.shape
        model = make_model(config, num_labels, validation.label_names)
        loss = make_loss(config, data.expected_positives, num_images, num_labels)
        if LOSSES[config.loss].remembers == "estimated labels":
            loss.start_from(data.observed)
        optimizer = make_optimizer(config, steps_per_epoch)
        model.compile(optimizer, loss, jit_compile=config.jit_compile)

    kind = Evaluation if data.fully_annotated else ObservedEvaluation
    evaluation = kind(data.validation_images(config), validation.labels, batch_size=128)
    memory = _memory(config, folder, data, model, progress.epochs)
    save_progress = SaveProgress(
        folder,
        steps_per_epoch,
        progress,
        evaluation.name,
        config.checkpoint_minutes,
        stopping,
    )
    quality = _negatives_quality(config, folder, data, model.loss)
    logger = tensorboard(folder / "tensorboard") if config.tensorboard else None
    callbacks = [evaluation, memory, quality, logger, *further, save_progress]

    def fit(epochs_done, epochs, steps_done=0):
        batches = data.training_batches(config, epochs_done, _targets(model.loss, memory))
        batches = distribution.Shares(batches) if distribution.num_devices() else batches
        model.fit(
            RestOfEpoch(batches, steps_done) if steps_done else batches,
            initial_epoch=epochs_done,
            epochs=epochs,
            shuffle=False,
            callbacks=[callback for callback in callbacks if callback is not None],
            verbose=verbose if folder.writes else 0,
        )

    epochs_done = progress.epochs
    if progress.steps:
        fit(epochs_done, epochs_done + 1, progress.steps)
        epochs_done += 1
    if epochs_done < config.epochs:
        fit(epochs_done, config.epochs)
    if distribution.num_devices():
        distribution.leave()
        if not folder.writes:
            return None
        model = _load_model(config, folder, validation.label_names)
    return write_report(folder, config, model, data, save_progress.rows)


def _load_model(config, folder, label_names):
    """The model of the last checkpoint."""
    kind = {"patch": PatchClassifier, "resnet": ResNetClassifier}[config.model]
    model = load_classifier(folder / "last.keras", True, label_names, kind)
    if config.xla != "auto":
        model.jit_compile = config.jit_compile
    return model


def _check_distributed(config):
    """Raises a ValueError for losses that keep what they remember of images in one folder."""
    if distribution.num_processes() > 1 and LOSSES[config.loss].remembers_in_files:
        raise ValueError(
            f"--loss {config.loss} remembers its predictions in files, which several processes "
            "do not share. Expected --distribute in one process, over its devices. Received: "
            f"{distribution.num_processes()} processes"
        )


def _memory(config, folder, data, model, epochs_done):
    """Callback that keeps what the loss wants to know of earlier epochs, or None."""
    row = LOSSES[config.loss]
    if row.remembers == "pseudo-labels":
        return PseudoLabels(
            data.training_images(config),
            data.observed,
            config.epochs,
            config.pseudo_label_warmup,
            config.pseudo_label_share,
            folder=folder.path,
            epochs_done=epochs_done,
            batch_size=128,
        )
    if not row.averages_predictions:
        return None
    averages = PredictionAverages(
        data.training_images(config),
        data.observed,
        config.expected_positives or data.expected_positives,
        config.average_momentum,
        spatial=row.remembers == "average maps",
        folder=folder.path,
        epochs_done=epochs_done,
        batch_size=128,
    )
    averages.set_model(model)  # Keras takes a batch, and asks for targets, before it does so
    return averages


def _negatives_quality(config, folder, data, loss):
    """What judges the weak negatives of the first training images, or None.

    None too where the truth is not known, or nothing is left to guess.
    """
    observed, labels = data.observed[:_NUM_JUDGED], data.true_training_labels
    guesses = LOSSES[config.loss].weak_negatives
    if not guesses or labels is None or not (observed == 0).any():
        return None
    return WeakNegativeQuality(
        data.first_training_images(config, len(observed)),
        observed,
        labels[: len(observed)],
        # Below 0 a weight is no share of a negative: such weights count as 0.
        theta=max(0.0, loss.theta),
        batch_size=config.batch_size,
        path=folder / "negatives.csv",
    )


def _targets(loss, memory):
    """Function that gives what the loss wants of the data besides their labels, or None."""
    wanted = {"labels", *getattr(loss, "inputs", ())}
    if memory is None and "image_index" not in wanted:
        return None

    def targets(indices, crops):
        found = {"image_index": indices}
        if memory is not None:
            found.update(memory.targets(indices, crops))
        return {name: values for name, values in found.items() if name in wanted}

    return targets
