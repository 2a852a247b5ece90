"""One training run, from settings to report."""

import keras

from keras_patchpu.utils import distribution
from patchpu.training.build import (
    fitted_part,
    make_deterministic,
    make_loss,
    make_model,
    make_optimizer,
)
from patchpu.training.callbacks import loss_targets, make_evaluation, make_memory, make_quality
from patchpu.training.checkpoint import Checkpoint, RestOfEpoch, load_last
from patchpu.training.data import load_data
from patchpu.training.features import remove_features, with_features
from patchpu.training.losses import LOSSES
from patchpu.training.report import write_report
from patchpu.training.run_folder import RunFolder
from patchpu.training.tensorboard import check_tensorboard, tensorboard

_SECONDS_BETWEEN = 10.0


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
        stopping: See `Checkpoint`. Defaults to `()`.
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
        keras.utils.set_random_seed(config.seed)
        steps_per_epoch = data.steps_per_epoch(config)
        label_names = data.validation.label_names
        if config.resume:
            folder.copy_from_first()
        resumes = config.resume and (folder / "last").exists()
        if resumes:
            model = load_last(folder, config, label_names)
        else:
            model = _new_model(config, data, steps_per_epoch)
        fitted = fitted_part(config, model)
        seen = data if fitted is model else with_features(config, model, data, folder)

        evaluation = make_evaluation(config, seen)
        memory = make_memory(config, seen, folder)
        checkpoint = Checkpoint(
            folder,
            model,
            memory,
            steps_per_epoch,
            evaluation.name,
            config.checkpoint_minutes,
            # Of a frozen backbone an epoch takes a second, and to save the model about as long.
            _SECONDS_BETWEEN if fitted is not model else 0.0,
            stopping,
        )
        if resumes:
            checkpoint.load(config)
        if memory is not None:
            memory.set_model(fitted)  # batches ask it for targets before Keras does so

        # At the end of an epoch, in this order: what adds to the logs, what reads them, what saves.
        called = [evaluation, make_quality(config, seen, model.loss)]
        called += [tensorboard(folder / "tensorboard")] if config.tensorboard else []
        called += [*callbacks, checkpoint]
        _fit(config, seen, fitted, checkpoint, list(filter(None, called)), verbose)

        if distribution.num_devices():
            distribution.leave()
            if not folder.writes:
                return None
            model = load_last(folder, config, label_names)
            fitted = fitted_part(config, model)
        report = write_report(folder, config, model, data, checkpoint.rows, (fitted, seen))
        remove_features(folder)
        return report
    finally:
        folder.release()


def _new_model(config, data, steps_per_epoch):
    """The model before its first step, compiled."""
    num_images, num_labels = data.observed.shape
    model = make_model(config, num_labels, data.validation.label_names)
    loss = make_loss(config, data.expected_positives, num_images, num_labels)
    if LOSSES[config.loss].remembers == "estimated labels":
        loss.start_from(data.observed)
    optimizer = make_optimizer(config, steps_per_epoch)
    model.compile(optimizer, loss, jit_compile=config.jit_compile)
    return model


def _fit(config, data, model, checkpoint, callbacks, verbose):
    """Trains from where the checkpoint is to the last epoch."""
    targets = loss_targets(model.loss, checkpoint.memory)

    def fit(epochs_done, epochs, steps_done=0):
        batches = data.training_batches(config, epochs_done, targets)
        batches = distribution.Shares(batches) if distribution.num_devices() else batches
        model.fit(
            RestOfEpoch(batches, steps_done) if steps_done else batches,
            initial_epoch=epochs_done,
            epochs=epochs,
            shuffle=False,
            callbacks=callbacks,
            verbose=verbose if checkpoint.folder.writes else 0,
        )

    if checkpoint.progress.steps:
        fit(checkpoint.progress.epochs, checkpoint.progress.epochs + 1, checkpoint.progress.steps)
    if checkpoint.progress.epochs < config.epochs:
        fit(checkpoint.progress.epochs, config.epochs)


def _check_distributed(config):
    """Raises a ValueError for losses that keep what they remember of images in one folder."""
    if distribution.num_processes() > 1 and LOSSES[config.loss].remembers_in_files:
        raise ValueError(
            f"--loss {config.loss} remembers its predictions in files, which several processes "
            "do not share. Expected --distribute in one process, over its devices. Received: "
            f"{distribution.num_processes()} processes"
        )
