"""Exact validation metrics at the end of every epoch."""

from typing import Any

import keras
import numpy as np

from keras_patchpu.metrics.average_precision import mean_average_precision
from keras_patchpu.metrics.observed_metrics import observed_metrics


class Evaluation(keras.callbacks.Callback):
    """Adds the exact mAP over a whole validation set to the logs of every epoch.

    Keras metrics see one batch at a time and cannot be exact; this callback predicts
    the set at the end of each epoch. Put it before callbacks that read its value:
    `ModelCheckpoint(monitor="val_mAP", mode="max")`, `CSVLogger`, ... The progress bar
    and the history show it too.

    Args:
        images: Anything that `model.predict` takes: an array, a `tf.data.Dataset`, a
            `PyDataset`. Every image counts, also those of an incomplete last batch.
        labels: `(N, L)` true annotation, in the order of the images; values above 0
            count as present.
        batch_size: Of the prediction, for arrays. Defaults to `None`: Keras's 32.
        name: Name of the value in the logs. Defaults to `"val_mAP"`.

    After each epoch `scores` holds the predicted probabilities.
    """

    def __init__(
        self, images: Any, labels: np.ndarray, batch_size: int | None = None, name: str = "val_mAP"
    ) -> None:
        super().__init__()
        self.images = images
        self.labels = np.asarray(labels)
        self.batch_size = batch_size
        self.name = name
        self.scores: Any = None

    def on_epoch_end(self, epoch, logs=None):
        self.scores = self.model.predict(self.images, batch_size=self.batch_size, verbose=0)
        if logs is not None:
            logs[self.name] = self.score()

    def score(self) -> float:
        """The value of `scores`."""
        return mean_average_precision(self.labels, self.scores)


class ObservedEvaluation(Evaluation):
    """Adds the mean reciprocal rank of the known labels of a set to the logs of every epoch.

    As `Evaluation`, for validation images of which not every label is known.

    Args:
        images: Anything that `model.predict` takes.
        labels: `(N, L)`, see `observed_metrics`, in the order of the images.
        batch_size: Of the prediction, for arrays. Defaults to `None`: Keras's 32.
        name: Name of the value in the logs. Defaults to `"val_reciprocal_rank"`.

    After each epoch `scores` holds the predicted probabilities.
    """

    def __init__(
        self,
        images: Any,
        labels: np.ndarray,
        batch_size: int | None = None,
        name: str = "val_reciprocal_rank",
    ) -> None:
        super().__init__(images, labels, batch_size, name)

    def score(self) -> float:
        return observed_metrics(self.labels, self.scores)["mean_reciprocal_rank"]
