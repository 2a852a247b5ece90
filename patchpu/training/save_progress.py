"""How a run saves what it has done, and stops without losing it."""

import dataclasses
import json
import signal
import time

import keras
import numpy as np

from keras_patchpu.utils import distribution
from keras_patchpu.utils.validation import check_positive_integer
from patchpu.training.metrics_file import read_metrics, score_of

_SECONDS = 60.0


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run has come; stands in `last.keras`, so that both are of the same moment.

    Attributes:
        epochs: Whole epochs done.
        steps: Steps done of the epoch that is under way.
        seconds: Time that these steps took.
        loss: Variables of the mean loss over these steps, as numbers.
    """

    epochs: int = 0
    steps: int = 0
    seconds: float = 0.0
    loss: tuple = ()

    def to_bytes(self):
        return json.dumps(dataclasses.asdict(self)).encode()

    @classmethod
    def from_bytes(cls, text):
        progress = cls(**json.loads(text))
        check_positive_integer("epochs", progress.epochs, minimum=0)
        check_positive_integer("steps", progress.steps, minimum=0)
        return progress

    def __str__(self):
        if not self.steps:
            return f"after epoch {self.epochs}" if self.epochs else "before the first step"
        return f"in epoch {self.epochs + 1} after step {self.steps}"


class SaveProgress(keras.callbacks.Callback):
    """After each epoch: a line of `metrics.csv`, `last.keras`, and `best.keras` where due.

    The line is written first and `last.keras` last, and what is done is read off `last.keras`
    alone: a run killed in between repeats the epoch and its line. Within an epoch `last.keras`
    is saved every few minutes. Weights that are not finite are never saved. Put it behind the
    callbacks whose values it saves.

    Args:
        folder: `RunFolder`.
        steps_per_epoch: Batches of a whole epoch.
        progress: `Progress` that the model has behind it; `metrics.csv` must have a line of
            each of its epochs. Defaults to none.
        monitor: Value by which the best epoch is chosen, higher is better.
        minutes: Time between two savings within an epoch. Defaults to `10.0`.
        stopping: List that gets the number of a signal when the run shall stop: after the
            step that is under way all is saved. Defaults to `()`: never.

    Raises:
        FileError: `metrics.csv` is damaged.
        FloatingPointError: In training, when the loss or a weight is not finite.
        SystemExit: In training, code 128 + the signal's number once all is saved.
    """

    def __init__(
        self,
        folder,
        steps_per_epoch,
        progress=None,
        monitor="val_mAP",
        minutes=10.0,
        stopping=(),
    ):
        super().__init__()
        self.folder = folder
        self.steps_per_epoch = steps_per_epoch
        self.monitor = monitor
        self.minutes = minutes
        self.stopping = stopping
        self._begun = progress or Progress()  # what the epoch under way had behind it
        columns = ("epoch", "loss", monitor, "seconds")
        self.rows = read_metrics(folder / "metrics.csv", self._begun.epochs, columns)

    def on_epoch_begin(self, epoch, logs=None):
        self.epoch = epoch
        self._started = self._saved = time.monotonic()
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
            seconds = self._seconds()
            loss = tuple(float(variable) for variable in self._loss_variables())
            self._save(Progress(self.epoch, step, seconds, loss), step, stopping)

    def on_epoch_end(self, epoch, logs=None):
        row = {
            "epoch": epoch + 1,
            **(logs or {}),
            "learning_rate": float(keras.ops.convert_to_numpy(self.model.optimizer.learning_rate)),
            "seconds": round(self._seconds(), 2),
        }
        best_before = max(score_of(row, self.monitor) for row in [{}, *self.rows])
        self.rows.append(row)
        self.folder.write_metrics(self.rows)
        if row[self.monitor] > best_before:
            self.folder.save_model(self.model, "best.keras")
        self._begun = Progress(epoch + 1)
        self._save(self._begun, self.steps_per_epoch, self._agreed_signal())

    def _agreed_signal(self):
        """The signal to end that came first, to any of the processes that train together, or 0."""
        return max(distribution.gathered(self.stopping[0] if self.stopping else 0))

    def _save(self, progress, step, stopping):
        self._check_weights(step)
        self.folder.save_model(self.model, "last.keras", progress.to_bytes())
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
            kept = f"{self.folder / 'last.keras'} keeps the weights {saved}."
        raise FloatingPointError(
            f"In epoch {self.epoch + 1}, step {step} of {self.steps_per_epoch}, {what}. {kept} "
            "A smaller --learning-rate in another folder may help, or --precision float32."
        )


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
