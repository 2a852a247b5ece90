"""What a run saves: `last/` to go on from, and of each epoch `best.keras` and a line of numbers."""

import dataclasses
import signal
import time

import keras
import numpy as np

from keras_patchpu.models import load_classifier
from keras_patchpu.utils import distribution
from keras_patchpu.utils.validation import FileError
from keras_patchpu.utils.whole_files import save_whole, whole_folder
from patchpu.training.build import MODELS
from patchpu.training.metrics_file import read_metrics, score_of
from patchpu.training.progress import Progress

_SECONDS = 60.0


class Checkpoint(keras.callbacks.Callback):
    """Owns the state of a run: model and optimizer, what the loss remembers, how far it is.

    All of it is in the folder `last/`, which is written whole: `model.keras`, the files of the
    memory, and `progress.json`. Within an epoch it is saved every few minutes. At its end the
    memory is asked, the line of `metrics.csv` is written, then `best.keras` where due, and
    `last/` in the end. What is done is read off `last/` alone: a run killed in between repeats
    the epoch and its line. Weights that are not finite are never saved. Where an epoch takes less
    time than to save it, some epochs are saved together with a later one.

    Args:
        folder: `RunFolder`.
        saved_model: The model of the run, compiled. What is fit may be a part of it.
        memory: What the loss remembers of earlier epochs, `PredictionAverages` or
            `PseudoLabels`; or `None`. Not to be given to `fit` beside this callback.
        steps_per_epoch: Batches of a whole epoch.
        monitor: Value of the logs by which the best epoch is chosen, higher is better.
        minutes: Time between two savings within an epoch.
        seconds_between: Least time between the end of an epoch that is saved and the one before;
            the last is saved in any case. Defaults to `0.0`: all are saved.
        stopping: List that gets the number of a signal when the run shall stop: after the
            step that is under way all is saved. Defaults to `()`: never.

    Attributes:
        progress: `Progress` at the last saving.
        rows: A dict for each epoch, as in `metrics.csv`.

    Raises:
        FloatingPointError: In training, when the loss or a weight is not finite.
        SystemExit: In training, code 128 + the signal's number once all is saved.
    """

    def __init__(
        self,
        folder,
        saved_model,
        memory,
        steps_per_epoch,
        monitor,
        minutes,
        seconds_between=0.0,
        stopping=(),
    ):
        super().__init__()
        self.folder = folder
        self.saved_model = saved_model
        self.memory = memory
        self.steps_per_epoch = steps_per_epoch
        self.monitor = monitor
        self.minutes = minutes
        self.seconds_between = seconds_between
        self.stopping = stopping
        self.progress = Progress()
        self.rows = []
        self._best = None  # weights of the best epoch, until they are saved
        self._saved = time.monotonic()

    def load(self, config):
        """Takes up the run from the last checkpoint, which the model was loaded from.

        Args:
            config: `TrainConfig`.

        Raises:
            FileError: A file of the checkpoint, or `metrics.csv`, is missing or damaged.
        """
        last, model = self.folder / "last", self.saved_model
        iterations = 0
        if model.compiled:
            iterations = int(keras.ops.convert_to_numpy(model.optimizer.iterations))
        # Keras only warns of a state that does not fit, and leaves it out. In half precision the
        # first steps may count as none.
        if not model.compiled or not (iterations or config.precision == "mixed_float16"):
            raise FileError(f"{last / 'model.keras'} holds no state of a training to go on with")
        progress = Progress.load(last)
        if progress is None:
            raise FileError(f"{last} has no progress.json, which tells how far the run has come")
        self.progress = progress
        for variable, state in zip(_generators(model), progress.random):
            variable.assign(np.array(state, "uint32"))
        if self.memory is not None and progress.epochs:
            self.memory.load(last)
        columns = ("epoch", "loss", self.monitor, "seconds")
        self.rows = read_metrics(self.folder / "metrics.csv", progress.epochs, columns)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        # What the epoch had behind it already.
        self._begun = self.progress if self.progress.steps else Progress(epoch)
        self._started = time.monotonic()
        if self._begun.steps:
            # Keras has just forgotten the steps before: the epoch's loss is the mean of all.
            for variable, value in zip(self._loss_variables(), self._begun.loss):
                variable.assign(value)

    def on_train_batch_end(self, batch, logs=None):
        step = self._begun.steps + batch + 1
        if not np.isfinite(logs["loss"]):
            self._refuse(f"the loss is {logs['loss']}", step)
        if step == self.steps_per_epoch:
            self._check_weights(step)  # before they are evaluated; the end of the epoch saves
            return
        stopping = self._agreed_signal()
        if stopping or time.monotonic() - self._saved >= self.minutes * _SECONDS:
            loss = tuple(float(variable) for variable in self._loss_variables())
            self._save(Progress(self.epoch, step, self._seconds(), loss), step, stopping)

    def on_epoch_end(self, epoch, logs=None):
        if self.memory is not None:
            self.memory.on_epoch_end(epoch)
        row = {
            "epoch": epoch + 1,
            **(logs or {}),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(self._seconds(), 2),
        }
        best_before = max(score_of(row, self.monitor) for row in [{}, *self.rows])
        self.rows.append(row)
        self.folder.write_metrics(self.rows)
        self._check_weights(self.steps_per_epoch)
        stopping = self._agreed_signal()
        since = time.monotonic() - self._saved
        due = stopping or since >= self.seconds_between or epoch + 1 == self.params["epochs"]
        if self.folder.writes and row[self.monitor] > best_before:
            self._best = None
            if due:
                self._write_best()
            else:
                self._best = self.saved_model.get_weights()
        if due:
            self._save(Progress(epoch + 1), self.steps_per_epoch, stopping)
        self.progress = Progress(epoch + 1)

    def _write_best(self):
        with distribution.alone():
            save_whole(self.folder / "best.keras", self.saved_model)

    def _write_best_before(self):
        """Writes the best epoch since the last saving, which is not the one that is saved now."""
        if self._best is not None:
            now = self.saved_model.get_weights()
            self.saved_model.set_weights(self._best)
            self._write_best()
            self.saved_model.set_weights(now)
            self._best = None

    def _agreed_signal(self):
        """The signal to end that came first, to any of the processes that train together, or 0."""
        return max(distribution.gathered(self.stopping[0] if self.stopping else 0))

    def _save(self, progress, step, stopping):
        self._check_weights(step)  # on JAX this brings the trained values into the layers, too
        states = tuple(_plain(variable) for variable in _generators(self.saved_model))
        progress = dataclasses.replace(progress, random=states)
        self._write_best_before()
        if self.folder.writes:
            with distribution.alone(), whole_folder(self.folder / "last") as path:
                path.mkdir()
                self.saved_model.save(path / "model.keras")
                if self.memory is not None:
                    self.memory.save(path)
                progress.save(path)
        self.progress = progress
        self._saved = time.monotonic()
        if stopping:
            name = signal.Signals(stopping).name
            if self.folder.writes:
                print(
                    f"\nstopped by {name} {progress}, all of it saved; go on with --resume "
                    f"--output {self.folder.path}",
                    flush=True,
                )
            raise SystemExit(128 + stopping)

    def _seconds(self):
        return self._begun.seconds + time.monotonic() - self._started

    def _loss_variables(self):
        return next(metric for metric in self.model.metrics if metric.name == "loss").variables

    def _check_weights(self, step):
        for variable in self.model.weights:
            if not np.isfinite(keras.ops.convert_to_numpy(variable)).all():
                self._refuse(f"the weight {variable.path} is not finite", step)

    def _refuse(self, what, step):
        saved = self.folder.progress()
        kept = "No weights were saved yet."
        if saved is not None:
            kept = f"{self.folder / 'last'} keeps the weights {saved}."
        raise FloatingPointError(
            f"In epoch {self.epoch + 1}, step {step} of {self.steps_per_epoch}, {what}. {kept} "
            "A smaller --learning-rate in another folder may help, or --precision float32."
        )


def _generators(model):
    """States of the generators of random numbers in a model, such as those of dropout."""
    return [variable for variable in model.variables if variable.name == "seed_generator_state"]


def _plain(variable):
    return keras.ops.convert_to_numpy(variable).tolist()


def load_last(folder, config, label_names):
    """The model of the last checkpoint.

    Raises:
        FileError: Its file is damaged, or holds another model.
    """
    path = folder / "last" / "model.keras"
    model = load_classifier(path, True, label_names, MODELS[config.model])
    if config.xla != "auto":
        model.jit_compile = config.jit_compile
    return model


class RestOfEpoch(keras.utils.PyDataset):
    """The batches of an epoch behind those that are done.

    Args:
        batches: `PyDataset` of the whole epoch.
        steps: Number of batches done.
    """

    def __init__(self, batches, steps):
        super().__init__()
        self.batches = batches
        self.steps = steps

    def __len__(self):
        return len(self.batches) - self.steps

    def __getitem__(self, index):
        return self.batches[index + self.steps]

    def on_epoch_end(self):
        self.batches.on_epoch_end()
